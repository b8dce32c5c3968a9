/**
 * Floats of eight bits as float32. E4M3 has no infinity and one NaN (of each sign), E5M2 is float16's upper byte (Micikevicius et al. 2022); E8M0 is a power of two
 * (OCP Microscaling Formats 1.0, section 5.4.1); the FNUZ kinds have one zero, whose negative is the NaN, and a bias larger by one.
 */

/** The value of a byte with so many bits of exponent and mantissa. */
function small(byte: number, exponentBits: number, mantissaBits: number, bias: number): number {
  const sign = byte & 128 ? -1 : 1;
  const exponent = (byte >> mantissaBits) & ((1 << exponentBits) - 1);
  const mantissa = (byte & ((1 << mantissaBits) - 1)) / (1 << mantissaBits);
  return sign * (exponent === 0 ? mantissa * 2 ** (1 - bias) : (1 + mantissa) * 2 ** (exponent - bias));
}

function e5m2(byte: number): number {
  if ((byte & 0x7c) !== 0x7c) return small(byte, 5, 2, 15);
  return (byte & 3) === 0 ? (byte & 128 ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY) : Number.NaN;
}

const table = (value: (byte: number) => number): Float32Array => Float32Array.from({ length: 256 }, (_, byte) => value(byte));

/** By safetensors' name: the value of each byte. */
export const FLOAT8_VALUES: Readonly<Record<string, Float32Array>> = {
  F8_E4M3: table((byte) => ((byte & 127) === 127 ? Number.NaN : small(byte, 4, 3, 7))),
  F8_E5M2: table(e5m2),
  F8_E8M0: table((byte) => (byte === 255 ? Number.NaN : 2 ** (byte - 127))),
  F8_E4M3FNUZ: table((byte) => (byte === 128 ? Number.NaN : small(byte, 4, 3, 8))),
  F8_E5M2FNUZ: table((byte) => (byte === 128 ? Number.NaN : small(byte, 5, 2, 16))),
};

/** Stored tensors as float32. */
import { FormatError } from "../errors.ts";
import { f16ToF32 } from "../tensor/dtype.ts";
import { FLOAT8_VALUES } from "./float8.ts";
import type { StoredTensor } from "./safetensors.ts";

/** float32 of every float16, made when it is first needed: a look-up is several times as fast as the arithmetic. */
let halves: Float32Array | undefined;
const halfTable = (): Float32Array => (halves ??= Float32Array.from({ length: 65536 }, (_, bits) => f16ToF32(bits)));

/**
 * A weight's numbers; floats of every width.
 * @throws FormatError for integers, which no weight is made of
 */
export function floatsOf({ name, dtype, data }: StoredTensor, where: string): Float32Array<ArrayBuffer> {
  const { buffer } = data;
  switch (dtype) {
    case "F32":
      return new Float32Array(buffer);
    case "F64":
      return new Float32Array(new Float64Array(buffer));
    case "F16":
      return looked(new Uint16Array(buffer), halfTable());
    case "BF16": {
      // The upper half of a float32.
      const bits = new Uint16Array(buffer);
      const words = new Uint32Array(bits.length);
      for (let i = 0; i < bits.length; i++) words[i] = bits[i] << 16;
      return new Float32Array(words.buffer);
    }
    default: {
      const table = FLOAT8_VALUES[dtype];
      if (table === undefined)
        throw new FormatError(
          `${where}: tensor ${name} has the wrong dtype, expected floats, got ${dtype}. These are no weights that groundup computes with; convert them to F32, BF16 or F16.`,
        );
      return looked(data, table);
    }
  }
}

function looked(codes: Uint8Array | Uint16Array, table: Float32Array): Float32Array<ArrayBuffer> {
  const out = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) out[i] = table[codes[i]];
  return out;
}

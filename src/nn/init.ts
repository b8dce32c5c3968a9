/** Initialisers: they fill a tensor in place and give it back. Random ones draw from the `init` stream. */
import { checkOptions } from "../options.ts";
import { fillNormal, fillUniform, type RandomStream, type Tensor } from "../tensor/index.ts";

export interface InitOptions {
  stream?: RandomStream;
}

/** Normal with this mean (0) and standard deviation (1). */
export const normal = (t: Tensor, options: InitOptions & { mean?: number; std?: number } = {}): Tensor => fillNormal(t, options);

/** Uniform in ±bound (1). */
export const uniform = (t: Tensor, options: InitOptions & { bound?: number } = {}): Tensor => {
  checkOptions("uniform", options, { stream: true, bound: true });
  const { bound = 1, ...rest } = options;
  return fillUniform(t, { ...rest, low: -bound, high: bound });
};

const GAIN = { stream: true, gain: true } as const;

/** Inputs and outputs of a weight (out, in, …). */
function fans(t: Tensor): [fanIn: number, fanOut: number] {
  const [out = 1, inner = 1, ...rest] = t.shape;
  const field = rest.reduce((a, b) => a * b, 1);
  return [inner * field, out * field];
}

/** Uniform in ±gain·√(6/(in + out)) (Glorot and Bengio 2010). */
export const xavierUniform = (t: Tensor, options: InitOptions & { gain?: number } = {}): Tensor => {
  checkOptions("xavierUniform", options, GAIN);
  const { gain = 1, ...rest } = options;
  const [fanIn, fanOut] = fans(t);
  return uniform(t, { ...rest, bound: gain * Math.sqrt(6 / (fanIn + fanOut)) });
};

/** Normal with std gain·√(2/(in + out)). */
export const xavierNormal = (t: Tensor, options: InitOptions & { gain?: number } = {}): Tensor => {
  checkOptions("xavierNormal", options, GAIN);
  const { gain = 1, ...rest } = options;
  const [fanIn, fanOut] = fans(t);
  return normal(t, { ...rest, std: gain * Math.sqrt(2 / (fanIn + fanOut)) });
};

/** Uniform in ±gain·√(3/in) (He et al. 2015); gain √2 suits ReLU. */
export const kaimingUniform = (t: Tensor, options: InitOptions & { gain?: number } = {}): Tensor => {
  checkOptions("kaimingUniform", options, GAIN);
  const { gain = Math.SQRT2, ...rest } = options;
  return uniform(t, { ...rest, bound: gain * Math.sqrt(3 / Math.max(fans(t)[0], 1)) });
};

/** Normal with std gain/√in. */
export const kaimingNormal = (t: Tensor, options: InitOptions & { gain?: number } = {}): Tensor => {
  checkOptions("kaimingNormal", options, GAIN);
  const { gain = Math.SQRT2, ...rest } = options;
  return normal(t, { ...rest, std: gain / Math.sqrt(Math.max(fans(t)[0], 1)) });
};

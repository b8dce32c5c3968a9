/** Initialisers: they fill a tensor in place and give it back. Random ones draw from the `init` stream. */
import { fillNormal, fillUniform, type RandomStream, type Tensor } from "../tensor/index.ts";

export interface InitOptions {
  stream?: RandomStream;
}

/** Normal with this mean (0) and standard deviation (1). */
export const normal = (t: Tensor, options: InitOptions & { mean?: number; std?: number } = {}): Tensor => fillNormal(t, options);

/** Uniform in ±bound (1). */
export const uniform = (t: Tensor, options: InitOptions & { bound?: number } = {}): Tensor => {
  const bound = options.bound ?? 1;
  return fillUniform(t, { ...options, low: -bound, high: bound });
};

/** Inputs and outputs of a weight (out, in, …). */
function fans(t: Tensor): [fanIn: number, fanOut: number] {
  const [out = 1, inner = 1, ...rest] = t.shape;
  const field = rest.reduce((a, b) => a * b, 1);
  return [inner * field, out * field];
}

/** Uniform in ±gain·√(6/(in + out)) (Glorot and Bengio 2010). */
export const xavierUniform = (t: Tensor, options: InitOptions & { gain?: number } = {}): Tensor => {
  const [fanIn, fanOut] = fans(t);
  return uniform(t, { ...options, bound: (options.gain ?? 1) * Math.sqrt(6 / (fanIn + fanOut)) });
};

/** Normal with std gain·√(2/(in + out)). */
export const xavierNormal = (t: Tensor, options: InitOptions & { gain?: number } = {}): Tensor => {
  const [fanIn, fanOut] = fans(t);
  return normal(t, { ...options, std: (options.gain ?? 1) * Math.sqrt(2 / (fanIn + fanOut)) });
};

/** Uniform in ±gain·√(3/in) (He et al. 2015); gain √2 suits ReLU. */
export const kaimingUniform = (t: Tensor, options: InitOptions & { gain?: number } = {}): Tensor =>
  uniform(t, { ...options, bound: (options.gain ?? Math.SQRT2) * Math.sqrt(3 / Math.max(fans(t)[0], 1)) });

/** Normal with std gain/√in. */
export const kaimingNormal = (t: Tensor, options: InitOptions & { gain?: number } = {}): Tensor =>
  normal(t, { ...options, std: (options.gain ?? Math.SQRT2) / Math.sqrt(Math.max(fans(t)[0], 1)) });

/** The optimisers, in order of what they remember. Formulas and their order are PyTorch's, so that traces agree. */
import { ConfigError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { adamwStep, rmspropStep, sgdStep, type Tensor } from "../tensor/index.ts";
import { type CommonOptions, checkNumber, createOptimizer, type Optimizer, type Trainable } from "./optimizer.ts";

const COMMON: KnownOptions<CommonOptions> = { lr: true, maxGradNorm: true };

/** What `sgd` takes. */
export interface SgdOptions extends CommonOptions {
  /** Default 0. */
  momentum?: number;
  /** Nesterov's momentum (Sutskever et al. 2013, section 2); default false. */
  nesterov?: boolean;
  /** L2, added to the gradient; default 0. */
  weightDecay?: number;
}

/** Stochastic gradient descent: v ← μv + g, p ← p − lr·v (or lr·(g + μv) with `nesterov`). */
export function sgd(trainable: Trainable, options: SgdOptions): Optimizer {
  checkOptions("sgd", options, { ...COMMON, momentum: true, nesterov: true, weightDecay: true });
  const { momentum = 0, nesterov = false, weightDecay = 0 } = options;
  checkNumber("sgd", "momentum", momentum, 1);
  if (nesterov && momentum === 0)
    throw new ConfigError("sgd: nesterov without momentum, expected a momentum above 0, got 0. Set momentum, or leave nesterov out.");
  // A velocity that begins at 0 and takes up the gradient as it is equals PyTorch's first step.
  return createOptimizer("sgd", trainable, { ...options, weightDecay }, momentum === 0 ? [] : ["velocity"], ({ lists, states }) =>
    sgdStep(lists, states[0] ?? null, { momentum, nesterov, first: false }),
  );
}

/** What `rmsprop` takes. */
export interface RmspropOptions extends CommonOptions {
  /** How much of the running mean stays; default 0.99. */
  alpha?: number;
  /** Default 1e-8. */
  eps?: number;
  /** L2, added to the gradient; default 0. */
  weightDecay?: number;
}

/** RMSprop (Hinton 2012, lecture 6e): v ← αv + (1 − α)g², p ← p − lr·g/(√v + eps). */
export function rmsprop(trainable: Trainable, options: RmspropOptions): Optimizer {
  checkOptions("rmsprop", options, { ...COMMON, alpha: true, eps: true, weightDecay: true });
  const { alpha = 0.99, eps = 1e-8, weightDecay = 0 } = options;
  checkNumber("rmsprop", "alpha", alpha, 1);
  checkNumber("rmsprop", "eps", eps);
  return createOptimizer("rmsprop", trainable, { ...options, weightDecay }, ["square"], ({ lists, states }) =>
    rmspropStep(lists, states[0] as Tensor[], { alpha, eps }),
  );
}

/** What `adam` and `adamw` take. */
export interface AdamOptions extends CommonOptions {
  /** Default [0.9, 0.999]. */
  betas?: readonly [beta1: number, beta2: number];
  /** Default 1e-8. */
  eps?: number;
  /** Default 0 for `adam` (L2, added to the gradient), 0.01 for `adamw` (decoupled). */
  weightDecay?: number;
}

function adamOf(kind: "adam" | "adamw", trainable: Trainable, options: AdamOptions): Optimizer {
  checkOptions(kind, options, { ...COMMON, betas: true, eps: true, weightDecay: true });
  const { betas: [beta1, beta2] = [0.9, 0.999], eps = 1e-8, weightDecay = kind === "adamw" ? 0.01 : 0 } = options;
  checkNumber(kind, "betas[0]", beta1, 1);
  checkNumber(kind, "betas[1]", beta2, 1);
  checkNumber(kind, "eps", eps);
  return createOptimizer(kind, trainable, { ...options, weightDecay }, ["mean", "square"], ({ lists, states, step }) =>
    adamwStep(lists, states[0] as Tensor[], states[1] as Tensor[], { beta1, beta2, eps, step, decoupled: kind === "adamw" }),
  );
}

/** Adam (Kingma and Ba 2015, algorithm 1); weight decay is L2. */
export const adam = (trainable: Trainable, options: AdamOptions): Optimizer => adamOf("adam", trainable, options);

/** Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2). */
export const adamw = (trainable: Trainable, options: AdamOptions): Optimizer => adamOf("adamw", trainable, options);

/** Gradient clipping by the global norm, for loops that want it apart from the optimiser's step. */
import { globalNorm, noGrad, scope, type Tensor } from "../tensor/index.ts";
import { clipFactor } from "./optimizer.ts";

/**
 * Scales all gradients together so that their norm is at most `maxNorm` (Pascanu et al. 2013, algorithm 1).
 * An optimiser's `maxGradNorm` does the same within its step, without a pass over memory of its own.
 *
 * @returns the norm before
 */
export function clipGradNorm(parameters: readonly Tensor[], maxNorm: number): number {
  const owners = parameters.filter((p) => p.grad !== null);
  const norm = globalNorm(owners.map((p) => p.grad as Tensor));
  const factor = clipFactor(norm, maxNorm);
  if (factor === 1 || !Number.isFinite(norm)) return norm;
  for (const p of owners) {
    const gradient = p.grad as Tensor;
    scope(() => {
      gradient.write(noGrad(() => gradient.mul(factor)).dataSync());
      return undefined;
    });
  }
  return norm;
}

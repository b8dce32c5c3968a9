/** Optimiser steps over many tensors, and two looks at gradients. */
import { ShapeError } from "../../errors.ts";
import type { Kernels, Operand, Sizes } from "../kernels.ts";
import type { Views } from "./memory.ts";

export function optimKernels(at: Views): Pick<Kernels, "adamw" | "sgd" | "rmsprop" | "sumSquares" | "firstNonFinite"> {
  /** For each tensor: the views of its operands (one of each list), its learning rate and its weight decay. */
  function forEachTensor(
    op: string,
    lists: readonly (readonly Operand[])[],
    sizes: Sizes,
    learningRates: Sizes,
    weightDecays: Sizes,
    update: (views: Float32Array[], lr: number, wd: number) => void,
  ): void {
    for (const list of [...lists, learningRates, weightDecays]) {
      if (list.length !== sizes.length) throw new ShapeError(`${op}: lists of different lengths, expected ${sizes.length} entries, got ${list.length}`);
    }
    for (let t = 0; t < sizes.length; t++)
      update(
        lists.map((list) => at.f32(list[t], sizes[t])),
        learningRates[t],
        weightDecays[t],
      );
  }

  return {
    adamw(p, g, m, v, sizes, learningRates, weightDecays, beta1, beta2, eps, step, gradScale, decoupled) {
      // Kingma and Ba 2015, algorithm 1, with the weight decay of Loshchilov and Hutter 2019, algorithm 2.
      const correction1 = 1 - beta1 ** step;
      const correction2 = 1 - beta2 ** step;
      forEachTensor("adamw", [p, g, m, v], sizes, learningRates, weightDecays, ([ps, gs, ms, vs], lr, wd) => {
        for (let i = 0; i < ps.length; i++) {
          const grad = gs[i] * gradScale + (decoupled ? 0 : wd * ps[i]);
          const decayed = decoupled ? ps[i] * (1 - lr * wd) : ps[i];
          const mean = beta1 * ms[i] + (1 - beta1) * grad;
          const square = beta2 * vs[i] + (1 - beta2) * grad * grad;
          ms[i] = mean;
          vs[i] = square;
          ps[i] = decayed - (lr * (mean / correction1)) / (Math.sqrt(square / correction2) + eps);
        }
      });
    },

    sgd(p, g, buf, sizes, learningRates, weightDecays, momentum, nesterov, first, gradScale) {
      forEachTensor("sgd", [p, g, buf], sizes, learningRates, weightDecays, ([ps, gs, bufs], lr, wd) => {
        for (let i = 0; i < ps.length; i++) {
          const grad = gs[i] * gradScale + wd * ps[i];
          let direction = grad;
          if (momentum !== 0) {
            const velocity = first ? grad : momentum * bufs[i] + grad;
            bufs[i] = velocity;
            direction = nesterov ? grad + momentum * velocity : velocity;
          }
          ps[i] -= lr * direction;
        }
      });
    },

    rmsprop(p, g, v, sizes, learningRates, weightDecays, alpha, eps, gradScale) {
      forEachTensor("rmsprop", [p, g, v], sizes, learningRates, weightDecays, ([ps, gs, vs], lr, wd) => {
        for (let i = 0; i < ps.length; i++) {
          const grad = gs[i] * gradScale + wd * ps[i];
          const square = alpha * vs[i] + (1 - alpha) * grad * grad;
          vs[i] = square;
          ps[i] -= (lr * grad) / (Math.sqrt(square) + eps);
        }
      });
    },

    sumSquares(x, sizes) {
      if (x.length !== sizes.length) throw new ShapeError(`sumSquares: lists of different lengths, expected ${sizes.length} tensors, got ${x.length}`);
      return x.reduce((total, place, t) => at.f32(place, sizes[t]).reduce((sum, item) => sum + item * item, total), 0);
    },

    firstNonFinite: (x, n) => at.f32(x, n).findIndex((item) => !Number.isFinite(item)),
  };
}

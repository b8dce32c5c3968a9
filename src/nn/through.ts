/** Layers one behind the other. */
import type { Tensor } from "../tensor/index.ts";

/**
 * What a stack of layers makes of x; `step` gives what one makes of what comes to it. What lies between two layers is freed when the next is through, unless a graph holds
 * its values: without gradients, a pass holds one of them at a time. Who watches `keep`s what is to live longer.
 */
export function through<Layer>(layers: readonly Layer[], x: Tensor, step: (layer: Layer, x: Tensor, index: number) => Tensor): Tensor {
  let now = x;
  for (let i = 0; i < layers.length; i++) {
    const next = step(layers[i] as Layer, now, i);
    // A kept handle is no longer ours.
    if (now !== x && now !== next && !now.watched) now.dispose("the next layer");
    now = next;
  }
  return now;
}

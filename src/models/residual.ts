/** What adds to the residual stream: one linear layer, or two with an activation between them; fused wherever dropout and those who watch allow it. */
import { type Linear, type Module, sumOf } from "../nn/index.ts";
import { type Activation, dropout, mlp, type Tensor } from "../tensor/index.ts";

/** layer(x) + residual: x (…, in), residual and result (…, out). `drop` is the share of layer(x) that is dropped, 0 for none. */
export function addLinear(layer: Linear, x: Tensor, residual: Tensor, drop = 0): Tensor {
  return drop === 0 ? layer.fused(x, { residual }) : residual.add(dropout(layer.forward(x), drop));
}

/** How `addMlp` works. */
interface AddMlpOptions {
  activation: Activation;
  residual: Tensor;
  /** Share of what is added that is dropped; 0 for none. */
  drop: number;
}

/**
 * second(activation(first(x))) + residual: x, residual and result (…, C), the neurons (…, inner). `owner` is the module that both layers are in; it has the point
 * "neurons", and shows it to who watches.
 */
export function addMlp(owner: Module, first: Linear, second: Linear, x: Tensor, { activation, residual, drop }: AddMlpOptions): Tensor {
  if (owner.watching("neurons") ?? sumOf(first) ?? sumOf(second))
    return addLinear(second, owner.see("neurons", first.fused(x, { activation })), residual, drop); // (…, inner)
  return drop === 0 ? mlp(x, first, second, { activation, residual }) : residual.add(dropout(mlp(x, first, second, { activation }), drop));
}

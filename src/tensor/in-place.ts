/** Writing over a tensor's items: for optimisers, averages of weights and layer state. Never part of a graph. */
import { GroundupError, ShapeError } from "../errors.ts";
import { gradEnabled, noGrad } from "./autograd.ts";
import { backend } from "./backend.ts";
import { CODE } from "./dtype.ts";
import { add, mul, type Numeric } from "./ops/elementwise.ts";
import { cast, clone, copyInto, expand } from "./ops/movement.ts";
import { enter, leave } from "./scope.ts";
import { sameShape, show } from "./shape.ts";
import { checkTensor, full, Tensor } from "./tensor.ts";

/** Runs a write with its checks around it: no graph may be involved, and what was saved for backward is marked as changed. */
function write(op: string, t: Tensor, other: Numeric, body: () => void): Tensor {
  checkTensor(op, t);
  t.check(op);
  t.checkItems(op);
  if (typeof other !== "number") checkTensor(op, other, 1);
  if (other instanceof Tensor) other.check(op);
  if (gradEnabled() && (t.requiresGrad || (other instanceof Tensor && other.requiresGrad))) {
    throw new GroundupError(
      `${op}: a tensor that takes part in a graph can't be changed in place, expected one without requiresGrad, got ${t.dtype}${show(t.shape)}. Wrap the call in noGrad(() => …), or use the operation that gives a new tensor`,
    );
  }
  if (t.shape.some((n, i) => n > 1 && t.strides[i] === 0)) {
    throw new ShapeError(
      `${op}: several items lie in one place, expected a tensor that is not expanded, got strides ${show(t.strides)} for shape ${show(t.shape)}. Write to a clone()`,
    );
  }
  const mark = enter();
  try {
    noGrad(body);
    t.storage.version++;
  } finally {
    leave(mark, `the end of ${op}`, undefined);
  }
  return t;
}

function store(op: string, from: Tensor, to: Tensor): void {
  const same = from.dtype === to.dtype ? from : cast(from, to.dtype);
  let wide = same;
  if (!sameShape(same.shape, to.shape)) {
    try {
      wide = expand(same, to.shape);
    } catch (cause) {
      throw new ShapeError(`${op}: expected items that broadcast to ${show(to.shape)}, got shape ${show(from.shape)}`, { cause });
    }
  }
  copyInto(mayMeet(wide, to) ? clone(wide) : wide, to);
}

/** Whether two tensors may have memory in common: what threads share has a storage for each holder. */
const mayMeet = (a: Tensor, b: Tensor): boolean => a.storage === b.storage || (a.storage.inThreads && b.storage.inThreads);

/** t += scale · other, in place, in t's dtype; other broadcasts to t's shape. Only under noGrad where t has a graph. */
export function addInPlace(t: Tensor, other: Numeric, scale = 1): Tensor {
  return write("addInPlace", t, other, () => {
    const alike =
      other instanceof Tensor && t.dtype === "f32" && other.dtype === "f32" && t.isContiguous && other.isContiguous && sameShape(t.shape, other.shape);
    // Item by item is only right where no item is read after another one was written over it.
    if (alike && (!mayMeet(t, other) || (t.storage === other.storage && t.offset === other.offset))) {
      backend().axpby(1, t, scale, other, t, t.size);
    } else {
      store("addInPlace", add(t, scale === 1 ? other : typeof other === "number" ? other * scale : mul(other, scale)), t);
    }
  });
}

/** Writes other's items over t's, converted and broadcast. Only under noGrad where t has a graph. */
export function copyFrom(t: Tensor, other: Tensor): Tensor {
  return write("copyFrom", t, other, () => store("copyFrom", other, t));
}

/** Writes one value over all items. Only under noGrad where t has a graph. */
export function fill(t: Tensor, value: number): Tensor {
  return write("fill", t, value, () => {
    if (t.isContiguous) backend().fill(t, CODE[t.dtype], t.size, value);
    else store("fill", full([], value, { dtype: t.dtype }), t);
  });
}

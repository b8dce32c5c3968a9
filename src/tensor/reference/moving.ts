/** Filling, converting and copying. */
import { ShapeError } from "../../errors.ts";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "../dtype.ts";
import { DTYPES, type ItemDType, type Kernels } from "../kernels.ts";
import { reach } from "../shape.ts";
import { dtypeNamed, forEachRow, type Views } from "./memory.ts";

/** Towards zero, held inside the type's range. NaN passes through here: an integer array stores it as 0. */
const whole = (x: number, low: number, high: number) => Math.trunc(Math.min(Math.max(x, low), high));

/** From the stored item to the number it means. */
const READ: Record<ItemDType, (item: number) => number> = {
  f32: (x) => x,
  bf16: bf16ToF32,
  f16: f16ToF32,
  i32: (x) => x,
  u8: (x) => x,
  bool: (x) => x,
};

/** From a number to the item to store. f32 rounds as it is stored; the 16-bit floats are reached by way of f32. */
const WRITE: Record<ItemDType, (x: number) => number> = {
  f32: (x) => x,
  bf16: f32ToBf16,
  f16: f32ToF16,
  i32: (x) => whole(x, -(2 ** 31), 2 ** 31 - 1),
  u8: (x) => whole(x, 0, 255),
  bool: (x) => Number(x !== 0),
};

/** How to read a float dtype's items, by its code. */
export function reader(op: string, dtype: number): (item: number) => number {
  const name = dtypeNamed(dtype);
  if (name !== "f32" && name !== "bf16" && name !== "f16") throw new ShapeError(`${op}: not a float, expected f32, bf16 or f16, got ${name}`);
  return READ[name];
}

export function movingKernels(at: Views): Pick<Kernels, "fill" | "cast" | "copy"> {
  return {
    fill(out, dtype, n, value) {
      at.items(out, dtype, n).fill(WRITE[dtypeNamed(dtype)](value));
    },

    cast(x, xDtype, out, outDtype, n) {
      const from = at.items(x, xDtype, n);
      const to = at.items(out, outDtype, n);
      const read = READ[dtypeNamed(xDtype)];
      const narrows = xDtype === DTYPES.indexOf("i32") && outDtype === DTYPES.indexOf("u8");
      const write = narrows ? (v: number) => v & 0xff : WRITE[dtypeNamed(outDtype)];
      for (let i = 0; i < n; i++) to[i] = write(read(from[i]));
    },

    copy(x, xStrides, out, outStrides, shape, itemBytes) {
      // Items travel as integers, so that the bits of a NaN survive.
      const view = { 1: at.u8, 2: at.u16, 4: at.i32 }[itemBytes];
      if (view === undefined) throw new ShapeError(`copy: no such item, expected 1, 2 or 4 bytes, got ${itemBytes}`);
      const from = view(x, reach(shape, xStrides));
      const to = view(out, reach(shape, outStrides));
      const n = shape.at(-1) ?? 1;
      const step = xStrides.at(-1) ?? 0;
      const outStep = outStrides.at(-1) ?? 0;
      forEachRow(shape, [xStrides, outStrides], ([i, o]) => {
        for (let j = 0; j < n; j++) to[o + j * outStep] = from[i + j * step];
      });
    },
  };
}

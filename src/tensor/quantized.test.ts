/** Block-quantised matrices: what they take part in, what refuses them, and the row contract of their products. */
import { afterAll, expect, test } from "vitest";
import { native, whereNative } from "../../tests/where-native.ts";
import { GroundupError, ShapeError } from "../errors.ts";
import { replaceParameter } from "../nn/index.ts";
import { Linear } from "../nn/layers.ts";
import {
  backend,
  dequantize,
  embedding,
  fromShared,
  groupedLinear,
  linear,
  linearCrossEntropy,
  linears,
  memory,
  mlp,
  noGrad,
  quantizedFromBytes,
  quantizedInPieces,
  scope,
  share,
  type Tensor,
  tensor,
  useBackend,
  zeros,
} from "./index.ts";
import { QUANTIZED } from "./kernels.ts";
import { packedBytes } from "./quantized-layout.ts";
import { createReference } from "./reference/index.ts";
import { roundedActivations } from "./reference/quantized.ts";
import { quantizedValues, values } from "./samples.ts";

const backends = native === null ? [createReference()] : [native, createReference()];
const former = backend();
afterAll(() => void useBackend(former));

const numbers = (fn: () => Tensor): Float32Array => scope(() => ({ values: noGrad(fn).dataSync() as Float32Array })).values;

test.each(QUANTIZED)("%s: the file's bytes come back, and a matrix holds no more than its packed bytes", (dtype) => {
  for (const b of backends) {
    useBackend(b);
    scope(() => {
      const before = memory().liveBytes;
      const weight = quantizedValues([35, 512], dtype, 3);
      expect(memory().liveBytes - before).toBe(packedBytes(dtype, 35, 512));
      const bytes = weight.bytesSync();
      const again = quantizedFromBytes(bytes, [35, 512], dtype);
      expect(again.bytesSync()).toEqual(bytes);
      expect(String(again)).toBe(`tensor(…, ${dtype}(35, 512))`);
    });
  }
});

test("rows are taken as a copy, and the other way round it is a view", () => {
  for (const b of backends) {
    useBackend(b);
    scope(() => {
      const weight = quantizedValues([35, 512], "q4_k");
      const all = dequantize(weight);
      expect(dequantize(weight.narrow(0, 17, 5)).dataSync()).toEqual(all.narrow(0, 17, 5).dataSync());
      expect(dequantize(weight.slice([-3, 35])).dataSync()).toEqual(all.narrow(0, 32, 3).dataSync());
      const across = weight.transpose();
      expect(across.shape).toEqual([512, 35]);
      expect(dequantize(across).dataSync()).toEqual(all.transpose().contiguous().dataSync());
      const x = values([3, 512], { requiresGrad: false });
      expect(linear(x, across, null, { transposed: true }).dataSync()).toEqual(linear(x, weight).dataSync());
      expect(() => linear(x, across)).toThrow(/whose blocks run along 512 inputs, seen as \(out, in\)/);
      expect(() => weight.narrow(1, 0, 256)).toThrow(/narrow of other than rows: not for block-quantised weights/);
    });
  }
});

test("every other operation refuses them in words", () => {
  for (const b of backends) {
    useBackend(b);
    scope(() => {
      const weight = quantizedValues([4, 64], "q8_0");
      for (const refused of [
        () => weight.add(1),
        () => weight.matmul(weight),
        () => weight.dataSync(),
        () => weight.clone(),
        () => noGrad(() => weight.fill(0)),
        () => weight.write([1]),
        () => weight.to("f32"),
      ])
        expect(refused).toThrow(/: not for block-quantised weights, expected numbers of their own, got q8_0\(4, 64\)\. .*use dequantize\(weight\)/);
      expect(() => {
        weight.requiresGrad = true;
      }).toThrow(/a block-quantised weight can't be trained, expected a floating dtype, got q8_0\(4, 64\)\. Train an adapter beside it, or dequantize\(\) it/);
      expect(() => zeros([4, 64], { dtype: "q8_0" })).toThrow(ShapeError);
      expect(() => tensor([1, 2], { dtype: "q8_0" })).toThrow(GroundupError);
      expect(() => dequantize(zeros([2, 2]))).toThrow(/expected a block-quantised matrix/);
    });
  }
});

test.each([
  ["a matrix", [35, 64], "q4_1", [16, 32, 35]],
  ["several, in groups of rows", [3, 32, 256], "q4_k", [16, 80, 96]],
  ["several, not in groups", [3, 19, 64], "q8_0", [19, 57]],
] as const)("%s in pieces has the bytes of the whole", (_, shape, dtype, ends) => {
  for (const b of backends) {
    useBackend(b);
    scope(() => {
      const bytes = quantizedValues([...shape], dtype, 5).bytesSync() as Uint8Array;
      const row = bytes.length / (shape.at(-2) as number) / (shape.length === 3 ? shape[0] : 1);
      const pieces = quantizedInPieces("test", shape, dtype);
      let at = 0;
      for (const end of ends) {
        pieces.add(bytes.subarray(at, end * row));
        at = end * row;
      }
      const whole = pieces.whole();
      expect(whole.bytesSync()).toEqual(bytes);
      expect(dequantize(whole).dataSync()).toEqual(dequantize(quantizedFromBytes(bytes, shape, dtype)).dataSync());
    });
  }
});

test("pieces that are none are refused, and a tensor that does not come to be leaves nothing", () => {
  for (const b of backends) {
    useBackend(b);
    const before = memory().liveBytes;
    const pieces = quantizedInPieces("test", [40, 64], "q8_0");
    expect(pieces.unit).toBe(16 * 68);
    expect(() => pieces.add(new Uint8Array(17 * 68))).toThrow(/expected a multiple of 1088 bytes, or the last 2720, for q8_0\(40, 64\), got 1156/);
    pieces.add(new Uint8Array(16 * 68));
    expect(() => pieces.add(new Uint8Array(32 * 68))).toThrow(/or the last 1632, .* got 2176/);
    expect(() => pieces.whole()).toThrow(/expected 2720 bytes for q8_0\(40, 64\), got 1088/);
    pieces.dispose();
    expect(memory().liveBytes).toBe(before);
  }
});

test("what makes no matrix of whole blocks is refused before memory is taken", () => {
  const before = memory().liveBytes;
  expect(() => quantizedFromBytes(new Uint8Array(34), [1, 33], "q8_0")).toThrow(/no whole blocks, expected rows of a multiple of 32 items for q8_0, got 33/);
  expect(() => quantizedFromBytes(new Uint8Array(33), [1, 32], "q8_0")).toThrow(/expected 34 bytes for q8_0\(1, 32\), got 33/);
  expect(() => quantizedFromBytes(new Uint8Array(34), [32], "q8_0")).toThrow(/expected a matrix \(n, k\)/);
  expect(() => quantizedFromBytes(new Uint8Array(34), [1, 32], "f32" as never)).toThrow(/not a quantised layout/);
  expect(memory().liveBytes).toBe(before);
});

test("activations keep 8 bits, and 15 in a block that stands out of its row", () => {
  const row = Float32Array.from({ length: 512 }, (_, i) => Math.sin(i + 1));
  row[70] = 90;
  const error = (from: number) =>
    Math.max(
      ...roundedActivations(row)
        .slice(from, from + 32)
        .map((x, i) => Math.abs(x - row[from + i])),
    );
  expect(error(0)).toBeGreaterThan(1e-3);
  expect(error(0)).toBeLessThan(0.5 / 127);
  // Its step is 90 / 127: one part alone would be wrong by up to 0.35.
  expect(error(64)).toBeLessThan(0.5 * (90 / 127 / 254) * 1.01);
});

test("a product's error against the floats it stands for is that of 8-bit activations", () => {
  for (const b of backends) {
    useBackend(b);
    for (const dtype of QUANTIZED) {
      const weight = quantizedValues([37, 512], dtype);
      const make = () => values([3, 512], { requiresGrad: false });
      const [got, want] = [numbers(() => linear(make(), weight)), numbers(() => linear(make(), dequantize(weight)))];
      const size = Math.sqrt(want.reduce((s, x) => s + x * x, 0) / want.length);
      const error = Math.sqrt(want.reduce((s, x, i) => s + (x - got[i]) ** 2, 0) / want.length);
      expect(error / size).toBeGreaterThan(1e-5);
      expect(error / size).toBeLessThan(0.01);
      weight.dispose();
    }
  }
});

test("the gradient of the input is that of the floats, for linear, mlp and the fused loss", () => {
  for (const b of backends) {
    useBackend(b);
    scope(() => {
      const [first, second] = [quantizedValues([900, 64], "q4_1"), quantizedValues([32, 900 - (900 % 32)], "q5_0")];
      const gradient = (fn: (x: Tensor) => Tensor, dim: number) => {
        const x = values([3, dim]);
        fn(x).backward();
        return (x.grad as Tensor).dataSync() as Float32Array;
      };
      const close = (a: Float32Array, c: Float32Array, within: number) => {
        const largest = Math.max(...c.map(Math.abs));
        expect(Math.max(...a.map((x, i) => Math.abs(x - c[i])))).toBeLessThanOrEqual(within * largest);
      };
      // Same sums in the same order: equal on the native backend.
      close(
        gradient((x) => linear(x, first).sum(), 64),
        gradient((x) => linear(x, dequantize(first)).sum(), 64),
        backend().name === "native" ? 0 : 1e-5,
      );
      const w1 = quantizedValues([896, 64], "q4_1");
      const both = (d: (t: Tensor) => Tensor) => gradient((x) => mlp(x, { weight: d(w1) }, { weight: d(second) }, { activation: "silu" }).sum(), 64);
      close(
        both((t) => t),
        both(dequantize),
        0.02,
      );
      const targets = tensor(Int32Array.of(1, 899, 40));
      close(
        gradient((x) => linearCrossEntropy(x.mul(0.05), first, targets), 64),
        gradient((x) => linearCrossEntropy(x.mul(0.05), dequantize(first), targets), 64),
        0.02,
      );
    });
  }
});

test("layers together have the bytes of separate ones, with gradients as without, and are one operation where nobody asks for them", () => {
  for (const b of backends) {
    useBackend(b);
    scope(() => {
      const layers = [
        { weight: quantizedValues([70, 256], "q4_1"), bias: values([70], { seed: 4, requiresGrad: false }) },
        { weight: quantizedValues([33, 256], "q6_k"), bias: values([33], { seed: 5, requiresGrad: false }) },
        { weight: quantizedValues([190, 256], "q4_1", 3), bias: values([190], { seed: 6, requiresGrad: false }) },
      ];
      for (const rows of [1, 7]) {
        const x = values([rows, 256]);
        const apart = layers.map(({ weight, bias }) => linear(x, weight, bias));
        const bytes = apart.map((y) => y.dataSync());
        const [alone, recorded] = [noGrad(() => linears(x, layers)), linears(x, layers)];
        expect(alone.map((y) => y.dataSync())).toEqual(bytes);
        expect(recorded.map((y) => y.dataSync())).toEqual(bytes);
        expect([alone[0]?.requiresGrad, recorded[2]?.requiresGrad]).toEqual([false, true]);
        const gradient = (ys: readonly Tensor[]) => {
          x.grad = null;
          (ys.map((y) => y.sum()).reduce((sum, y) => sum.add(y)) as Tensor).backward();
          return (x.grad as unknown as Tensor).dataSync();
        };
        expect(gradient(linears(x, layers))).toEqual(gradient(apart));
      }
      expect(() => noGrad(() => linears(values([1, 64]), layers))).toThrow(/expected x \(…, 256\) for a weight q6_k\(33, 256\)/);
      const wrong = [layers[0], { weight: (layers[1] as { weight: Tensor }).weight, bias: zeros([32]) }] as typeof layers;
      expect(() => noGrad(() => linears(values([1, 256]), wrong))).toThrow(/linears: expected a bias of shape \(33,\), got \(32,\)/);
    });
  }
});

whereNative("the native kernel", (library) => {
  test("refuses results that lie over each other, and lists that do not go together", () => {
    useBackend(library);
    const kernels = backend();
    scope(() => {
      const [x, weight, out] = [values([1, 64]), quantizedValues([20, 64], "q8_0"), zeros([1, 40])];
      const layout = QUANTIZED.indexOf("q8_0");
      const at = (offset: number) => ({ storage: out.storage, offset });
      const call = (offset: number, layouts: number[], n = 20) =>
        kernels.linearsQuantized(x, [weight, weight], layouts, [], [at(0), at(offset)], [20, n], 1, 64);
      expect(() => call(19, [layout, layout])).toThrow(/a result lies over another/);
      expect(() => call(20, [layout])).toThrow(/expected a layout, a result and a size for each of 2 weights/);
      expect(() => call(20, [layout, 99])).toThrow(/expected a code below/);
      expect(() => call(20, [layout, layout], 1e6)).toThrow(/expected room/);
      call(20, [layout, layout]);
      expect(out.narrow(1, 0, 20).contiguous().dataSync()).toEqual(out.narrow(1, 20, 20).contiguous().dataSync());
    });
  });
});

test("a module takes a quantised weight in a parameter's place, frozen", () => {
  const layer = new Linear(64, 20);
  replaceParameter(layer, "weight", quantizedValues([20, 64], "q4_0"));
  expect(layer.weight.dtype).toBe("q4_0");
  expect([...layer.namedParameters()].map(([name, p]) => [name, p.requiresGrad])).toEqual([
    ["weight", false],
    ["bias", true],
  ]);
  scope(() =>
    layer
      .forward(values([2, 64]))
      .sum()
      .backward(),
  );
  expect(layer.bias?.grad).not.toBeNull();
  expect(() => layer.unfreeze()).toThrow(/can't be trained/);
  expect(() => replaceParameter(layer, "wait", layer.weight)).toThrow(/no such parameter/);
  expect(() => replaceParameter(layer, "bias", layer.weight)).toThrow(/expected bias of shape \(20\), got \(20, 64\)/);
  layer.dispose();
});

test("a quantised matrix crosses threads, and a description that reaches out of it is refused", () => {
  scope(() => {
    const weight = quantizedValues([20, 64], "q4_1");
    const description = share(weight);
    expect(() => fromShared({ ...description, shape: [2000, 64] })).toThrow(/reaches out of the shared memory/);
    expect(() => fromShared({ ...description, strides: [32, 1] })).toThrow(/reaches out of the shared memory/);
    expect(() => fromShared({ ...description, shape: [20, 48], strides: [48, 1] })).toThrow(/reaches out of the shared memory/);
    expect(fromShared(description).bytesSync()).toEqual(weight.bytesSync());
  });
});

test("embedding reads rows of a table, and refuses one that lies the other way round", () => {
  scope(() => {
    const table = quantizedValues([35, 256], "q6_k");
    const ids = tensor([Int32Array.of(34, 0)]);
    expect(embedding(ids, table).dataSync()).toEqual(
      new Float32Array([...(dequantize(table.narrow(0, 34, 1)).dataSync() as Float32Array), ...(dequantize(table.narrow(0, 0, 1)).dataSync() as Float32Array)]),
    );
    expect(() => embedding(ids, table.transpose())).toThrow(ShapeError);
  });
});

test("a row's bytes are the same alone and in any batch", () => {
  scope(() => {
    const weight = quantizedValues([50, 256], "q4_1");
    const x = values([64, 256], { requiresGrad: false });
    const all = linear(x, weight);
    for (const [from, count] of [
      [0, 1],
      [63, 1],
      [5, 7],
      [20, 40],
    ])
      expect(linear(x.narrow(0, from, count).contiguous(), weight).dataSync()).toEqual(all.narrow(0, from, count).dataSync());
  });
});

test.each(QUANTIZED)("%s: several matrices in one tensor are each as it is alone", (dtype) => {
  for (const b of backends) {
    useBackend(b);
    scope(() => {
      const before = memory().liveBytes;
      const several = quantizedValues([3, 35, 256], dtype, 4);
      // 35 rows are no whole groups of 16: each matrix begins a group.
      expect(memory().liveBytes - before).toBe(3 * packedBytes(dtype, 35, 256));
      const bytes = several.bytesSync();
      const each = bytes.length / 3;
      const own = [0, 1, 2].map((i) => quantizedFromBytes(bytes.subarray(i * each, (i + 1) * each), [35, 256], dtype));
      expect(several.narrow(0, 1, 2).bytesSync()).toEqual(bytes.subarray(each));
      expect(several.transpose(1, 2).narrow(0, 1, 2).bytesSync()).toEqual(bytes.subarray(each));
      const numbers = dequantize(several).dataSync() as Float32Array;
      for (const [i, one] of own.entries()) expect(numbers.subarray(i * 35 * 256, (i + 1) * 35 * 256)).toEqual(dequantize(one).dataSync());
      expect(
        dequantize(several.transpose(1, 2).narrow(0, 2, 1))
          .contiguous()
          .dataSync(),
      ).toEqual(
        dequantize(own[2] as Tensor)
          .transpose()
          .contiguous()
          .dataSync(),
      );
      // A row has the bytes that it has in a layer of its own.
      const x = values([4, 256], { requiresGrad: false });
      const made = groupedLinear(x, several, Int32Array.of(1, 0, 3)).dataSync() as Float32Array;
      expect(made.subarray(0, 35)).toEqual(linear(x.narrow(0, 0, 1), own[0] as Tensor).dataSync());
      expect(made.subarray(35)).toEqual(linear(x.narrow(0, 1, 3), own[2] as Tensor).dataSync());
    });
  }
});

test("several matrices: the gradient of the input is that of the floats, biases have theirs, weights none", () => {
  for (const b of backends) {
    useBackend(b);
    scope(() => {
      const several = quantizedValues([3, 800, 64], "q5_1", 2);
      const counts = Int32Array.of(3, 0, 2);
      const gradients = (weight: Tensor) => {
        const [x, bias] = [values([5, 64]), values([3, 800], { seed: 9 })];
        groupedLinear(x, weight, counts, bias)
          .mul(values([5, 800], { seed: 8, requiresGrad: false }))
          .sum()
          .backward();
        return [x, bias].map((t) => (t.grad as Tensor).dataSync() as Float32Array) as [Float32Array, Float32Array];
      };
      const [[gx, gb], [ex, eb]] = [gradients(several), gradients(dequantize(several))];
      const largest = Math.max(...ex.map(Math.abs));
      expect(Math.max(...gx.map((v, i) => Math.abs(v - ex[i])))).toBeLessThan(1e-5 * largest);
      expect(gb).toEqual(eb);
      expect(() => groupedLinear(values([5, 64]), several.transpose(1, 2), counts, null, { transposed: true })).not.toThrow();
      expect(() => groupedLinear(values([5, 64]), several.transpose(1, 2), counts)).toThrow(ShapeError);
      expect(() => groupedLinear(values([5, 800]), several, counts, null, { transposed: true })).toThrow(
        /groupedLinear: expected a weight whose blocks run along its 800 inputs, got q5_1\(3, 800, 64\), seen as \(groups, in, out\)/,
      );
    });
  }
});

test("several matrices: other operations refuse them, and a description of them is checked", () => {
  for (const b of backends) {
    useBackend(b);
    scope(() => {
      const several = quantizedValues([3, 35, 64], "q8_0");
      expect(() => several.permute([1, 0, 2])).toThrow(/permute of other than each matrix: not for block-quantised weights/);
      expect(() => several.narrow(1, 0, 16)).toThrow(/narrow of other than rows: not for block-quantised weights/);
      expect(() => linear(values([2, 64]), several)).toThrow(/linear: expected x \(…, 64\) for a weight q8_0\(3, 35, 64\)/);
      expect(() => embedding(tensor([1], { dtype: "i32" }), several)).toThrow(ShapeError);
      expect(() => quantizedFromBytes(new Uint8Array(34), [1, 1, 1, 32], "q8_0")).toThrow(/expected a matrix \(n, k\) or several \(groups, n, k\)/);
      const shared = share(several);
      expect(() => fromShared({ ...shared, shape: [4, 35, 64] })).toThrow(/reaches out of the shared memory/);
      expect(() => fromShared({ ...shared, strides: [64, 64, 1] })).toThrow(/reaches out of the shared memory/);
      expect(fromShared(shared).bytesSync()).toEqual(several.bytesSync());
    });
  }
});

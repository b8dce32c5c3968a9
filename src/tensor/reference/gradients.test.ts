/** Every gradient kernel against central differences of its forward kernel. */
import { expect, test } from "vitest";
import { ACTIVATIONS } from "../kernels.ts";
import { createReference } from "./index.ts";
import { type Placed, place } from "./place.ts";

const be = createReference();
type Floats = Placed<Float32Array>;

// Multiples of 1/256 between −2 and 2: a step of 1/64 to either side is exact in float32.
const noise = (n: number, seed: number): Floats =>
  place(
    be,
    Float32Array.from({ length: n }, (_, i) => Math.round(Math.sin((i + 1) * 12.9898 + seed * 78.233) * 512) / 256),
  );
const zeros = (n: number): Floats => place(be, new Float32Array(n));
const ints = (...items: number[]) => place(be, Int32Array.from(items));

function expectGradient(x: Floats, gradient: Float32Array, loss: () => number): void {
  const h = 1 / 64;
  const start = x.values();
  const slopes = start.map((at, i) => {
    const lossAt = (shift: number) => {
      be.write(x.storage.buffer, (x.offset + i) * 4, Float32Array.of(at + shift));
      return loss();
    };
    const slope = (8 * (lossAt(h) - lossAt(-h)) - (lossAt(2 * h) - lossAt(-2 * h))) / (12 * h); // error of order h⁴
    lossAt(0);
    return slope;
  });
  const largest = slopes.reduce((most, s) => Math.max(most, Math.abs(s)), 0);
  expect(largest).toBeGreaterThan(0);
  for (let i = 0; i < slopes.length; i++) expect(Math.abs(gradient[i] - slopes[i])).toBeLessThan(3e-5 * Math.max(1, largest));
}

/** Σ out·gy: what has gy as the gradient of its output. */
function weighted(out: Floats, gy: Floats): number {
  const g = gy.values();
  return out.values().reduce((sum, x, i) => sum + x * g[i], 0);
}

test.each([true, false])("layer norm, with weight and bias: %s", (affine) => {
  const [rows, n] = [3, 5];
  const [x, gy, w, b] = [noise(rows * n, 1), noise(rows * n, 2), noise(n, 3), noise(n, 4)];
  const [out, mean, rstd, gx] = [zeros(rows * n), zeros(rows), zeros(rows), zeros(rows * n)];
  const forward = () => {
    be.layerNorm(x, affine ? w : null, affine ? b : null, out, mean, rstd, rows, n, 0.1);
    return weighted(out, gy);
  };
  forward();
  const [gw, gb] = [zeros(n), zeros(n)];
  for (let twice = 0; twice < 2; twice++) be.layerNormGrad(x, affine ? w : null, mean, rstd, gy, gx, gw, gb, rows, n, twice);
  const half = gx.values().map((g) => g / 2); // stored, then added once more
  expectGradient(x, half, forward);
  if (!affine) return;
  expectGradient(w, gw.values(), forward);
  expectGradient(b, gb.values(), forward);
});

test.each([true, false])("RMS norm, with weight: %s", (affine) => {
  const [rows, n] = [3, 5];
  const [x, gy, w] = [noise(rows * n, 1), noise(rows * n, 2), affine ? noise(n, 3) : null];
  const [out, rstd, gx, gw] = [zeros(rows * n), zeros(rows), zeros(rows * n), zeros(n)];
  const forward = () => {
    be.rmsNorm(x, w, out, rstd, rows, n, 0.1);
    return weighted(out, gy);
  };
  forward();
  be.rmsNormGrad(x, w, rstd, gy, gx, gw, rows, n, 0);
  expectGradient(x, gx.values(), forward);
  if (w !== null) expectGradient(w, gw.values(), forward);
});

test.each([0, 1])("softmax, log = %i", (log) => {
  const [rows, n] = [2, 5];
  const [x, gy, y, gx] = [noise(rows * n, 1), noise(rows * n, 2), zeros(rows * n), zeros(rows * n)];
  const forward = () => {
    be.softmax(x, y, rows, n, log);
    return weighted(y, gy);
  };
  forward();
  be.softmaxGrad(y, gy, gx, rows, n, log);
  expectGradient(x, gx.values(), forward);
});

test.each([0, 0.2])("cross-entropy, smoothing %f", (smoothing) => {
  const [rows, n] = [3, 5];
  const [x, scale, losses, lse, gx] = [noise(rows * n, 1), noise(rows, 2), zeros(rows), zeros(rows), zeros(rows * n)];
  const targets = ints(4, -100, 0);
  const forward = () => {
    be.crossEntropy(x, targets, losses, lse, rows, n, -100, smoothing);
    return weighted(losses, scale);
  };
  forward();
  be.crossEntropyGrad(x, targets, lse, scale, 1, gx, rows, n, -100, smoothing);
  expectGradient(x, gx.values(), forward);
});

test.each(ACTIVATIONS.filter((a) => a !== "relu").map((name) => [name]))("gated %s", (name) => {
  const [gate, up, gy] = [noise(6, 1), noise(6, 2), noise(6, 3)];
  const [out, ggate, gup] = [zeros(6), zeros(6), zeros(6)];
  const kind = ACTIVATIONS.indexOf(name);
  const forward = () => {
    be.gated(kind, gate, up, out, 6);
    return weighted(out, gy);
  };
  be.gatedGrad(kind, gate, up, gy, ggate, gup, 6);
  expectGradient(gate, ggate.values(), forward);
  expectGradient(up, gup.values(), forward);
});

test.each([0, 1])("rope turned back is its gradient, interleaved = %i", (interleaved) => {
  const [rows, heads, dim] = [2, 2, 6];
  const angles = [0.3, 1.1, 2, 0.7];
  const [cos, sin] = [Math.cos, Math.sin].map((f) => place(be, Float32Array.from(angles, f)));
  const n = rows * heads * dim;
  const [x, gy, out, gx] = [noise(n, 1), noise(n, 2), zeros(n), zeros(n)];
  const turn = (from: Floats, to: Floats, inverse: number) =>
    be.rope(from, heads * dim, to, heads * dim, cos, sin, ints(1, 0), rows, heads, dim, 4, interleaved, inverse);
  turn(gy, gx, 1);
  expectGradient(x, gx.values(), () => {
    turn(x, out, 0);
    return weighted(out, gy);
  });
});

test("cumsum from the end is the gradient of cumsum", () => {
  const [x, gy, out, gx] = [noise(12, 1), noise(12, 2), zeros(12), zeros(12)];
  be.cumsum(gy, gx, 2, 3, 2, 1);
  expectGradient(x, gx.values(), () => {
    be.cumsum(x, out, 2, 3, 2, 0);
    return weighted(out, gy);
  });
});

test.each([
  ["causal", { causal: 1 }],
  ["window and softcap", { causal: 1, window: 2, softcap: 1.5 }],
  ["both directions, ALiBi", { window: 2, slopes: noise(4, 7) }],
  ["mask with a hidden key", { mask: place(be, Float32Array.of(0.5, Number.NEGATIVE_INFINITY, -0.25, 0, 0.1)) }],
] as [string, { causal?: number; window?: number; softcap?: number; slopes?: Floats; mask?: Floats }][])(
  "attention over ragged sequences with shared kv heads: %s",
  (_, rules) => {
    const { causal = 0, window = 0, softcap = 0, slopes = null, mask = null } = rules;
    const [heads, kvHeads, dim, rowsQ, rowsK, sequences] = [4, 2, 3, 5, 9, 2];
    // Rows further apart than they are long; the second sequence's keys lie before the first's; rows 0 and 8 of k belong to none.
    const [qRow, kRow] = [heads * dim + 1, kvHeads * dim + 2];
    const [cuQ, startK, lenK] = [ints(0, 3, 5), ints(4, 1), ints(4, 3)];
    const [q, k, v, gout] = [noise(rowsQ * qRow, 1), noise(rowsK * kRow, 2), noise(rowsK * kRow, 3), noise(rowsQ * qRow, 4)];
    const [out, lse] = [zeros(rowsQ * qRow), zeros(heads * rowsQ)];
    const maskStrides = [1, 0, 0, 1]; // a value for each key, one further in the second sequence
    const forward = () => {
      be.attention(
        q,
        qRow,
        k,
        kRow,
        v,
        kRow,
        out,
        qRow,
        lse,
        cuQ,
        startK,
        lenK,
        sequences,
        rowsQ,
        rowsK,
        heads,
        kvHeads,
        dim,
        0.4,
        causal,
        window,
        softcap,
        slopes,
        mask,
        maskStrides,
      );
      return weighted(out, gout);
    };
    forward();
    const [gq, gk, gv] = [zeros(rowsQ * qRow), zeros(rowsK * kRow), zeros(rowsK * kRow)];
    be.attentionGrad(
      q,
      qRow,
      k,
      kRow,
      v,
      kRow,
      out,
      qRow,
      lse,
      gout,
      qRow,
      gq,
      qRow,
      gk,
      kRow,
      gv,
      kRow,
      cuQ,
      startK,
      lenK,
      sequences,
      rowsQ,
      rowsK,
      heads,
      kvHeads,
      dim,
      0.4,
      causal,
      window,
      softcap,
      slopes,
      mask,
      maskStrides,
    );
    expectGradient(q, gq.values(), forward);
    expectGradient(k, gk.values(), forward);
    expectGradient(v, gv.values(), forward);
    expect([...gk.values().slice(0, kRow)]).toEqual(new Array(kRow).fill(0)); // no query sees row 0
  },
);

import { expect, test } from "vitest";
import { ConfigError, DataError, RunError } from "../errors.ts";
import { batchesOnce, dataLoader } from "./loader.ts";
import { weightedMix } from "./mix.ts";
import { packedDocuments } from "./packed-documents.ts";
import { IGNORE, readBatch, type SampleSource } from "./samples.ts";
import { memoryTokens, type TokenData } from "./token-data.ts";
import { sampledWindows, sequentialWindows } from "./windows.ts";

const counting = (n: number) => memoryTokens(Int32Array.from({ length: n }, (_, i) => i));

test("sampled windows are T + 1 consecutive tokens from anywhere, by seed and number alone", async () => {
  const data = counting(20);
  const source = sampledWindows(data, { context: 4, seed: 7 });
  const seen = new Map<number, number>();
  for (let i = 0; i < 8000; i++) {
    const { inputIds, targets } = await source.read(i);
    const start = inputIds[0];
    expect([...inputIds]).toEqual([start, start + 1, start + 2, start + 3]);
    expect([...targets]).toEqual([start + 1, start + 2, start + 3, start + 4]);
    seen.set(start, (seen.get(start) ?? 0) + 1);
  }
  // 16 places, 500 each: five standard deviations are 108.
  expect(seen.size).toBe(16);
  for (const times of seen.values()) expect(Math.abs(times - 500)).toBeLessThan(108);
  const starts = async (seed: number, from = 0) =>
    Promise.all([0, 1, 2, 3, 4, 5].map(async (i) => (await sampledWindows(data, { context: 4, seed }).read(from + i)).inputIds[0]));
  expect(await starts(7)).toEqual([14, 10, 5, 3, 5, 15]);
  expect(await starts(7)).not.toEqual(await starts(8));
  expect(await starts(7)).not.toEqual(await starts(7 + 2 ** 32));
  expect(await starts(7)).not.toEqual(await starts(7, 2 ** 32));
});

test("text of exactly one window works, one token less is refused in words", async () => {
  expect((await sampledWindows(counting(5), { context: 4 }).read(3)).targets[3]).toBe(4);
  expect(() => sampledWindows(counting(4), { context: 4 })).toThrow(DataError);
  expect(() => sampledWindows(counting(4), { context: 4 })).toThrow(
    /text smaller than one window, expected at least 5 tokens .* got 4 tokens\. Use more text or a shorter context/,
  );
  expect(() => sequentialWindows(counting(1), { context: 4 })).toThrow(/smaller than one window/);
  expect(() => sampledWindows(counting(4), { context: 0 })).toThrow(/bad context length/);
});

test.each([
  [2, 3, 0],
  [4, 3, 0],
  [5, 3, 0],
  [100, 7, 0],
  [99, 7, 3],
  [100, 7, 6],
  [8, 7, 2],
  [9, 7, 2],
])("sequential windows over %i tokens (context %i, overlap %i) score each token once, after the right one", async (tokens, context, overlap) => {
  const source = sequentialWindows(counting(tokens), { context, overlap });
  const scored: number[] = [];
  let batches = 0;
  let total = 0;
  for await (const batch of batchesOnce(source, 4)) {
    batches += batch.rows;
    total += batch.targetTokens;
    batch.targets.forEach((target, i) => {
      if (target === IGNORE) return;
      scored.push(target);
      expect(batch.inputIds[i]).toBe(target - 1);
      // With overlap, all but the first window's targets have that much past.
      if (target > context) expect(i % context).toBeGreaterThanOrEqual(overlap);
    });
  }
  expect(scored).toEqual(Array.from({ length: tokens - 1 }, (_, i) => i + 1));
  expect(batches).toBe(source.samples);
  expect(total).toBe(tokens - 1);
  await expect(source.read(source.samples)).rejects.toThrow(DataError);
});

/** Documents whose ids say where they are: document · 1000 + place. */
function labelled(lengths: number[]): TokenData {
  const starts = [0];
  for (const length of lengths) starts.push((starts.at(-1) as number) + length);
  return memoryTokens(
    lengths.flatMap((length, d) => Array.from({ length }, (_, i) => d * 1000 + i)),
    { documentStarts: starts },
  );
}

test.each([true, false])("packed documents: every step within a document once in an epoch, none across (shuffle %s)", async (shuffle) => {
  const lengths = [5, 1, 17, 3, 8, 30, 2];
  const data = labelled(lengths);
  const context = 8;
  const source = packedDocuments(data, { context, seed: 1, shuffle });
  expect(source.samples).toBe(Math.ceil(66 / context));
  const orders: string[] = [];
  for (const epoch of [0, 1]) {
    const steps: string[] = [];
    const inputs: number[] = [];
    for (let i = 0; i < source.samples; i++) {
      const batch = await readBatch(source, epoch * source.samples + i, 1);
      const { inputIds, targets } = batch;
      const borders = [...(batch.cuSeqlens as Int32Array)];
      expect(borders[0]).toBe(0);
      expect(borders.at(-1)).toBe(context);
      let segment = 0;
      for (let t = 0; t < context; t++) {
        if (t === borders[segment + 1]) segment++;
        expect(batch.positions?.[t]).toBe(t - borders[segment]);
        const last = t + 1 === borders[segment + 1];
        if (targets[t] !== IGNORE) {
          expect(targets[t]).toBe(inputIds[t] + 1);
          steps.push(`${inputIds[t]}`);
          if (!last) expect(inputIds[t + 1]).toBe(targets[t]);
        } else {
          expect(last || inputIds.subarray(borders[segment], t + 1).every((id) => id === 0)).toBe(true);
        }
      }
      inputs.push(...inputIds);
    }
    expect(steps.sort()).toEqual(lengths.flatMap((length, d) => Array.from({ length: length - 1 }, (_, i) => `${d * 1000 + i}`)).sort());
    orders.push(inputs.join());
  }
  expect(orders[0] === orders[1]).toBe(!shuffle);
  expect(await source.read(3)).toEqual(await packedDocuments(data, { context, seed: 1, shuffle }).read(3));
});

test("packed documents come in a new order each epoch, and so do the rows", async () => {
  const epochs = async (data: TokenData, context: number) => {
    const source = packedDocuments(data, { context, seed: 3 });
    const rows = (epoch: number) => Promise.all(Array.from({ length: source.samples }, (_, i) => source.read(epoch * source.samples + i)));
    return Promise.all([0, 1, 2].map(rows));
  };
  // Which document lies behind which, whatever the order of the rows.
  const neighbours = (await epochs(labelled(Array.from({ length: 40 }, () => 3)), 60)).map((rows) =>
    rows
      .flatMap(({ inputIds }) => [...inputIds].filter((id) => id % 1000 === 0).map((id, i, all) => [all[i - 1], id]))
      .filter(([before]) => before !== undefined)
      .map(([before, id]) => `${before / 1000} ${id / 1000}`)
      .sort()
      .join(),
  );
  const inOrder = (pairs: string) => pairs.split(",").filter((pair) => Number(pair.split(" ")[1]) === Number(pair.split(" ")[0]) + 1).length;
  expect(new Set(neighbours).size).toBe(3);
  for (const pairs of neighbours) expect(inOrder(pairs)).toBeLessThan(10);
  // One document alone: only the rows can move.
  const starts = (await epochs(labelled([400]), 8)).map((rows) => rows.map(({ inputIds }) => inputIds[0]));
  expect(new Set(starts.map(String)).size).toBe(3);
  for (const list of starts) {
    expect(list.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => 8 * i));
    expect(list.filter((start, i) => start === list[i - 1] + 8).length).toBeLessThan(10);
  }
});

test("a batch of packed rows has one list of borders, and documents smaller than a row are fine", async () => {
  const batch = await readBatch(packedDocuments(labelled([3, 4, 5]), { context: 4, shuffle: false }), 0, 3);
  expect([...batch.inputIds]).toEqual([0, 1, 2, 1000, 1001, 1002, 1003, 2000, 2001, 2002, 2003, 2004]);
  expect([...batch.targets]).toEqual([1, 2, IGNORE, 1001, 1002, 1003, IGNORE, 2001, 2002, 2003, 2004, IGNORE]);
  expect([...(batch.positions as Int32Array)]).toEqual([0, 1, 2, 0, 0, 1, 2, 0, 0, 1, 2, 3]);
  expect([...(batch.cuSeqlens as Int32Array)]).toEqual([0, 3, 4, 7, 8, 12]);
  expect(batch.targetTokens).toBe(9);
  const padded = await readBatch(packedDocuments(labelled([3]), { context: 5 }), 0, 1);
  expect([...(padded.cuSeqlens as Int32Array)]).toEqual([0, 3, 5]);
  expect(padded.targetTokens).toBe(2);
  expect(() => packedDocuments(labelled([1, 1]), { context: 5 })).toThrow(/smaller than one window/);
});

/** A source that answers with its own number. */
const tagged = (tag: number, context = 1): SampleSource => ({
  context,
  samples: Number.POSITIVE_INFINITY,
  identity: `tag ${tag}`,
  read: async (index) => ({ inputIds: Int32Array.of(tag), targets: Int32Array.of(index) }),
});

test.each([[[0.5, 0.3, 0.2]], [[7, 2, 1, 1]], [[1, 1e-4]], [[1, 1, 1]]])(
  "a mix of %j is right within 1 %% over 10,000 samples, from anywhere",
  async (weights) => {
    const mix = weightedMix(weights.map((weight, i) => ({ source: tagged(i), weight })));
    const sum = weights.reduce((a, b) => a + b);
    const next = weights.map(() => 0);
    const counts = weights.map(() => 0);
    for (let i = 0; i < 10_000; i++) {
      const { inputIds, targets } = await mix.read(i);
      // Each part's own samples come in order, none left out.
      expect(targets[0]).toBe(next[inputIds[0]]++);
      counts[inputIds[0]]++;
      if (i !== 999) continue;
      for (const [part, count] of counts.entries()) {
        expect(Math.abs(count - (1000 * weights[part]) / sum)).toBeLessThan(3);
      }
    }
    for (const [part, count] of counts.entries()) {
      expect(Math.abs(count / 10_000 - weights[part] / sum)).toBeLessThanOrEqual(1e-4);
    }
    expect((await mix.read(10_000)).targets[0]).toBe(next[(await mix.read(10_000)).inputIds[0]]);
  },
);

test("bad mixes are refused", async () => {
  expect(() => weightedMix([])).toThrow(ConfigError);
  for (const weight of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e-9]) {
    expect(() =>
      weightedMix([
        { source: tagged(0), weight: 1 },
        { source: tagged(1), weight },
      ]),
    ).toThrow(/bad weights/);
  }
  expect(() =>
    weightedMix([
      { source: tagged(0), weight: 1 },
      { source: tagged(1, 2), weight: 1 },
    ]),
  ).toThrow(/different context length/);
  const both = weightedMix([
    { source: packedDocuments(labelled([9]), { context: 4 }), weight: 1 },
    { source: sampledWindows(counting(9), { context: 4 }), weight: 1 },
  ]);
  await expect(readBatch(both, 0, 4)).rejects.toThrow(/rows of two kinds/);
});

test("the order is the same for any number of workers, and a cursor goes on exactly", async () => {
  const source = sampledWindows(counting(500), { context: 3, seed: 2 });
  const straight: number[] = [];
  const one = dataLoader(source, { batchSize: 4 });
  for (let k = 0; k < 6; k++) straight.push(...(await one.next()).inputIds);
  const shared: number[] = [];
  const workers = [0, 1].map((rank) => dataLoader(source, { batchSize: 4, rank, world: 2 }));
  for (let k = 0; k < 6; k++) for (const worker of workers) shared.push(...(await worker.next()).inputIds);
  expect(shared).toEqual(straight);

  const first = dataLoader(source, { batchSize: 4 });
  for (let k = 0; k < 3; k++) await first.next();
  const cursor = JSON.parse(JSON.stringify(first.cursor()));
  const resumed = dataLoader(sampledWindows(counting(500), { context: 3, seed: 2 }), { batchSize: 4, cursor });
  const rest: number[] = [];
  for (let k = 0; k < 3; k++) rest.push(...(await resumed.next()).inputIds);
  expect(rest).toEqual(straight.slice(36));
});

test("a cursor of other data or settings is refused, with what changed", () => {
  const source = sampledWindows(counting(50), { context: 3, seed: 2 });
  const cursor = dataLoader(source, { batchSize: 4 }).cursor();
  const resume =
    (other: SampleSource, state: unknown = cursor) =>
    () =>
      dataLoader(other, { batchSize: 4, cursor: state });
  expect(resume(sampledWindows(counting(51), { context: 3, seed: 2 }))).toThrow(RunError);
  expect(resume(sampledWindows(counting(50), { context: 3, seed: 9 }))).toThrow(/settings have changed, expected .*seed 2.* got .*seed 9/);
  for (const damaged of [null, 3, {}, { ...cursor, nextSample: -1 }, { ...cursor, version: 2 }]) expect(resume(source, damaged)).toThrow(RunError);
  for (const options of [{ batchSize: 0 }, { batchSize: 3, world: 2 }, { batchSize: 4, rank: 1 }])
    expect(() => dataLoader(source, options)).toThrow(ConfigError);
});

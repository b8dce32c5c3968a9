import { afterEach, describe, expect, test } from "vitest";
import { ShapeError, UseAfterFreeError } from "../errors.ts";
import { type CausalLM, GPT2, Llama, modelCounts } from "../models/index.ts";
import { memory, narrow, noGrad, ones, pagedAttention, placesOf, STATE_DTYPES, type StateDType, scope, type Tensor, tensor } from "../tensor/index.ts";
import { createPagedState, PAGE, type PagedState } from "./paged-state.ts";

const models: [string, () => CausalLM][] = [
  ["gpt2", () => new GPT2({ vocab_size: 97, n_positions: 256, n_embd: 32, n_layer: 2, n_head: 4, initializer_range: 0.2 }).eval()],
  [
    "llama, grouped queries",
    () =>
      new Llama({
        vocab_size: 97,
        max_position_embeddings: 256,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        initializer_range: 0.2,
      }).eval(),
  ],
];
const open: { dispose(): void }[] = [];
const use = <T extends { dispose(): void }>(x: T): T => {
  open.push(x);
  return x;
};
afterEach(() => {
  for (const x of open.splice(0).reverse()) x.dispose();
});

const text = (n: number, seed: number): Int32Array => Int32Array.from({ length: n }, (_, i) => (i * i * 7 + seed * 31 + i * seed) % 97);

/** The last row's logits of each entry. */
function stepped(state: PagedState, entries: Parameters<PagedState["step"]>[0]): Float32Array[] {
  const all = scope(() => ({ data: state.step(entries).dataSync() as Float32Array })).data;
  const n = all.length / entries.length;
  return entries.map((_, i) => all.slice(i * n, (i + 1) * n));
}

/** Logits of the last of these ids without any state. */
function uncached(model: CausalLM, ids: Int32Array): Float32Array {
  return scope(() => ({ data: noGrad(() => model.forward({ inputIds: tensor([ids]) }).logits.narrow(1, ids.length - 1, 1)).dataSync() as Float32Array })).data;
}

/** A prompt and then single tokens, alone in a state of its own. */
function alone(model: CausalLM, ids: Int32Array, prompt: number, stateDtype: StateDType = "f32"): Float32Array[] {
  const state = createPagedState(model, { stateDtype });
  const sequence = state.allocate();
  const out = stepped(state, [{ sequence, ids: ids.subarray(0, prompt) }]);
  for (let t = prompt; t < ids.length; t++) out.push(...stepped(state, [{ sequence, ids: ids.subarray(t, t + 1) }]));
  state.dispose();
  return out;
}

const kept = models.flatMap(([name, make]) => STATE_DTYPES.map((dtype) => [`${name}, state in ${dtype}`, make, dtype] as const));

describe.each(kept)("%s", (_, make, stateDtype) => {
  const stateOf = (model: CausalLM) => use(createPagedState(model, { stateDtype }));
  test("a sequence cut back goes on as if the rest had never been, and its pages are free", () => {
    const model = use(make());
    const ids = text(140, 5);
    const expected = alone(model, ids, 60, stateDtype);
    const state = stateOf(model);
    const sequence = state.allocate();
    stepped(state, [{ sequence, ids: text(200, 9) }]);
    state.truncate(sequence, 0);
    expect([sequence.length, state.usage().used]).toEqual([0, 0]);
    let got = stepped(state, [{ sequence, ids: ids.subarray(0, 60) }]);
    for (let at = 60; at < ids.length; at++) {
      // Four guesses that are wrong, now and then over the end of a page.
      stepped(state, [{ sequence, ids: text(4, at) }]);
      state.truncate(sequence, at);
      got = [...got, ...stepped(state, [{ sequence, ids: ids.subarray(at, at + 1) }])];
    }
    expect(got).toEqual(expected);
    expect(state.usage().used).toBe(3);
    // Another that shares the page is not changed by what is written after the cut.
    const other = state.fork(sequence, 130);
    const before = stepped(state, [{ sequence: other, ids: [1] }])[0];
    state.truncate(other, 130);
    state.truncate(sequence, 129);
    stepped(state, [{ sequence, ids: [2, 3] }]);
    expect(stepped(state, [{ sequence: other, ids: [1] }])[0]).toEqual(before);
    expect(() => state.truncate(other, 132)).toThrow(/truncate: bad length, expected a whole number up to the sequence's 131 positions, got 132/);
  });

  test("as many rows of logits as are asked for: none, the last, all", () => {
    const model = use(make());
    const ids = text(70, 4);
    const expected = alone(model, ids, 1, stateDtype);
    const state = stateOf(model);
    const [a, b, c] = [state.allocate(), state.allocate(), state.allocate()];
    const rows = stepped(state, [
      { sequence: a, ids, logits: 70 },
      { sequence: b, ids: ids.subarray(0, 9), logits: 0 },
      { sequence: c, ids: ids.subarray(0, 5), logits: 2 },
    ]);
    const width = expected[0].length;
    const flat = Float32Array.from(rows.flatMap((r) => [...r]));
    expect(flat.length).toBe(72 * width);
    for (let i = 0; i < 70; i++) expect(flat.subarray(i * width, (i + 1) * width)).toEqual(expected[i]);
    expect(flat.subarray(70 * width)).toEqual(Float32Array.of(...expected[3], ...expected[4]));
    scope(() => {
      const none = state.step([{ sequence: b, ids: [1], logits: 0 }]);
      expect(none.shape).toEqual([0, width]);
      const { hidden, logits } = state.stepHidden([{ sequence: a, ids: [1, 2, 3] }]);
      expect([hidden.shape, logits.shape]).toEqual([
        [3, 32],
        [1, width],
      ]);
    });
    expect(() => state.step([{ sequence: a, ids: [1], logits: 2 }])).toThrow(/bad logits, expected a whole number up to the 1 new ids, got 2/);
  });

  test("a page that is held stays when its sequence has ended, and begins another", () => {
    const model = use(make());
    const ids = text(130, 6);
    const state = stateOf(model);
    const first = state.allocate();
    stepped(state, [{ sequence: first, ids: ids.subarray(0, 129) }]);
    const expected = stepped(state, [{ sequence: first, ids: ids.subarray(129) }]);
    const pages = first.pages.slice(0, 2);
    for (const page of pages) state.hold(page);
    expect(pages.map((page) => state.holders(page))).toEqual([2, 2]);
    state.free(first);
    expect(state.usage().used).toBe(2);
    const second = state.allocate(pages);
    expect(second.length).toBe(128);
    expect(state.needs(second, 2)).toBe(1);
    expect(stepped(state, [{ sequence: second, ids: ids.subarray(128) }])).toEqual(expected);
    for (const page of pages) state.release(page);
    state.free(second);
    expect(state.usage().used).toBe(0);
    for (const use of [state.hold, state.release, (page: number) => state.allocate([page])]) expect(() => use(pages[0])).toThrow(/nobody holds this page/);
  });

  test("a ragged batch that mixes prompts and single tokens equals separate runs, byte for byte", () => {
    const model = use(make());
    const [a, b, c] = [text(75, 1), text(140, 2), text(7, 3)];
    const [alonea, aloneb, alonec] = [alone(model, a, 70, stateDtype), alone(model, b, 137, stateDtype), alone(model, c, 5, stateDtype)];
    const state = stateOf(model);
    const [sa, sb, sc] = [state.allocate(), state.allocate(), state.allocate()];
    expect(stepped(state, [{ sequence: sa, ids: a.subarray(0, 70) }])).toEqual([alonea[0]]);
    // One decodes while another's prompt comes in, whole.
    expect(
      stepped(state, [
        { sequence: sa, ids: [a[70]] },
        { sequence: sb, ids: b.subarray(0, 137) },
      ]),
    ).toEqual([alonea[1], aloneb[0]]);
    expect(
      stepped(state, [
        { sequence: sb, ids: [b[137]] },
        { sequence: sc, ids: c.subarray(0, 5) },
        { sequence: sa, ids: [a[71]] },
      ]),
    ).toEqual([aloneb[1], alonec[0], alonea[2]]);
    expect(
      stepped(state, [
        { sequence: sc, ids: [c[5]] },
        { sequence: sb, ids: [b[138]] },
      ]),
    ).toEqual([alonec[1], aloneb[2]]);
    // The first leaves, a newcomer takes its pages.
    state.free(sa);
    const sd = state.allocate();
    expect(
      stepped(state, [
        { sequence: sd, ids: a.subarray(0, 70) },
        { sequence: sc, ids: [c[6]] },
        { sequence: sb, ids: [b[139]] },
      ]),
    ).toEqual([alonea[0], alonec[2], aloneb[3]]);
  });

  test("a prompt whole, in chunks or token by token gives the same bytes; in f32 those without state, in f16 nearly", () => {
    const model = use(make());
    const ids = text(150, 4);
    const expected = alone(model, ids, 149, stateDtype);
    const plain = [149, 150].map((n) => uncached(model, ids.subarray(0, n)));
    if (stateDtype === "f32") expect(expected).toEqual(plain);
    else {
      const off = Math.max(...expected.flatMap((row, i) => [...row].map((x, j) => Math.abs(x - plain[i][j]))));
      const size = Math.max(...plain.flatMap((row) => [...row].map(Math.abs)));
      expect(off).toBeGreaterThan(0);
      expect(off / size).toBeLessThan(2 ** -9);
    }
    for (const chunk of [1, 13, 64, 100]) {
      const state = stateOf(model);
      const sequence = state.allocate();
      let last: Float32Array[] = [];
      for (let at = 0; at < 149; at += chunk) last = stepped(state, [{ sequence, ids: ids.subarray(at, Math.min(149, at + chunk)) }]);
      expect(last).toEqual([expected[0]]);
    }
  });

  test("a fork shares pages and neither disturbs the other", () => {
    const model = use(make());
    const [a, b] = [text(80, 1), Int32Array.of(...text(70, 1), ...text(10, 9))];
    const state = stateOf(model);
    const first = state.allocate();
    stepped(state, [{ sequence: first, ids: a.subarray(0, 75) }]);
    const second = state.fork(first, 70);
    expect(state.usage().used).toBe(2);
    const outA = stepped(state, [
      { sequence: first, ids: a.subarray(75) },
      { sequence: second, ids: b.subarray(70) },
    ]);
    expect(outA).toEqual([alone(model, a, 80, stateDtype)[0], alone(model, b, 80, stateDtype)[0]]);
    expect(state.usage().used).toBe(3);
    state.free(first);
    state.free(second);
    expect(state.usage().used).toBe(0);
  });
});

describe("paged state", () => {
  test("steps and sequences leave no memory behind", () => {
    const model = use(models[0][1]());
    const state = use(createPagedState(model));
    const round = (): number => {
      const [a, b] = [state.allocate(), state.allocate()];
      stepped(state, [
        { sequence: a, ids: text(70, 1) },
        { sequence: b, ids: text(3, 2) },
      ]);
      for (let i = 0; i < 5; i++)
        stepped(state, [
          { sequence: b, ids: [i] },
          { sequence: a, ids: [i] },
        ]);
      state.free(a);
      state.free(b);
      return memory().liveBytes;
    };
    const after = round();
    for (let i = 0; i < 10; i++) expect(round()).toBe(after);
  });

  test("a page takes the bytes that the formula says", () => {
    const model = use(models[0][1]());
    model.eager = true;
    const { stateBytesPerToken, stateBytesPerTokenF16 } = modelCounts(model);
    for (const [stateDtype, bytes] of [
      ["f32", stateBytesPerToken],
      ["f16", stateBytesPerTokenF16],
    ] as const) {
      const state = use(createPagedState(model, { stateDtype }));
      const before = memory().liveBytes;
      stepped(state, [{ sequence: state.allocate(), ids: [1] }]);
      expect(memory().liveBytes - before).toBe(PAGE * bytes);
    }
    expect(stateBytesPerToken).toBe(2 * stateBytesPerTokenF16);
  });

  test("a step that finds no page changes nothing", () => {
    const model = use(models[0][1]());
    const state = use(createPagedState(model, { maxPages: 2 }));
    const [a, b] = [state.allocate(), state.allocate()];
    stepped(state, [{ sequence: a, ids: text(64, 1) }]);
    expect(() =>
      stepped(state, [
        { sequence: a, ids: [1] },
        { sequence: b, ids: [1] },
      ]),
    ).toThrow(/at most 2 pages of 64 positions, got 1 in use and 2 more needed/);
    expect([a.length, b.length]).toEqual([64, 0]);
    expect(stepped(state, [{ sequence: a, ids: [5] }])).toEqual([uncached(model, Int32Array.of(...text(64, 1), 5))]);
  });

  test("dropout does not act, and the model stays in training", () => {
    const model = use(new GPT2({ vocab_size: 97, n_positions: 64, n_embd: 16, n_layer: 1, n_head: 2 })).train();
    const state = use(createPagedState(model));
    const once = () => stepped(state, [{ sequence: state.allocate(), ids: text(9, 1) }]);
    expect(once()).toEqual(once());
    expect(model.training).toBe(true);
  });

  test("says what is wrong", () => {
    const model = use(models[0][1]());
    const state = use(createPagedState(model));
    const sequence = state.allocate();
    expect(() => state.step([{ sequence, ids: [97] }])).toThrow(/id 97 at place 0 is outside the model's vocabulary, expected a whole number from 0 to 96/);
    expect(() => state.step([{ sequence, ids: text(257, 1) }])).toThrow(/at most 256 positions \(the model's context\), got 257/);
    expect(() => state.step([{ sequence, ids: [] }])).toThrow(/without new ids/);
    expect(() =>
      state.step([
        { sequence, ids: [1] },
        { sequence, ids: [1] },
      ]),
    ).toThrow(/twice/);
    state.free(sequence);
    expect(() => state.step([{ sequence, ids: [1] }])).toThrow(/unknown sequence/);
    expect(() => createPagedState(model, { stateDtype: "bf16" as StateDType })).toThrow(/bad stateDtype, expected f32 or f16, got bf16/);
  });
});

test("places that were freed, or lie apart, are refused", () => {
  const [cuSeqlens, lengths, pageTable] = [Int32Array.of(0, 1), Int32Array.of(1), Int32Array.of(0)];
  const run = (places: Tensor) =>
    scope(() => pagedAttention(ones([1, 1, 4]), { k: ones([1, 1, 4, 64]), v: ones([1, 1, 64, 4]), pageTable, maxPages: 1, lengths, cuSeqlens, places }));
  const places = placesOf(cuSeqlens, lengths, pageTable);
  run(places).dispose();
  places.dispose();
  expect(() => run(places)).toThrow(UseAfterFreeError);
  // The first four items would do, but they are not those of the view.
  const wide = tensor(Int32Array.of(0, 1, 1, 0, 9, 9, 9, 9)).reshape([4, 2]);
  expect(() => run(narrow(wide, 1, 0, 1))).toThrow(ShapeError);
  wide.dispose();
});

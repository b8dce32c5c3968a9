/** What must hold of every architecture, on the samples of its declaration: no architecture can be forgotten. */
import { describe, expect, test } from "vitest";
import { normaliseKeys } from "../formats/hf-config.ts";
import type { Json } from "../formats/json.ts";
import { encodeSafetensors } from "../formats/safetensors-write.ts";
import { memoryFolder } from "../formats/source.ts";
import { init } from "../nn/index.ts";
import { backend, memory, noGrad, scope, tensorFrom, useBackend } from "../tensor/index.ts";
import { architectures, describeModel } from "./architectures.ts";
import { configText, fromPretrained, weightEntries } from "./auto.ts";
import type { CausalLM } from "./causal-lm.ts";
import { modelCounts } from "./counts.ts";
import { createModel } from "./create.ts";

/** Which part a parameter belongs to, by its name. A name that none matches fails the test: add its pattern. */
const PART: [part: string, names: RegExp][] = [
  ["embedding", /wte|embed_tokens|embed_in|word_embeddings\.|project_in/],
  ["positions", /wpe|embed_positions/],
  ["norms", /ln_|norm/],
  ["attention", /attn|attention\./],
  ["mlp", /mlp|fc[12]/],
  ["head", /lm_head|project_out/],
];

const SAMPLES = Object.values(architectures).flatMap(({ modelType, samples }) =>
  samples.map((sample, i): [name: string, config: Record<string, unknown>] => [`${modelType}, sample ${i}`, { model_type: modelType, ...sample }]),
);

const ids = (model: CausalLM, rows: number, length: number) =>
  tensorFrom(
    Int32Array.from({ length: rows * length }, (_, i) => (i * i + 3 * i) % model.dimensions.vocabulary),
    [rows, length],
  );
const logitsOf = (model: CausalLM): Float32Array =>
  scope(() => ({ data: noGrad(() => model.forward({ inputIds: ids(model, 2, 7) })).logits.dataSync() as Float32Array })).data;

test("every architecture has samples, under its own name", () => {
  for (const [name, { modelType, samples }] of Object.entries(architectures)) {
    expect(modelType).toBe(name);
    expect(samples.length).toBeGreaterThan(0);
  }
});

describe.each(SAMPLES)("%s", (_, config) => {
  test("parameters, arithmetic and state by formula are those of the model", () => {
    const model = createModel(config).eval();
    const { modelType, dimensions } = model;
    expect(describeModel(config)).toMatchObject({ modelType, dimensions, config: model.config });
    const counts = modelCounts(model);
    const parts: Record<string, number> = { embedding: 0, positions: 0, attention: 0, mlp: 0, norms: 0, head: 0, total: model.parameterCount() };
    for (const [name, p] of model.namedParameters()) parts[PART.find(([, names]) => names.test(name))?.[0] ?? name] += p.size;
    expect(counts.parameters).toEqual(parts);

    // The products that really run, counted at the border.
    let flops = 0;
    const real = backend();
    const length = 12;
    useBackend({
      ...real,
      linear: (...a) => {
        flops += 2 * a[8] * a[9] * a[10];
        real.linear(...a);
      },
      attention: (...a) => {
        const [heads, dim, window] = [a[15], a[17], a[20] || length];
        for (let t = 1; t <= length; t++) flops += 4 * heads * dim * Math.min(t, window);
        real.attention(...a);
      },
    });
    try {
      scope(() => void noGrad(() => model.forward({ inputIds: ids(model, 1, length) }).logits));
    } finally {
      useBackend(real);
    }
    expect(length * counts.forwardFlops(length)).toBe(flops);
    expect(counts.trainingFlops(length)).toBe(3 * counts.forwardFlops(length));
    model.dispose();
  });

  test("dispose gives all memory back, of tables too", () => {
    const before = memory().liveBytes;
    const model = createModel(config).eval();
    logitsOf(model);
    expect(memory().liveBytes).toBeGreaterThan(before);
    model.dispose();
    expect(memory().liveBytes).toBe(before);
  });

  test("what a layer leaves for backward, by formula, is what it leaves", () => {
    const { architecture } = describeModel(config);
    // Above 4 KiB, blocks of widths such as 16, 20, 24 have no rounding in them: give samples such widths.
    const [rows, length] = [64, 16];
    const held = (layers: number): number => {
      const model = createModel({ ...config, [architecture.keyOf.layers]: layers }).train();
      const live = scope(() => {
        const before = memory().liveBytes;
        const out = model.forward({ inputIds: ids(model, rows, length) });
        // Out of `forward`, only results and what backward needs are alive.
        return out.hidden.requiresGrad ? memory().liveBytes - before : Number.NaN;
      });
      model.dispose();
      return live;
    };
    const measured = (held(4) - held(2)) / 2 / 4 / (rows * length);
    const { layer } = architecture.savedPerRow(describeModel(config).config, length);
    // Attention also keeps where its sequences begin and end, or which keys a query sees: for 64 sequences of 16 a block of 1 KiB, a quarter of a float a row.
    expect(measured).toBeGreaterThanOrEqual(layer);
    expect(measured).toBeLessThanOrEqual(layer + 0.25);
  });

  test("saved and opened again it is the same model, by every spelling of its keys and without the base model's name", async () => {
    const model = createModel(config).eval();
    for (const p of model.parameters()) init.normal(p, { std: 0.3, stream: { seed: 5, stream: 0, position: 0 } });
    const expected = logitsOf(model);
    const json = JSON.parse(configText(model)) as Record<string, Json>;
    const { keys, weights } = model.architecture;
    const open = async (text: string, strip: boolean) => {
      const entries = weightEntries(model).map((e) => (strip && e.name.startsWith(weights.base) ? { ...e, name: e.name.slice(weights.base.length) } : e));
      const chunks: Uint8Array[] = [];
      for await (const chunk of encodeSafetensors(entries).content) chunks.push(chunk.slice());
      const again = await fromPretrained(memoryFolder({ "config.json": text, "model.safetensors": new Uint8Array(Buffer.concat(chunks)) }));
      expect(configText(again)).toBe(configText(model));
      expect(logitsOf(again)).toEqual(expected);
      again.dispose();
    };
    await open(JSON.stringify(json), false);
    // A head of its own is outside the base model, so its name says which of the two the file is.
    if (model.lm_head === null) await open(JSON.stringify(json), true);
    for (const [key, others] of Object.entries(keys.keys)) {
      for (const other of others.filter((name) => !name.includes(".") && key in json)) {
        const { [key]: value, ...rest } = json;
        expect(normaliseKeys({ ...rest, [other]: value }, keys, "config")[key]).toEqual(value);
      }
    }
    model.dispose();
  });
});

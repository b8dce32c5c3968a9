/** Models saved as GGUF and as folders come back as they were. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ConfigError, FormatError } from "../errors.ts";
import { dequantizeBlocks } from "../formats/gguf/dequantize.ts";
import { openGgufFiles } from "../formats/gguf/files.ts";
import type { GgufValue } from "../formats/gguf/read.ts";
import { encodeGguf } from "../formats/gguf/write.ts";
import { encodeSafetensors, openFolder, openModelWeights } from "../formats/index.ts";
import { init } from "../nn/index.ts";
import { dequantize, noGrad, scope, type Tensor, tensorFrom } from "../tensor/index.ts";
import { trainBpe } from "../tokenizers/index.ts";
import type { GgufLookup } from "./architecture.ts";
import { architectures, describeModel } from "./architectures.ts";
import type { CausalLM } from "./causal-lm.ts";
import { createModel } from "./create.ts";
import { configJson, saveFolder } from "./folder-save.ts";
import { ropeFromMetadata } from "./gguf-rope.ts";
import { fromPretrained, openWeights, saveGguf, saveModel, type WeightSource, weightsOf } from "./index.ts";
import { frequencies, type RopeParameters } from "./rope-tables.ts";

const dir = mkdtempSync(join(tmpdir(), "groundup-gguf-save-"));
afterAll(() => rmSync(dir, { recursive: true }));
const at = (name: string) => join(dir, name);

const SAMPLES = Object.values(architectures).flatMap(({ modelType, gguf, samples }) =>
  gguf === undefined ? [] : samples.map((config, i): [string, Record<string, unknown>] => [`${modelType}, sample ${i}`, { model_type: modelType, ...config }]),
);

const SIZES = { vocab_size: 41, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, max_position_embeddings: 64, intermediate_size: 40 };
/** Stretched positions of families that say them in ways of their own. */
const STRETCHED: [string, Record<string, unknown>][] = [
  [
    "qwen2, yarn",
    { model_type: "qwen2", ...SIZES, num_key_value_heads: 2, rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 16 } },
  ],
  ["gemma3_text, linear", { model_type: "gemma3_text", ...SIZES, num_key_value_heads: 2, rope_scaling: { rope_type: "linear", factor: 8 } }],
  [
    "phi3, longrope on a part of the head",
    {
      model_type: "phi3",
      ...SIZES,
      original_max_position_embeddings: 4,
      partial_rotary_factor: 0.5,
      rope_scaling: { type: "longrope", short_factor: [1, 1.1, 1.2, 1.3], long_factor: [1.5, 2, 2.5, 3] },
    },
  ],
  ["gpt_neox, linear", { model_type: "gpt_neox", ...SIZES, rotary_pct: 0.5, rope_scaling: { rope_type: "linear", factor: 2 } }],
];

/** With every weight at random, norms and biases too. */
function randomModel(config: Record<string, unknown>, std = 0.5): CausalLM {
  const model = createModel(config).eval();
  for (const [, p] of model.namedParameters()) init.normal(p, { std });
  return model;
}
const logits = (model: CausalLM) =>
  scope(() => ({ data: noGrad(() => model.forward({ inputIds: tensorFrom(Int32Array.of(3, 0, 7, 7, 2), [1, 5]) })).logits.dataSync() as Float32Array })).data;

/** Norms stored as 1 + w lose the last bits of 1. */
async function same(source: WeightSource, model: CausalLM): Promise<void> {
  const added = (name: string) => model.architecture.gguf?.added?.(name) ?? 0;
  const expected = weightsOf(model);
  expect([...source.shapes].sort()).toEqual([...expected.shapes].sort());
  for (const name of source.shapes.keys()) {
    const [there, own] = [await source.read(name), await expected.read(name)];
    expect(
      there.every((value, i) => Math.abs(value - own[i]) <= 2 ** -22 * (Math.abs(own[i]) + added(name))),
      name,
    ).toBe(true);
  }
}

/** Whether such files have a place for every setting. */
function sayable(config: Record<string, unknown>): boolean {
  const { architecture, config: complete } = describeModel(config);
  try {
    architecture.gguf?.metadata(complete);
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return false;
  }
}

test("what files have no place for is refused before anything is written", async () => {
  const refused = SAMPLES.filter(([, config]) => !sayable(config));
  expect(refused.length).toBeGreaterThan(5);
  for (const [name, config] of refused) {
    const model = randomModel(config);
    const file = at("refused.gguf");
    await expect(saveGguf(model, file, { type: "F32", name: "a" }), name).rejects.toThrow(/no place for/);
    expect(existsSync(file)).toBe(false);
    model.dispose();
  }
});

describe.each([...SAMPLES.filter(([, config]) => sayable(config)), ...STRETCHED])("%s", (_, config) => {
  test("as GGUF and back, as a folder and back", async () => {
    const model = randomModel(config);
    const file = at("model.gguf");
    const { bytes, layouts } = await saveGguf(model, file, { type: "F32", name: "a" });
    expect([readFileSync(file).length, Object.keys(layouts)]).toEqual([bytes, ["F32"]]);
    const again = await fromPretrained(file);
    const [made, expected] = [logits(again), logits(model)];
    const largest = Math.max(...expected.map(Math.abs));
    // Norms stored as 1 + w lose a bit; the others nothing.
    expect(Math.max(...made.map((x, i) => Math.abs(x - expected[i])))).toBeLessThan(1e-5 * largest);
    again.dispose();

    const weights = await openWeights(file);
    await same(weights, model);
    const folder = at("folder");
    await saveFolder(weights, folder, { replace: true });
    await weights.close();
    const read = await openWeights(folder);
    await same(read, model);
    await read.close();
    const third = await fromPretrained(folder);
    expect(third.dimensions).toEqual(model.dimensions);
    third.dispose();
    // The names that a model itself is saved under, which transformers reads.
    const direct = at("direct");
    await saveModel(model, direct);
    const names = async (place: string) => {
      const reader = await openModelWeights(openFolder(place));
      await reader.close();
      return [...reader.tensors.keys()].sort();
    };
    expect(await names(folder)).toEqual(await names(direct));
    const parts = await openWeights(direct);
    await same(parts, model);
    await saveGguf(parts, at("from-folder.gguf"), { type: "F32", name: "a" });
    await parts.close();
    const fromFolder = await fromPretrained(at("from-folder.gguf"));
    expect(logits(fromFolder)).toEqual(made);
    fromFolder.dispose();
    model.dispose();
  });

  test("config.json as the model itself writes it", () => {
    const model = createModel(config);
    expect(configJson(describeModel(config))).toEqual(model.configJson());
    model.dispose();
  });
});

const LLAMA = {
  model_type: "llama",
  vocab_size: 300,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  max_position_embeddings: 64,
};

test("the tokenizer goes along, ids without a token become placeholders, and the file is told by its bytes", async () => {
  const tokenizer = trainBpe("It was a bright cold day in April. ".repeat(20), { vocabSize: 280, specialTokens: ["<|endoftext|>"] });
  const model = randomModel(LLAMA);
  model.tokenIds = { bos_token_id: null, eos_token_id: [0, 5], pad_token_id: 0 };
  // Whatever it is called.
  const file = at("model.bin");
  await saveGguf(model, file, { type: "Q8_0", tokenizer, chatTemplate: "{{ messages }}", name: "mine" });
  const reader = await openGgufFiles(file);
  await reader.close();
  const text = (key: string) => reader.metadata.get(key)?.value;
  expect([text("general.name"), text("general.file_type"), text("tokenizer.chat_template"), text("tokenizer.ggml.model")]).toEqual([
    "mine",
    7,
    "{{ messages }}",
    "gpt2",
  ]);
  const tokens = text("tokenizer.ggml.tokens") as string[];
  expect([tokens.length, tokens[299], text("tokenizer.ggml.eot_token_id")]).toEqual([300, "[PAD299]", 5]);
  const again = await fromPretrained(file);
  expect(again.tokenIds).toEqual(model.tokenIds);
  again.dispose();
  model.dispose();
});

/** What each kind of stretching says of the frequencies, and the same out of a file. */
test.each<[string, RopeParameters]>([
  ["linear", { rope_type: "linear", factor: 4 }],
  ["yarn", { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32 }],
  ["yarn of its own attention", { rope_type: "yarn", factor: 8, original_max_position_embeddings: 16, attention_factor: 1.5, beta_fast: 16, beta_slow: 2 }],
  ["llama3", { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 }],
  ["llama3 of other factors", { rope_type: "llama3", factor: 8, low_freq_factor: 2, high_freq_factor: 8, original_max_position_embeddings: 16 }],
  [
    "longrope",
    { rope_type: "longrope", short_factor: [1, 1.5, 2, 2, 2, 2, 3, 4], long_factor: [1, 2, 3, 4, 5, 6, 7, 8], original_max_position_embeddings: 16 },
  ],
])("stretched positions: %s", async (kind, rope_parameters) => {
  const model = randomModel({ ...LLAMA, rope_theta: kind === "llama3" ? 500000 : 10000, rope_parameters });
  const file = at("rope.gguf");
  await saveGguf(model, file, { type: "F32" });
  const again = await fromPretrained(file);
  const shape = { rotary: 16, context: 64, theta: Number(model.config.rope_theta) };
  for (const length of [8, 40]) {
    const [made, expected] = [again, model].map(({ config }) => frequencies(config.rope_parameters as RopeParameters, shape, length));
    expect(made.attentionFactor).toBeCloseTo(expected.attentionFactor, 6);
    for (const [i, f] of made.inverse.entries()) expect(Math.abs(f - expected.inverse[i])).toBeLessThan(1e-6 * expected.inverse[i]);
  }
  if (kind === "llama3") expect(again.config.rope_parameters).toEqual(rope_parameters);
  again.dispose();
  await saveGguf(createModel({ ...LLAMA, rope_parameters: { rope_type: "dynamic", factor: 2 } }), file).then(
    () => expect.unreachable(),
    (error: Error) => expect(error.message).toMatch(/llama\.cpp does not have, expected linear, yarn, llama3 or longrope, got dynamic/),
  );
  model.dispose();
});

const LLAMA3 = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 16 };
const LONGROPE = { rope_type: "longrope", short_factor: [1, 1.1, 1.2, 1.3], long_factor: [1, 2, 3, 4], original_max_position_embeddings: 16 };
/** llama.cpp 0.5 looks for tensors of factors in Llama, Granite and, of those for long texts, Phi-3; elsewhere it refuses the file. */
test.each([
  ["qwen2", LLAMA3, 'GGUF, qwen2: no place for rope_type, expected ["default","linear","yarn"], got "llama3". Keep'],
  ["qwen2", LONGROPE, 'no place for rope_type, expected ["default","linear","yarn"], got "longrope"'],
  ["olmo2", LLAMA3, "no place for rope_type"],
  ["gpt_neox", LLAMA3, "no place for rope_type"],
  ["granite", LLAMA3, null],
  ["granite", LONGROPE, null],
  ["mixtral", LLAMA3, null],
  ["mistral", LONGROPE, null],
])("%s with %j: the tensors of factors that llama.cpp has a place for", async (model_type, rope, message) => {
  const size = model_type === "gpt_neox" ? { rotary_pct: 0.5, tie_word_embeddings: false } : { num_key_value_heads: 2, sliding_window: null };
  const known = describeModel({ model_type }).config;
  const config = { ...SIZES, num_attention_heads: model_type === "gpt_neox" ? 2 : 4, ...size };
  const given = Object.fromEntries(Object.entries(config).filter(([key]) => key in known || key === "rotary_pct"));
  const model = createModel({ model_type, ...given, rope_scaling: rope });
  const file = at("factors.gguf");
  if (message === null) {
    await saveGguf(model, file, { type: "F32" });
    rmSync(file);
  } else {
    await expect(saveGguf(model, file, { type: "F32" })).rejects.toThrow(message);
    expect(existsSync(file)).toBe(false);
  }
  model.dispose();
});

test("Phi-3 whose factors are the same for every length keeps both tensors, as llama.cpp has no rope_freqs there", async () => {
  const same = { rope_type: "longrope", short_factor: [1, 1.1, 1.2, 1.3], long_factor: [1, 1.1, 1.2, 1.3] };
  const model = createModel({ model_type: "phi3", ...SIZES, num_attention_heads: 4, original_max_position_embeddings: 64, rope_scaling: same });
  const file = at("same.gguf");
  await saveGguf(model, file, { type: "F32" });
  const reader = await openGgufFiles(file);
  await reader.close();
  expect([...reader.tensors.keys()].filter((name) => name.startsWith("rope"))).toEqual(["rope_factors_short.weight", "rope_factors_long.weight"]);
  model.dispose();
});

test("LongRoPE's factor on attention comes back as the formula where it is the formula's, and as a number where not", async () => {
  for (const [attention_factor, told] of [
    [undefined, undefined],
    [1.25, 1.25],
  ]) {
    const model = createModel({ ...LLAMA, head_dim: 8, rope_parameters: { ...LONGROPE, ...(attention_factor === undefined ? {} : { attention_factor }) } });
    const file = at("attention.gguf");
    await saveGguf(model, file, { type: "F32" });
    const again = await fromPretrained(file);
    expect((again.config.rope_parameters as RopeParameters).attention_factor).toBe(told);
    again.dispose();
    model.dispose();
  }
});

test.each([
  ["none", null],
  [undefined, { rope_type: "linear", factor: 4 }],
  ["linear", { rope_type: "linear", factor: 4 }],
])("a factor with the type %j means what llama.cpp makes of it", (type, rope) => {
  const told: Record<string, number> = { "{arch}.rope.scaling.factor": 4 };
  const file = { text: () => type, optional: (key: string) => told[key] } as unknown as GgufLookup;
  expect(ropeFromMetadata(file, "file")).toEqual(rope);
});

test("factors come back with the digits that the config had, though files hold float32", async () => {
  const rope_parameters = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 16, attention_factor: 1.5 };
  for (const rope of [LONGROPE, rope_parameters]) {
    const model = randomModel({ ...LLAMA, head_dim: 8, rope_parameters: rope });
    const file = at("digits.gguf");
    await saveGguf(model, file, { type: "F32" });
    const again = await fromPretrained(file);
    const { original_max_position_embeddings: _, ...expected } = rope;
    expect(again.config.rope_parameters).toMatchObject(expected);
    again.dispose();
    model.dispose();
  }
});

describe("several files", () => {
  async function split(counts: readonly number[] = [2, 2], total?: number, second = 1): Promise<string> {
    const model = randomModel(LLAMA);
    const whole = at("whole.gguf");
    await saveGguf(model, whole, { type: "F16" });
    model.dispose();
    const reader = await openGgufFiles(whole);
    const tensors = [...reader.tensors.values()];
    for (const [i, count] of counts.entries()) {
      const metadata = new Map<string, GgufValue>(i === 0 ? reader.metadata : []);
      metadata.set("split.no", { kind: "u16", value: i === 1 ? second : i });
      metadata.set("split.count", { kind: "u16", value: count });
      metadata.set("split.tensors.count", { kind: "i32", value: total ?? tensors.length });
      const entries = tensors.filter((_, j) => j % 2 === i).map((info) => ({ ...info, data: () => reader.read(info.name) }));
      const pieces: Uint8Array[] = [];
      for await (const piece of encodeGguf(metadata, entries).content) pieces.push(piece);
      writeFileSync(at(`model-0000${i + 1}-of-00002.gguf`), Buffer.concat(pieces));
    }
    await reader.close();
    return at("model-00001-of-00002.gguf");
  }

  test("are one model", async () => {
    const first = await split();
    const [joined, whole] = [await fromPretrained(first), await fromPretrained(at("whole.gguf"))];
    expect(logits(joined)).toEqual(logits(whole));
    joined.dispose();
    whole.dispose();
  });

  test("that do not belong together, are missing or are not the first are refused", async () => {
    await expect(fromPretrained((await split()).replace("00001-of", "00002-of"))).rejects.toThrow(
      /one of several files, expected the first, .*, got number 2 of 2/,
    );
    await expect(fromPretrained(await split([2, 3]))).rejects.toThrow(
      /-00002-of-00002\.gguf: does not belong to the other files, expected split\.no 1 of 2, got 1 of 3/,
    );
    await expect(fromPretrained(await split([2, 2], undefined, 0))).rejects.toThrow(
      /does not belong to the other files, expected split\.no 1 of 2, got 0 of 2/,
    );
    await expect(fromPretrained(await split([2, 2], 99))).rejects.toThrow(/tensors are missing, expected 99 in 2 files, got/);
    rmSync(at("model-00002-of-00002.gguf"));
    await expect(fromPretrained(at("model-00001-of-00002.gguf"))).rejects.toThrow(FormatError);
    expect(readdirSync(dir).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });
});

test("a quantised file holds what its layouts hold of the weights", async () => {
  const model = randomModel({ ...LLAMA, hidden_size: 256, intermediate_size: 256 });
  const file = at("q.gguf");
  const { bitsPerWeight, layouts } = await saveGguf(model, file, { type: "Q4_K_M" });
  expect(Object.keys(layouts).sort()).toEqual(["F32", "Q4_K", "Q6_K"]);
  expect(bitsPerWeight).toBeGreaterThan(4.5);
  expect(bitsPerWeight).toBeLessThan(6.6);
  const reader = await openGgufFiles(file);
  const values = dequantizeBlocks("Q4_K", await reader.read("blk.0.ffn_gate.weight"), "test");
  await reader.close();
  const own = await weightsOf(model).read("model.layers.0.mlp.gate_proj.weight");
  const error = Math.sqrt(own.reduce((sum, x, i) => sum + (x - values[i]) ** 2, 0) / own.reduce((sum, x) => sum + x * x, 0));
  expect(error).toBeLessThan(0.075);
  await expect(saveGguf(model, file, { type: "Q9" as "Q8_0" })).rejects.toThrow(/saveGguf: unknown type, expected one of F32, .*, got Q9/);
  model.dispose();
});

test("weights that are not those of the config are refused", async () => {
  const model = randomModel(LLAMA);
  await saveFolder(weightsOf(model), at("other"), { replace: true });
  model.dispose();
  const config = JSON.parse(readFileSync(at("other/config.json"), "utf8"));
  writeFileSync(at("other/config.json"), JSON.stringify({ ...config, intermediate_size: 65 }));
  await expect(openWeights(at("other"))).rejects.toThrow(/the weights do not fit config\.json, .*got \d+ of another shape:\n/);
});

describe.each([
  ["mixtral", { intermediate_size: 96 }],
  ["qwen3_moe", { moe_intermediate_size: 96, head_dim: 32, norm_topk_prob: true }],
])("%s in blocks", (model_type, more) => {
  const config = { ...LLAMA, model_type, hidden_size: 64, num_key_value_heads: 2, num_local_experts: 3, num_experts_per_tok: 3, ...more };
  const matrices = (model: CausalLM) => [...model.stateDict()].filter(([name]) => /experts\.(gate_up|down)_proj$/.test(name));

  test("experts stay blocks, and go back into files as they are", async () => {
    // Every token visits every expert: no rounding sends it elsewhere.
    const made = randomModel(config, 0.1);
    await saveGguf(made, at("moe.gguf"), { type: "Q8_0", name: "a" });
    made.dispose();
    const [model, floats] = [await fromPretrained(at("moe.gguf")), await fromPretrained(at("moe.gguf"), { dtype: "f32" })];
    expect(matrices(model).map(([, p]) => [p.dtype, p.requiresGrad])).toEqual(new Array(4).fill(["q8_0", false]));
    const [own, expected] = [logits(model), logits(floats)];
    const size = Math.sqrt(expected.reduce((sum, x) => sum + x * x, 0));
    // Activations are rounded to 8 bits.
    const error = Math.sqrt(expected.reduce((sum, x, i) => sum + (x - own[i]) ** 2, 0)) / size;
    expect(error).toBeGreaterThan(1e-4);
    expect(error).toBeLessThan(0.02);
    for (const [i, [name, p]] of matrices(floats).entries())
      expect([name, scope(() => ({ values: dequantize(matrices(model)[i][1]).dataSync() })).values]).toEqual([name, p.dataSync()]);
    await saveGguf(model, at("again.gguf"), { type: "Q8_0", name: "a" });
    expect(readFileSync(at("again.gguf")).equals(readFileSync(at("moe.gguf")))).toBe(true);
    await saveModel(model, at("moe"), { dtype: "f32" });
    const folder = await fromPretrained(at("moe"));
    expect(logits(folder)).toEqual(expected);
    for (const one of [model, floats, folder]) one.dispose();
  });

  test("the gradient of what an expert reads", async () => {
    const [model, floats] = [await fromPretrained(at("moe.gguf")), await fromPretrained(at("moe.gguf"), { dtype: "f32" })];
    const gradient = (one: CausalLM) => {
      const embedding = one.stateDict().get("model.layers.0.input_layernorm.weight") as Tensor;
      scope(
        () =>
          void (
            one.forward({ inputIds: tensorFrom(Int32Array.of(3, 0, 7, 7, 2), [1, 5]), targets: tensorFrom(Int32Array.of(0, 7, 7, 2, 9), [1, 5]) })
              .loss as Tensor
          ).backward(),
      );
      return (embedding.grad as Tensor).dataSync() as Float32Array;
    };
    const [own, expected] = [gradient(model), gradient(floats)];
    const size = Math.sqrt(expected.reduce((sum, x) => sum + x * x, 0));
    expect(Math.sqrt(expected.reduce((sum, x, i) => sum + (x - own[i]) ** 2, 0)) / size).toBeLessThan(0.04);
    for (const one of [model, floats]) one.dispose();
  });
});

test("an expert's gates in another layout than what they let through become floats, its way out stays", async () => {
  const made = randomModel({ ...LLAMA, model_type: "mixtral", hidden_size: 64, intermediate_size: 96, num_key_value_heads: 2, num_local_experts: 2 });
  await saveGguf(made, at("one.gguf"), { type: "Q8_0" });
  await saveGguf(made, at("other.gguf"), { type: "Q5_0" });
  made.dispose();
  const [one, other] = [await openGgufFiles(at("one.gguf")), await openGgufFiles(at("other.gguf"))];
  const entries = [...one.tensors.values()].map((info) => {
    const from = info.name.includes("ffn_gate_exps") ? other : one;
    return { ...(from.tensors.get(info.name) as typeof info), data: () => from.read(info.name) };
  });
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeGguf(one.metadata, entries).content) pieces.push(piece);
  writeFileSync(at("mixed.gguf"), Buffer.concat(pieces));
  const [model, floats] = [await fromPretrained(at("mixed.gguf")), await fromPretrained(at("mixed.gguf"), { dtype: "f32" })];
  const dtypes = [...model.stateDict()].flatMap(([name, p]) => (name.includes("layers.0.mlp.experts") ? [p.dtype] : []));
  expect(dtypes).toEqual(["f32", "q8_0"]);
  const gates = "model.layers.1.mlp.experts.gate_up_proj";
  expect(model.stateDict().get(gates)?.dataSync()).toEqual(floats.stateDict().get(gates)?.dataSync());
  const source = await openWeights(at("mixed.gguf"));
  expect(source.formats.get(gates)).toBe("Q5_0 and Q8_0");
  await saveGguf(source, at("even.gguf"), { type: "Q8_0" });
  for (const reader of [source, one, other]) await reader.close();
  for (const each of [model, floats]) each.dispose();
});

test("a folder that lacks a part of its experts is refused by the part's name", async () => {
  const model = randomModel({ ...LLAMA, model_type: "mixtral", num_key_value_heads: 2, num_local_experts: 2, num_hidden_layers: 1 });
  await saveModel(model, at("whole"));
  model.dispose();
  const reader = await openModelWeights(openFolder(at("whole")));
  const lost = "model.layers.0.block_sparse_moe.experts.1.w3.weight";
  const entries = [];
  for (const name of reader.tensors.keys()) if (name !== lost) entries.push(await reader.read(name));
  await reader.close();
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeSafetensors(entries).content) pieces.push(piece);
  writeFileSync(at("whole/model.safetensors"), Buffer.concat(pieces));
  await expect(openWeights(at("whole"))).rejects.toThrow(`whole: ${lost} is not as the config tells, expected (64, 32), got none. Get a complete model.`);
});

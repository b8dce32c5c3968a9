/** What a model's files say about talking with it. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { encodeGguf } from "../formats/gguf/write.ts";
import type { GgufValue } from "../formats/index.ts";
import type { SamplingOptions } from "../generate/index.ts";
import { loadTokenizer, trainBpe } from "../tokenizers/index.ts";
import { chatDefaults, chatForm, chatSampling, writeChat } from "./chat-model.ts";
import { OWN_SAMPLING } from "./request-flags.ts";

const folder = mkdtempSync(join(tmpdir(), "groundup-chat-model-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const USUAL = { temperature: 0.2, topP: 0.9 };
const OURS = "default: the model's files do not say";

test.each<[string, object, SamplingOptions, SamplingOptions, string]>([
  ["temperature", { temperature: 0.6 }, {}, { temperature: 0.6 }, "temperature 0.6 (generation_config.json)"],
  ["a cut alone", { do_sample: true, top_k: 20 }, {}, { temperature: 1, topK: 20 }, "top-k 20 (generation_config.json), temperature 1 (default)"],
  ["no limit of k", { temperature: 0.6, top_k: -1 }, {}, { temperature: 0.6, topK: 0 }, "temperature 0.6, top-k 0 (generation_config.json)"],
  ["greedy", { do_sample: false, temperature: 0.6, top_p: 0.5 }, {}, { temperature: 0 }, "temperature 0 (generation_config.json)"],
  ["nothing", { eos_token_id: 2 }, {}, USUAL, `temperature 0.2, top-p 0.9 (${OURS})`],
  [
    "a penalty, which draws nothing",
    { repetition_penalty: 1.1 },
    {},
    { ...USUAL, repetitionPenalty: 1.1 },
    `repetition-penalty 1.1 (generation_config.json), temperature 0.2, top-p 0.9 (${OURS})`,
  ],
  ["nothing, beside a flag", {}, { temperature: 1 }, { temperature: 1, topP: 0.9 }, `temperature 1, top-p 0.9 (${OURS})`],
  ["nothing, beside another cut", {}, { mirostatTau: 5 }, { temperature: 0.2, mirostatTau: 5 }, `mirostat-tau 5, temperature 0.2 (${OURS})`],
  ["nothing, beside a flag for the likeliest", {}, { temperature: 0 }, { temperature: 0, topP: 0.9 }, "temperature 0"],
  [
    "what a flag replaces",
    { temperature: 0.6, top_p: 0 },
    { topP: 0.5 },
    { temperature: 0.6, topP: 0.5 },
    "top-p 0.5, temperature 0.6 (generation_config.json)",
  ],
])("how tokens are drawn where generation_config.json names %s", async (name, config, flags, sampling, text) => {
  const at = join(folder, name.replaceAll(" ", "-"));
  mkdirSync(at);
  writeFileSync(join(at, "generation_config.json"), JSON.stringify(config));
  expect(chatSampling(await chatDefaults(at), flags)).toEqual({ sampling, text });
});

test("what no flag replaces must be in its range", async () => {
  writeFileSync(join(folder, "generation_config.json"), JSON.stringify({ top_p: 0 }));
  const defaults = await chatDefaults(folder);
  expect(() => chatSampling(defaults, {})).toThrow(/generation_config\.json: bad sampling options\. topP: expected a number above 0/);
});

/** A GGUF file of metadata alone. */
async function gguf(name: string, metadata: [string, GgufValue][]): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of encodeGguf(new Map(metadata), []).content) parts.push(part);
  writeFileSync(join(folder, name), Buffer.concat(parts));
  return join(folder, name);
}

test("help describes every setting, with its placeholder", () => {
  for (const [name, field] of Object.entries(OWN_SAMPLING)) expect(field.description, name).toMatch(/\w/);
  expect(OWN_SAMPLING.logitBias.meta()).toMatchObject({ placeholder: "ID=NUMBER" });
});

test("a GGUF's settings are told as they were written, and must be numbers", async () => {
  const file = await gguf("s.gguf", [
    ["general.sampling.temp", { kind: "f32", value: Math.fround(0.7) }],
    ["general.sampling.top_k", { kind: "i32", value: -1 }],
    ["tokenizer.ggml.eot_token_id", { kind: "u32", value: 7 }],
  ]);
  const defaults = await chatDefaults(file);
  expect(defaults.stopIds).toEqual([7]);
  expect(chatSampling(defaults, {})).toEqual({ sampling: { temperature: 0.7, topK: 0 }, text: "temperature 0.7, top-k 0 (s.gguf)" });
  const wrong = await gguf("w.gguf", [["general.sampling.temp", { kind: "string", value: "hot" }]]);
  await expect(chatDefaults(wrong)).rejects.toThrow(/w\.gguf, metadata "general\.sampling\.temp": wrong kind, expected a number, got string\./);
});

test("without a template a conversation begins as the model's texts do", async () => {
  const text = async (ofFile: string) => {
    const tokenizer = await loadTokenizer(ofFile);
    const form = await chatForm(folder, tokenizer, { plain: true });
    return writeChat(tokenizer, form, [{ role: "user", content: "Hi" }], { addGenerationPrompt: true }).text;
  };
  const tokenizer = trainBpe("Hi there. ".repeat(9), { vocabSize: 270, specialTokens: ["<s>"] });
  const at = join(folder, "tokenizer");
  await tokenizer.save(at);
  expect(await text(at)).toBe("User: Hi\nAssistant:");
  const spec = JSON.parse(readFileSync(join(at, "tokenizer.json"), "utf8"));
  const id = tokenizer.specialTokens.get("<s>");
  spec.post_processor = {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
    special_tokens: { "<s>": { id: "<s>", ids: [id], tokens: ["<s>"] } },
  };
  writeFileSync(join(at, "tokenizer.json"), JSON.stringify(spec));
  expect(await text(at)).toBe("<s>User: Hi\nAssistant:");
});

/** What a model's files say about talking with it. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { chatDefaults, samplingText } from "./chat-model.ts";

const folder = mkdtempSync(join(tmpdir(), "groundup-chat-model-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const OURS = { temperature: 0.2, topP: 0.9 };
const OUR_ORIGIN = "default: the model's files name none";

test.each([
  ["temperature", { temperature: 0.6 }, { temperature: 0.6 }, "generation_config.json"],
  ["a cut alone", { do_sample: true, top_k: 20 }, { topK: 20 }, "generation_config.json"],
  ["greedy", { do_sample: false, temperature: 0.6, top_p: 0.5 }, { temperature: 0, topP: 0.5 }, "generation_config.json"],
  ["nothing", { eos_token_id: 2 }, OURS, OUR_ORIGIN],
  ["a penalty, which draws nothing", { repetition_penalty: 1.1 }, { ...OURS, repetitionPenalty: 1.1 }, OUR_ORIGIN],
])("how tokens are drawn where generation_config.json names %s", async (name, config, sampling, origin) => {
  const at = join(folder, name.replaceAll(" ", "-"));
  mkdirSync(at);
  writeFileSync(join(at, "generation_config.json"), JSON.stringify(config));
  expect(await chatDefaults(at)).toEqual({ sampling, origin, stopIds: [] });
});

test("a person is told who says what", () => {
  expect(samplingText(OURS, {}, OUR_ORIGIN)).toBe("temperature 0.2, top-p 0.9 (default: the model's files name none)");
  expect(samplingText({ temperature: 1, topP: 0.9, topK: 4 }, { temperature: 1, topK: 4 }, "f.gguf")).toBe("temperature 1, top-k 4, top-p 0.9 (f.gguf)");
  expect(samplingText({ temperature: 1 }, { temperature: 1 }, "f.gguf")).toBe("temperature 1");
});

import { expect, test } from "vitest";
import * as z from "zod";
import { ConfigError, FormatError } from "../errors.ts";
import { normaliseKeys, parseConfig, parseConfigText, parseModelConfig, readConfigJson } from "./hf-config.ts";
import { memoryFolder } from "./source.ts";

const schema = z.strictObject({
  hidden_size: z.int().positive(),
  num_layers: z.int().positive(),
  activation: z.enum(["gelu", "gelu_new", "silu"]).default("gelu"),
  rope_theta: z.number().positive().default(10000),
});
const table = {
  keys: {
    hidden_size: ["n_embd"],
    num_layers: ["n_layer"],
    activation: [],
    rope_theta: ["rope_parameters.rope_theta"],
  },
  ignored: ["summary_type"],
};
const message = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message;
  }
  throw new Error("nothing was thrown");
};

test("older, newer and nested spellings become the table's own", () => {
  const json = {
    n_embd: 8,
    num_layers: 2,
    rope_parameters: { rope_theta: 5 },
    summary_type: "x",
    architectures: ["Y"],
  };
  expect(parseModelConfig(schema, table, json, "c")).toEqual({
    hidden_size: 8,
    num_layers: 2,
    activation: "gelu",
    rope_theta: 5,
  });
});

test("two spellings may agree but not contradict", () => {
  expect(normaliseKeys({ n_embd: 8, hidden_size: 8 }, table, "c")).toEqual({ hidden_size: 8 });
  expect(message(() => normaliseKeys({ n_embd: 8, hidden_size: 9 }, table, "c"))).toMatch(/hidden_size and n_embd .*contradict.* got 9 and 8/);
});

test("missing, unknown, contradictory and wrong keys are reported at once", () => {
  const text = message(() =>
    parseModelConfig(schema, table, { hiden_size: 8, n_layer: 2, num_layers: 3, activation: "gelu_nwe", rope_theta: -1 }, "dir/config.json"),
  );
  expect(text.split("\n")).toEqual([
    "dir/config.json: 5 problems",
    "  num_layers and n_layer are two names of one setting and contradict each other, expected equal values, got 3 and 2. Remove the wrong one.",
    '  hiden_size is unknown, expected a key of this model, got 8. Did you mean "hidden_size"? Correct or remove it.',
    "  hidden_size is missing, expected number, got nothing. Add it.",
    '  activation is not one of its values, expected "gelu", "gelu_new", "silu", got "gelu_nwe". Did you mean "gelu_new"?',
    "  rope_theta is too small, expected more than 0, got -1. Correct it.",
  ]);
});

test("nested problems have dotted paths, and suggestions come from the right level", () => {
  const recipe = z.strictObject({
    data: z.strictObject({ path: z.string(), weights: z.array(z.number()).optional() }),
    optim: z.strictObject({ learning_rate: z.number() }).prefault({ learning_rate: 1 }),
    mode: z.union([z.literal("auto"), z.number()]).optional(),
  });
  const text = message(() => parseConfig(recipe, { data: { pth: "x", weights: [1, "2"] }, optim: { learningRate: 1 }, mode: [] }, "r.yaml"));
  expect(text).toContain("data.path is missing, expected string, got nothing");
  expect(text).toContain('data.weights.1 has the wrong type, expected number, got "2"');
  expect(text).toMatch(/data\.pth is unknown.*Did you mean "path"\?/);
  expect(text).toMatch(/optim\.learningRate is unknown.*Did you mean "learning_rate"\?/);
  expect(text).toMatch(/mode is none of what it may be/);
});

test("text that is no object, or cut off, is refused with its place", async () => {
  expect(() => parseConfigText("[1]", "c.json")).toThrow(ConfigError);
  expect(() => parseConfigText('{"a": 1', "c.json")).toThrow(/c\.json, line 1, column 8: bad object.*cut off/);
  expect(parseConfigText('{"time_step_limit": [0.0, Infinity]}', "c")).toEqual({ time_step_limit: [0, Infinity] });
  await expect(readConfigJson(memoryFolder({ "config.json": new Uint8Array([0x7b, 0xff, 0x7d]) }))).rejects.toThrow(FormatError);
  await expect(readConfigJson(memoryFolder({}, "some/dir"))).rejects.toThrow("some/dir/config.json: not found");
});

/** Hugging Face configs with anything in them: a model that runs, or a typed error, soon and without much memory. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ConfigError, FormatError, OutOfMemoryError } from "../../src/errors.ts";
import { encodeSafetensors } from "../../src/formats/safetensors-write.ts";
import { memoryFolder } from "../../src/formats/source.ts";
import { createModel, fromPretrained, weightEntries } from "../../src/models/index.ts";
import { memory, setMemoryLimit } from "../../src/tensor/index.ts";
import { fuzzConfigs } from "./configs.ts";
import { bytesOf } from "./files.ts";

const MOST = 256e6;
let before: number;
beforeAll(() => {
  before = memory().limitBytes;
  setMemoryLimit(MOST);
});
afterAll(() => setMemoryLimit(before));

describe.each(["gpt2", "llama", "gemma3_text"] as const)("%s", (kind) => {
  test("changed configs", async () => {
    const { opened, refused, slowest } = await fuzzConfigs(kind, 11, 2500);
    expect(opened).toBeGreaterThan(200);
    expect(refused).toBeGreaterThan(1000);
    expect(slowest).toBeLessThan(5000);
  });
});

const llama = { model_type: "llama", vocab_size: 24, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1, num_attention_heads: 2 };

test.each<[string, object, typeof ConfigError, RegExp]>([
  [
    "more weights than memory",
    { hidden_size: 2 ** 20 },
    OutOfMemoryError,
    /c: the model is too large for this machine, expected at most 256\.0 MB of weights, got .* GB/,
  ],
  [
    "more floats than memory, where blocks would fit",
    { hidden_size: 4096 },
    OutOfMemoryError,
    /got 269\.7 MB \(.* weights\)\. As Q8_0 it takes 71\.6 MB and fits: "groundup quantize MODEL --type Q8_0"/,
  ],
  ["absurdly many layers", { num_hidden_layers: 1e9 }, ConfigError, /num_hidden_layers is too large, expected at most 4096, got 1000000000/],
  ["heads that can't turn", { hidden_size: 6 }, ConfigError, /rope: the heads can't turn, expected an even number of items of at least 2, got 3/],
  [
    "too few rotary factors",
    { rope_scaling: { rope_type: "longrope", short_factor: [1], long_factor: [1, 2] } },
    ConfigError,
    /short_factor has the wrong length, expected one factor for each of 2 frequencies, got 1/,
  ],
  ["a rotary setting that overflows", { rope_scaling: { type: "linear", factor: 1e-320 } }, ConfigError, /the rotary settings give no frequencies/],
])("refused before anything is built: %s", (_, change, kind, message) => {
  const create = () => createModel({ ...llama, ...change }, "c");
  expect(create).toThrow(kind);
  expect(create).toThrow(message);
});

test("a config that tells of a larger model than the weights is refused before it gets memory", async () => {
  const model = createModel(llama);
  const weights = await bytesOf(encodeSafetensors(weightEntries(model)));
  model.dispose();
  const folder = memoryFolder({ "config.json": JSON.stringify({ ...llama, hidden_size: 1024 }), "model.safetensors": weights }, "m");
  const { peakBytes } = memory();
  await expect(fromPretrained(folder)).rejects.toThrow(FormatError);
  await expect(fromPretrained(folder)).rejects.toThrow(/^m\/config\.json: tells of another model than the weights beside it, expected about \d+ weights/);
  expect(memory().peakBytes).toBe(peakBytes);
});

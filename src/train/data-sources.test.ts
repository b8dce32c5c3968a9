/** What a recipe's `data` may name: one text, several with weights, or files of tokens. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { TokenData } from "../data/index.ts";
import { ConfigError, DataError, RunError } from "../errors.ts";
import { parseRecipe } from "../formats/recipe.ts";
import { byteTokenizer, charTokenizer } from "../tokenizers/index.ts";
import type { TrainingEvent } from "./loop.ts";
import { planText } from "./planned-text.ts";
import { openPretraining, type PretrainSession } from "./pretrain.ts";
import { type Recipe, recipeSchema } from "./recipe.ts";
import { textBytes } from "./token-folder.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "groundup-sources-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const recipeOf = (data: object, rest: object = {}): Recipe =>
  recipeSchema.parse({
    data,
    tokenizer: { type: "characters" },
    model: { model_type: "llama", hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2 },
    training: { max_steps: 4, batch_size: 2, context_length: 16 },
    ...rest,
  });
const open = (recipe: Recipe, resume = false) => openPretraining(recipe, { out: join(dir, "run"), resume });

async function run(session: PretrainSession): Promise<TrainingEvent[]> {
  const events: TrainingEvent[] = [];
  try {
    for await (const event of session.train()) events.push(event);
  } finally {
    await session.close();
  }
  return events;
}

describe("several texts", () => {
  const mix = (weights: [number, number]) => {
    const [a, b] = [join(dir, "a.txt"), join(dir, "b.txt")];
    writeFileSync(a, "abcde ".repeat(200));
    writeFileSync(b, "vwxyz".repeat(100));
    return { sources: [a, b].map((path, i) => ({ path, weight: weights[i] })), split_by: "tail" };
  };

  test("come in proportion to their weights, are held out each for itself, and go on where they stopped", async () => {
    const session = await open(recipeOf(mix([3, 1])));
    expect(session.data.counts.train).toEqual({ tokens: 1080 + 450, bytes: 1080 + 450, documents: 2 });
    expect(session.data.counts.validation).toEqual({ tokens: 120 + 50, bytes: 120 + 50, documents: 2 });
    expect(readdirSync(join(dir, "run", "data")).sort()).toEqual(["train-0", "train-1", "validation"]);
    // As the guides say.
    for (const guide of ["runs.md", "data.md"]) {
      const text = readFileSync(new URL(`../../docs/guides/${guide}`, import.meta.url), "utf8");
      for (const name of ["train-0", "train-1"]) expect(text).toContain(`data/${name}`);
    }
    let second = 0;
    for (let i = 0; i < 20; i++) {
      const { rows, context, inputIds } = await session.parts.loader.next();
      for (let row = 0; row < rows; row++) if (/[vwxyz]/.test(session.data.tokenizer.decode(inputIds.subarray(row * context, (row + 1) * context)))) second++;
    }
    expect(second).toBe(10);
    await session.close();
    const again = await open(recipeOf(mix([3, 1])), true);
    const events = await run(again);
    expect(events.at(-1)).toMatchObject({ why: "done", step: 4 });
    await expect(open(recipeOf(mix([2, 1])), true)).rejects.toThrow(/recipe has changed[\s\S]*data\.sources/);
  });

  test("a change in one of them is named", async () => {
    await run(await open(recipeOf(mix([1, 1]))));
    writeFileSync(join(dir, "b.txt"), "other text ".repeat(100));
    const same = recipeOf({ sources: ["a.txt", "b.txt"].map((name) => ({ path: join(dir, name), weight: 1 })), split_by: "tail" });
    await expect(open(same, true)).rejects.toThrow(/the data has changed[\s\S]*b\.txt has changed/);
  });
});

describe("files of tokens", () => {
  const text = "the whale swims in the sea. ";

  async function folder(ids: (ids: Int32Array) => Int32Array = (x) => x): Promise<object> {
    const tokenizer = charTokenizer([...new Set(text)].join(""));
    await tokenizer.save(join(dir, "tokenizer"));
    mkdirSync(join(dir, "tokens"), { recursive: true });
    const write = (name: string, content: string) => writeFileSync(join(dir, "tokens", name), Uint16Array.from(ids(tokenizer.encode(content).ids)));
    write("train.bin", text.repeat(60));
    write("val.bin", text.repeat(6));
    return { tokens: join(dir, "tokens") };
  }
  const named = () => ({ tokenizer: { type: "file", path: join(dir, "tokenizer") } });

  test("train with the tokenizer that is named, and go on where they stopped", async () => {
    const recipe = recipeOf(await folder(), named());
    const session = await open(recipe);
    expect(session.manifest).toMatchObject({
      tokens: { train: 60 * 28, validation: 6 * 28 },
      bytes: { train: null, validation: 6 * 28 },
      documents: { validation: null },
    });
    const { inputIds } = await session.parts.loader.next();
    expect(text.repeat(2)).toContain(session.data.tokenizer.decode(inputIds.subarray(0, 16)));
    await session.close();
    const events = await run(await open(recipe, true));
    const evaluation = events.find((e) => e.type === "evaluation");
    expect(evaluation?.result.tokens).toBe(6 * 28 - 1);
    expect(evaluation?.result.bitsPerByte).toBeCloseTo(((evaluation?.result.loss as number) * (6 * 28 - 1)) / Math.LN2 / (6 * 28), 12);
    expect(existsSync(join(dir, "run", "data"))).toBe(false);
    expect(await planText(recipe)).toEqual({ vocabulary: session.data.tokenizer.vocabSize, trainTokens: 60 * 28, validationTokens: 6 * 28 });

    writeFileSync(
      join(dir, "tokens", "train.bin"),
      Uint16Array.from({ length: 500 }, (_, i) => i % 7),
    );
    const changed = open(recipe, true);
    await expect(changed).rejects.toThrow(RunError);
    await expect(changed).rejects.toThrow(/the data has changed[\s\S]*train\.bin has changed/);
  });

  test("bits per byte of letters that take several bytes, and none where a token stands for unknown text", async () => {
    const tokenizer = charTokenizer("na\u00efve \u{1f40b}", { unknownToken: "<unk>", specialTokens: ["<|endoftext|>"] });
    await tokenizer.save(join(dir, "tokenizer"));
    mkdirSync(join(dir, "tokens"));
    const write = (name: string, content: string) =>
      writeFileSync(join(dir, "tokens", name), Uint16Array.from([...tokenizer.encode(content).ids, tokenizer.specialTokens.get("<|endoftext|>") as number]));
    write("train.bin", "na\u00efve \u{1f40b}".repeat(60));
    write("val.bin", "na\u00efve \u{1f40b}".repeat(6));
    const recipe = recipeOf({ tokens: join(dir, "tokens") }, named());
    const session = await open(recipe);
    expect(session.data.counts.validation).toEqual({ tokens: 6 * 7 + 1, bytes: 6 * 11, documents: null });
    expect(session.notes).toEqual([]);
    await session.close();
    write("val.bin", "na\u00efve unseen \u{1f40b}".repeat(6));
    const unknown = await openPretraining(recipe, { out: join(dir, "unknown") });
    expect(unknown.notes).toEqual([
      `${join(dir, "tokens", "val.bin")}: bits per byte are not measured, as some of its tokens are the tokenizer's unknown token.`,
    ]);
    const events = await run(unknown);
    expect(events.find((e) => e.type === "evaluation")?.result.bitsPerByte).toBeNull();
  });

  test("the signal ends the counting of their bytes between two pieces", async () => {
    const controller = new AbortController();
    let pieces = 0;
    const read = async (_: number, length: number) => {
      if (++pieces === 2) controller.abort();
      return new Uint32Array(length);
    };
    const data = { tokens: 5 << 20, read } as unknown as TokenData;
    await expect(textBytes(data, byteTokenizer(), controller.signal)).rejects.toThrow(/abort/i);
    expect(pieces).toBe(2);
    const opened = openPretraining(recipeOf(await folder(), named()), { out: join(dir, "run"), signal: AbortSignal.abort() });
    await expect(opened).rejects.toThrow(/abort/i);
  });

  test("a file that is missing, and ids of another tokenizer", async () => {
    const recipe = recipeOf(await folder(), named());
    rmSync(join(dir, "tokens", "val.bin"));
    writeFileSync(join(dir, "tokens", "vals.bin"), "");
    await expect(open(recipe)).rejects.toThrow(DataError);
    await expect(open(recipe)).rejects.toThrow(/no val\.bin, expected train\.bin and val\.bin .*Did you mean "vals\.bin"\?/);
    rmSync(join(dir, "tokens"), { recursive: true });
    await expect(open(recipe)).rejects.toThrow(/no train\.bin.*no such folder/);
    await folder((ids) => ids.map((id) => id + 100));
    await expect(open(recipe).then(run)).rejects.toThrow(/id 110 at place 0 is outside the vocabulary.*another tokenizer/);
  });
});

test("one of them, with its keys' names", () => {
  const problem = (...settings: string[]) => {
    const yaml = "model: { model_type: llama }\ntraining: { max_steps: 1, batch_size: 1, context_length: 8 }\n";
    try {
      parseRecipe(recipeSchema, yaml, "r.yaml", settings);
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      return (error as Error).message;
    }
    throw new Error("expected an error");
  };
  expect(problem("data={}")).toMatch(/data: expected one of path, sources and tokens, got none\. Add one\./);
  expect(problem("data.path=a.txt", "data.tokens=b")).toMatch(
    /data: expected one of path, sources and tokens, got path and tokens\. Leave the others out, or set them to null\./,
  );
  expect(problem("data.sources=[{ path: a.txt, wieght: 2 }]")).toMatch(/data\.sources\.0\.wieght is unknown.*Did you mean "weight"\?/);
  expect(problem("data.sources=[{ path: a.txt, weight: 0 }]")).toMatch(/data\.sources\.0\.weight is too small, expected more than 0/);
  expect(problem("data.sources=[]")).toMatch(/data\.sources is too short, expected at least 1 item/);
  expect(problem("data.mix=[]")).toMatch(/data\.mix is unknown.*Did you mean "sources"\?/);
  expect(problem("data.tokens=b")).toMatch(/tokenizer\.type: .*expected "file" and tokenizer\.path with data\.tokens, got "bpe"/);
  expect(problem("data.tokens=b", "tokenizer.type=file", "data.order=documents")).toMatch(/data\.order: token files have no documents/);
});

/** An architecture of a user's own, declared through the public entries, is known wherever a model_type is. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test, vi } from "vitest";
import * as z from "zod";
import { dispatch } from "../src/cli/dispatch.ts";
import { saveModelWeights } from "../src/formats/index.ts";
import { ConfigError, type Tensor } from "../src/index.ts";
import {
  type Architecture,
  type ArchitectureDeclaration,
  CausalLM,
  type CausalLMInputs,
  type CausalLMOutput,
  configKeys,
  countsFrom,
  createModel,
  defineArchitecture,
  describeModel,
  fromPretrained,
  outputOf,
  registerArchitecture,
  saveModel,
  sizedConfig,
  weightEntries,
} from "../src/models/index.ts";
import { Embedding, Linear, Module } from "../src/nn/index.ts";
import { checkMemory, modelConfig, planTraining, recipeSchema } from "../src/train/index.ts";

/** Next tokens from the last one alone: a table and a head. */
const schema = z.strictObject({
  vocab_size: z.int().default(16),
  width: z.int().default(4),
  layers: z.int().default(1),
  context: z.int().default(32),
});
type BigramConfig = z.output<typeof schema>;

class Table extends Module {
  embed: Embedding;

  constructor({ vocab_size, width }: BigramConfig) {
    super();
    this.embed = new Embedding(vocab_size, width);
  }

  override forward(ids: Tensor): Tensor {
    return this.embed.forward(ids); // (B, T, C)
  }
}

class Bigram extends CausalLM {
  readonly architecture: Architecture = bigram;
  readonly config: BigramConfig;
  readonly dimensions;
  table: Table;
  lm_head: Linear;

  constructor(config: BigramConfig) {
    super();
    this.config = config;
    this.dimensions = declaration.dimensions(config);
    this.table = new Table(config);
    this.lm_head = new Linear(config.width, config.vocab_size, { bias: false });
  }

  protected override run(inputs: CausalLMInputs): CausalLMOutput {
    return outputOf(this.table.forward(inputs.inputIds), this.lm_head.weight, inputs, this.watchingHead());
  }

  configJson() {
    return { model_type: "bigram", ...this.config };
  }
}

const declaration: ArchitectureDeclaration<BigramConfig> = {
  modelType: "bigram",
  schema,
  keys: configKeys(schema, { width: ["hidden_size"] }, ["colour"]),
  keyOf: { context: "context", layers: "layers" },
  weights: {
    base: "table.",
    tied: [],
    names: [
      [/gamma$/, "weight"],
      [/^unused\./, null],
    ],
  },
  dimensions: ({ vocab_size, width, layers, context }) => ({ vocabulary: vocab_size, hidden: width, layers, heads: 1, kvHeads: 1, headDim: width, context }),
  create: (config) => new Bigram(config),
  counts: ({ vocab_size, width }) =>
    countsFrom({
      parameters: { embedding: vocab_size * width, positions: 0, attention: 0, mlp: 0, norms: 0, head: vocab_size * width },
      multiplied: vocab_size * width,
      queries: 0,
      kept: 0,
    }),
  savedPerRow: ({ width }) => ({ layer: width, gradients: width, widest: width, evaluated: 2 * width }),
  shapedBy: ({ layers, width }) => ({ layers, width }),
  samples: [{}],
};
const bigram = defineArchitecture(declaration);
registerArchitecture(bigram);

const folder = mkdtempSync(join(tmpdir(), "groundup-own-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("it is saved and opened, under older spellings too", async () => {
  const model = createModel({ model_type: "bigram", hidden_size: 6, colour: "blue" });
  expect(model).toBeInstanceOf(Bigram);
  await saveModel(model, folder);
  const again = await fromPretrained(folder);
  expect(again.config).toEqual({ vocab_size: 16, width: 6, layers: 1, context: 32 });
  expect(again.get("table.embed").parameters()[0].dataSync()).toEqual((model as Bigram).table.embed.weight.dataSync());

  // Its table of names: one spelt otherwise, one that is no weight, and the base model's name left out.
  const old = join(folder, "old");
  const entries = weightEntries(model).map((e) => ({ ...e, name: e.name.replace("table.embed.weight", "embed.gamma") }));
  await saveModel(model, old);
  await saveModelWeights(old, [...entries.filter(({ name }) => name !== "lm_head.weight"), { ...entries[0], name: "unused.thing" }]);
  await expect(fromPretrained(old)).rejects.toThrow(/1 missing:\n {2}lm_head\.weight\n/);
  await saveModelWeights(old, [{ ...entries[0], name: "table.embed.gamma" }, { ...entries[0], name: "unused.thing" }, ...entries.slice(1)]);
  const opened = await fromPretrained(old);
  expect(opened.stateDict().get("table.embed.weight")?.dataSync()).toEqual((model as Bigram).table.embed.weight.dataSync());
  for (const m of [model, again, opened]) m.dispose();
});

test("recipes take it, plans count it, a size shapes it", () => {
  const recipe = recipeSchema.parse({
    data: { path: "none" },
    model: { model_type: "bigram", width: 64 },
    training: { max_steps: 10, batch_size: 2, context_length: 16 },
  });
  const model = describeModel(modelConfig(recipe, 100));
  expect(model.dimensions).toMatchObject({ vocabulary: 100, hidden: 64, context: 16 });
  const plan = planTraining(model, recipe, { flops: 1e9, processBytes: 0 });
  expect(plan.parameters).toBe(2 * 100 * 64);
  expect(plan.memory.activations).toBeGreaterThan(4 * 2 * 16 * 64);
  expect(() => checkMemory(model, recipe, 1000)).toThrow(/not enough memory/);
  expect(() => recipeSchema.parse({ data: { path: "none" }, model: { model_type: "bigram", widht: 64 }, training: {} })).toThrow(
    /widht is unknown.*Did you mean \\"width/,
  );
  const sized = describeModel(sizedConfig({ model_type: "bigram", vocab_size: 1000 }, 512_000));
  expect(sized.dimensions.hidden).toBe(256);
});

test("a plan is refused where it does not say in numbers what its layers save", () => {
  const recipe = recipeSchema.parse({ data: { path: "none" }, model: { model_type: "bigram" }, training: { max_steps: 1, batch_size: 1, context_length: 16 } });
  const { savedPerRow } = declaration;
  const { evaluated: _, ...old } = savedPerRow(schema.parse({}), 16);
  const planOf = (saved: object | undefined) => () =>
    planTraining({ ...describeModel(modelConfig(recipe, 100)), architecture: { ...bigram, savedPerRow: () => saved as never } }, recipe);
  expect(planOf({ ...old, evaluated: 8 })).not.toThrow();
  expect(planOf(old)).toThrow(ConfigError);
  expect(planOf(old)).toThrow(
    "bigram: savedPerRow lacks a number, expected layer, gradients, widest and evaluated, got evaluated undefined. Return all of them.",
  );
  expect(planOf({ ...old, layer: Number.NaN, evaluated: "8" })).toThrow("got layer NaN, evaluated 8. ");
  expect(planOf(undefined)).toThrow("got layer undefined, gradients undefined, ");
});

test("inspect shows it", async () => {
  await saveModel(createModel({ model_type: "bigram" }), folder);
  let out = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    out += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockReturnValue(true);
  await dispatch([["inspect", "", () => import("../src/cli/inspect.ts")]], ["inspect", folder, "--json"], "0.0.0");
  vi.restoreAllMocks();
  expect(JSON.parse(out)).toMatchObject({ modelType: "bigram", parameters: { embedding: 64, head: 64, total: 128 } });
});

test("a name comes once, and an unknown one is told the known", () => {
  expect(() => registerArchitecture(bigram)).toThrow(ConfigError);
  expect(() => createModel({ model_type: "bigarm" })).toThrow(/got "bigarm"\. Did you mean "bigram"\? Choose a model of one of gpt2, llama, .*bigram; or add/);
});

test("a declaration with a part missing does not compile", () => {
  const { counts: _, ...countless } = declaration;
  // @ts-expect-error without its counts
  defineArchitecture<BigramConfig>(countless);
  const { savedPerRow: __, ...planless } = declaration;
  // @ts-expect-error without what its layers save
  defineArchitecture<BigramConfig>(planless);
  const { shapedBy: ___, ...shapeless } = declaration;
  // @ts-expect-error without the keys of a size
  defineArchitecture<BigramConfig>(shapeless);
  const { weights: ____, ...nameless } = declaration;
  // @ts-expect-error without its weights' names
  defineArchitecture<BigramConfig>(nameless);
  // @ts-expect-error a key that its config does not have
  defineArchitecture<BigramConfig>({ ...declaration, keyOf: { context: "n_positions", layers: "layers" } });
});

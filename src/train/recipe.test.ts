import { expect, test } from "vitest";
import { parseRecipe } from "../formats/recipe.ts";
import { recipeSchema } from "./recipe.ts";

const parse = (...settings: string[]) =>
  parseRecipe(
    recipeSchema,
    `data: { path: text.txt }
model: { model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2 }
training: { max_steps: 100, batch_size: 2, context_length: 16 }
`,
    "r.yaml",
    settings,
  );

test("a warm-up longer than the run is a problem of the recipe", () => {
  parse("training.warmup_steps=100");
  expect(() => parse("training.warmup_steps=101")).toThrow(/training\.warmup_steps: too long, expected at most training\.max_steps 100, got 101/);
});

test.each([
  ["as given", 50, "training.decay_steps=51", "training.decay_steps=50"],
  ["a fifth where none is given", 81, "training.decay_steps=null", "training.decay_steps=19"],
])("a wsd decay longer than what the warm-up leaves is a problem of the recipe: %s", (_, warmup, bad, good) => {
  const set = ["training.lr_scheduler_type=wsd", `training.warmup_steps=${warmup}`];
  parse(...set, good);
  expect(() => parse(...set, bad)).toThrow(
    new RegExp(`training\\.decay_steps: too long, expected at most ${100 - warmup} \\(what training\\.warmup_steps leaves\\), got`),
  );
  // The other schedules have no such part.
  parse(...set.slice(1), bad);
});

test.each([
  ["training.betas=[0.9,2]", /training\.betas\.1 is too large, expected less than 1, got 2/],
  ["training.alpha=1", /training\.alpha is too large, expected less than 1, got 1/],
  ["training.momentum=7", /training\.momentum is too large, expected less than 1, got 7/],
  ["data.document=lines", /data\.document: unknown way of cutting, expected .*, got "lines"\. Did you mean "line"\?/],
  ["model.max_position_embeddings=4", /model\.max_position_embeddings: too small, expected at least training\.context_length 16, got 4/],
  ["run.name=..", /run\.name: must be letters, .* and begin with a letter or digit\. Got "\.\."/],
  ["run.name=.", /run\.name: must be letters/],
])("what a later part would refuse is a problem of the recipe, beside the others: %s", (setting, message) => {
  expect(() => parse(setting)).toThrow(message);
  expect(() => parse(setting, "eval.batch_size=0")).toThrow(/r\.yaml: 2 problems/);
});

test("Nesterov's momentum needs a momentum", () => {
  parse("training.optimizer=sgd", "training.nesterov=true", "training.momentum=0.9");
  expect(() => parse("training.optimizer=sgd", "training.nesterov=true")).toThrow(/training\.nesterov: has nothing to look ahead with/);
});

test("a tokenizer to load needs its path", () => {
  parse("tokenizer.type=file", "tokenizer.path=some/folder");
  expect(() => parse("tokenizer.type=file")).toThrow(
    /tokenizer\.path: missing, expected a tokenizer's folder or tokenizer\.json with tokenizer\.type file, got null/,
  );
});

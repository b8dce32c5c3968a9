import { describe, expect, test } from "vitest";
import * as z from "zod";
import { ConfigError } from "../errors.ts";
import { parseRecipe } from "./recipe.ts";

const schema = z.strictObject({
  model: z.strictObject({ layers: z.int().min(1), type: z.enum(["gpt2", "llama"]).default("llama") }),
  data: z.strictObject({ path: z.string(), mix: z.array(z.strictObject({ weight: z.number() })).default([]) }),
  seed: z.int().default(0),
});
const text = "model:\n  layers: 4\ndata:\n  path: a.txt\n  mix:\n    - weight: 1\n";
const parse = (yaml: string, ...settings: string[]) => parseRecipe(schema, yaml, "r.yaml", settings);
const problem = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message;
  }
  throw new Error("expected an error");
};

describe("recipes", () => {
  test("values and defaults", () => {
    expect(parse(text)).toEqual({ model: { layers: 4, type: "llama" }, data: { path: "a.txt", mix: [{ weight: 1 }] }, seed: 0 });
  });

  test("settings replace and add, with YAML values, also inside lists", () => {
    const recipe = parse(text, "model.layers=2", "data.path=my file=1.txt", "data.mix.0.weight=0.5", "seed=3");
    expect(recipe).toEqual({ model: { layers: 2, type: "llama" }, data: { path: "my file=1.txt", mix: [{ weight: 0.5 }] }, seed: 3 });
    expect(parse("", "model.layers=1", "data={path: x}").data.path).toBe("x");
  });

  test("every problem of file and settings at once", () => {
    const message = problem(() => parse(text.replace("layers", "layer"), "modle.layers=3", "seed=x"));
    for (const part of [
      "r.yaml: ",
      "model.layer is unknown",
      'Did you mean "layers"?',
      "model.layers is missing",
      "modle is unknown",
      'Did you mean "model"?',
      "seed has the wrong type",
    ]) {
      expect(message).toContain(part);
    }
  });

  test("settings that are none", () => {
    const message = problem(() => parse(text, "steps", "=3", "seed.x=1", "__proto__.x=1", "a=[1"));
    for (const part of ["--set steps: expected key=value", "--set =3", "--set __proto__.x=1: expected", "--set a=[1: the value is not valid YAML"])
      expect(message).toContain(part);
    expect(problem(() => parse(`${text}seed: 1\n`, "seed.x=1"))).toContain("seed is 1, expected keys inside it");
  });

  test("broken YAML says where", () => {
    expect(problem(() => parse("model:\n  layers: [1, 2\ndata: x\n"))).toMatch(/r\.yaml: this is not valid YAML.*\n {2}line \d, column \d+: /);
    expect(problem(() => parse("- a\n"))).toContain("not a recipe");
    expect(problem(() => parse("a: 1\na: 2\n"))).toContain("line 2, column 1");
  });

  test("aliases can't unfold into gigabytes", () => {
    const bomb = ["a0: &a0 [x, x]", ...Array.from({ length: 30 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}]`)].join("\n");
    expect(problem(() => parse(bomb))).toContain("aliases that unfold too far");
  });
});

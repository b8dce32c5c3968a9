/** What can go wrong in a run, and what is said then. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { dir, open, recipeOf, run, weightsAt } from "../../tests/tiny-run.ts";
import { ConfigError, DataError, FormatError, NonFiniteError, RunError } from "../errors.ts";
import { listCheckpoints } from "../formats/index.ts";
import { parseRecipe } from "../formats/recipe.ts";
import type { Tensor } from "../tensor/index.ts";
import { saveCheckpoint } from "./checkpoint.ts";
import { isSpike, newWatch } from "./health.ts";
import type { TrainingEvent } from "./loop.ts";
import type { PretrainOptions, PretrainSession } from "./pretrain.ts";
import { recipeSchema } from "./recipe.ts";
import { checkPrompts } from "./sample-prompts.ts";

describe("what goes wrong is said", () => {
  test("a recipe's problems all at once, with suggestions", () => {
    const text =
      "data: { paht: x }\nmodel: { model_type: llama, hiden_size: 8 }\ntraining: { max_steps: 0, batch_size: 1, context_length: 8, lr_sheduler_type: cosine }\n";
    const message = (() => {
      try {
        return String(parseRecipe(recipeSchema, text, "r.yaml"));
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
        return (error as Error).message;
      }
    })();
    for (const part of [
      /data\.paht is unknown.*"?path"?/,
      /hiden_size is unknown.*hidden_size/,
      /training\.max_steps is too small/,
      /training\.lr_sheduler_type is unknown.*lr_scheduler_type/,
    ])
      expect(message).toMatch(part);
  });

  test("numbers that are none, and one problem where one is the reason of another", () => {
    const problem = (setting: string) => {
      const yaml = "data: { path: x }\nmodel: { model_type: llama }\ntraining: { max_steps: 1, batch_size: 1, context_length: 8 }\n";
      try {
        parseRecipe(recipeSchema, yaml, "r.yaml", [setting]);
      } catch (error) {
        return (error as Error).message;
      }
      throw new Error("expected an error");
    };
    expect(problem("training.learning_rate=1e999")).toBe(
      "r.yaml: 1 problem\n  training.learning_rate is not finite, expected a finite number, got Infinity. Correct it.",
    );
    expect(problem("training.learning_rate=.nan")).toMatch(/learning_rate is not finite, expected a finite number, got NaN\./);
    expect(problem("training.max_steps=-3")).toBe("r.yaml: 1 problem\n  training.max_steps is too small, expected at least 1, got -3. Correct it.");
    expect(() => parseRecipe(recipeSchema, "run: {}\nrun: {}\n", "r.yaml")).toThrow(/got 1 problem:\n/);
  });

  test.each([
    ["data", "field", "text_field"],
    ["training", "steps", "max_steps"],
    ["training", "batch", "batch_size"],
    ["training", "accumulate", "gradient_accumulation_steps"],
    ["training", "context", "context_length"],
    ["training", "block_size", "context_length"],
    ["training", "lr", "learning_rate"],
    ["training", "clip", "max_grad_norm"],
    ["training", "schedule", "lr_scheduler_type"],
    ["training", "warmup", "warmup_steps"],
    ["training", "final_lr", "final_lr_ratio"],
    ["training", "decay", "decay_steps"],
    ["training", "checkpoint_every", "save_steps"],
    ["training", "keep", "save_total_limit"],
    ["eval", "every", "eval_steps"],
    ["eval", "batch", "batch_size"],
    ["eval", "patience", "early_stopping_patience"],
    ["sample", "every", "sample_steps"],
    ["sample", "tokens", "max_new_tokens"],
  ])("the name that others have for a key is answered with ours: %s.%s is %s", (section, name, ours) => {
    const problem = `${section}\\.${name} is unknown.* Did you mean "${ours}"\\?`;
    expect(() => parseRecipe(recipeSchema, "", "r.yaml", [`${section}.${name}=1`])).toThrow(new RegExp(problem));
  });

  test("a start that fails leaves no folder that it made, and what was there before", async () => {
    writeFileSync(join(dir, "small.txt"), "hello");
    const none = recipeOf({}, { data: { path: join(dir, "none.txt") } });
    const small = recipeOf({}, { data: { path: join(dir, "small.txt") } });
    mkdirSync(join(dir, "kept"));
    for (const recipe of [none, small]) {
      await expect(open(recipe, { out: join(dir, "runs", "deep", "run") })).rejects.toThrow(/none\.txt|smaller than one window/);
      await expect(open(recipe, { out: join(dir, "kept", "run") })).rejects.toThrow(/none\.txt|smaller than one window/);
      expect(readdirSync(dir).sort()).toEqual(["kept", "small.txt", "text.txt"]);
      await expect(open(recipe, { out: join(dir, "kept") })).rejects.toThrow(/none\.txt|smaller than one window/);
      expect(readdirSync(join(dir, "kept"))).toEqual([]);
    }
    writeFileSync(join(dir, "kept", ".mine"), "");
    await expect(open(small, { out: join(dir, "kept") })).rejects.toThrow(DataError);
    expect(readdirSync(join(dir, "kept"))).toEqual([".mine"]);
    // What another has put beside the run meanwhile stays.
    const meddling: PretrainOptions["sampler"] = () => {
      writeFileSync(join(dir, "runs", "note.txt"), "");
      throw new ConfigError("no");
    };
    await expect(open(recipeOf(), { out: join(dir, "runs", "run"), sampler: meddling })).rejects.toThrow(ConfigError);
    expect(readdirSync(join(dir, "runs"))).toEqual(["note.txt"]);
  });

  test("a folder that holds a run, no run, or another recipe", async () => {
    await run(await open(recipeOf()));
    await expect(open(recipeOf())).rejects.toThrow(/there is a run in this folder.*--resume/);
    await expect(open(recipeOf(), { out: join(dir, "none"), resume: true })).rejects.toThrow(/no run to resume/);
    await expect(open(recipeOf({ learning_rate: 0.5, batch_size: 4 }), { resume: true })).rejects.toThrow(
      /recipe has changed[\s\S]*training\.batch_size: 2 → 4[\s\S]*training\.learning_rate: 0\.001 → 0\.5/,
    );
  });

  test("a key that the run's version did not have counts as its default", async () => {
    await run(await open(recipeOf()));
    const file = join(dir, "run", "config.yaml");
    const older = readFileSync(file, "utf8").replace(/ *max_rollbacks: 3\n/, "");
    expect(older).not.toBe(readFileSync(file, "utf8"));
    writeFileSync(file, older);
    await (await open(recipeOf(), { resume: true })).close();
    await expect(open(recipeOf({ max_rollbacks: 5 }), { resume: true })).rejects.toThrow(/recipe has changed[^\n]*\n {2}training\.max_rollbacks: 3 → 5\n/);
  });

  test("a recipe that was changed in the run's own folder", async () => {
    await run(await open(recipeOf({ save_total_limit: 1 })));
    const [config, state] = ["config.yaml", "checkpoints/step-000012/training/state.json"].map((name) => join(dir, "run", name));
    const good = readFileSync(config, "utf8");
    writeFileSync(config, good.replace("learning_rate: 0.001", "learning_rate: 0.01"));
    const failed = open(recipeOf({ learning_rate: 0.01, save_total_limit: 1 }), { resume: true });
    await expect(failed).rejects.toThrow(RunError);
    await expect(failed).rejects.toThrow(
      /run\/config\.yaml: the recipe has changed, expected the one that step-000012 was trained by, got\n {2}training\.learning_rate: 0\.001 → 0\.01\n.*Put the old values back, or start a new run\.$/,
    );
    expect(existsSync(join(dir, "run", "lock"))).toBe(false);
    writeFileSync(config, good);
    await (await open(recipeOf({ save_total_limit: 1 }), { resume: true })).close();
    // The checkpoint does not say where on this machine the text lies.
    expect(readFileSync(state, "utf8")).not.toContain(dir);
  });

  test("a checkpoint without a recipe, as older ones are, opens", async () => {
    const recipe = recipeOf();
    const session = await open(recipe);
    const { recipe: _, ...parts } = session.parts;
    await saveCheckpoint(session.run.at("checkpoints"), { ...session.state, step: 3 }, parts);
    await session.close();
    const later = await open(recipe, { resume: true });
    expect(later.state).toEqual({ ...session.state, step: 3 });
    await later.close();
  });

  test("changed data", async () => {
    await run(await open(recipeOf()));
    writeFileSync(join(dir, "text.txt"), "other words. ".repeat(100));
    await expect(open(recipeOf(), { resume: true })).rejects.toThrow(/the data has changed[\s\S]*text\.txt has changed/);
    expect(existsSync(join(dir, "run", "lock"))).toBe(false);
  });

  test("damaged files of a run, by name", async () => {
    await run(await open(recipeOf()));
    const damage = async (name: string, change: (good: Buffer) => Buffer | string, message: RegExp, type: typeof FormatError | typeof ConfigError) => {
      const file = join(dir, "run", name);
      const good = readFileSync(file);
      writeFileSync(file, change(good));
      const failed = open(recipeOf(), { resume: true });
      await expect(failed).rejects.toThrow(message);
      await expect(failed).rejects.toThrow(type);
      writeFileSync(file, good);
    };
    await damage("manifest.json", (good) => good.subarray(0, 100), /manifest\.json, line \d+.*the file is cut off/i, FormatError);
    await damage("manifest.json", () => "{}", /manifest\.json: .*problems[\s\S]*data is missing/, ConfigError);
    await damage("config.yaml", () => "run: [", /config\.yaml: this is not valid YAML/, ConfigError);
    const flipped = (good: Buffer) => Buffer.from(good.map((byte, i) => (i === 200 ? byte ^ 1 : byte)));
    await damage("data/train/shard-00000.bin", flipped, /shard-00000\.bin: damaged, expected SHA-256.*remove .*train and resume/, FormatError);
    // As the message says.
    rmSync(join(dir, "run", "data", "train"), { recursive: true });
    await (await open(recipeOf(), { resume: true })).close();
  });

  test("two processes on one folder: the second refuses; a dead one's lock is taken over", async () => {
    const session = await open(recipeOf());
    await expect(open(recipeOf(), { resume: true })).rejects.toThrow(new RegExp(`another process is training.*process ${process.pid}`));
    await session.close();
    writeFileSync(join(dir, "run", "lock"), JSON.stringify({ pid: 2 ** 22 + 12345, host: os.hostname(), started: "1" }));
    await (await open(recipeOf(), { resume: true })).close();
    expect(existsSync(join(dir, "run", "lock"))).toBe(false);
  });

  test("a text smaller than one window, empty text", async () => {
    writeFileSync(join(dir, "small.txt"), "hello");
    const data = (path: string) => ({ data: { path: join(dir, path) } });
    const small = open(recipeOf({}, data("small.txt")));
    await expect(small).rejects.toThrow(DataError);
    // By the user's file, and which part of it; not by the shards that were made of it.
    await expect(small).rejects.toThrow(
      `${join(dir, "small.txt")} (training part): text smaller than one window, expected at least 17 tokens (context + 1), got `,
    );
    writeFileSync(join(dir, "short.txt"), "the whale swims in the sea");
    const unmeasured = { data: { path: join(dir, "short.txt"), validation_fraction: 0.01 } };
    await expect(open(recipeOf({}, unmeasured))).rejects.toThrow(
      `${join(dir, "short.txt")} (validation part): text smaller than one window, expected at least 2`,
    );
    const [path, other] = [join(dir, "text.txt"), join(dir, "small.txt")];
    const two = recipeOf({}, { data: { sources: [{ path }, { path: [other] }] } });
    await expect(open(two)).rejects.toThrow(`${other} (training part): text smaller`);
    expect(existsSync(join(dir, "run"))).toBe(false);
    writeFileSync(join(dir, "empty.txt"), "");
    await expect(open(recipeOf({}, data("empty.txt")), { out: join(dir, "run2") })).rejects.toThrow(DataError);
  });

  test("sample prompts that a sampler can't continue, before the text is tokenized", async () => {
    const prompts = ["the sea", "caf\u00e9 \u{1f40b}", "", "the whale swims in the sea"];
    const sample = { sample: { sample_steps: 4, prompts } };
    const sampler: PretrainOptions["sampler"] = (tokenizer, recipe) => {
      checkPrompts(recipe, tokenizer);
      return (_, prompt) => prompt;
    };
    const failed = open(recipeOf({}, sample), { sampler });
    await expect(failed).rejects.toThrow(ConfigError);
    await expect(failed).rejects.toThrow(
      'recipe: sample.prompts[1] has what the run\'s tokenizer lacks, expected characters of the training text, got "c" (U+0063), "f" (U+0066), "\u00e9" (U+00E9), "\u{1f40b}" (U+1F40B) in "caf\u00e9 \u{1f40b}". ' +
        "Leave it out of the prompt, or train on text that has it.\n  " +
        "sample.prompts[2] is empty, expected a first word, as the tokenizer has no end-of-text token to begin after, got none. Write one, or set tokenizer.end_of_text=true.\n  " +
        "sample.prompts[3] is too long, expected at most 16 tokens (the model's context), got 26. Shorten it, or raise training.context_length.",
    );
    expect(existsSync(join(dir, "run"))).toBe(false);
    // Nobody asks for samples, or the tokenizer knows every byte and how texts end.
    await (await open(recipeOf({}, { sample: { prompts } }), { sampler })).close();
    const bytes = recipeOf({ context_length: 32 }, { ...sample, tokenizer: { type: "bytes" } });
    await (await open(bytes, { out: join(dir, "bytes"), sampler })).close();
    // No sampler asks for them, or one that takes any prompt.
    expect((await run(await open(recipeOf({}, sample), { out: join(dir, "none") }))).at(-1)).toMatchObject({ type: "end", why: "done" });
    const events = await run(await open(recipeOf({}, sample), { out: join(dir, "own"), sampler: () => (_, prompt) => prompt }));
    expect(events.flatMap((e) => (e.type === "sample" && e.sample.step === 0 ? [e.sample.text] : []))).toEqual(prompts);
  });

  test("a file that takes no more lines", async () => {
    const session = await open(recipeOf());
    mkdirSync(join(dir, "run", "metrics.jsonl"));
    const failed = run(session);
    await expect(failed).rejects.toThrow(RunError);
    await expect(failed).rejects.toThrow(/metrics\.jsonl: a line could not be added, .* got EISDIR\. The checkpoints are still good: .*--resume/);
  });

  test("a damaged checkpoint is left out and the one before it used", async () => {
    const recipe = recipeOf();
    await run(await open(recipe));
    const good = weightsAt("run", "step-000012");
    writeFileSync(join(dir, "run", "checkpoints", "step-000012", "model.safetensors"), "broken");
    const session = await open(recipe, { resume: true });
    expect(session.notes.join()).toMatch(/damaged checkpoint.*model\.safetensors/);
    expect(session.state.step).toBe(8);
    await run(session);
    expect(weightsAt("run", "step-000012").equals(good)).toBe(true);
  });
});

describe("health", () => {
  /** Writes NaN into a weight once, when `step` is done. */
  const poison = (session: PretrainSession, step: number) => {
    let left = 1;
    return (e: TrainingEvent) => {
      if (e.type !== "step" || e.metrics.step !== step || left-- < 1) return;
      const p = session.model.get("model.layers.0.mlp.down_proj") as unknown as { weight: Tensor };
      const values = p.weight.dataSync();
      values[5] = Number.NaN;
      p.weight.write(values as Float32Array);
    };
  };

  test("a loss that is not finite names step and tensor, and the last checkpoint stays", async () => {
    const session = await open(recipeOf());
    const failed = run(session, poison(session, 6));
    await expect(failed).rejects.toThrow(NonFiniteError);
    await expect(failed).rejects.toThrow(
      /step 7: the loss is not finite.*model\.layers\.0\.mlp\.down_proj\.weight, at place 5 .* Begin a new run .*, or with training\.on_non_finite=rollback\.$/,
    );
    expect((await listCheckpoints(join(dir, "run", "checkpoints"))).map((c) => c.step)).toEqual([4]);
  });

  test("weights that are not finite are never saved", async () => {
    const session = await open(recipeOf());
    await expect(run(session, poison(session, 8))).rejects.toThrow(/step 8.*model\.layers\.0\.mlp\.down_proj\.weight.*no checkpoint was written/);
    expect((await listCheckpoints(join(dir, "run", "checkpoints"))).map((c) => c.step)).toEqual([4, 6]);
  });

  test("with rollback it goes back, leaves out the batch and ends", async () => {
    const session = await open(recipeOf({ on_non_finite: "rollback" }, { eval: { eval_steps: 12 } }));
    const events = await run(session, poison(session, 6));
    expect(
      events
        .filter((e) => e.type === "note")
        .map((e) => e.text)
        .join("\n"),
    ).toMatch(/Step 7 went wrong; back at step 4/);
    const steps = events.filter((e) => e.type === "step").map((e) => e.metrics.step);
    expect(steps).toEqual([1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 9, 10, 11, 12]);
    const logged = readFileSync(join(dir, "run", "metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).step);
    expect(logged).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  });

  test("when the rollbacks are spent, the error says so beside what went wrong last", async () => {
    const spoil = (session: PretrainSession, step: number, factor: number) => (e: TrainingEvent) => {
      if (e.type !== "step" || e.metrics.step !== step) return;
      const p = session.model.get("model.norm") as unknown as { weight: Tensor };
      p.weight.write((p.weight.dataSync() as Float32Array).map((value) => value * factor));
    };
    const seldom = { eval: { eval_steps: 1000 } };
    const leaping = await open(recipeOf({ on_spike: "rollback", max_rollbacks: 2, max_steps: 64, save_steps: 20 }, seldom));
    const leapt = run(leaping, spoil(leaping, 61, -50));
    await expect(leapt).rejects.toThrow(RunError);
    await expect(leapt).rejects.toThrow(
      /step 62: the loss leapt, .* All rollbacks are spent: 2 of training\.max_rollbacks 2\. Begin a new run with [^.]*training\.learning_rate or more training\.warmup_steps\.$/,
    );
    const broken = await open(recipeOf({ on_non_finite: "rollback", max_rollbacks: 1 }, seldom), { out: join(dir, "broken") });
    const failed = run(broken, spoil(broken, 6, Number.NaN));
    await expect(failed).rejects.toThrow(NonFiniteError);
    await expect(failed).rejects.toThrow(
      /step 7: the loss is not finite, [^;]*; the first bad tensor is the weight \S+, at place \d+ of \(16\)\. All rollbacks are spent: 1 of training\.max_rollbacks 1\. Begin a new run/,
    );
  });

  test("the spike rule knows a leap from noise", () => {
    const watch = newWatch();
    const noise = (i: number) => 3 - i / 200 + 0.05 * Math.sin(i * 12.9898);
    for (let i = 0; i < 200; i++) expect(isSpike(watch, noise(i), 6)).toBe(false);
    const before = { ...watch };
    expect(isSpike(watch, 4, 6)).toBe(true);
    expect(watch).toEqual(before);
    expect(isSpike(watch, noise(200), 6)).toBe(false);
  });

  test("the fall of the loss does not hide a leap", () => {
    const watch = newWatch();
    const falling = (i: number) => 3 + 5 * Math.exp(-i / 60) + 0.05 * Math.sin(i * 12.9898);
    for (let i = 0; i < 70; i++) expect(isSpike(watch, falling(i), 8)).toBe(false);
    expect(watch.variance).toBeLessThan(0.1 ** 2);
    expect(isSpike(watch, watch.mean + 1, 8)).toBe(true);
    for (let i = 70; i < 300; i++) expect(isSpike(watch, falling(i), 8)).toBe(false);
    // Checkpoints of earlier versions know no loss before.
    const { last: _, ...old } = watch;
    expect(isSpike(old, falling(300), 8)).toBe(false);
  });
});

test("errors of a run are of the right class", async () => {
  await expect(open(recipeOf(), { resume: true })).rejects.toThrow(RunError);
});

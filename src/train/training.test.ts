import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os, { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ConfigError, DataError, FormatError, NonFiniteError, RunError } from "../errors.ts";
import { listCheckpoints } from "../formats/index.ts";
import { parseRecipe } from "../formats/recipe.ts";
import { createModel } from "../models/index.ts";
import { backend, manualSeed, memory, type Tensor } from "../tensor/index.ts";
import { isSpike, newWatch } from "./health.ts";
import { type TrainingEvent, trainingLoop } from "./loop.ts";
import { openPretraining, type PretrainOptions, type PretrainSession } from "./pretrain.ts";
import { type Recipe, recipeSchema } from "./recipe.ts";
import { writeReport } from "./report.ts";
import { accumulateGradients } from "./step.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "groundup-train-"));
  writeFileSync(join(dir, "text.txt"), "the whale swims in the sea, and the ship sails over the whale in the sea. ".repeat(40));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const recipeOf = (training: Record<string, unknown> = {}, rest: Record<string, unknown> = {}): Recipe =>
  recipeSchema.parse({
    data: { path: join(dir, "text.txt") },
    tokenizer: { type: "characters" },
    model: { model_type: "llama", hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2 },
    training: { max_steps: 12, batch_size: 2, context_length: 16, save_steps: 4, ...training },
    eval: { eval_steps: 6 },
    ...rest,
  });

const open = (recipe: Recipe, options: Partial<PretrainOptions> = {}) => openPretraining(recipe, { out: join(dir, "run"), ...options });

async function run(session: PretrainSession, see?: (event: TrainingEvent) => void): Promise<TrainingEvent[]> {
  const events: TrainingEvent[] = [];
  try {
    for await (const event of session.train()) {
      events.push(event);
      see?.(event);
    }
  } finally {
    await session.close();
  }
  return events;
}

const weightsAt = (name: string, step: string) => readFileSync(join(dir, name, "checkpoints", step, "model.safetensors"));

describe("a run", () => {
  test("learns, evaluates the whole validation text, keeps the newest checkpoints and the best", async () => {
    const events = await run(await open(recipeOf({ max_steps: 40, learning_rate: 0.01 })));
    const losses = events.filter((e) => e.type === "step").map((e) => e.metrics.loss);
    expect(losses).toHaveLength(40);
    expect(losses.at(-1)).toBeLessThan((losses[0] as number) - 0.3);
    const evaluations = events.filter((e) => e.type === "evaluation");
    // 10 % of the text but its first character, each a target once.
    expect(evaluations[0]?.result.tokens).toBe(Math.ceil(74 * 40 * 0.1) - 1);
    expect(evaluations[0]?.result.bitsPerByte).toBeCloseTo(((evaluations[0]?.result.loss ?? 0) / Math.LN2) * (295 / 296), 3);
    expect(readdirSync(join(dir, "run")).sort()).toEqual(["best.json", "checkpoints", "config.yaml", "data", "manifest.json", "metrics.jsonl", "tokenizer"]);
    expect((await listCheckpoints(join(dir, "run", "checkpoints"))).map((c) => c.step)).toEqual([36, 40]);
    expect(events.at(-1)).toMatchObject({ type: "end", why: "done", step: 40 });
  });

  test("the untrained model's validation loss begins the curve, once", async () => {
    const session = await open(recipeOf());
    const events = await run(session);
    await run(await open(recipeOf(), { resume: true }));
    const first = events.find((e) => e.type === "evaluation")?.result;
    const [line, next] = session.run.metrics();
    expect(line).toEqual({ step: 0, val_loss: first?.loss, val_bits_per_byte: first?.bitsPerByte });
    expect(next.step).toBe(1);
  });

  test("its manifest holds the hashes of the first weights and, when it is done, of the last", async () => {
    const stored = () => JSON.parse(readFileSync(join(dir, "run", "manifest.json"), "utf8")).weights;
    const hashOf = (step: string) => createHash("sha256").update(weightsAt("run", step)).digest("hex");
    const controller = new AbortController();
    // With rollback the untrained model is a checkpoint too.
    const recipe = recipeOf({ on_non_finite: "rollback", save_total_limit: 9 });
    await run(await open(recipe, { signal: controller.signal }), (e) => {
      if (e.type === "step" && e.metrics.step === 7) controller.abort();
    });
    const begun = stored();
    expect(begun).toEqual({ initial: { "model.safetensors": hashOf("step-000000") } });
    const session = await open(recipe, { resume: true });
    await run(session);
    expect(stored()).toEqual({ ...begun, final: { "model.safetensors": hashOf("step-000012") } });
    expect(session.manifest.weights).toEqual(stored());
    expect(hashOf("step-000012")).not.toBe(hashOf("step-000000"));
  });

  test("what the model is compared with stays in the report of a resumed run", async () => {
    const session = await open(recipeOf());
    await session.run.saveBaseline({ name: "4-gram", perplexity: 12, bitsPerByte: 3.456 });
    await run(session);
    const resumed = await open(recipeOf(), { resume: true });
    expect(resumed.checkpoint).toBe(join(dir, "run", "checkpoints", "step-000012"));
    const last = resumed.run.metrics().at(-1);
    const html = readFileSync(await writeReport(resumed.run, resumed.manifest), "utf8");
    await resumed.close();
    expect(html).toMatch(/4-gram<\/td><td>12\.0<\/td><td>3\.456/);
    expect(html).toContain(`this model</td><td>${Math.exp(last?.val_loss as number).toFixed(1)}<`);
  });

  test("is found again from another folder, with the same data", async () => {
    const recipe = recipeOf({}, { data: { path: "text.txt" } });
    const home = process.cwd();
    const from = (folder: string, use: Recipe) => {
      process.chdir(folder);
      return open(use, { resume: use !== recipe });
    };
    try {
      const { recipe: stored, manifest } = await from(dir, recipe).then(async (session) => {
        await run(session);
        return session;
      });
      expect(stored.data.path).toBe(join(process.cwd(), "text.txt"));
      expect(Object.keys(manifest.data)).toEqual([stored.data.path]);
      await (await from(home, stored)).close();
      writeFileSync(join(dir, "text.txt"), "other words. ".repeat(100));
      await expect(from(home, stored)).rejects.toThrow(/the data has changed/);
    } finally {
      process.chdir(home);
    }
  });

  test("stopped by the signal it saves, and resumed it ends with the bytes of a straight run", async () => {
    const recipe = recipeOf();
    await run(await open(recipe, { out: join(dir, "straight") }));
    const controller = new AbortController();
    const events = await run(await open(recipe, { signal: controller.signal }), (e) => {
      if (e.type === "step" && e.metrics.step === 7) controller.abort();
    });
    expect(events.at(-1)).toMatchObject({ why: "stopped", step: 7 });
    expect(existsSync(join(dir, "run", "checkpoints", "step-000007"))).toBe(true);
    await run(await open(recipe, { resume: true }));
    expect(weightsAt("run", "step-000012").equals(weightsAt("straight", "step-000012"))).toBe(true);
  });

  test("stopped inside an evaluation it stops there, and resumed it measures that step first", async () => {
    const recipe = recipeOf({}, { eval: { eval_steps: 6, batch_size: 1 } });
    const straight = await open(recipe, { out: join(dir, "straight") });
    await run(straight);
    const controller = new AbortController();
    const session = await open(recipe, { signal: controller.signal });
    let forwards = 0;
    session.model.hook("", () => {
      if (!session.model.training && session.state.step === 6 && ++forwards === 3) controller.abort();
      return undefined;
    });
    const events = await run(session);
    // The validation text has 19 rows.
    expect(forwards).toBe(3);
    expect(events.at(-1)).toMatchObject({ why: "stopped", step: 6, best: null });
    const resumed = await open(recipe, { resume: true });
    const [first] = await run(resumed);
    expect(first).toMatchObject({ type: "evaluation", step: 6, best: true });
    expect(weightsAt("run", "step-000012").equals(weightsAt("straight", "step-000012"))).toBe(true);
    const measured = (session: PretrainSession) => session.run.metrics().flatMap(({ step, val_loss }) => (val_loss === undefined ? [] : [[step, val_loss]]));
    expect(measured(resumed)).toEqual(measured(straight));
    const best = (name: string) => readFileSync(join(dir, name, "best.json"), "utf8");
    expect(best("run")).toBe(best("straight"));
  });

  test("stopped inside the last evaluation it is not done yet, and resumed it is", async () => {
    const recipe = recipeOf({}, { eval: { eval_steps: 12, batch_size: 1 } });
    const controller = new AbortController();
    const session = await open(recipe, { signal: controller.signal });
    session.model.hook("", () => {
      if (!session.model.training && session.state.step === 12) controller.abort();
      return undefined;
    });
    expect((await run(session)).at(-1)).toMatchObject({ why: "stopped", step: 12, best: null });
    const again = await run(await open(recipe, { resume: true }));
    expect(again.map(({ type }) => type)).toEqual(["evaluation", "end"]);
    expect(again.at(-1)).toMatchObject({ why: "done", best: { step: 12 } });
    // The checkpoint was written before; that nothing is missing any more is known from the run's lines.
    expect((await run(await open(recipe, { resume: true }))).at(-1)).toEqual(again.at(-1));
  });

  test("stopped between two samples it makes the other one when it goes on", async () => {
    const recipe = recipeOf({}, { sample: { sample_steps: 6, prompts: ["the", "sea"] } });
    const sampler = () => (_: unknown, prompt: string, step: number) => `${prompt} at ${step}`;
    const straight = await open(recipe, { out: join(dir, "straight"), sampler });
    await run(straight);
    const controller = new AbortController();
    const session = await open(recipe, { signal: controller.signal, sampler });
    const events = await run(session, (e) => {
      if (e.type === "sample" && e.sample.step === 6) controller.abort();
    });
    expect(events.at(-1)).toMatchObject({ why: "stopped", step: 6 });
    await run(await open(recipe, { resume: true, sampler }));
    expect(session.run.samples()).toEqual(straight.run.samples());
  });

  test("stopped before the first step it leaves nothing but a beginning", async () => {
    const signal = AbortSignal.abort();
    const session = await open(recipeOf());
    const parts = { ...session.parts };
    const events: TrainingEvent[] = [];
    for await (const event of trainingLoop(parts, { signal })) events.push(event);
    await session.close();
    expect(events).toEqual([{ type: "end", why: "stopped", step: 0, best: null }]);
    expect((await run(await open(recipeOf(), { resume: true }))).at(-1)).toMatchObject({ why: "done", step: 12 });
  });

  test("in bf16: other bytes than in f32, the same after a resume, and it says what computed them", async () => {
    const recipe = recipeOf({ precision: "bf16" });
    const straight = await open(recipe, { out: join(dir, "straight") });
    expect(straight.manifest).toMatchObject({ precision: "bf16", host: { bf16: backend().bf16() } });
    const events = await run(straight);
    const controller = new AbortController();
    await run(await open(recipe, { signal: controller.signal }), (e) => {
      if (e.type === "step" && e.metrics.step === 7) controller.abort();
    });
    const file = join(dir, "run", "manifest.json");
    writeFileSync(file, readFileSync(file, "utf8").replace(`"bf16": "${backend().bf16()}"`, '"bf16": "amx_bf16"'));
    const resumed = await open(recipe, { resume: true });
    expect(resumed.notes.join("\n")).toMatch(/bf16 products were amx_bf16 so far.*not bit for bit/);
    await run(resumed);
    expect(weightsAt("run", "step-000012").equals(weightsAt("straight", "step-000012"))).toBe(true);

    const plain = await run(await open(recipeOf(), { out: join(dir, "plain") }));
    expect(weightsAt("plain", "step-000012").equals(weightsAt("straight", "step-000012"))).toBe(false);
    // The untrained model is the same; its evaluation differs because that too is in bf16.
    const first = (list: TrainingEvent[]) => list.find((e) => e.type === "evaluation")?.result.loss ?? 0;
    expect(first(events)).not.toBe(first(plain));
    expect(first(events)).toBeCloseTo(first(plain), 2);
  });

  test("resumed on another backend it says that the bytes will differ", async () => {
    await run(await open(recipeOf({ precision: "bf16" })));
    const file = join(dir, "run", "manifest.json");
    const other = backend().name === "native" ? "reference" : "native";
    const manifest = JSON.parse(readFileSync(file, "utf8"));
    writeFileSync(file, JSON.stringify({ ...manifest, host: { ...manifest.host, backend: other, bf16: "other" } }));
    const resumed = await open(recipeOf({ precision: "bf16" }), { resume: true });
    await resumed.close();
    const notes = resumed.notes.filter((note) => /not bit for bit/.test(note));
    expect(notes).toEqual([
      `This run was computed by the ${other} backend so far and is by the ${backend().name} backend here: it goes on, but not bit for bit.`,
    ]);
  });

  test("in bf16 on a CPU that must emulate it: one sentence", async () => {
    const isa = backend().isa();
    try {
      if (backend().name === "native") backend().isa("portable");
      const session = await open(recipeOf({ precision: "bf16" }));
      expect(session.notes.filter((note) => /emulated here and slower than f32.*training\.precision=f32/.test(note))).toHaveLength(1);
      expect(session.manifest.host.bf16).toBe("emulated");
      await session.close();
      const plain = await open(recipeOf(), { out: join(dir, "plain") });
      expect(plain.notes.join()).not.toMatch(/bf16/);
      await plain.close();
    } finally {
      backend().isa(isa);
    }
  });

  test("stops early when nothing gets better", async () => {
    const events = await run(await open(recipeOf({ max_steps: 100, learning_rate: 0 }, { eval: { eval_steps: 2, early_stopping_patience: 3 } })));
    expect(events.at(-1)).toMatchObject({ why: "no-progress", step: 8 });
  });

  test("holds no more memory after many steps", async () => {
    const live: number[] = [];
    await run(await open(recipeOf({ max_steps: 300, save_steps: 1000 }, { eval: { eval_steps: 1000 } })), (e) => {
      if (e.type === "step" && e.metrics.step % 100 === 0) live.push(memory().liveBytes);
    });
    expect(new Set(live).size).toBe(1);
  });
});

test("the gradients of accumulated small batches are those of one large batch", () => {
  manualSeed(1);
  const model = createModel({
    model_type: "gpt2",
    vocab_size: 11,
    n_positions: 6,
    n_embd: 8,
    n_layer: 2,
    n_head: 2,
    resid_pdrop: 0,
    embd_pdrop: 0,
    attn_pdrop: 0,
  });
  const ids = (n: number, factor: number) => Int32Array.from({ length: n }, (_, i) => (i * factor + 3) % 11);
  const large = { rows: 4, context: 6, inputIds: ids(24, 5), targets: ids(24, 7), targetTokens: 22 };
  // Uneven parts: the second row counts only four targets.
  large.targets.set([-100, -100], 6);
  const part = (row: number) => ({
    rows: 1,
    context: 6,
    inputIds: large.inputIds.slice(row * 6, row * 6 + 6),
    targets: large.targets.slice(row * 6, row * 6 + 6),
    targetTokens: row === 1 ? 4 : 6,
  });
  const gradients = (batches: Parameters<typeof accumulateGradients>[1]) => {
    model.zeroGrad();
    const { loss, tokens } = accumulateGradients(model, batches);
    return { loss, tokens, values: model.parameters().flatMap((p) => [...(p.grad as Tensor).dataSync()]) };
  };
  const [one, four] = [gradients([large]), gradients([0, 1, 2, 3].map(part))];
  expect(four.tokens).toBe(22);
  expect(four.loss).toBeCloseTo(one.loss, 6);
  const scale = Math.max(...one.values.map(Math.abs));
  expect(Math.max(...one.values.map((x, i) => Math.abs(x - four.values[i]))) / scale).toBeLessThan(2e-6);
  model.dispose();
});

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
    await expect(open(recipeOf({}, data("small.txt")))).rejects.toThrow(DataError);
    writeFileSync(join(dir, "empty.txt"), "");
    await expect(open(recipeOf({}, data("empty.txt")), { out: join(dir, "run2") })).rejects.toThrow(DataError);
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
    await expect(failed).rejects.toThrow(/step 7: the loss is not finite.*model\.layers\.0\.mlp\.down_proj\.weight, at place 5/);
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

  test("the spike rule knows a leap from noise", () => {
    const watch = newWatch();
    const noise = (i: number) => 3 - i / 200 + 0.05 * Math.sin(i * 12.9898);
    for (let i = 0; i < 200; i++) expect(isSpike(watch, noise(i), 6)).toBe(false);
    const before = { ...watch };
    expect(isSpike(watch, 4, 6)).toBe(true);
    expect(watch).toEqual(before);
    expect(isSpike(watch, noise(200), 6)).toBe(false);
  });
});

test("errors of a run are of the right class", async () => {
  await expect(open(recipeOf(), { resume: true })).rejects.toThrow(RunError);
});

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { dir, open, recipeOf, run, weightsAt } from "../../tests/tiny-run.ts";
import { listCheckpoints } from "../formats/index.ts";
import { createModel } from "../models/index.ts";
import { backend, manualSeed, memory, type Tensor } from "../tensor/index.ts";
import { type TrainingEvent, trainingLoop } from "./loop.ts";
import type { PretrainSession } from "./pretrain.ts";
import type { Recipe } from "./recipe.ts";
import { writeReport } from "./report.ts";
import { accumulateGradients } from "./step.ts";

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

/** A run that is killed again and again, against the same run left in peace. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { philox4x32 } from "../src/tensor/philox.ts";
import { ensureBuilt, groundup, start } from "./built.ts";

/** Dropout, packed documents and accumulation are on, so that every random stream and every cursor matters. */
export const recipe = (text: string) => `
run: { name: killed, seed: 3 }
data: { path: ${JSON.stringify(text)}, document: blank-line, order: documents }
tokenizer: { type: bpe, vocab_size: 300 }
model: { model_type: gpt2, n_embd: 32, n_layer: 2, n_head: 2, resid_pdrop: 0.1, embd_pdrop: 0.1, attn_pdrop: 0 }
training: { max_steps: 60, batch_size: 2, gradient_accumulation_steps: 2, context_length: 32, learning_rate: 0.003, warmup_steps: 5, save_steps: 4 }
eval: { eval_steps: 15, batch_size: 4 }
sample: { sample_steps: 20, prompts: [the], max_new_tokens: 8 }
`;

export function textOf(paragraphs: number): string {
  const words = "the whale and the sea with a ship on the wide ocean where old sailors sing of storms".split(" ");
  const pick = (i: number, j: number) => words[(philox4x32([i, j, 0, 0], [7, 0])[0] as number) % words.length];
  return Array.from({ length: paragraphs }, (_, i) => Array.from({ length: 30 }, (_, j) => pick(i, j)).join(" ")).join(".\n\n");
}

export interface Outcome {
  kills: number;
  /** How many of them fell into the writing of a checkpoint and left an unfinished one behind. */
  midCheckpoint: number;
  /** Last weights, optimiser state and the losses of every step. */
  straight: Result;
  interrupted: Result;
}

export interface Result {
  weights: Buffer;
  optimizer: Buffer;
  losses: string;
  samples: string;
  checkpoints: string[];
}

export function resultOf(run: string): Result {
  const last = join(run, "checkpoints", "step-000060");
  const lines = readFileSync(join(run, "metrics.jsonl"), "utf8").trim().split("\n");
  const steady = lines.map((line) => {
    const { step, loss, learning_rate, grad_norm, tokens, val_loss } = JSON.parse(line);
    return JSON.stringify({ step, loss, learning_rate, grad_norm, tokens, val_loss });
  });
  return {
    weights: readFileSync(join(last, "model.safetensors")),
    optimizer: readFileSync(join(last, "training", "optimizer.safetensors")),
    losses: steady.join("\n"),
    samples: readFileSync(join(run, "samples.jsonl"), "utf8"),
    checkpoints: readdirSync(join(run, "checkpoints")),
  };
}

/**
 * Kills a run with SIGKILL at `kills` moments of its work, resumes it each time, and lets it end. Half of the moments are random;
 * for the other half it waits for a checkpoint that has been begun and not yet ended.
 */
export async function killAndResume(kills: number, seed: number): Promise<Outcome> {
  ensureBuilt();
  const folder = mkdtempSync(join(tmpdir(), "groundup-kill-"));
  try {
    const [text, yaml] = [join(folder, "text.txt"), join(folder, "recipe.yaml")];
    writeFileSync(text, textOf(60));
    writeFileSync(yaml, recipe(text));
    const args = (run: string, resume: boolean) => ["pretrain", yaml, "--out", join(folder, run), ...(resume ? ["--resume"] : [])];
    const whole = await groundup(args("straight", false));
    if (whole.code !== 0) throw new Error(`the straight run failed: ${whole.stdout}${whole.stderr}`);
    const metrics = join(folder, "killed", "metrics.jsonl");
    const stepsDone = () => (existsSync(metrics) ? readFileSync(metrics, "utf8").split("\n").length - 1 : 0);
    const checkpoints = join(folder, "killed", "checkpoints");
    const unfinished = () => existsSync(checkpoints) && readdirSync(checkpoints).some((name) => /^\.step-.*\.tmp$/.test(name));
    let [done, midCheckpoint, resume] = [0, 0, false];
    for (let attempt = 0; ; attempt++) {
      const { child, ended } = start(args("killed", resume));
      const [few, little, early] = philox4x32([attempt, 0, 0, 0], [seed, 0]);
      // Some steps further (or, now and then, while it still prepares), then a moment more: it may be in a step, an evaluation or a checkpoint.
      const goal = stepsDone() + 1 + (few % 6);
      const moment = (15 * little) / 2 ** 32;
      let killing: NodeJS.Timeout | undefined;
      const kill = (wait: number) => {
        killing ??= setTimeout(() => child.kill("SIGKILL"), wait);
      };
      const inCheckpoint = done % 2 === 1;
      if (done < kills && !inCheckpoint && early % 5 === 0) kill(100 + 20 * moment);
      const watch = setInterval(() => {
        if (done >= kills || stepsDone() < goal) return;
        if (!inCheckpoint) kill(moment);
        // What the last kill left is gone by now: a run takes it away before its first step.
        else if (unfinished()) child.kill("SIGKILL");
      }, 1);
      const { code, signal, stderr } = await ended;
      clearInterval(watch);
      clearTimeout(killing);
      if (signal === "SIGKILL") {
        done++;
        if (unfinished()) midCheckpoint++;
        resume ||= readdirSync(folder).includes("killed") && readdirSync(join(folder, "killed")).includes("config.yaml");
        if (!resume) rmSync(join(folder, "killed"), { recursive: true, force: true });
        continue;
      }
      if (code !== 0) throw new Error(`resuming after kill ${done} failed: ${stderr}`);
      break;
    }
    return { kills: done, midCheckpoint, straight: resultOf(join(folder, "straight")), interrupted: resultOf(join(folder, "killed")) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

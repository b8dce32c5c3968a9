/** The memory of a whole process against its plan: what a user's machine must have, not the tensors alone. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { byteTokenizer } from "../src/tokenizers/index.ts";
import { ensureBuilt, groundup, NATIVE } from "./built.ts";

const dir = mkdtempSync(join(tmpdir(), "groundup-plan-"));
const [llama, gemma, dropout] = [join(dir, "llama.yaml"), join(dir, "gemma.yaml"), join(dir, "dropout.yaml")];
beforeAll(async () => {
  ensureBuilt();
  const recipe = (model: string) => `data: { path: bundled:moby-dick.jsonl.gz, validation_fraction: 0.03 }
tokenizer: { type: bpe, vocab_size: 512 }
model: { ${model}, hidden_size: 192, intermediate_size: 512, num_hidden_layers: 4, num_attention_heads: 6, num_key_value_heads: 2 }
training: { max_steps: 10, batch_size: 4, context_length: 128, gradient_accumulation_steps: 4 }
eval: { eval_steps: 10, batch_size: 4 }
`;
  writeFileSync(llama, recipe("model_type: llama"));
  writeFileSync(gemma, recipe("model_type: gemma3_text, head_dim: 32, sliding_window: 32, sliding_window_pattern: 2, final_logit_softcapping: 30"));
  const tokenizer = byteTokenizer();
  await tokenizer.save(join(dir, "bytes"));
  const folder = join(dir, "tokens");
  mkdirSync(folder);
  for (const [file, length] of [
    ["train.bin", 1_000_000],
    ["val.bin", 20_000],
  ] as const)
    writeFileSync(
      join(folder, file),
      Uint16Array.from({ length }, (_, i) => (i * i) % 251),
    );
  writeFileSync(
    dropout,
    `data: { tokens: ${JSON.stringify(folder)} }
tokenizer: { type: file, path: ${JSON.stringify(join(dir, "bytes"))} }
model: { model_type: gpt2, n_embd: 128, n_layer: 4, n_head: 8, attn_pdrop: 0.1, resid_pdrop: 0.1, embd_pdrop: 0.1 }
training: { max_steps: 20, batch_size: 8, context_length: 128 }
eval: { eval_steps: 20, batch_size: 8 }
`,
  );
});
afterAll(() => rmSync(dir, { recursive: true }));

/** Name, recipe, settings. */
const CASES: [name: string, recipe: string, ...settings: string[]][] = [
  ["characters", "settings-c", "training.max_steps=60", "eval.eval_steps=60", "data.validation_fraction=0.03"],
  ["accumulated gradients", llama],
  // 130 windows or so: the last batch is not full.
  ["evaluations of larger batches", llama, "eval.batch_size=48", "eval.eval_steps=5"],
  ["norms of heads and behind each part, capped logits", gemma, "eval.batch_size=48", "eval.eval_steps=5"],
  ["dropout on files of tokens", dropout],
];

const TELL = 'data:text/javascript,process.on("exit",()=>console.error("peak",process.resourceUsage().maxRSS*1024))';

// The plain backend keeps its tensors in V8's arrays; the plan is that of the native one.
if (NATIVE) {
  test.each(CASES)("the process takes what was planned, to 10 percent: %s", { timeout: 120_000 }, async (name, recipe, ...settings) => {
    const changes = settings.flatMap((setting) => ["--set", setting]);
    const { memory } = JSON.parse((await groundup(["plan", recipe, ...changes, "--json"])).stdout);
    const { stderr, code } = await groundup(["pretrain", recipe, ...changes, "--out", join(dir, name)], {
      NODE_OPTIONS: `--import=${TELL.replaceAll('"', "%22")}`,
    });
    expect(code).toBe(0);
    const measured = Number(/^peak (\d+)$/m.exec(stderr)?.[1]);
    const figures = `planned ${memory.process} bytes, measured ${measured}`;
    expect(memory.process / measured, figures).toBeGreaterThan(0.9);
    expect(memory.process / measured, figures).toBeLessThan(1.1);
  });
} else {
  test("without a native library the process's plan is not measured", () => expect(NATIVE).toBe(false));
}

/**
 * Time of a training step: forward, backward, AdamW, on random tokens. Peer: PyTorch (GPT-2 blocks, tied head, exact GELU, dropout 0).
 * Behind a setting `-bf16` makes the forward pass run under autocast (peer: torch_train.py --bf16): a-bf16.
 * Settings: a = 6 layers, 384 wide, T 256, V 65, B 12 (10.8 M) · b = GPT-2 124M, B 4, T 64 · c = 4 layers, 128 wide, T 64, V 65, B 12 (0.81 M).
 */

import { autocast, backend, memory, randint, randomStream, scope } from "groundup";
import { GPT2 } from "groundup/models";
import { adamw } from "groundup/optim";

const SETTINGS = {
  a: { layers: 6, width: 384, heads: 6, tokens: 256, vocabulary: 65, batch: 12, positions: 256, steps: 20 },
  b: { layers: 12, width: 768, heads: 12, tokens: 64, vocabulary: 50257, batch: 4, positions: 1024, steps: 15 },
  c: { layers: 4, width: 128, heads: 4, tokens: 64, vocabulary: 65, batch: 12, positions: 64, steps: 600 },
};

const middle = (list) => list.toSorted((x, y) => x - y)[list.length >> 1];
const round = (n) => Number(n.toFixed(3));

export async function run({ setting = "a", steps, warm = 3 }) {
  const [size, precision = "f32"] = setting.split("-");
  const s = SETTINGS[size];
  if (s === undefined || !["f32", "bf16"].includes(precision))
    throw new Error(`bench train: unknown setting, expected a, b or c, or one of them with -bf16, got ${setting}. Correct --setting.`);
  const model = new GPT2({
    vocab_size: s.vocabulary,
    n_positions: s.positions,
    n_embd: s.width,
    n_layer: s.layers,
    n_head: s.heads,
    activation_function: "gelu",
    resid_pdrop: 0,
    embd_pdrop: 0,
    attn_pdrop: 0,
  });
  const optimizer = adamw(model, { lr: 3e-4, weightDecay: 0.1 });
  const stream = randomStream(0, 2);
  const [inputIds, targets] = [0, 1].map(() => randint(0, s.vocabulary, [s.batch, s.tokens], { stream }));
  const times = { step: [], forward: [], backward: [], optimizer: [] };
  let loss = 0;
  const count = (steps ?? s.steps) + warm;
  for (let i = 0; i < count; i++) {
    const t0 = performance.now();
    const [t1, t2] = scope(() => {
      const out = autocast(precision, () => model.forward({ inputIds, targets }));
      const mid = performance.now();
      out.loss.backward();
      const end = performance.now();
      if (i === count - 1) loss = out.loss.itemSync();
      return [mid, end];
    });
    optimizer.step();
    optimizer.zeroGrad();
    const t3 = performance.now();
    if (i < warm) continue;
    times.step.push(t3 - t0);
    times.forward.push(t1 - t0);
    times.backward.push(t2 - t1);
    times.optimizer.push(t3 - t2);
  }
  const parameters = model.parameterCount();
  const tokens = s.batch * s.tokens;
  const flops = 6 * (parameters - s.positions * s.width) * tokens;
  const median = middle(times.step);
  return {
    name: "train",
    setting,
    median: round(median),
    best: round(Math.min(...times.step)),
    unit: "ms/step",
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    tokensPerSecond: Math.round((tokens / median) * 1000),
    gflops: round(flops / median / 1e6),
    forward: round(middle(times.forward)),
    backward: round(middle(times.backward)),
    optimizer: round(middle(times.optimizer)),
    peakTensorBytes: memory().peakBytes,
    parameters,
    loss: round(loss),
    precision,
    backend: `${backend().name} ${precision === "bf16" ? backend().bf16() : backend().isa()}`,
    threads: backend().threads(),
  };
}

if (process.argv[1] === new URL(import.meta.url).pathname)
  console.log(JSON.stringify(await run({ setting: process.argv[2], steps: Number(process.argv[3] ?? 0) || undefined })));

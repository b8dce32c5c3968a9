// Greedy decoding, GPT-2 124M shape, random weights, float32, tokens/s. Settings gpt2@0 and gpt2@512: 64 tokens after a prompt of 1 or 512.
// Also the bound: each token reads every weight (and the keys and values so far) once from memory, whose speed is measured in the same minute.
import { backend, scope, zeros } from "groundup";
import { generateStream } from "groundup/generate";
import { GPT2, modelCounts } from "groundup/models";

const DEPTHS = { "gpt2@0": 1, "gpt2@512": 512 };
const TOKENS = 64;

/** Bytes a second that both cores read from memory: the best of some sums over 512 MiB. */
function readBandwidth(rounds) {
  const n = 1 << 27;
  return scope(() => {
    const [x, out] = [zeros([n]), zeros([n >> 12])];
    let best = 0;
    for (let i = 0; i < rounds; i++) {
      const start = performance.now();
      backend().reduce(0, x, out, n >> 12, 1 << 12, 1);
      best = Math.max(best, (4 * n * 1000) / (performance.now() - start));
    }
    return best;
  });
}

export async function run({ setting = "gpt2@0", rounds = 5 }) {
  const depth = DEPTHS[setting];
  if (depth === undefined) throw new Error(`bench decode: unknown setting, expected ${Object.keys(DEPTHS).join(" or ")}, got ${setting}. Correct --setting.`);
  const model = new GPT2().eval();
  const prompt = Int32Array.from({ length: depth }, (_, i) => ((i * 7919) % 40000) + 50);
  const rates = [];
  let dram = readBandwidth(4);
  for (let round = 0; round <= rounds; round++) {
    let [n, first, last] = [0, 0, 0];
    for await (const _ of generateStream(model, prompt, { temperature: 0, maxNewTokens: TOKENS + 1 })) {
      last = performance.now();
      if (n++ === 0) first = last;
    }
    // The first round packs the weights and warms everything up.
    if (round > 0) rates.push((TOKENS * 1000) / (last - first));
  }
  dram = Math.max(dram, readBandwidth(4));
  rates.sort((a, b) => a - b);
  const counts = modelCounts(model);
  const bytes = 4 * (counts.parameters.total - counts.parameters.positions) + counts.stateBytesPerToken * (depth + TOKENS / 2);
  const [median, best] = [rates[rates.length >> 1], rates.at(-1)];
  const b = backend();
  return {
    name: "decode",
    setting,
    median,
    best,
    unit: "tokens/s",
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    bytesPerToken: bytes,
    dramBytesPerSecond: Math.round(dram),
    bound: dram / bytes,
    ofBound: (median * bytes) / dram,
    bestOfBound: (best * bytes) / dram,
    backend: b.name,
    isa: b.isa(),
    threads: b.threads(),
  };
}

// Greedy decoding, GPT-2 124M shape, random weights, float32, tokens/s. Settings gpt2@0 and gpt2@512: 64 tokens after a prompt of 1 or 512.
// Also the bound: each token reads every weight (and the keys and values so far) once from memory, whose speed is measured before and after
// each round, because neighbours on shared machines change it from one second to the next.
import { backend, zeros } from "groundup";
import { generateStream } from "groundup/generate";
import { GPT2, modelCounts } from "groundup/models";

const DEPTHS = { "gpt2@0": 1, "gpt2@512": 512 };
const TOKENS = 64;

const READ = 1 << 27;

/** Bytes a second that both cores read from memory: the better of two sums over 512 MiB. */
function readBandwidth(x, out) {
  let best = 0;
  for (let i = 0; i < 2; i++) {
    const start = performance.now();
    backend().reduce(0, x, out, READ >> 12, 1 << 12, 1);
    best = Math.max(best, (4 * READ * 1000) / (performance.now() - start));
  }
  return best;
}

const middle = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

export async function run({ setting = "gpt2@0", rounds = 5 }) {
  const depth = DEPTHS[setting];
  if (depth === undefined) throw new Error(`bench decode: unknown setting, expected ${Object.keys(DEPTHS).join(" or ")}, got ${setting}. Correct --setting.`);
  const model = new GPT2().eval();
  const prompt = Int32Array.from({ length: depth }, (_, i) => ((i * 7919) % 40000) + 50);
  const [x, out] = [zeros([READ]), zeros([READ >> 12])];
  const [rates, drams] = [[], []];
  for (let round = 0; round <= rounds; round++) {
    let [n, first, last] = [0, 0, 0];
    const before = readBandwidth(x, out);
    for await (const _ of generateStream(model, prompt, { temperature: 0, maxNewTokens: TOKENS + 1 })) {
      last = performance.now();
      if (n++ === 0) first = last;
    }
    // The first round packs the weights and warms everything up.
    if (round === 0) continue;
    rates.push((TOKENS * 1000) / (last - first));
    drams.push((before + readBandwidth(x, out)) / 2);
  }
  const counts = modelCounts(model);
  const bytes = 4 * (counts.parameters.total - counts.parameters.positions) + counts.stateBytesPerToken * (depth + TOKENS / 2);
  const shares = rates.map((rate, i) => (rate * bytes) / drams[i]);
  const b = backend();
  return {
    name: "decode",
    setting,
    median: middle(rates),
    best: Math.max(...rates),
    unit: "tokens/s",
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    bytesPerToken: bytes,
    dramBytesPerSecond: Math.round(middle(drams)),
    bound: middle(drams) / bytes,
    ofBound: middle(shares),
    bestOfBound: Math.max(...shares),
    backend: b.name,
    isa: b.isa(),
    threads: b.threads(),
  };
}

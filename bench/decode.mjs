// Greedy decoding, tokens/s. Settings gpt2@0 and gpt2@512: GPT-2 124M shape, random weights, float32, 64 tokens after a prompt of 1 or 512.
// Setting FILE.gguf (or a model's folder): prefill of 512 tokens, decoding after 1 and after 512, eight sequences at once, time to load, peak memory.
// Also the bound: each token reads every weight (and the keys and values so far) once from memory, whose speed is measured before and after
// each round, because neighbours on shared machines change it from one second to the next.
import { existsSync } from "node:fs";
import { backend, memory, zeros } from "groundup";
import { generate, generateStream } from "groundup/generate";
import { fromPretrained, GPT2, modelCounts } from "groundup/models";

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

const promptOf = (depth, vocabulary) => Int32Array.from({ length: depth }, (_, i) => ((i * 7919) % (vocabulary - 100)) + 50);

/** Milliseconds to the first of `tokens` + 1 greedy tokens, and from there to the last. */
async function timed(model, prompt, tokens) {
  const start = performance.now();
  let [n, first, last] = [0, 0, 0];
  for await (const _ of generateStream(model, prompt, { temperature: 0, maxNewTokens: tokens + 1, stopIds: [] })) {
    last = performance.now();
    if (n++ === 0) first = last;
  }
  if (n !== tokens + 1) throw new Error(`bench decode: the model stopped after ${n} tokens, expected ${tokens + 1}. Choose another model.`);
  return { prefill: first - start, decode: last - first };
}

async function ofFile(file, rounds) {
  const start = performance.now();
  const model = await fromPretrained(file);
  const loadMs = performance.now() - start;
  const { vocabulary } = model.dimensions;
  const [long, short] = [promptOf(512, vocabulary), promptOf(1, vocabulary)];
  const eight = Array.from({ length: 8 }, (_, i) => Int32Array.of(5 + i));
  const rates = { prefill512: [], decode0: [], decode512: [], batched8: [] };
  for (let round = 0; round <= rounds; round++) {
    const [deep, shallow] = [await timed(model, long, TOKENS), await timed(model, short, TOKENS)];
    // All of them begin together: the first step counts.
    const begun = performance.now();
    await generate(model, eight, { temperature: 0, maxNewTokens: TOKENS, stopIds: [] });
    const together = performance.now() - begun;
    // The first round warms everything up.
    if (round === 0) continue;
    rates.prefill512.push((512 * 1000) / deep.prefill);
    rates.decode0.push((TOKENS * 1000) / shallow.decode);
    rates.decode512.push((TOKENS * 1000) / deep.decode);
    rates.batched8.push((8 * TOKENS * 1000) / together);
  }
  const b = backend();
  return {
    name: "decode",
    setting: file,
    ...Object.fromEntries(Object.entries(rates).map(([key, list]) => [key, middle(list)])),
    median: middle(rates.decode0),
    best: Math.max(...rates.decode0),
    unit: "tokens/s",
    loadMs: Math.round(loadMs),
    tensorBytes: memory().liveBytes,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    backend: b.name,
    isa: b.isa(),
    threads: b.threads(),
  };
}

export async function run({ setting = "gpt2@0", rounds = 5 }) {
  if (existsSync(setting)) return ofFile(setting, rounds);
  const depth = DEPTHS[setting];
  if (depth === undefined)
    throw new Error(`bench decode: unknown setting, expected ${Object.keys(DEPTHS).join(", ")} or a model's file, got ${setting}. Correct --setting.`);
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

// What quantised weights cost, by format: node bench/quantised-quality.mjs MODEL.gguf TEXT [--tokens 2048] [--window 512] [--types F16,Q8_0,…] [--python PYTHON]
// Each format is made by saveGguf from the floats of the named model and read twice: as it is, so that products multiply integers, and with dtype "f32", so that
// they multiply the very numbers the blocks stand for. Of the two: perplexity, the mean over all tokens of KL(float ‖ integer) in nats, and how often the likeliest
// token is the same. With --python (one that has llama_cpp) llama.cpp's perplexity of the same file on the same ids in the same windows stands beside them,
// and that of a file of the floats that the blocks stand for: what is left there is no rounding of activations, neither ours nor llama.cpp's.
// TEXT is plain text, or documents as the bundled ones (data/moby-dick.jsonl.gz), joined by empty lines. Prints a line for each format, then a table for RESULTS.md.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { noGrad, scope, tensor } from "groundup";
import { fromPretrained, openWeights, saveGguf } from "groundup/models";
import { loadTokenizer } from "groundup/tokenizers";

const TYPES = ["F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q4_1", "Q3_K_M", "Q2_K", "IQ4_NL"];
const GOALS = { kl: 0.005, top1: 0.97, peer: 0.005 };
/** Rows of logits at a time: a large vocabulary's take a megabyte each. */
const ROWS = 64;

/** Calls `use` with the logits after each id but the last, `ROWS` at a time, of both models: (rows, vocabulary) in one array each. */
function eachLogits(models, ids, use) {
  scope(() =>
    noGrad(() => {
      const outs = models.map((model) => model.forward({ inputIds: tensor([ids.subarray(0, -1)]) }));
      const hidden = outs.map((out) => out.hidden.reshape([ids.length - 1, -1]));
      for (let at = 0; at < ids.length - 1; at += ROWS) {
        const rows = Math.min(ROWS, ids.length - 1 - at);
        scope(() => {
          use(...outs.map((out, i) => out.logitsOf(hidden[i].narrow(0, at, rows)).dataSync()));
        });
      }
    }),
  );
}

/** ln Σ eˣ and the place of the largest. */
function normal(row) {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i] > row[best]) best = i;
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += Math.exp(row[i] - row[best]);
  return { best, logSum: row[best] + Math.log(sum) };
}

/** Both models on all windows. */
function compare(integer, float, windows) {
  const { vocabulary } = integer.dimensions;
  const sums = { integer: 0, float: 0, kl: 0, same: 0, tokens: 0 };
  for (const ids of windows) {
    let at = 0;
    eachLogits([integer, float], ids, (part, reference) => {
      for (let begin = 0; begin < part.length; begin += vocabulary) {
        const [q, p] = [part.subarray(begin, begin + vocabulary), reference.subarray(begin, begin + vocabulary)];
        const [ofQ, ofP] = [normal(q), normal(p)];
        const next = ids[++at];
        sums.integer += ofQ.logSum - q[next];
        sums.float += ofP.logSum - p[next];
        const shift = ofQ.logSum - ofP.logSum;
        for (let i = 0; i < vocabulary; i++) sums.kl += Math.exp(p[i] - ofP.logSum) * (p[i] - q[i] + shift);
        if (ofQ.best === ofP.best) sums.same++;
        sums.tokens++;
      }
    });
  }
  const { tokens } = sums;
  return {
    integer: Math.exp(sums.integer / tokens),
    float: Math.exp(sums.float / tokens),
    kl: sums.kl / tokens,
    top1: sums.same / tokens,
    tokens,
  };
}

/** llama.cpp's perplexity, or null without a Python for it. */
function ofLlamaCpp(python, file, windows) {
  if (python === undefined) return null;
  const script = fileURLToPath(new URL("./peers/llama_cpp_perplexity.py", import.meta.url));
  const input = JSON.stringify(windows.map((ids) => [...ids]));
  const { status, stdout, stderr } = spawnSync(python, [script, file], { input, encoding: "utf8", maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(`llama_cpp_perplexity.py: ended with ${status}, expected 0:\n${stderr.slice(-2000)}`);
  return JSON.parse(stdout.trim().split("\n").at(-1)).perplexity;
}

/** The text of a file: plain, or of lines with a `text`, gzipped. */
function textOf(file) {
  const bytes = readFileSync(file);
  if (!file.endsWith(".jsonl.gz")) return bytes.toString("utf8");
  const lines = gunzipSync(bytes).toString("utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line).text).join("\n\n");
}

/** Windows of ids that do not overlap; each begins with the token that the tokenizer puts before a text, where it has one. */
function windowsOf(tokenizer, text, tokens, length) {
  const bare = tokenizer.encode(text, { addSpecialTokens: false }).ids;
  const whole = tokenizer.encode(text).ids;
  const before = whole.length > bare.length && whole[0] !== bare[0] ? [whole[0]] : [];
  const own = length - before.length;
  const count = Math.floor(Math.min(tokens, bare.length) / own);
  if (count === 0) throw new Error(`quantised-quality: the text is too short, expected at least ${own} tokens, got ${bare.length}. Give a longer one.`);
  return Array.from({ length: count }, (_, i) => Int32Array.from([...before, ...bare.subarray(i * own, (i + 1) * own)]));
}

const percent = (part, digits = 2) => `${(100 * part).toFixed(digits)} %`;

function rowOf({ type, bits, integer, float, kl, top1, peer, peerFloats }) {
  const misses = [
    ...(kl > GOALS.kl ? ["KL"] : []),
    ...(top1 < GOALS.top1 ? ["top-1"] : []),
    ...(peer !== null && Math.abs(integer / peer - 1) > GOALS.peer ? ["llama.cpp"] : []),
    ...(peerFloats !== null && Math.abs(float / peerFloats - 1) > GOALS.peer ? ["llama.cpp on floats"] : []),
  ];
  const beside = peer === null ? ["", "", "", ""] : [peer.toFixed(3), percent(integer / peer - 1), peerFloats.toFixed(3), percent(float / peerFloats - 1)];
  const cells = [type, bits.toFixed(2), float.toFixed(3), integer.toFixed(3), kl.toFixed(5), percent(top1), ...beside, misses.join(", ")];
  return `| ${cells.join(" | ")} |`;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: "string", default: "2048" },
    window: { type: "string", default: "512" },
    types: { type: "string", default: TYPES.join(",") },
    python: { type: "string" },
  },
});
const [source, text] = positionals;
if (source === undefined || text === undefined) throw new Error("quantised-quality: expected MODEL.gguf and TEXT. Name both.");
const tokenizer = await loadTokenizer(source);
const windows = windowsOf(tokenizer, textOf(text).slice(0, 1 << 20), Number(values.tokens), Number(values.window));
const folder = mkdtempSync(join(tmpdir(), "quantised-quality-"));

/** llama.cpp's perplexity of the floats that a file's blocks stand for. */
async function onFloats(file) {
  if (values.python === undefined) return null;
  const floats = join(folder, "floats.gguf");
  const weights = await openWeights(file);
  await saveGguf(weights, floats, { type: "F32", tokenizer }).finally(() => weights.close());
  return ofLlamaCpp(values.python, floats, windows);
}

const rows = [];
try {
  for (const type of values.types.split(",")) {
    const file = join(folder, "model.gguf");
    const weights = await openWeights(source);
    const { bitsPerWeight: bits, layouts } = await saveGguf(weights, file, { type, tokenizer }).finally(() => weights.close());
    const [integer, float] = [await fromPretrained(file), await fromPretrained(file, { dtype: "f32" })];
    const found = {
      type,
      bits,
      layouts,
      ...compare(integer, float, windows),
      peer: ofLlamaCpp(values.python, file, windows),
      peerFloats: await onFloats(file),
    };
    integer.dispose();
    float.dispose();
    console.log(JSON.stringify(found));
    rows.push(found);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`\n${rows[0].tokens} tokens in ${windows.length} windows of ${values.window}\n`);
console.log(
  "| format | bits a weight | float path | integer path | mean KL | same top-1 | llama.cpp | integer path to it | on the floats | float path to it | misses |",
);
console.log("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
for (const row of rows) console.log(rowOf(row));

// The check `greedy`: greedy tokens of real weights, beside transformers. scripts/test-parity.mjs runs it, tests/parity/python/check_greedy.py compares.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { noGrad, scope, tensor } from "groundup";
import { generate } from "groundup/generate";
import { fromPretrained } from "groundup/models";
import { loadTokenizer } from "groundup/tokenizers";
import { root } from "../../scripts/platforms.mjs";

/** Tokens for each prompt. */
const TOKENS = 32;
/** Where transformers' two likeliest tokens are closer than this, rounding may choose between them. */
const MARGIN = 0.01;

const MESSAGES = [
  { role: "user", content: "Name three animals that live in the sea." },
  { role: "assistant", content: "Whales, squids and seals." },
  { role: "user", content: "Which of them is the largest?" },
];

/** Texts of many kinds; the last one is longer than a sliding window. */
const promptsOf = (book) => [
  "Call me Ishmael. Some years ago, never mind how long precisely,",
  "The capital of France is",
  'def fibonacci(n):\n    """The n-th Fibonacci number."""\n',
  "export function sum(numbers: readonly number[]): number {\n  return",
  "Am Anfang schuf Gott Himmel und Erde. Und die Erde war",
  "北京是中国的首都。上海是",
  "Москва — столица России, а Париж",
  "1, 1, 2, 3, 5, 8, 13, 21, 34,",
  '{"name": "whale", "weight": 140000, "tags": ["sea", "mammal"]}\n{"name": "squid", "weight":',
  book.slice(0, 4000),
];

/** @returns the arguments of the check's Python */
export async function greedy(folder, weights, python, book) {
  const list = [];
  for (const [i, file] of readdirSync(weights).sort().entries()) {
    if (!file.endsWith(".gguf")) continue;
    const place = join(folder, String(i));
    mkdirSync(place);
    const tokenizer = await loadTokenizer(join(weights, file));
    const texts = promptsOf(book);
    // A model that talks is asked as it is used to.
    const talks = Object.keys(tokenizer.spec.chat?.templates ?? {}).length > 0;
    if (talks) texts[1] = tokenizer.applyChatTemplate(MESSAGES, { addGenerationPrompt: true }).text;
    const prompts = texts.map((text, i) => [...tokenizer.encode(text, { allowSpecial: true, addSpecialTokens: !(talks && i === 1) }).ids]);
    writeFileSync(join(place, "given.json"), JSON.stringify({ weights, file, prompts, tokens: TOKENS }));
    const script = join(root, "tests", "parity", "python", "greedy_transformers.py");
    if (spawnSync(python, [script, place], { stdio: "inherit" }).status !== 0) throw new Error(`greedy_transformers.py failed on ${file}`);
    const model = await fromPretrained(join(weights, file), { dtype: "f32" });
    const theirs = JSON.parse(readFileSync(join(place, "greedy.json"), "utf8"));
    const found = [];
    for (const [i, ids] of prompts.entries())
      found.push({ ...(await along(model, ids, theirs.prompts[i])), ...difference(model, ids, theirs.prompts[i], join(place, `${i}.f32`)) });
    model.dispose();
    list.push({ file, talks, lengths: prompts.map((ids) => ids.length), ...theirs.model, found });
  }
  writeFileSync(join(folder, "list.json"), JSON.stringify(list));
  return [join(folder, "list.json")];
}

/** Goes along their tokens with ours: places compared, and those where another came, with the margin there; from such a place it goes on with theirs. */
async function along(model, ids, { tokens, margins }) {
  const other = [];
  for (let at = 0; at < tokens.length; ) {
    const prompt = Int32Array.from([...ids, ...tokens.slice(0, at)]);
    const made = (await generate(model, prompt, { maxNewTokens: tokens.length - at, temperature: 0, stopIds: [] })).ids;
    const first = made.findIndex((token, i) => token !== tokens[at + i]);
    if (first === -1) break;
    other.push({ place: at + first, ours: made[first], theirs: tokens[at + first], margin: margins[at + first] });
    at += first + 1;
  }
  return { places: tokens.length, other, close: margins.filter((margin) => margin <= MARGIN).length };
}

/** The largest difference of the logits of all places, along their tokens, and their largest logit. */
function difference(model, ids, { tokens }, file) {
  const bytes = readFileSync(file);
  const theirs = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  let [worst, largest] = [0, 0];
  scope(() => {
    const { logits } = noGrad(() => model.forward({ inputIds: tensor([Int32Array.from([...ids, ...tokens.slice(0, -1)])]) }));
    const ours = logits
      .narrow(1, ids.length - 1, tokens.length)
      .contiguous()
      .dataSync();
    for (let i = 0; i < theirs.length; i++) {
      worst = Math.max(worst, Math.abs(ours[i] - theirs[i]));
      largest = Math.max(largest, Math.abs(theirs[i]));
    }
  });
  return { worst, largest };
}

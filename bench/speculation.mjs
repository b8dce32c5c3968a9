// What guessing ahead gains: npm run -s bench -- speculation --setting MODEL.gguf. Greedy texts of one request with prompt lookup and without, in turn, on a copying
// task (a passage that stands there twice begins a third time) and on open chat. Ratios are of tokens/s behind the first token; the texts must be the same.
import { existsSync } from "node:fs";
import { createEngine } from "groundup/generate";
import { fromPretrained } from "groundup/models";
import { loadTokenizer } from "groundup/tokenizers";
import { median } from "./bench-text.mjs";

const PASSAGE = `The harbour lies on the north side of the island. Two piers reach into it: the old one is of stone and belongs to the fishermen, the new one is of steel and
belongs to the ferry. A lighthouse stands at the end of the old pier, and its keeper writes down each ship that comes in, the hour, the weather and the name of the captain. In winter
the ferry comes once a week, in summer twice a day. The fishermen leave before dawn and come back in the afternoon, and what they have caught is sold from the boats.`;
const TASKS = {
  copying: (tokenizer) => tokenizer.encode(`${PASSAGE}\n\n${PASSAGE}\n\nThe harbour lies on the north side`).ids,
  chat: (tokenizer) =>
    tokenizer.applyChatTemplate([{ role: "user", content: "What should I think about before I move to another city?" }], { addGenerationPrompt: true }).ids,
};
const TOKENS = 128;

export async function run({ setting, rounds = 5 }) {
  if (!setting || !existsSync(setting))
    throw new Error(`bench speculation: no model, expected a model's file or folder, got ${setting}. Name one with --setting.`);
  const [model, tokenizer] = [await fromPretrained(setting), await loadTokenizer(setting)];
  const plain = createEngine(model, { tokenizer, prefixCache: false });
  const guessing = createEngine(model, { tokenizer, prefixCache: false, speculation: { draft: "prompt-lookup" } });
  const timed = async (engine, prompt) => {
    const ids = [];
    let [first, last, usage] = [0, 0];
    for await (const event of engine.submit(prompt, { temperature: 0, maxNewTokens: TOKENS, stopIds: [] })) {
      last = performance.now();
      first ||= last;
      ids.push(event.id);
      usage = event.usage;
    }
    return { rate: ((ids.length - 1) * 1000) / (last - first), ids, usage };
  };
  const result = { name: "speculation", setting, unit: "ratio" };
  for (const [task, promptOf] of Object.entries(TASKS)) {
    const prompt = promptOf(tokenizer);
    const rates = { plain: [], guessing: [] };
    let usage;
    for (let round = 0; round <= rounds; round++) {
      const [a, b] = [await timed(plain, prompt), await timed(guessing, prompt)];
      if (String(a.ids) !== String(b.ids)) throw new Error(`the texts of ${task} differ: ${a.ids} and ${b.ids}`);
      usage = b.usage;
      // The first round warms everything up.
      if (round === 0) continue;
      rates.plain.push(a.rate);
      rates.guessing.push(b.rate);
    }
    const [without, withGuesses] = [median(rates.plain), median(rates.guessing)];
    result[task] = { plain: without, guessing: withGuesses, ratio: withGuesses / without, guesses: usage.draftedTokens, right: usage.acceptedTokens };
  }
  plain.dispose();
  guessing.dispose();
  return result;
}

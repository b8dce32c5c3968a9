/** Chat templates and messages, changed at random: a text or a typed error, and no control token that the template did not write. */
import { readFileSync } from "node:fs";
import { GroundupError } from "../../src/errors.ts";
import { byteTokenizer, createTokenizer } from "../../src/tokenizers/index.ts";
import { random } from "../random.ts";
import { changeBytes, changeJson, type Outcome } from "./files.ts";

const FIXTURE = new URL("../../src/tokenizers/chat-template/chat-template.fixture.json", import.meta.url);
const SPECIAL = ["<|im_start|>", "<|im_end|>"];
const PIECES = ["<|im_start|>", "<|im_end|>", "<|im_", "start|>", "end|>", "<", "|im_end|>", ">", "im_end", " ", "\n", "</think>", "a", "\ud800", "\ue000"];

/** Templates and conversations that are not whole. */
export function fuzzTemplates(seed: number, rounds: number): Outcome {
  const { templates, cases } = JSON.parse(readFileSync(FIXTURE, "utf8"));
  const sources: string[] = templates.map((t: { template: string }) => t.template).filter((t: unknown) => typeof t === "string");
  const r = random(seed);
  const { spec } = byteTokenizer({ specialTokens: SPECIAL });
  const outcome: Outcome = { accepted: 0, refused: 0 };
  for (let i = 0; i < rounds; i++) {
    let bytes: Uint8Array = new TextEncoder().encode(r.pick(sources));
    for (let n = r.below(3); n > 0; n--) bytes = changeBytes(bytes, r);
    const source = new TextDecoder().decode(bytes);
    const { messages, tools, documents } = structuredClone(r.pick(cases)) as { messages: []; tools?: []; documents?: [] };
    for (let n = r.below(3); n > 0; n--) changeJson(messages, r);
    const tokenizer = createTokenizer({ ...spec, chat: { templates: { default: source }, tokens: { bos_token: "<s>" } } });
    try {
      const chat = tokenizer.applyChatTemplate(messages, { addGenerationPrompt: r.once(2), tools, documents });
      if (chat.ids.length === 0 && chat.text !== "") throw new Error("a text without ids");
      outcome.accepted++;
    } catch (error) {
      if (!(error instanceof GroundupError)) throw new Error(`template, round ${i}`, { cause: error });
      outcome.refused++;
    }
  }
  return outcome;
}

/** Messages made of pieces of control tokens: `forged` counts those that came out as tokens. */
export function fuzzForgery(seed: number, rounds: number): { forged: number; spelled: number } {
  const r = random(seed);
  const template =
    "{% for m in messages %}<|im_start|>{{ m.content | trim }}{{ m.more }}{{ m.content.replace('</think>', '') }}{{ m.content.split('</think>')[-1] }}{% endfor %}";
  const tokenizer = createTokenizer({ ...byteTokenizer({ specialTokens: SPECIAL }).spec, chat: { templates: { default: template }, tokens: {} } });
  const result = { forged: 0, spelled: 0 };
  for (let i = 0; i < rounds; i++) {
    const content = () => Array.from({ length: r.below(6) }, () => r.pick(PIECES)).join("");
    const messages = Array.from({ length: 1 + r.below(3) }, () => ({ role: "user", content: content(), more: content() }));
    const { ids, text } = tokenizer.applyChatTemplate(messages);
    const tokens = [...ids].filter((id) => tokenizer.specialTokens.get("<|im_start|>") === id || tokenizer.specialTokens.get("<|im_end|>") === id).length;
    result.forged += Math.abs(tokens - messages.length);
    result.spelled += text.split("<|im_end|>").length - 1;
  }
  return result;
}

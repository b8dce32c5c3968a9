import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ConfigError, DataError, TemplateError } from "../../errors.ts";
import { loadNative } from "../../tensor/native-binding.ts";
import type { Engine } from "../byte-level/native-text.ts";
import { createTokenizer, memoryFiles, readTokenizerJson, type Tokenizer } from "../index.ts";
import { byteTokenizer } from "../train.ts";
import type { ChatMessage, ChatTemplateOptions } from "./chat-template.ts";

interface Case {
  messages: ChatMessage[];
  add_generation_prompt?: boolean;
  continue_final_message?: boolean;
  tools?: object[];
  documents?: object[];
  enable_thinking?: boolean;
  chat_template?: string;
}
type Result = null | { text: string } | { error: "undefined" | "failed" } | { error: "raised"; message: string };
const fixture = JSON.parse(readFileSync(new URL("chat-template.fixture.json", import.meta.url), "utf8")) as {
  now: string;
  cases: Case[];
  templates: { name: string; template: string | Record<string, string>; results: Result[] }[];
  forging: { template: string; conversations: ChatMessage[][] };
  ids: { kind: string; tokenizer: object; cases: { template: string; messages: ChatMessage[]; ids: number[] }[] }[];
};

const ENGINES: Engine[] = loadNative().binding === null ? ["reference"] : ["native", "reference"];
const TOKENS = { bos_token: "<s>", eos_token: "</s>" };

function withTemplate(template: string | Record<string, string>, engine: Engine, json?: object): Tokenizer {
  const spec = json === undefined ? byteTokenizer().spec : readTokenizerJson(JSON.stringify(json), "fixture");
  return createTokenizer({ ...spec, chat: { templates: typeof template === "string" ? { default: template } : template, tokens: TOKENS } }, engine);
}

function optionsOf({ add_generation_prompt, continue_final_message, tools, documents, enable_thinking, chat_template }: Case): ChatTemplateOptions {
  return {
    addGenerationPrompt: add_generation_prompt,
    continueFinalMessage: continue_final_message,
    tools,
    documents,
    template: chat_template,
    date: new Date(fixture.now),
    ...(enable_thinking === undefined ? {} : { variables: { enable_thinking } }),
  };
}

function outcome(run: () => { text: string }): object {
  try {
    return { text: run().text };
  } catch (error) {
    if (error instanceof TemplateError) return error.reason === "raised" ? { error: "raised", message: error.message } : { error: error.reason };
    if (error instanceof DataError) return { error: "failed" };
    throw error;
  }
}

describe.each(ENGINES)("%s", (engine) => {
  test.each(fixture.templates)("$name: texts and refusals are transformers'", ({ template, results }) => {
    const tokenizer = withTemplate(template, engine);
    for (const [i, wanted] of results.entries()) {
      if (wanted === null) continue;
      const { messages } = fixture.cases[i];
      const got = outcome(() => tokenizer.applyChatTemplate(messages, optionsOf(fixture.cases[i])));
      expect(got, `case ${i}`).toEqual(
        "text" in wanted ? wanted : wanted.error === "raised" ? { error: "raised", message: expect.stringContaining(wanted.message) } : { error: "failed" },
      );
    }
  });
});

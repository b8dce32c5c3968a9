import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { whereNative } from "../../../tests/where-native.ts";
import { DataError, TemplateError } from "../../errors.ts";
import { loadNative } from "../../tensor/native-binding.ts";
import type { Engine } from "../byte-level/native-text.ts";
import { createTokenizer, loadTokenizer, memoryFiles, readTokenizerJson, type Tokenizer, tokenizerFiles } from "../index.ts";
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

/** Where a result is not transformers'. */
function differences(engine: Engine): Record<string, number[]> {
  const found: Record<string, number[]> = {};
  for (const { name, template, results } of fixture.templates) {
    const tokenizer = withTemplate(template, engine);
    const wrong = results.flatMap((wanted, i) => {
      if (wanted === null) return [];
      const got = outcome(() => tokenizer.applyChatTemplate(fixture.cases[i].messages, optionsOf(fixture.cases[i])));
      const same =
        "text" in wanted
          ? (got as { text?: string }).text === wanted.text
          : wanted.error === "raised"
            ? "message" in got && (got.message as string).includes(wanted.message)
            : (got as { error?: string }).error === "failed";
      return same ? [] : [i];
    });
    if (wrong.length > 0) found[name] = wrong;
  }
  return found;
}

whereNative("texts and refusals", () => {
  test("are transformers'", () => {
    expect(differences("native")).toEqual({});
  });
});

test("so they are in plain JavaScript, but for what its engine takes otherwise", () => {
  const all = fixture.cases.map((_, i) => i).filter((i) => i < 13);
  const found = differences("reference");
  // It has no `+%}`, no `loop.cycle`, and other filters; elsewhere it shows lists as JSON where text is expected (case 10), and refuses to trim what is not there (7).
  for (const name of ["filters", "functionary", "white space"]) expect(found[name]).toEqual(all.filter((i) => name !== "filters" || i !== 11));
  const others = Object.entries(found).filter(([name]) => !["filters", "functionary", "white space"].includes(name));
  expect(others.length).toBeLessThan(28);
  expect(Object.fromEntries(others.filter(([, cases]) => cases.some((i) => i !== 7 && i !== 10)))).toEqual({ hermes: [7, 8, 10], smollm: [2] });
});

const SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"];

describe.each(fixture.ids)("ids, $kind", ({ tokenizer: json, cases }) => {
  test("are transformers' for what forges nothing", () => {
    for (const { template, messages, ids } of cases) {
      const source = fixture.templates.find(({ name }) => name === template)?.template as string;
      const chat = withTemplate(source, "auto", json).applyChatTemplate(messages);
      expect([...chat.ids], `${template}: ${JSON.stringify(messages)}`).toEqual(ids);
    }
  });

  test("of a message's text are never those of special tokens, however it is put together", () => {
    const { template, conversations } = fixture.forging;
    const tokenizer = withTemplate(template, "auto", json);
    const ordinary = withTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", "auto", json);
    for (const messages of conversations) {
      const { text, ids } = tokenizer.applyChatTemplate(messages);
      const special = [...ids].map((id) => tokenizer.idToToken(id) as string).filter((token) => SPECIAL.includes(token));
      // Only what the template itself wrote.
      expect(special, JSON.stringify(messages)).toEqual(messages.flatMap(() => ["<|im_start|>", "<|im_end|>"]));
      expect(text).not.toMatch(/[\ue000-\uf8ff]/);
      // What stands between them is encoded as ordinary text is.
      const between = text.split(/<\|im_start\|>|<\|im_end\|>(?=\n<\|im_start\|>|\n$)/).slice(1);
      expect(tokenizer.decode(ids)).toBe(ordinary.decode(tokenizer.encode(text, { addSpecialTokens: false, allowSpecial: true }).ids));
      expect(between.length).toBeGreaterThan(0);
    }
    const [{ ids }] = [ordinary.applyChatTemplate([{ role: "user", content: "Bye<|im_end|> a" }])];
    expect([...ids]).toEqual([...ordinary.encode("Bye<|im_end|> a", { addSpecialTokens: false }).ids]);
    // Put together from two messages, and cut out of one.
    for (const contents of [
      ["<|im_", "end|>"],
      ["<", "|im_end|>"],
      ["<|im_end|", ">"],
      ["  <|im_", "end|>  "],
    ]) {
      const joined = ordinary.applyChatTemplate(contents.map((content) => ({ role: "user", content })));
      expect([...joined.ids].map((id) => tokenizer.idToToken(id))).not.toContain("<|im_end|>");
    }
  });
});

test("what a template looks for in a message is there, and it may look for special tokens too", () => {
  const json = fixture.ids[0].tokenizer;
  const looks = withTemplate(
    "{% for m in messages %}{{ 'in' if '<b>' in m.content else 'out' }} {{ m.content.split('<b>') | length }} {{ m.content | length }};{% endfor %}",
    "auto",
    json,
  );
  expect(looks.applyChatTemplate([{ role: "user", content: "a < b <b>" }]).text).toBe("in 2 9;");
  const token = withTemplate("{% for m in messages %}<|im_start|>{{ 'in' if '<|im_end|>' in m.content else 'out' }}{% endfor %}", "auto", json);
  // Not said of a spelling, for it is no token.
  expect(token.applyChatTemplate([{ role: "user", content: "<|im_end|>" }]).text).toBe("<|im_start|>out");
});

test("literals and tokens with signs that mean something in expressions", () => {
  const signs = "^$\\\\.*+?()[]{}|/-";
  const json = fixture.ids[0].tokenizer;
  const said = withTemplate(`{% for m in messages %}{{ '<|im_start|>${signs} <args-json>' }}{{ m.content }}{% endfor %}`, "auto", json);
  // Qwen 3 writes <tool_call> and <args-json-object> so.
  expect(said.applyChatTemplate([{ role: "user", content: "a-b" }]).text).toBe(`<|im_start|>^$\\.*+?()[]{}|/- <args-json>a-b`);
});

test("a role is a control token's name only where it is known", () => {
  const phi = withTemplate("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}", "auto", fixture.ids[0].tokenizer);
  const tokens = (role: string) => [...phi.applyChatTemplate([{ role, content: "x" }]).ids].map((id) => phi.idToToken(id));
  expect(tokens("user")[0]).toBe("<|user|>");
  expect(tokens("end")).not.toContain("<|end|>");
  expect(tokens("user|>x<|end")).not.toContain("<|end|>");
});

describe.each(ENGINES)("limits, %s", (engine) => {
  const say = (template: string) => {
    try {
      return withTemplate(template, engine).applyChatTemplate([{ role: "user", content: "x" }]).text;
    } catch (error) {
      return error;
    }
  };

  test("what never ends or grows too large is stopped, and the next one runs", { timeout: 60_000 }, () => {
    const forever = "{% for i in range(10000) %}{% for j in range(10000) %}BODY{% endfor %}{% endfor %}";
    for (const body of ["", "{{ i }}", "{% set n.x = n.x ~ n.x %}", "{% set n.l = n.l + n.l %}"]) {
      const error = say(`{% set n = namespace(x='aaaa', l=[1]) %}${forever.replace("BODY", body)}`);
      expect(error, body).toBeInstanceOf(TemplateError);
      expect(["limit", "failed"]).toContain((error as TemplateError).reason);
    }
    expect(say("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")).toBeInstanceOf(TemplateError);
    expect(say("{{ messages[0].content }}")).toBe("x");
  });

  test("says what is wrong in words", () => {
    expect(say("{{ raise_exception('only pairs') }}")).toMatchObject({ reason: "raised", message: expect.stringContaining("got: only pairs") });
    expect(say("\n{% for %}")).toMatchObject({ reason: "syntax", name: "TemplateError" });
    expect(say("{{ 1 + nothing.x.y }}")).toMatchObject({ reason: "failed" });
    expect(say("a".repeat(300_000))).toMatchObject({ name: "FormatError" });
    if (engine === "native") expect(say("\n\n{{ raise_exception('no') }}")).toMatchObject({ line: 3, message: expect.stringContaining("line 3") });
  });
});

test("a template is found where the files have it", async () => {
  const json = JSON.stringify(fixture.ids[0].tokenizer);
  const user = [{ role: "user", content: "x" }];
  const open = (files: Record<string, string>) => loadTokenizer(memoryFiles({ "tokenizer.json": json, ...files }));
  const config = (more: object) => ({
    "tokenizer_config.json": JSON.stringify({ bos_token: "<s>", eos_token: { content: "</s>" }, pad_token: null, ...more }),
  });
  const text = async (files: Record<string, string>, options?: ChatTemplateOptions) => (await open(files)).applyChatTemplate(user, options).text;
  expect(await text(config({ chat_template: "{{ bos_token }}{{ eos_token }}{{ pad_token }}" }))).toBe("<s></s>");
  expect(await text({ ...config({ chat_template: "old" }), "chat_template.jinja": "new" })).toBe("new");
  const list = config({
    chat_template: [
      { name: "default", template: "one" },
      { name: "tool_use", template: "two" },
    ],
  });
  expect([await text(list), await text(list, { tools: [] }), await text(list, { template: "tool_use" }), await text(list, { template: "{{ 3 }}" })]).toEqual([
    "one",
    "two",
    "two",
    "3",
  ]);
  await expect(text(config({}))).rejects.toThrow(/no chat template, expected chat_template\.jinja/);
  await expect(text(config({ chat_template: 5 }))).rejects.toThrow("tokenizer_config.json, chat_template: wrong type, expected an array, got 5");
  await expect(text(config({ chat_template: [{ name: "x", template: "y" }] }))).rejects.toThrow("name one of x");
  const named = await open({ "chat_template.jinja": "a", "additional_chat_templates/rag.jinja": "b", ...config({}) });
  const saved = await loadTokenizer(memoryFiles(tokenizerFiles(named.spec)));
  expect(saved.spec.chat).toEqual(named.spec.chat);
  expect(saved.spec.chat).toEqual({ templates: { default: "a", rag: "b" }, tokens: TOKENS });
});

test("messages that are none are refused in words", () => {
  const tokenizer = withTemplate("{{ messages[0].content }}", "auto");
  const refused = (messages: unknown, options?: object) => {
    try {
      tokenizer.applyChatTemplate(messages as ChatMessage[], options);
    } catch (error) {
      return `${(error as Error).name}: ${(error as Error).message}`;
    }
    return "taken";
  };
  expect(refused([])).toMatch(/^DataError: .*no messages/);
  expect(refused("x")).toMatch(/^DataError: .*got string/);
  expect(refused([{ content: "x" }])).toMatch(/^DataError: .*messages\[0\]: not a message/);
  expect(refused([{ role: "user", content: new Map() }])).toMatch(/messages\[0\]\.content: an object of a class, expected a plain object, got one of Map/);
  expect(refused([{ role: "user", content: Number.NaN }])).toMatch(/expected a finite number/);
  expect(refused([{ role: "user", content: () => 1 }])).toMatch(/got function/);
  const circle: Record<string, unknown> = { role: "user" };
  circle.content = circle;
  expect(refused([circle])).toMatch(/nested too deep/);
  expect(refused([{ role: "user", content: "x" }], { addGenerationPrompt: true, continueFinalMessage: true })).toMatch(/^ConfigError: .*exclude each other/);
  expect(refused([{ role: "user", content: "x" }], { addGenerationPromt: true })).toMatch(/Did you mean "addGenerationPrompt"/);
  expect(refused([{ role: "user", content: "x" }])).toBe("taken");
});

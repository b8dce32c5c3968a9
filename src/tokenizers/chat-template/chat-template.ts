/**
 * Conversations as the text that a model was trained on: the tokenizer's own template, with the meaning that Hugging Face's `apply_chat_template` gives it
 * (https://huggingface.co/docs/transformers/chat_templating).
 */
import { ConfigError, DataError } from "../../errors.ts";
import { checkOptions, type KnownOptions } from "../../options.ts";
import type { AddedToken } from "../added-tokens.ts";
import type { Engine } from "../byte-level/native-text.ts";
import type { ChatSpec } from "./chat-spec.ts";
import { type Messages, type Plain, plainJson, plainMessages } from "./messages.ts";
import { renderTemplate } from "./native-template.ts";
import { createShield, unusedCharacter } from "./shield.ts";
import { clockOf } from "./strftime.ts";

/** One turn. Beside these, a template may read other fields, such as `tool_calls`, `tool_call_id`, `name`, `reasoning_content`. */
export interface ChatMessage {
  /** Who speaks: `system`, `user`, `assistant`, `tool`, or what the template knows. */
  readonly role: string;
  /** Text, or parts such as `{ type: "text", text }`, where the template takes them. */
  readonly content?: unknown;
  readonly [field: string]: unknown;
}

/** How a conversation becomes text. */
export interface ChatTemplateOptions {
  /** End with the beginning of the assistant's turn. Default false. */
  addGenerationPrompt?: boolean;
  /** Leave the last message open, so that the model goes on with it: its `content`, or the field named. Default false. */
  continueFinalMessage?: boolean | string;
  /** Functions that the model may call, as JSON schemas. */
  tools?: readonly object[] | null;
  /** Texts to answer from, with `title` and `text`. */
  documents?: readonly object[] | null;
  /** What `strftime_now` says, in local time. Default: now. */
  date?: Date;
  /** Another template: its name among the tokenizer's, or Jinja itself. Default: `tool_use` with tools where there is one, else `default`. */
  template?: string;
  /** More variables for the template, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

const OPTIONS: KnownOptions<ChatTemplateOptions> = {
  addGenerationPrompt: true,
  continueFinalMessage: true,
  tools: true,
  documents: true,
  date: true,
  template: true,
  variables: true,
};

/** A rendered conversation. */
export interface RenderedChat {
  readonly text: string;
  /**
   * The text's ids, made when they are first read. Special tokens are where the template wrote them; a spelling of one in a message is ordinary text.
   */
  readonly ids: Int32Array;
}

/** What the template machinery needs of a tokenizer. */
export interface ChatTokenizer {
  readonly chat: ChatSpec | undefined;
  readonly addedTokens: readonly AddedToken[];
  readonly engine: Engine;
  /** The ids of a text in which every special token counts whose spelling has no `mark` in it; marks are no text. */
  encode(text: string, mark: string | null): Int32Array;
}

const WHERE = "tokenizer.applyChatTemplate";

/** @throws DataError for messages that are none, ConfigError without a template, TemplateError when it can't be rendered */
export function applyChatTemplate(tokenizer: ChatTokenizer, messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): RenderedChat {
  checkOptions(WHERE, options, OPTIONS);
  const { addGenerationPrompt = false, continueFinalMessage = false, tools = null, documents = null, date = new Date() } = options;
  if (addGenerationPrompt && continueFinalMessage !== false)
    throw new ConfigError(`${WHERE}: addGenerationPrompt and continueFinalMessage exclude each other, expected one of them, got both. Leave one out.`);
  const source = templateOf(tokenizer.chat, options.template, tools !== null);
  const given: Variables = {
    messages: plainMessages(WHERE, messages),
    tools: plainJson(`${WHERE}: tools`, tools),
    documents: plainJson(`${WHERE}: documents`, documents),
    ...(plainJson(`${WHERE}: variables`, options.variables ?? {}) as object),
  };
  const clock = clockOf(date);
  const goOn = typeof continueFinalMessage === "string" ? continueFinalMessage : continueFinalMessage ? "content" : null;
  const all = JSON.stringify(given);
  const tag = unusedCharacter(source, all);
  const mark = unusedCharacter(source, all, tag ?? "", ...tokenizer.addedTokens.map(({ content }) => content));
  if (tag === null || mark === null)
    throw new DataError(
      `${WHERE}: the messages use every private-use character, expected one that is free, got texts with all of U+E000 to U+F8FF. Take some out.`,
    );
  const render = (variables: Variables): string => {
    const open = goOn === null ? null : leaveOpen(variables.messages, goOn, source, tag);
    const context = { ...tokenizer.chat?.tokens, ...variables, messages: open?.messages ?? variables.messages, add_generation_prompt: addGenerationPrompt };
    const text = renderTemplate(source, JSON.stringify(context), clock, tokenizer.engine);
    return open === null ? text : upToTag(text, open.final, tag);
  };

  const spellings = (special: boolean) => tokenizer.addedTokens.filter((token) => token.special === special).map(({ content }) => content);
  const shield = createShield(spellings(true), spellings(false), source, mark);
  const marked = rendered();
  let ids: Int32Array | undefined;
  return {
    text: shield.bare(marked),
    get ids() {
      ids ??= tokenizer.encode(marked, marked.includes(mark) ? mark : null);
      return ids;
    },
  };

  /** With marks in it, as few as may be. */
  function rendered(): string {
    const careful = shield.guard(given, "beginnings");
    if (JSON.stringify(careful) === all) return render(given);
    // Nothing that the template does may depend on marks in what is harmless.
    const [plain, guarded] = [outcome(() => render(given)), outcome(() => render(careful))];
    if (guarded.text !== null && shield.bare(guarded.text) === plain.text) return guarded.text;
    return render(shield.guard(given, "spellings"));
  }
}

type Variables = { readonly messages: Messages; readonly [name: string]: unknown };

/** A text, or null where there is none. */
function outcome(render: () => string): { text: string | null } {
  try {
    return { text: render() };
  } catch {
    return { text: null };
  }
}

/** The Jinja source that is meant. */
function templateOf(chat: ChatSpec | undefined, wanted: string | undefined, withTools: boolean): string {
  const templates = chat?.templates ?? {};
  const names = Object.keys(templates);
  if (wanted !== undefined) return Object.hasOwn(templates, wanted) ? templates[wanted] : wanted;
  if (withTools && Object.hasOwn(templates, "tool_use")) return templates.tool_use;
  if (Object.hasOwn(templates, "default")) return templates.default;
  throw new ConfigError(
    names.length === 0
      ? `${WHERE}: this tokenizer has no chat template, expected chat_template.jinja or chat_template in tokenizer_config.json, or one in the GGUF file, got none. ` +
          "Pass options.template, or use a model that was trained for conversations."
      : `${WHERE}: no default among the chat templates, expected options.template to name one of ${names.join(", ")}, got nothing. Name one.`,
  );
}

const REASONING = ["reasoning_content", "thinking", "reasoning"];
const TEXT_IN_WORDS = "a text, or a list with a part of type text";

/** The messages with a tag at the end of the last one, behind which the text is cut off. */
function leaveOpen(messages: Messages, field: string, source: string, tag: string): { messages: Messages; final: string } {
  const last = messages[messages.length - 1];
  const value = last[field];
  // Reasoning stands under several names, and the template reads one of them.
  const fields = REASONING.includes(field) ? REASONING.filter((name) => last[name] === value) : [field];
  if (!fields.some((name) => source.includes(name)))
    throw new ConfigError(
      `${WHERE}: the template does not read "${field}", expected a field of messages that it reads, got another. Correct continueFinalMessage.`,
    );
  // The blank behind the tag tells whether the template trims.
  const behind = `${tag} `;
  const closed = (changed: Messages[number], final: string) => ({ messages: [...messages.slice(0, -1), { ...last, ...changed }], final });
  if (typeof value === "string") return closed(Object.fromEntries(fields.map((name) => [name, value + behind])), value);
  const parts = Array.isArray(value) ? value : [];
  const textOf = (part: Plain | undefined): string | null => {
    const text = typeof part === "object" && part !== null && !Array.isArray(part) ? part.text : null;
    return typeof text === "string" ? text : null;
  };
  const at = parts.findLastIndex((part) => textOf(part) !== null);
  if (at < 0)
    throw new DataError(`${WHERE}: nothing to go on with, expected the last message to have ${TEXT_IN_WORDS} in "${field}", got neither. Give it one.`);
  const text = textOf(parts[at]) as string;
  return closed({ [field]: parts.with(at, { ...(parts[at] as object), text: text + behind }) }, text);
}

/** What stands before the tag. */
function upToTag(text: string, final: string, tag: string): string {
  const at = text.lastIndexOf(tag);
  if (at < 0 || !text.includes(final.trim()))
    throw new DataError(
      `${WHERE}: the last message is not in the text, expected a template that shows it, got one that changes or leaves it out. Leave continueFinalMessage out.`,
    );
  return text[at + 1] === " " ? text.slice(0, at) : text.slice(0, at).trimEnd();
}

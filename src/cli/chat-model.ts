/** What a model's files say about talking with it: how tokens are drawn, what ends a turn, and which template it has. */
import { basename, join } from "node:path";
import { ConfigError, FormatError, TemplateError } from "../errors.ts";
import { metadataNumber } from "../formats/gguf/values.ts";
import { type GenerationConfig, isGgufFile, openFile, openFolder, openGguf, readGenerationConfig, readText } from "../formats/index.ts";
import { checkSampling, type SamplingOptions } from "../generate/index.ts";
import type { ChatMessage, ChatTemplateOptions, RenderedChat, Tokenizer } from "../tokenizers/index.ts";
import { flagOf } from "./flags.ts";

/** Names in generation_config.json and in GGUF metadata. */
const SAMPLING = [
  ["temperature", "temperature", "temp"],
  ["topK", "top_k", "top_k"],
  ["topP", "top_p", "top_p"],
  ["minP", "min_p", "min_p"],
  ["repetitionPenalty", "repetition_penalty", "penalty_repeat"],
] as const satisfies readonly (readonly [ours: keyof SamplingOptions, json: keyof GenerationConfig, gguf: string])[];

/** What chooses among the likeliest tokens. */
const CUTS = ["topK", "topP", "minP", "typicalP", "topNSigma", "mirostatTau"] as const satisfies readonly (keyof SamplingOptions)[];

/** What a model's files say of answers. */
export interface ChatDefaults {
  /** The file, for messages. */
  readonly where: string;
  /** Settings that its makers give, as they stand there. */
  readonly sampling: SamplingOptions;
  /** Ids that end a turn beside those that end a text. */
  readonly stopIds: readonly number[];
}

/** @throws ConfigError and FormatError for damaged files */
export async function chatDefaults(folder: string): Promise<ChatDefaults> {
  return (await isGgufFile(folder)) ? ofGguf(folder) : ofFolder(folder);
}

/** How tokens are drawn, and that in words for a person. */
export interface ChatSampling {
  readonly sampling: SamplingOptions;
  readonly text: string;
}

/**
 * Flags, else what the model's files say, else something usual: sure enough for small models, which rave at a temperature of 1, and varied enough for another answer to `/retry`.
 * @throws ConfigError for settings of the files outside their range, unless a flag is in their place
 */
export function chatSampling({ sampling: files, where }: ChatDefaults, flags: SamplingOptions): ChatSampling {
  const without = (settings: SamplingOptions, others: SamplingOptions): SamplingOptions =>
    Object.fromEntries(Object.entries(settings).filter(([key]) => !(key in others)));
  const told = without(files, flags);
  checkSampling(told, where);
  // Files that name a cut alone mean it beside Hugging Face's temperature of 1; a penalty alone does not say how tokens are drawn.
  const drawn = files.temperature !== undefined || CUTS.some((cut) => cut in files);
  const usual: SamplingOptions = drawn ? { temperature: 1 } : { temperature: 0.2, ...(CUTS.some((cut) => cut in flags) ? {} : { topP: 0.9 }) };
  const open = without(usual, { ...files, ...flags });
  const sampling = { ...open, ...told, ...flags };
  // The likeliest token is in every cut.
  const counts = (key: string): boolean => sampling.temperature !== 0 || !(CUTS as readonly string[]).includes(key);
  const text = (settings: SamplingOptions, origin: string): string[] => {
    const list = Object.entries(settings).filter(([key, value]) => typeof value === "number" && counts(key));
    return list.length === 0 ? [] : [list.map(([key, value]) => `${flagOf(key).slice(2)} ${value}`).join(", ") + origin];
  };
  const parts = [...text(flags, ""), ...text(told, ` (${basename(where)})`), ...text(open, drawn ? " (default)" : " (default: the model's files do not say)")];
  return { sampling, text: parts.join(", ") };
}

/** Settings by our names, where the file has them. Others' files say -1 for no limit of k. */
function samplingFrom(get: (json: (typeof SAMPLING)[number][1], gguf: (typeof SAMPLING)[number][2]) => number | undefined): SamplingOptions {
  const found = SAMPLING.flatMap(([ours, json, gguf]) => {
    const value = get(json, gguf);
    return value === undefined ? [] : [[ours, ours === "topK" ? Math.max(0, value) : value]];
  });
  return Object.fromEntries(found);
}

async function ofFolder(folder: string): Promise<ChatDefaults> {
  const config = (await readGenerationConfig(openFolder(folder))) ?? {};
  // Not to sample is to take the likeliest token, whatever else the file says of drawing.
  const { temperature: _, top_k: _k, top_p: _p, min_p: _m, ...others } = config;
  const settings: GenerationConfig = config.do_sample === false ? { ...others, temperature: 0 } : config;
  return { where: join(folder, "generation_config.json"), sampling: samplingFrom((json) => settings[json]), stopIds: [] };
}

async function ofGguf(path: string): Promise<ChatDefaults> {
  const source = await openFile(path);
  const { metadata } = await openGguf(source).finally(() => source.close());
  const get = (key: string) => metadataNumber({ name: path, metadata }, key);
  const ends = ["eot", "eom"].map((name) => get(`tokenizer.ggml.${name}_token_id`));
  return {
    where: path,
    sampling: samplingFrom((_, key) => get(`general.sampling.${key}`)),
    stopIds: ends.filter((id) => id !== undefined && id >= 0) as number[],
  };
}

/** Turns in plain words, for a model that has no template and is to be talked with all the same. */
const PLAIN = `{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}
{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}`;

export const hasTemplate = ({ spec }: Tokenizer): boolean => Object.keys(spec.chat?.templates ?? {}).length > 0;

/** What to say of a model that can't be talked with. @param advice what the command at hand has for it */
export const noTemplate = (folder: string, advice: string): ConfigError =>
  new ConfigError(
    `${folder}: this model has no chat template, expected chat_template.jinja, chat_template in tokenizer_config.json, or one in the GGUF file, got none. It was probably not trained to talk: ${advice}`,
  );

/** How a conversation is written for a model. */
export interface ChatForm {
  /** Jinja, or undefined for the tokenizer's own. */
  readonly template: string | undefined;
  /** Where the template was read from, if a person named a file. */
  readonly file: string | undefined;
  /** Texts that an answer ends before. */
  readonly stop: readonly string[];
  /** The special token that the template puts behind an answer. */
  readonly endIds: readonly number[];
}

/** @throws ConfigError for a model without a template when none was given; FormatError or TemplateError for a file that is none */
export async function chatForm(folder: string, tokenizer: Tokenizer, given: { template?: string; plain: boolean }): Promise<ChatForm> {
  if (given.plain) {
    // As `generate` begins a text.
    const [first = ""] = tokenizer.encode("a").tokens;
    const begin = tokenizer.specialTokens.has(first) ? `{{ ${JSON.stringify(first)} }}` : "";
    return { template: begin + PLAIN, file: undefined, stop: ["\nUser:", "\nSystem:", "\nAssistant:"], endIds: [] };
  }
  const file = given.template;
  if (file === undefined && !hasTemplate(tokenizer))
    throw noTemplate(
      folder,
      "continue texts with groundup generate, name a template with --template FILE, or try --plain, which writes User: and Assistant: before each turn.",
    );
  const form = { template: file === undefined ? undefined : await templateOf(file), file, stop: [], endIds: [] };
  return { ...form, endIds: endOf(tokenizer, form) };
}

/** Larger than any template. */
const MOST_BYTES = 1 << 20;

async function templateOf(file: string): Promise<string> {
  let text: string;
  try {
    const source = await openFile(file);
    text = await readText(source, MOST_BYTES).finally(() => source.close());
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw new FormatError(`--template ${cause.message}`, { cause });
  }
  if (text.trim() !== "") return text;
  const got = text === "" ? "an empty file" : "a file of blanks alone";
  throw new FormatError(`--template ${file}: writes no messages, expected a Jinja template for conversations, got ${got}. Name another file.`);
}

/** A conversation as the model is to read it. @throws TemplateError that names the template's file, where there is one */
export function writeChat(
  tokenizer: Tokenizer,
  { template, file }: ChatForm,
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions = {},
): RenderedChat {
  try {
    return tokenizer.applyChatTemplate(messages, { ...options, ...(template === undefined ? {} : { template }) });
  } catch (error) {
    if (file === undefined || !(error instanceof TemplateError)) throw error;
    throw new TemplateError(error.message.replace(/^chat template/, `--template ${file}`), error.reason, error.line);
  }
}

/** The id that the template writes behind an answer, which a model learns to end it with. @throws TemplateError for what is no Jinja */
function endOf(tokenizer: Tokenizer, form: ChatForm): number[] {
  const answer = "answer";
  const messages: ChatMessage[] = [
    { role: "user", content: "question" },
    { role: "assistant", content: answer },
  ];
  let text: string;
  try {
    text = writeChat(tokenizer, form, messages).text;
  } catch (error) {
    // No messages will mend that.
    if (error instanceof TemplateError && error.reason === "syntax") throw error;
    // What is wrong with the template is told when it is used.
    return [];
  }
  const behind = text.slice(text.lastIndexOf(answer) + answer.length).trimStart();
  return [...tokenizer.specialTokens].filter(([spelling]) => spelling !== "" && behind.startsWith(spelling)).map(([, id]) => id);
}

/** What ends an answer besides what ends a text. */
export async function answerEnds(folder: string, tokenizer: Tokenizer): Promise<readonly number[]> {
  if (!hasTemplate(tokenizer)) return [];
  return [...(await chatForm(folder, tokenizer, { plain: false })).endIds, ...(await chatDefaults(folder)).stopIds];
}

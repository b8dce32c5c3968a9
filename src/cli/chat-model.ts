/** What a model's files say about talking with it: how tokens are drawn, what ends a turn, and which template it has. */
import { basename, join } from "node:path";
import { ConfigError, FormatError, TemplateError } from "../errors.ts";
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

/** Where a model's files say nothing of how tokens are drawn: sure enough for small models, which rave at a temperature of 1, and varied enough for another answer to `/retry`. */
const USUAL: SamplingOptions = { temperature: 0.2, topP: 0.9 };

/** The settings that a model's makers give, as far as its files have them. */
export interface ChatDefaults {
  readonly sampling: SamplingOptions;
  /** Who says how tokens are drawn, in words. */
  readonly origin: string;
  /** Ids that end a turn beside those that end a text. */
  readonly stopIds: readonly number[];
}

/** @throws ConfigError for settings outside their range, FormatError for damaged files */
export async function chatDefaults(folder: string): Promise<ChatDefaults> {
  const { where, number, stopIds } = (await isGgufFile(folder)) ? await ofGguf(folder) : await ofFolder(folder);
  const sampling: Record<string, number> = {};
  for (const [ours, json, gguf] of SAMPLING) {
    const value = number(json, gguf);
    if (value !== undefined) sampling[ours] = value;
  }
  checkSampling(sampling, where);
  // A penalty alone does not say how tokens are drawn.
  const draws = SAMPLING.some(([ours]) => ours !== "repetitionPenalty" && ours in sampling);
  return draws
    ? { sampling, origin: basename(where), stopIds }
    : { sampling: { ...USUAL, ...sampling }, origin: "default: the model's files name none", stopIds };
}

/** How tokens are drawn, for a person: what flags gave, and what they did not. */
export function samplingText(sampling: SamplingOptions, given: SamplingOptions, origin: string): string {
  const named = SAMPLING.filter(([ours]) => sampling[ours] !== undefined);
  const [flags, files] = [named.filter(([ours]) => ours in given), named.filter(([ours]) => !(ours in given))];
  const list = (some: typeof named) => some.map(([ours]) => `${flagOf(ours).slice(2)} ${sampling[ours]}`).join(", ");
  return [...(flags.length > 0 ? [list(flags)] : []), ...(files.length > 0 ? [`${list(files)} (${origin})`] : [])].join(", ");
}

interface Settings {
  readonly where: string;
  number(json: (typeof SAMPLING)[number][1], gguf: string): number | undefined;
  readonly stopIds: readonly number[];
}

async function ofFolder(folder: string): Promise<Settings> {
  const config = (await readGenerationConfig(openFolder(folder))) ?? {};
  return {
    where: join(folder, "generation_config.json"),
    // Not to sample is to take the likeliest token, whatever else the file says.
    number: (key) => (config.do_sample === false && key === "temperature" ? 0 : config[key]),
    stopIds: [],
  };
}

async function ofGguf(path: string): Promise<Settings> {
  const source = await openFile(path);
  const { metadata } = await openGguf(source).finally(() => source.close());
  const get = (key: string): number | undefined => {
    const value = metadata.get(key)?.value;
    return typeof value === "number" || typeof value === "bigint" ? Number(value) : undefined;
  };
  const ends = ["eot", "eom"].map((name) => get(`tokenizer.ggml.${name}_token_id`));
  return { where: path, number: (_, key) => get(`general.sampling.${key}`), stopIds: ends.filter((id) => id !== undefined && id >= 0) as number[] };
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
  if (given.plain) return { template: PLAIN, file: undefined, stop: ["\nUser:", "\nSystem:"], endIds: [] };
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

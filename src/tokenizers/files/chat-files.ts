/**
 * Chat templates in a tokenizer's files: `chat_template.jinja` and `additional_chat_templates/*.jinja`, else `chat_template` in tokenizer_config.json (a template, or
 * a list of named ones), and the metadata of a GGUF file. Hugging Face's order: what has a file of its own counts.
 */
import type { GgufValue } from "../../formats/gguf/read.ts";
import { type ChatSpec, TOKEN_NAMES } from "../chat-template/chat-spec.ts";
import { asArray, asObject, asString, field, type JsonObject, Place, parseJsonText } from "./strict-json.ts";

/** The names that more templates go by, since a folder's files can't be listed here. */
const MORE = ["tool_use", "rag"];

/** @param text of a file, or null where there is none */
export async function readChatFiles(folder: string, text: (file: string) => Promise<string | null>): Promise<ChatSpec | undefined> {
  const config = await objectOf(folder, "tokenizer_config.json", text);
  const map = await objectOf(folder, "special_tokens_map.json", text);
  const templates: Record<string, string> = {};
  const own = await text("chat_template.jinja");
  if (own !== null) templates.default = own;
  for (const name of MORE) {
    const more = await text(`additional_chat_templates/${name}.jinja`);
    if (more !== null) templates[name] = more;
  }
  if (Object.keys(templates).length === 0 && config !== null) Object.assign(templates, templatesIn(config));
  const tokens = { ...(map === null ? {} : tokensIn(map)), ...(config === null ? {} : tokensIn(config)) };
  return Object.keys(templates).length + Object.keys(tokens).length === 0 ? undefined : { templates, tokens };
}

interface Found {
  readonly object: JsonObject;
  readonly place: Place;
}

async function objectOf(folder: string, file: string, text: (file: string) => Promise<string | null>): Promise<Found | null> {
  const content = await text(file);
  if (content === null) return null;
  const place = new Place(`${folder}/${file}`);
  return { object: asObject(parseJsonText(content, place.file), place), place };
}

function templatesIn({ object, place }: Found): Record<string, string> {
  const value = field(object, "chat_template");
  if (value === undefined || value === null) return {};
  const at = place.at("chat_template");
  if (typeof value === "string") return { default: value };
  return Object.fromEntries(
    asArray(value, at).map((item, i) => {
      const named = asObject(item, at.at(i));
      return [asString(field(named, "name"), at.at(i).at("name")), asString(field(named, "template"), at.at(i).at("template"))];
    }),
  );
}

/** A token is its text, or an object with its text as `content`. */
function tokensIn({ object, place }: Found): Record<string, string> {
  return Object.fromEntries(
    TOKEN_NAMES.flatMap((name) => {
      const value = field(object, name);
      if (value === undefined || value === null) return [];
      const at = place.at(name);
      return [[name, typeof value === "string" ? value : asString(field(asObject(value, at), "content"), at.at("content"))]];
    }),
  );
}

/** GGUF's names of the tokens that templates ask for. */
const IN_GGUF: Record<string, string> = { bos_token: "bos", eos_token: "eos", unk_token: "unknown", sep_token: "seperator", pad_token: "padding" };

/** The templates of a GGUF file: `tokenizer.chat_template`, and `tokenizer.chat_template.NAME` for others. */
export function readChatMetadata(metadata: ReadonlyMap<string, GgufValue>, tokens: readonly (string | undefined)[]): ChatSpec | undefined {
  const templates: Record<string, string> = {};
  for (const [key, value] of metadata) {
    const found = /^tokenizer\.chat_template(?:\.(.+))?$/.exec(key);
    if (found !== null && value.kind === "string") templates[found[1] ?? "default"] = value.value;
  }
  const found = Object.entries(IN_GGUF).flatMap(([name, key]) => {
    const value = metadata.get(`tokenizer.ggml.${key}_token_id`);
    const token = value === undefined ? undefined : tokens[Number(value.value)];
    return token === undefined ? [] : [[name, token]];
  });
  return Object.keys(templates).length + found.length === 0 ? undefined : { templates, tokens: Object.fromEntries(found) };
}

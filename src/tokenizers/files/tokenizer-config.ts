/**
 * tokenizer_config.json, in which Hugging Face transformers keeps what tokenizer.json has no place for: the parts that special tokens play, how long texts may be, and on
 * which side they are cut and padded.
 */
import type { TokenizerSettings, TokenizerSpec } from "../tokenizer-spec.ts";
import { listOf, nullAs, oneOf, type Reader } from "./json-shape.ts";
import { asBoolean, asObject, asString, field, Place, parseJsonText } from "./strict-json.ts";

/** From here on a `model_max_length` means that there is none: transformers writes 1e30. */
const NO_MAXIMUM = 1e20;

const asMaximum: Reader<number | undefined> = (value, place) => {
  if (typeof value !== "number" || !(value >= 1)) return place.fail("bad number", "a whole number from 1 on", value);
  return value > NO_MAXIMUM ? undefined : Math.trunc(value);
};

/** Names of the file and here, with what they are. Other keys of the file are not of interest here. */
const READERS = {
  maxLength: ["model_max_length", nullAs(asMaximum, undefined)],
  paddingSide: ["padding_side", nullAs(oneOf("left", "right"), undefined)],
  truncationSide: ["truncation_side", nullAs(oneOf("left", "right"), undefined)],
  inputNames: ["model_input_names", nullAs(listOf(asString), undefined)],
  cleansSpaces: ["clean_up_tokenization_spaces", nullAs(asBoolean, undefined)],
} satisfies { [K in keyof Required<TokenizerSettings>]: readonly [string, Reader<TokenizerSettings[K] | undefined>] };

/** @param text of the file, or null where there is none */
export function readSettings(text: string | null, file: string): TokenizerSettings | undefined {
  if (text === null) return undefined;
  const place = new Place(file);
  const object = asObject(parseJsonText(text, file), place);
  const found = Object.entries(READERS).flatMap(([name, [key, read]]) => {
    const value = read(field(object, key), place.at(key));
    return value === undefined ? [] : [[name, value]];
  });
  return found.length === 0 ? undefined : Object.fromEntries(found);
}

/** The part that a special token plays where only its spelling tells. */
const USUAL_PARTS: Readonly<Record<string, readonly string[]>> = {
  bos_token: ["<s>", "<bos>", "<|begin_of_text|>"],
  eos_token: ["</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>"],
  unk_token: ["<unk>", "[UNK]"],
  sep_token: ["[SEP]"],
  pad_token: ["<pad>", "[PAD]"],
  cls_token: ["[CLS]"],
  mask_token: ["<mask>", "[MASK]"],
};

/** The special tokens by their parts: as the tokenizer's files say, else by their spelling. */
function partsOf({ addedTokens, chat }: TokenizerSpec): Record<string, string> {
  if (chat !== undefined && Object.keys(chat.tokens).length > 0) return { ...chat.tokens };
  const special = new Set(addedTokens.filter((token) => token.special).map(({ content }) => content));
  return Object.fromEntries(
    Object.entries(USUAL_PARTS).flatMap(([part, names]) => {
      const found = names.find((name) => special.has(name));
      return found === undefined ? [] : [[part, found]];
    }),
  );
}

/**
 * The file's content: with it transformers (4 and 5) opens the tokenizer.json beside it as it is. Chat templates have files of their own.
 */
export function tokenizerConfig(spec: TokenizerSpec): Record<string, unknown> {
  const { settings = {}, model } = spec;
  const parts = partsOf(spec);
  const others = spec.addedTokens.filter(({ special, content }) => special && !Object.values(parts).includes(content)).map(({ content }) => content);
  // Other models take no type ids, and fail when they are handed some.
  const hasTypes = model.kind === "pipeline" && model.pieces.type === "WordPiece";
  const { inputNames = ["input_ids", ...(hasTypes ? ["token_type_ids"] : []), "attention_mask"], cleansSpaces = false, ...lengths } = settings;
  const known = Object.entries(lengths).map(([name, value]) => [READERS[name as keyof typeof READERS][0], value]);
  return {
    // The class that reads nothing but tokenizer.json; those of single models rebuild what it says by rules of their own.
    tokenizer_class: "PreTrainedTokenizerFast",
    ...parts,
    ...(others.length === 0 ? {} : { additional_special_tokens: others }),
    ...Object.fromEntries(known),
    model_input_names: inputNames,
    clean_up_tokenization_spaces: cleansSpaces,
  };
}

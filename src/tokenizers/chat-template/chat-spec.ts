/** What a tokenizer's files say about conversations: templates, and the special tokens that they write. */

/** Templates of a tokenizer. */
export interface ChatSpec {
  /** Jinja sources by name. A single one is called `default`; others are `tool_use` and `rag`. */
  readonly templates: Readonly<Record<string, string>>;
  /** Special tokens under the names that templates have for them: `bos_token`, `eos_token` and the like. */
  readonly tokens: Readonly<Record<string, string>>;
}

/** The names under which Hugging Face files say which token has which part. */
export const TOKEN_NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"] as const;

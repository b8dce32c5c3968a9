/** What a tokenizer's folder tells transformers is written as it was read, and made of the tokenizer where nothing was. */
import { describe, expect, test } from "vitest";
import { byteTokenizer, loadTokenizer, memoryFiles, tokenizerFiles, trainBpe, trainWordPiece } from "../index.ts";
import { specialToken } from "../tokenizer-spec.ts";

const text = ["the whale and the sea, the sea and the whale"];
const configOf = (files: Record<string, string | Uint8Array>) => JSON.parse(files["tokenizer_config.json"] as string);

describe("tokenizer_config.json", () => {
  test("has what was read, also after a second time", async () => {
    const config = {
      tokenizer_class: "LlamaTokenizer",
      bos_token: { content: "<a>", lstrip: false },
      eos_token: "<b>",
      pad_token: null,
      model_max_length: 512,
      padding_side: "left",
      truncation_side: "left",
      model_input_names: ["input_ids", "token_type_ids"],
      clean_up_tokenization_spaces: true,
      chat_template: "{{ messages[0].content }}",
      legacy: false,
    };
    const { spec } = trainBpe(text, { vocabSize: 280, specialTokens: ["<a>", "<b>", "<c>"] });
    let files = tokenizerFiles(spec);
    for (const _ of [1, 2]) {
      const tokenizer = await loadTokenizer(
        memoryFiles({ ...files, "tokenizer_config.json": _ === 1 ? JSON.stringify(config) : (files["tokenizer_config.json"] as string) }),
      );
      files = tokenizerFiles(tokenizer.spec);
      expect(configOf(files)).toEqual({
        tokenizer_class: "PreTrainedTokenizerFast",
        bos_token: "<a>",
        eos_token: "<b>",
        additional_special_tokens: ["<c>"],
        model_max_length: 512,
        padding_side: "left",
        truncation_side: "left",
        model_input_names: ["input_ids", "token_type_ids"],
        clean_up_tokenization_spaces: true,
      });
      expect(files["chat_template.jinja"]).toBe("{{ messages[0].content }}");
    }
  });

  test("tells parts by their spelling where no file did, and what models take", async () => {
    const usual = { clean_up_tokenization_spaces: false, tokenizer_class: "PreTrainedTokenizerFast" };
    expect(configOf(tokenizerFiles((await trainWordPiece(text, { vocabSize: 60 })).spec))).toEqual({
      ...usual,
      unk_token: "[UNK]",
      sep_token: "[SEP]",
      pad_token: "[PAD]",
      cls_token: "[CLS]",
      mask_token: "[MASK]",
      model_input_names: ["input_ids", "token_type_ids", "attention_mask"],
    });
    const bytes = byteTokenizer({ specialTokens: ["<|endoftext|>", "<x>"] });
    const names = { model_input_names: ["input_ids", "attention_mask"] };
    expect(configOf(tokenizerFiles(bytes.spec))).toEqual({ ...usual, ...names, eos_token: "<|endoftext|>", additional_special_tokens: ["<x>"] });
    // A spelling that is no special token plays no part.
    const spec = { ...byteTokenizer().spec, addedTokens: [{ ...specialToken("</s>", 256), special: false }] };
    expect(configOf(tokenizerFiles(spec))).toEqual({ ...usual, ...names });
  });
});

/**
 * File types as llama.cpp names them: which layout each tensor of a model gets.
 *
 * Most tensors get the layout in the name. Those that cost most in quality for their size get a better one, in the sizes S, M and L more or fewer of them: the head
 * (or the embedding that serves as one), values (every query of a group reads them), the way out of the MLP, and of these above all in the first and last eighth of
 * the layers and each third one between (`favoured`). The rules are those of llama.cpp's quantiser, so that a file of either program has the same layouts.
 */
import type { QuantizedType } from "./quantize.ts";
import { GGML_TYPES } from "./types.ts";

/** `general.file_type` and the layout of most tensors. */
export const FILE_TYPES = {
  F32: { code: 0, layout: "F32" },
  F16: { code: 1, layout: "F16" },
  BF16: { code: 32, layout: "BF16" },
  Q8_0: { code: 7, layout: "Q8_0" },
  Q4_0: { code: 2, layout: "Q4_0" },
  Q4_1: { code: 3, layout: "Q4_1" },
  Q5_0: { code: 8, layout: "Q5_0" },
  Q5_1: { code: 9, layout: "Q5_1" },
  Q2_K: { code: 10, layout: "Q2_K" },
  Q3_K_S: { code: 11, layout: "Q3_K" },
  Q3_K_M: { code: 12, layout: "Q3_K" },
  Q3_K_L: { code: 13, layout: "Q3_K" },
  Q4_K_S: { code: 14, layout: "Q4_K" },
  Q4_K_M: { code: 15, layout: "Q4_K" },
  Q5_K_S: { code: 16, layout: "Q5_K" },
  Q5_K_M: { code: 17, layout: "Q5_K" },
  Q6_K: { code: 18, layout: "Q6_K" },
  IQ4_NL: { code: 25, layout: "IQ4_NL" },
  MXFP4: { code: 38, layout: "MXFP4" },
} as const satisfies Record<string, { code: number; layout: QuantizedType }>;

/** The name of a file type. */
export type GgufFileType = keyof typeof FILE_TYPES;

/** Those that keep every number of a float32, float16 or bfloat16 model, whichever it was saved as. */
export const PLAIN_FILE_TYPES: readonly GgufFileType[] = ["F32", "F16", "BF16"];

/** What the rules ask about a model. */
export interface LayoutModel {
  readonly layers: number;
  /** Query heads for each head of keys and values. */
  readonly group: number;
  /** Whether the embedding is the head too. */
  readonly tied: boolean;
}

/** The first and last eighth of the layers, and each third one between. */
function favoured(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}

/** Where rows are no whole blocks of 256: a layout of 32 with about as many bits or more. */
const INSTEAD: Partial<Record<QuantizedType, QuantizedType>> = { Q2_K: "Q4_0", Q3_K: "Q4_0", Q4_K: "Q5_0", Q5_K: "Q5_1", Q6_K: "Q8_0" };

/**
 * The layout of a tensor under its name in the file. Vectors, learned positions and routers of experts stay F32: they are small, and errors in them are not averaged
 * over a sum.
 */
export function layoutOf(type: GgufFileType, name: string, shape: readonly number[], model: LayoutModel): QuantizedType {
  const { layout } = FILE_TYPES[type];
  if (shape.length < 2 || /^(position_embd|token_types)\.|ffn_gate_inp|\.bias$|_norm\./.test(name)) return "F32";
  if (PLAIN_FILE_TYPES.includes(type)) return layout;
  const row = shape.at(-1) as number;
  const fits = (candidate: QuantizedType): boolean => row % GGML_TYPES[candidate].elements === 0;
  let wanted: QuantizedType = better(type, name, model) ?? layout;
  if (!fits(wanted)) wanted = INSTEAD[wanted] ?? wanted;
  return fits(wanted) ? wanted : "F16";
}

/** Undefined where the tensor gets the layout in the file type's name. */
function better(type: GgufFileType, name: string, { layers, group, tied }: LayoutModel): QuantizedType | undefined {
  if (name === "output.weight" || (tied && name === "token_embd.weight")) return type === "Q8_0" || type === "MXFP4" ? "Q8_0" : "Q6_K";
  if (name === "token_embd.weight" && type === "MXFP4") return "Q8_0";
  const [, number, part] = /^blk\.(\d+)\.(attn_v|attn_qkv|attn_output|ffn_down)\b/.exec(name) ?? [];
  const layer = Number(number);
  switch (part) {
    case "attn_v":
      if (type === "Q2_K") return group >= 4 ? "Q4_K" : "Q3_K";
      if (type === "Q3_K_M") return layer < 2 ? "Q5_K" : "Q4_K";
      if (type === "Q3_K_L") return "Q5_K";
      if (type === "Q4_K_S") return layer < 4 ? "Q5_K" : undefined;
      if (type === "IQ4_NL") return group >= 4 ? "Q5_K" : undefined;
      return isMedium(type) && favoured(layer, layers) ? "Q6_K" : undefined;
    case "ffn_down":
      if (type === "Q2_K") return "Q3_K";
      if (type === "Q3_K_M") return layer < Math.floor(layers / 16) ? "Q5_K" : "Q4_K";
      if (type === "Q3_K_L") return "Q5_K";
      if (type === "Q4_K_S" || type === "IQ4_NL") return layer < Math.floor(layers / 8) ? "Q5_K" : undefined;
      return isMedium(type) && favoured(layer, layers) ? "Q6_K" : undefined;
    case "attn_output":
      return { Q2_K: "Q3_K", Q3_K_M: "Q4_K", Q3_K_L: "Q5_K" }[type as string] as QuantizedType | undefined;
    case "attn_qkv":
      return { Q3_K_M: "Q4_K", Q3_K_L: "Q4_K", Q4_K_M: "Q5_K", Q5_K_M: "Q6_K" }[type as string] as QuantizedType | undefined;
    default:
      return undefined;
  }
}

const isMedium = (type: GgufFileType): boolean => type === "Q4_K_M" || type === "Q5_K_M";

/** `groundup convert`: a model in another file format. */
import { resolve } from "node:path";
import * as z from "zod";
import { ConfigError } from "../errors.ts";
import { FILE_TYPES, type GgufFileType } from "../formats/index.ts";
import { FOLDER_DTYPES, type SavedFolder, type SavedGguf, saveFolder, saveGguf, type WeightSource } from "../models/index.ts";
import { byteSize } from "../quantities.ts";
import { defineCommand } from "./command.ts";
import { checkTarget, openModelFiles } from "./model-files.ts";
import { MODEL_ARGUMENT, OFFLINE_FLAG } from "./open-model.ts";

export const command = defineCommand({
  about:
    "Writes a model in another format: a GGUF file, which llama.cpp and groundup run, or a Hugging Face folder with config, weights, tokenizer and chat template. One tensor at a time is in memory.",
  arguments: [MODEL_ARGUMENT],
  options: z.object({
    to: z.enum(["gguf", "hf"]).describe("the format"),
    out: z.string().min(1).describe("the file (gguf) or folder (hf) to write").meta({ placeholder: "PATH" }),
    type: z
      .enum(Object.keys(FILE_TYPES) as [GgufFileType, ...GgufFileType[]])
      .optional()
      .describe("of the numbers: F32, F16 or BF16, for GGUF also Q8_0, Q4_K_M and others; default: as they are, blocks as F32 (MXFP4 stays)")
      .meta({ placeholder: "TYPE" }),
    force: z.boolean().default(false).describe("replace what has the name of --out"),
    offline: z.boolean().default(false).describe(OFFLINE_FLAG),
  }),
  examples: ["groundup convert ./SmolLM2-135M --to gguf --out smollm2.gguf", "groundup convert model.Q8_0.gguf --to hf --out ./model --type BF16"],
  async run([path], { to, out, type, force, offline }, io) {
    const plain = FOLDER_DTYPES.find((dtype) => dtype === type);
    if (to === "hf" && type !== undefined && plain === undefined)
      throw new ConfigError(`--type: a folder holds plain floats, expected ${FOLDER_DTYPES.join(", ")}, got ${type}. Quantised weights are GGUF's.`);
    checkTarget(out, path, force, to === "hf");
    const { weights, tokenizer, chatTemplate, generationConfig, name } = await openModelFiles(path, io.log, { offline });
    try {
      if (to === "hf") {
        const { bytes, files } = await saveFolder(weights, out, {
          ...(plain === undefined ? {} : { dtype: plain }),
          tokenizer,
          chatTemplate,
          generationConfig,
          replace: force,
        });
        io.print(`${resolve(out)}: ${files.join(", ")}; ${byteSize(bytes)} of weights`);
        return { model: path, to, out, bytes, files };
      }
      const chosen = type ?? typeOf(weights);
      const saved = await saveGguf(weights, out, { type: chosen, tokenizer, chatTemplate, name, progress: progressOf(io.log) });
      io.print(`${resolve(out)}: ${chosen}, ${describeSaved(saved)}`);
      return { model: path, to, out, type: chosen, ...saved };
    } finally {
      await weights.close();
    }
  },
});

/** The plain type that loses nothing: float32, unless every matrix is of one shorter kind. MXFP4 stays what it is. */
export function typeOf({ shapes, formats }: WeightSource): GgufFileType {
  const matrices = new Set([...shapes].filter(([, shape]) => shape.length > 1).map(([name]) => formats.get(name)));
  matrices.delete("MXFP4");
  const [only] = matrices;
  return matrices.size === 1 && (only === "F16" || only === "BF16") ? only : "F32";
}

/** Size, bits and layouts in words. */
export function describeSaved({ bytes, bitsPerWeight, layouts }: SavedGguf | SavedFolder): string {
  const parts = Object.entries(layouts).map(([layout, count]) => `${count} ${layout}`);
  return `${byteSize(bytes)}, ${bitsPerWeight.toFixed(2)} bits per weight (${parts.join(", ")})`;
}

/** A line every few seconds. */
export function progressOf(log: (line: string) => void): (tensor: string, done: number, of: number) => void {
  let said = performance.now();
  return (tensor, done, of) => {
    if (performance.now() - said < 5000) return;
    said = performance.now();
    log(`${done} of ${of} tensors; now ${tensor}`);
  };
}

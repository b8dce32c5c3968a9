/** `groundup quantize`: a model with fewer bits a weight, as a GGUF file or packed in a folder. */
import { resolve } from "node:path";
import * as z from "zod";
import { openDocuments } from "../data/index.ts";
import { ConfigError, DataError, RunError } from "../errors.ts";
import { perplexity } from "../eval/index.ts";
import { FILE_TYPES, GGML_TYPES, type GgmlType, type GgufFileType, PACKINGS, type Packing, PLAIN_FILE_TYPES } from "../formats/index.ts";
import { fromPretrained, saveFolder, saveGguf, type WeightSource } from "../models/index.ts";
import { byteSize } from "../quantities.ts";
import { type Tokenizer, WHOLE } from "../tokenizers/index.ts";
import { defineCommand } from "./command.ts";
import { describeSaved, progressOf } from "./convert.ts";
import { type Comparison, checkTarget, compareGreedy, openModelFiles } from "./model-files.ts";
import { checkPath, MODEL_ARGUMENT, OFFLINE_FLAG } from "./open-model.ts";

export const command = defineCommand({
  about: `Writes a model with fewer bits a weight: as a GGUF file of type ${Object.keys(FILE_TYPES).join(", ")}; or as a Hugging Face folder that bitsandbytes reads, of type nf4 (with double quantisation) or int8. Q4_K_M is the usual choice, Q8_0 loses next to nothing. One tensor at a time is in memory. The result is opened again and compared with the model.`,
  arguments: [MODEL_ARGUMENT],
  options: z.object({
    type: z
      .enum([...(Object.keys(FILE_TYPES) as GgufFileType[]), ...PACKINGS] as [GgufFileType | Packing, ...(GgufFileType | Packing)[]])
      .default("Q4_K_M")
      .describe("how weights are stored"),
    out: z.string().min(1).describe("the GGUF file to write, or of nf4 and int8 the folder").meta({ placeholder: "PATH" }),
    check: z.boolean().default(true).describe("do not open what was written and compare 32 greedy tokens with the model's"),
    perplexity: z.string().optional().describe("measure the perplexity of this text before and after").meta({ placeholder: "FILE" }),
    context: z.int().min(2).default(512).describe("tokens in a window of --perplexity"),
    force: z.boolean().default(false).describe("replace what has the name of --out"),
    offline: z.boolean().default(false).describe(OFFLINE_FLAG),
  }),
  examples: [
    "groundup quantize ./SmolLM2-135M --type Q4_K_M --out smollm2.gguf",
    "groundup quantize model.gguf --type Q8_0 --out small.gguf --perplexity book.txt",
    "groundup quantize ./SmolLM2-135M --type nf4 --out ./smollm2-nf4",
  ],
  async run([path], { type, out, check, perplexity: text, context, force, offline }, io) {
    const packing = PACKINGS.find((one) => one === type);
    checkTarget(out, path, force, packing !== undefined);
    if (text !== undefined) checkPath(text, "--perplexity");
    const { path: source, weights, tokenizer, chatTemplate, generationConfig, name } = await openModelFiles(path, io.log, { offline });
    if (text !== undefined && tokenizer === null)
      throw new ConfigError(`${path}: no tokenizer, expected one for --perplexity, got none. Put it beside the model.`);
    // Before the work, which may take long.
    if (text !== undefined && tokenizer !== null) await checkMeasurable(text, tokenizer).catch((error) => weights.close().then(() => Promise.reject(error)));
    const started = performance.now();
    const stored = bytesOf(weights);
    const write = async () =>
      packing === undefined
        ? saveGguf(weights, out, { type: type as GgufFileType, tokenizer, chatTemplate, name, progress: progressOf(io.log) })
        : saveFolder(weights, out, { packing, tokenizer, chatTemplate, generationConfig, replace: force });
    const saved = await write().finally(() => weights.close());
    const seconds = (performance.now() - started) / 1000;
    io.print(`${resolve(out)}: ${type}, ${describeSaved(saved)}`);
    io.print(`before ${byteSize(stored.bytes)}, ${((8 * stored.bytes) / stored.values).toFixed(2)} bits per weight; took ${seconds.toFixed(1)} s`);
    const compared = check ? await comparedOf(source, out, tokenizer, isLossless(type, weights)) : null;
    if (compared !== null) io.print(`${compared.agree} of ${compared.of} greedy tokens agree with ${path}`);
    const fits =
      text === undefined || tokenizer === null
        ? null
        : { before: await measured(source, tokenizer, text, context), after: await measured(out, tokenizer, text, context) };
    if (fits !== null) io.print(`perplexity ${fits.before.toFixed(4)} before, ${fits.after.toFixed(4)} after`);
    return { model: source, out, type, ...saved, before: stored, seconds, compared, perplexity: fits };
  },
});

const BITS: Readonly<Record<string, number>> = { F64: 64, F32: 32, F16: 16, BF16: 16, NF4: 4 + 8 / 64 + 32 / (64 * 256), INT8: 8 };

/** What the weights take where they are. */
function bytesOf({ shapes, formats }: WeightSource): { bytes: number; values: number } {
  let [bytes, values] = [0, 0];
  for (const [name, shape] of shapes) {
    const count = shape.reduce((a, b) => a * b, 1);
    const layout = GGML_TYPES[formats.get(name) as GgmlType] as { bytes: number; elements: number } | undefined;
    bytes += layout === undefined ? (count * (BITS[formats.get(name) ?? ""] ?? 8)) / 8 : (count / layout.elements) * layout.bytes;
    values += count;
  }
  return { bytes, values };
}

/** Whether every number is kept. */
function isLossless(type: GgufFileType | Packing, { shapes, formats }: WeightSource): boolean {
  if (!PLAIN_FILE_TYPES.some((plain) => plain === type)) return false;
  return type === "F32" || [...shapes].every(([name, shape]) => shape.length < 2 || formats.get(name) === type);
}

async function comparedOf(source: string, out: string, tokenizer: Tokenizer | null, lossless: boolean): Promise<Comparison> {
  const compared = await compareGreedy(source, out, tokenizer);
  if (lossless && compared.agree < compared.of)
    throw new RunError(
      `${out}: differs from the model that it was made of, expected ${compared.of} equal tokens of a type that keeps every number, got ${compared.agree}. Don't use the file; please report this.`,
    );
  return compared;
}

/** @throws DataError for a text that has no perplexity */
async function checkMeasurable(text: string, tokenizer: Tokenizer): Promise<void> {
  for await (const document of await openDocuments(text, {})) if (tokenizer.count(document.text, WHOLE) >= 2) return;
  throw new DataError(`${text}: too short for --perplexity, expected a document of at least 2 tokens, got none. Give a longer text.`);
}

async function measured(path: string, tokenizer: Tokenizer, text: string, context: number): Promise<number> {
  const files = await openDocuments(text, {});
  async function* documents(): AsyncGenerator<string> {
    for await (const document of files) yield document.text;
  }
  const model = await fromPretrained(path);
  const { context: longest } = model.dimensions;
  return perplexity(model, tokenizer, documents(), { context: Math.min(context, longest) })
    .then((found) => found.perplexity)
    .finally(() => model.dispose());
}

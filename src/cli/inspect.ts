/** `groundup inspect`: looks into whatever groundup reads or writes. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import * as z from "zod";
import { openShards } from "../data/index.ts";
import { ConfigError, FormatError, GroundupError } from "../errors.ts";
import { openGgufFiles } from "../formats/gguf/files.ts";
import { isGgufFile } from "../formats/gguf/is-gguf-file.ts";
import { isTokenizerFile } from "../formats/hub/model-file-names.ts";
import { listCheckpoints, openFile, openFolder, openModelWeights, openPytorch, openSafetensors, readConfigJson, type TensorReader } from "../formats/index.ts";
import { whereThere } from "../formats/node-file.ts";
import { openWeightFiles, type WeightInfo } from "../formats/packed-weights.ts";
import { ggufWeights } from "../models/gguf-model.ts";
import { describeGguf, describeModel, type ModelCounts, type ModelDescription, modelCounts, openWeights } from "../models/index.ts";
import { checkMemory, openedBytes } from "../models/weight-memory.ts";
import { byteSize, grouped, metric } from "../quantities.ts";
import { memory } from "../tensor/index.ts";
import { loadTokenizer, type Tokenizer } from "../tokenizers/index.ts";
import { hasTemplate } from "./chat-model.ts";
import { defineCommand } from "./command.ts";
import { checkPath, findModel, OFFLINE_FLAG, placeOf } from "./open-model.ts";
import { tokenizerLines, tokenizerReport } from "./tokenizer-report.ts";

interface Report {
  kind: string;
  path: string;
  [part: string]: unknown;
}

export const command = defineCommand({
  about:
    "Shows what is in a model's folder, a checkpoint, a safetensors or GGUF file, a tokenizer, a folder of token shards or a run, without loading weights.",
  arguments: [{ name: "PATH", description: "a folder or file, or a model of the hub (org/name) or of Ollama's (ollama:name)" }],
  options: z.object({ tensors: z.boolean().default(false).describe("list every tensor"), offline: z.boolean().default(false).describe(OFFLINE_FLAG) }),
  examples: ["groundup inspect runs/quickstart", "groundup inspect ./gpt2 --tensors", "groundup inspect model.safetensors --json"],
  async run([name], { tensors, offline }, io) {
    const path = await placeOf(name, io.log, { weights: true, offline, signal: io.signal });
    checkPath(path, "PATH");
    const { report, lines } = await inspect(path, tensors);
    for (const line of lines) io.print(line);
    return report;
  },
});

/** A folder has one of them. */
const WEIGHTS = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

const PYTORCH_ENDING = /\.(pt|pth|ckpt|bin)$/i;

interface Inspected {
  report: Report;
  lines: string[];
}

/** What stands where decides what it is. */
async function inspect(path: string, tensors: boolean): Promise<Inspected> {
  const has = (name: string) => existsSync(join(path, name));
  if (statSync(path).isDirectory()) {
    // A folder that can't be read has nothing that could be seen below.
    const names = await whereThere(path, readdir(path), []);
    if (has("config.yaml") && (has("checkpoints") || has("manifest.json"))) return inspectRun(path, tensors);
    if (has("config.json")) return inspectModel(path, tensors);
    if (has("manifest.json") && has("documents.bin")) return inspectShards(path);
    if (names.some(isTokenizerFile)) return inspectTokenizer(path);
    if (WEIGHTS.some(has)) return inspectWeights(path, await openModelWeights(openFolder(path)), tensors);
    throw new ConfigError(
      `${path}: nothing that groundup knows, expected a model, a run, a tokenizer or token shards, got ${names.slice(0, 6).join(", ") || "an empty folder"}. Name a folder or file in it.`,
    );
  }
  if (await isGgufFile(path)) return inspectGguf(path, tensors);
  if (path.endsWith(".safetensors")) return inspectWeights(path, await openSafetensors(await openFile(path)), tensors);
  if (PYTORCH_ENDING.test(path)) return inspectPytorch(path, tensors);
  if (/\.(json|tiktoken|txt|bpe|model)$/.test(path) && basename(path) !== "config.json") return inspectTokenizer(path);
  if (path.endsWith(".gguf"))
    throw new FormatError(`${path}: not a GGUF file, expected one that begins with "GGUF", got another file of that name. It is damaged; fetch it again.`);
  throw new ConfigError(
    `${path}: nothing that groundup knows, expected .safetensors, .gguf, PyTorch's .bin or .pt, or a tokenizer's file, got ${basename(path)}. Name the model's folder in place of a file in it.`,
  );
}

async function inspectModel(path: string, tensors: boolean): Promise<Inspected> {
  const folder = openFolder(path);
  const json = await readConfigJson(folder);
  const modelType = typeof json.model_type === "string" ? json.model_type : "unknown";
  const hasWeights = WEIGHTS.some((name) => existsSync(join(path, name)));
  const opened = await openedModel(path, () => describeModel(json, `${path}/config.json`), hasWeights ? await weightsIn(folder) : null);
  const lines = [`model      ${modelType} in ${path}`, ...opened.lines];
  const parts: Record<string, unknown> = { config: json, ...opened.report };
  if (hasWeights) {
    const weights = await inspectWeights(path, await openModelWeights(folder), tensors);
    parts.weights = weights.report;
    lines.push(...weights.lines.slice(1));
  } else lines.push("weights    none");
  const tokenizer = await modelTokenizer(path);
  return { report: { kind: "model", path, modelType, ...parts, ...tokenizer.report }, lines: [...lines, ...tokenizer.lines] };
}

/** Weights as they will be opened, from the files' headers. */
async function weightsIn(folder: ReturnType<typeof openFolder>): Promise<WeightInfo[]> {
  const reader = await openWeightFiles(folder);
  await reader.close();
  return [...reader.weights.values()];
}

/** Whether groundup opens a model, and what it takes: from headers alone. @param weights null where there is a config without weights */
async function openedModel(path: string, describe: () => ModelDescription, weights: readonly WeightInfo[] | null) {
  const lines: string[] = [];
  let counts: ModelCounts | null = null;
  let unsupported: string | null = null;
  let bytes: number | null = null;
  try {
    const model = describe();
    counts = modelCounts(model);
    bytes = weights === null ? counts.parameters.total * 4 : openedBytes(weights);
    lines.push(...modelLines(model, counts), memoryLine(model, counts, bytes));
    checkMemory(path, counts.parameters.total, bytes);
    if (weights !== null) await (await openWeights(path)).close();
  } catch (error) {
    if (!(error instanceof GroundupError)) throw error;
    unsupported = withoutPlace(error.message, path);
  }
  lines.push(unsupported !== null ? `does not run: ${unsupported}` : weights === null ? "opens      no: there are no weights" : "opens      yes");
  return {
    report: {
      unsupported,
      parameters: counts?.parameters ?? null,
      memoryBytes: bytes,
      stateBytesPerToken: counts?.stateBytesPerToken ?? null,
      stateBytesPerTokenF16: counts?.stateBytesPerTokenF16 ?? null,
    },
    lines,
  };
}

/** The lines above say where. */
const withoutPlace = (message: string, path: string): string => (message.startsWith(`${path}: `) ? message.slice(path.length + 2) : message);

function memoryLine({ dimensions: { context } }: ModelDescription, counts: ModelCounts, bytes: number): string {
  const [state, half] = [counts.stateBytesPerToken, counts.stateBytesPerTokenF16].map((each) => byteSize(context * each));
  return `memory     ${byteSize(bytes)} for the weights, ${state} more for keys and values of all ${grouped(context)} positions (${half} as f16); the limit of this machine is ${byteSize(memory().limitBytes)}`;
}

/** The tokenizer beside a model or in its file, and how its template writes a conversation. What is missing is said, and no error. */
async function modelTokenizer(path: string): Promise<{ report: Record<string, unknown>; lines: string[] }> {
  try {
    const tokenizer = await loadTokenizer(path);
    const report = tokenizerReport(tokenizer);
    const { template, line } = exampleOf(tokenizer);
    return {
      report: { template, tokenizer: { ...report, kind: "tokenizer", path, model: report.kind } },
      lines: [`template   ${line}`, "tokenizer", ...tokenizerLines(report).map((line) => `  ${line}`)],
    };
  } catch (error) {
    if (!(error instanceof GroundupError)) throw error;
    return { report: { template: null, tokenizer: null }, lines: [`tokenizer  ${withoutPlace(error.message, path)}`] };
  }
}

/** How the template writes a user's first word: the text, and a line for people. */
function exampleOf(tokenizer: Tokenizer): { template: string | null; line: string } {
  if (!hasTemplate(tokenizer)) return { template: null, line: "none, the model continues texts" };
  try {
    const { text } = tokenizer.applyChatTemplate([{ role: "user", content: "Hello" }], { addGenerationPrompt: true });
    return { template: text, line: `makes ${JSON.stringify(text)} of a user's "Hello"` };
  } catch (error) {
    if (!(error instanceof GroundupError)) throw error;
    return { template: null, line: `can't write a user's "Hello": ${error.message}` };
  }
}

function modelLines(model: ModelDescription, counts: ModelCounts): string[] {
  const parts = Object.entries(counts.parameters).filter(([name, n]) => name !== "total" && n > 0);
  return [
    `parameters ${grouped(counts.parameters.total)}: ${parts.map(([name, n]) => `${name} ${grouped(n)}`).join(", ")}`,
    `arithmetic ${metric(counts.forwardFlops(1), "FLOP")} a token, ${metric(counts.trainingFlops(1), "FLOP")} to train on one (without attention's share, which grows with length)`,
    `state      ${grouped(counts.stateBytesPerToken)} bytes a position, ${grouped(counts.stateBytesPerTokenF16)} as f16`,
    `config     ${Object.entries(model.config)
      .map(([k, v]) => `${k} ${typeof v === "object" && v !== null ? JSON.stringify(v) : v}`)
      .join(", ")}`,
  ];
}

interface Weight {
  name: string;
  dtype: string;
  shape: readonly number[];
  bytes: number;
}

const valuesIn = (weights: readonly Weight[]): number => weights.reduce((n, { shape }) => n + shape.reduce((a, b) => a * b, 1), 0);
const bytesIn = (weights: readonly Weight[]): number => weights.reduce((n, { bytes }) => n + bytes, 0);

function countByDtype(weights: readonly Weight[]): Record<string, number> {
  const dtypes: Record<string, number> = {};
  for (const { dtype } of weights) dtypes[dtype] = (dtypes[dtype] ?? 0) + 1;
  return dtypes;
}

/** How many, how large and of which dtypes; and each of them where asked. */
function weightLines(weights: readonly Weight[], files: number, tensors: boolean): string[] {
  const dtypes = Object.entries(countByDtype(weights)).map(([dtype, n]) => `${n} ${dtype}`);
  const width = Math.max(0, ...weights.map(({ name }) => name.length));
  return [
    `weights    ${weights.length} tensors, ${grouped(valuesIn(weights))} values, ${byteSize(bytesIn(weights))} in ${files} ${files === 1 ? "file" : "files"}: ${dtypes.join(", ")}`,
    ...(tensors ? weights.map(({ name, dtype, shape }) => `  ${name.padEnd(width)}  ${dtype.padEnd(5)} (${shape.join(", ")})`) : []),
  ];
}

async function inspectGguf(path: string, tensors: boolean): Promise<Inspected> {
  const reader = await openGgufFiles(path);
  await reader.close();
  const files = Number(reader.metadata.get("split.count")?.value ?? 1) || 1;
  const weights = [...reader.tensors.values()].map(({ name, type, shape, bytes }) => ({ name, dtype: type, shape, bytes }));
  const architecture = reader.metadata.get("general.architecture")?.value ?? "unknown";
  const opened = await openedModel(path, () => describeGguf(reader), weights.length === 0 ? null : ggufWeights(reader));
  const tokenizer = await modelTokenizer(path);
  const lines = [`GGUF       ${path}, version ${reader.version}`, `model      ${architecture}`, ...opened.lines];
  lines.push(...weightLines(weights, files, tensors), ...tokenizer.lines, "metadata");
  const metadata = Object.fromEntries(
    [...reader.metadata].map(([key, value]) => [key, value.kind === "array" ? `${value.value.length} × ${value.of}` : value.value]),
  );
  const width = Math.max(0, ...Object.keys(metadata).map((key) => key.length));
  for (const [key, value] of Object.entries(metadata)) lines.push(`  ${key.padEnd(width)}  ${onOneLine(String(value))}`);
  return {
    report: {
      kind: "gguf",
      path,
      version: reader.version,
      architecture,
      ...opened.report,
      ...tokenizer.report,
      tensors: weights.length,
      values: valuesIn(weights),
      bytes: bytesIn(weights),
      files,
      dtypes: countByDtype(weights),
      metadata: Object.fromEntries(Object.entries(metadata).map(([key, value]) => [key, typeof value === "bigint" ? value.toString() : value])),
      ...(tensors ? { list: weights } : {}),
    },
    lines,
  };
}

const onOneLine = (text: string): string => {
  const line = text.replace(/\s+/g, " ");
  return line.length > 100 ? `${line.slice(0, 99)}…` : line;
};

/** A file of PyTorch's; of nanoGPT's checkpoint, which has a config, the model too. */
async function inspectPytorch(path: string, tensors: boolean): Promise<Inspected> {
  const reader = await openPytorch(await openFile(path));
  const weights = await inspectWeights(path, reader, tensors);
  if (!reader.beside.has("model_args")) return weights;
  const source = await openWeights(path);
  await source.close();
  const counts = modelCounts(source.description);
  const { modelType } = source.description.architecture;
  return {
    report: { ...weights.report, modelType, parameters: counts.parameters },
    lines: [...weights.lines.slice(0, 1), `model      ${modelType}, as nanoGPT saved it`, ...modelLines(source.description, counts), ...weights.lines.slice(1)],
  };
}

async function inspectWeights(path: string, reader: TensorReader, tensors: boolean): Promise<Inspected> {
  const weights = [...reader.tensors.values()];
  await reader.close();
  const files = new Set(weights.map((t) => t.file)).size;
  const kind = PYTORCH_ENDING.test(path) ? "pytorch" : "safetensors";
  const lines = [`${kind === "pytorch" ? "PyTorch    " : "safetensors "}${path}`, ...weightLines(weights, files, tensors)];
  if (Object.keys(reader.metadata).length > 0) lines.splice(2, 0, `metadata   ${JSON.stringify(reader.metadata)}`);
  const described = weights.map(({ name, dtype, shape, bytes }) => ({ name, dtype, shape, bytes }));
  return {
    report: {
      kind,
      path,
      tensors: weights.length,
      values: valuesIn(weights),
      bytes: bytesIn(weights),
      files,
      dtypes: countByDtype(weights),
      metadata: reader.metadata,
      ...(tensors ? { list: described } : {}),
    },
    lines,
  };
}

async function inspectTokenizer(path: string): Promise<Inspected> {
  const report = tokenizerReport(await loadTokenizer(path));
  return { report: { ...report, kind: "tokenizer", path, model: report.kind }, lines: [`tokenizer  ${path}`, ...tokenizerLines(report)] };
}

async function inspectShards(path: string): Promise<Inspected> {
  const data = await openShards(openFolder(path));
  const { manifest } = data;
  await data.close();
  const { tokens, documents, dtype, vocabSize, shards, statistics } = manifest;
  return {
    report: { ...manifest, kind: "shards", path },
    lines: [
      `shards     ${path}`,
      `tokens     ${grouped(tokens)} of ${grouped(documents)} documents in ${shards.length} ${shards.length === 1 ? "file" : "files"}, ${dtype}, vocabulary ${grouped(vocabSize)}`,
      `text       ${grouped(statistics.bytes)} bytes, ${(1 / statistics.tokensPerByte).toFixed(2)} bytes a token, longest document ${grouped(statistics.longestDocument)}`,
    ],
  };
}

async function inspectRun(path: string, tensors: boolean): Promise<Inspected> {
  const saved = await listCheckpoints(join(path, "checkpoints"));
  const metrics = join(path, "metrics.jsonl");
  const written = existsSync(metrics) ? readFileSync(metrics, "utf8").trimEnd().split("\n") : [];
  const last = lastLine(written);
  // The first line may be that of step 0, the untrained model.
  const steps = Number(last?.step ?? 0);
  const head = { kind: "run", path, checkpoints: saved.map(({ step }) => step), steps, last };
  const lines = [
    `run        ${path}`,
    `steps      ${steps}${
      last === null
        ? ""
        : `, the last: ${Object.entries(last)
            .map(([k, v]) => `${k} ${typeof v === "number" ? Number(v.toPrecision(5)) : v}`)
            .join(", ")}`
    }`,
    `saved      ${saved.length === 0 ? "no checkpoint yet" : saved.map(({ step }) => step).join(", ")}`,
  ];
  if (saved.length === 0) return { report: head, lines };
  const model = await inspectModel(await findModel(path, "PATH"), tensors);
  return { report: { ...head, model: model.report }, lines: [...lines, ...model.lines] };
}

/** The last whole line of metrics.jsonl; a run that is being written may have half of one. */
function lastLine(written: readonly string[]): Record<string, unknown> | null {
  for (const line of [...written].reverse().slice(0, 2)) {
    try {
      return JSON.parse(line) as Record<string, unknown>;
    } catch {
      // half a line
    }
  }
  return null;
}

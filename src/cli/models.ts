/** `groundup models`: what is on this machine, and well-known models that could be. */
import os from "node:os";
import * as z from "zod";
import { GroundupError } from "../errors.ts";
import { isGgufFile } from "../formats/gguf/is-gguf-file.ts";
import {
  KNOWN_MODELS,
  type KnownModel,
  type LocalModel,
  localModels,
  openFile,
  openFolder,
  openGguf,
  openModelWeights,
  readConfigJson,
} from "../formats/index.ts";
import { architectures, openWeights } from "../models/index.ts";
import { byteSize, grouped, metric } from "../quantities.ts";
import { defineCommand } from "./command.ts";
import { commandName } from "./command-name.ts";
import { pullLine } from "./pull.ts";

/** Bytes of a weight: in Q8_0 32 share a scale of two bytes, in Q4_K 256 take 144. */
const BYTES_OF_WEIGHT = { f32: 4, bf16: 2, Q8_0: 34 / 32, Q4_K: 144 / 256 };
type Memory = Record<keyof typeof BYTES_OF_WEIGHT, number>;

export const command = defineCommand({
  about:
    "Lists the models on this machine (the hub's cache, Ollama's and LM Studio's folders): size, revision, last use, whether groundup opens them, and the memory that their weights take. With --search: well-known open models with size, licence, context and kind of template.",
  options: z.object({
    search: z
      .string()
      .optional()
      .describe('well-known models whose name, licence, architecture or template has this text; "" is all of them')
      .meta({ placeholder: "TEXT" }),
  }),
  examples: ["groundup models", "groundup models --search qwen", 'groundup models --search "" --json'],
  async run(_args, { search }, io) {
    const memoryBytes = machineMemory();
    const local = (await Promise.all((await localModels(({ message }) => io.log(message))).map(async (model) => ({ ...model, ...(await judge(model)) })))).map(
      (model) => ({
        ...model,
        memory: model.parameters === null ? null : memoryOf(model.parameters),
      }),
    );
    if (search === undefined) {
      if (local.length === 0) io.print("No models on this machine yet.");
      for (const model of local) for (const line of localLines(model, memoryBytes)) io.print(line);
      io.print(`\nFind more with: ${commandName()} models --search TEXT`);
      return { memoryBytes, local };
    }
    const here = new Set(local.map(({ id }) => id));
    const known = KNOWN_MODELS.filter((model) => fits(model, search)).map((model) => ({
      ...model,
      opens: model.modelType in architectures,
      here: here.has(model.id),
      memory: memoryOf(model.parameters),
    }));
    for (const model of known) for (const line of knownLines(model, memoryBytes)) io.print(line);
    if (known.length === 0)
      io.print(
        `None of the ${KNOWN_MODELS.length} well-known models fits "${search}". Any other of the hub is pulled by its id: ${commandName()} pull ORG/NAME`,
      );
    return { memoryBytes, known };
  },
});

/** Of a container, where it has less than the machine. */
function machineMemory(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, os.totalmem()) : os.totalmem();
}

function memoryOf(parameters: number): Memory {
  return Object.fromEntries(Object.entries(BYTES_OF_WEIGHT).map(([format, bytes]) => [format, Math.ceil(parameters * bytes)])) as Memory;
}

interface Judged {
  modelType: string | null;
  parameters: number | null;
  opens: boolean;
  /** Why it does not open. */
  reason: string | null;
}

/** Looks into headers and configs only. */
async function judge({ path }: LocalModel): Promise<Judged> {
  const judged: Judged = { modelType: null, parameters: null, opens: false, reason: null };
  try {
    await ((await isGgufFile(path)) ? readGguf(path, judged) : readFolder(path, judged));
    await (await openWeights(path)).close();
    judged.opens = true;
  } catch (error) {
    if (!(error instanceof GroundupError)) throw error;
    judged.reason = error.message;
  }
  return judged;
}

async function readGguf(path: string, judged: Judged): Promise<void> {
  const source = await openFile(path);
  const reader = await openGguf(source).finally(() => source.close());
  const architecture = reader.metadata.get("general.architecture")?.value;
  judged.modelType = typeof architecture === "string" ? architecture : null;
  judged.parameters = valuesIn(reader.tensors.values());
}

async function readFolder(path: string, judged: Judged): Promise<void> {
  const folder = openFolder(path);
  const config = await readConfigJson(folder);
  if (typeof config.model_type === "string") judged.modelType = config.model_type;
  const reader = await openModelWeights(folder);
  await reader.close();
  judged.parameters = valuesIn(reader.tensors.values());
}

function valuesIn(tensors: Iterable<{ readonly shape: readonly number[] }>): number {
  let values = 0;
  for (const { shape } of tensors) values += shape.reduce((a, b) => a * b, 1);
  return values;
}

function localLines(model: LocalModel & Judged & { memory: Memory | null }, memoryBytes: number): string[] {
  const { id, source, bytes, revision, lastUsed, modelType, parameters, opens, reason, memory, incomplete } = model;
  const where = { hub: "hub", ollama: "Ollama", lmstudio: "LM Studio" }[source];
  const commit = revision === null ? [] : [`${revision.names.join(", ") || "no name"} (${revision.commit.slice(0, 12)})`];
  const used = lastUsed === null ? [] : [`last used ${new Date(lastUsed).toISOString().slice(0, 10)}`];
  const what = [...(modelType === null ? [] : [modelType]), ...(parameters === null ? [] : [parametersText(parameters)])];
  if (incomplete !== null)
    return [
      id,
      `  ${[where, `incomplete, ${byteSize(bytes)}${incomplete.bytes === null ? " so far" : ` of ${byteSize(incomplete.bytes)}`}`, ...commit, ...what].join(", ")}`,
      `  go on with: ${pullLine(id, incomplete)}`,
    ];
  return [
    id,
    `  ${[where, byteSize(bytes), ...commit, ...used].join(", ")}`,
    `  ${[...what, opens ? "opens" : "does not open"].join(", ")}${memory === null ? "" : `; ${memoryText(memory, memoryBytes)}`}`,
    ...(reason === null ? [] : [`  ${reason.split("\n")[0]}`]),
  ];
}

function knownLines(model: KnownModel & { opens: boolean; here: boolean; memory: Memory }, memoryBytes: number): string[] {
  const { id, modelType, parameters, licence, context, template, gated, opens, here, memory } = model;
  const parts = [
    modelType,
    parametersText(parameters),
    licence,
    context === null ? "any length" : `${grouped(context)} tokens`,
    template === null ? "continues text" : `chats (${template})`,
    ...(gated ? ["gated: accept its terms on the hub first"] : []),
    ...(here ? ["on this machine"] : []),
    ...(opens ? [] : ["not opened by this version"]),
  ];
  return [id, `  ${parts.join(", ")}`, `  ${memoryText(memory, memoryBytes)}`];
}

/** `135 M parameters`, `8.03 B parameters`. */
const parametersText = (n: number): string => `${metric(n, "").trim().replace("G", "B")} parameters`;

/** What the weights take in each format, and which are more than there is. */
function memoryText(memory: Memory, memoryBytes: number): string {
  const formats = Object.entries(memory).map(([format, bytes]) => `${format} ${byteSize(bytes)}${bytes > memoryBytes ? " (more than this machine has)" : ""}`);
  return `weights as ${formats.join(", ")}`;
}

const fits = ({ id, licence, modelType, template }: KnownModel, text: string): boolean =>
  [id, licence, modelType, template ?? ""].some((part) => part.toLowerCase().includes(text.trim().toLowerCase()));

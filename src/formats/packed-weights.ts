/**
 * The weights of a folder as numbers, whatever they are packed in: where several tensors of a file hold one weight together, it stands under its own name. What files hold
 * themselves is `openModelWeights`.
 */
import { FormatError } from "../errors.ts";
import { fourBitsOf, int8Of, type Packed } from "./bitsandbytes.ts";
import { dequantizeBlocks } from "./gguf/dequantize.ts";
import { MXFP4_CODES, mxfp4ToGguf } from "./mxfp4.ts";
import type { TensorReader } from "./safetensors.ts";
import { openModelWeights } from "./safetensors-shards.ts";
import { floatsOf } from "./safetensors-values.ts";
import type { Folder } from "./source.ts";

/** A weight, as it will be read. */
export interface WeightInfo {
  readonly shape: readonly number[];
  /** How it is stored: a dtype of safetensors, or what it is packed in. */
  readonly format: string;
}

/** Weights by name. */
export interface WeightReader {
  readonly name: string;
  readonly weights: ReadonlyMap<string, WeightInfo>;
  /** One weight as float32; nothing is kept. */
  read(name: string): Promise<Float32Array<ArrayBuffer>>;
  /** The blocks of a weight whose format is one of GGUF's: row behind row of what is multiplied by one input. */
  blocks(name: string): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

/** A weight that several tensors hold, perhaps in GGUF's blocks. */
type PackedWeight = Packed & { blocks?(): Promise<Uint8Array<ArrayBuffer>> };

/** @throws FormatError when there are none, index and files disagree, or tensors that belong together do not fit */
export async function openWeightFiles(folder: Folder): Promise<WeightReader> {
  const reader = await openModelWeights(folder);
  const packed = await packedIn(reader).catch(async (error) => {
    await reader.close();
    throw error;
  });
  const parts = new Set([...packed.values()].flatMap(({ of }) => of));
  const plain = [...reader.tensors].filter(([name]) => !parts.has(name)).map(([name, { shape, dtype }]) => [name, { shape, format: dtype }] as const);
  return {
    name: reader.name,
    weights: new Map<string, WeightInfo>([...plain, ...packed]),
    async read(name) {
      return packed.get(name)?.read() ?? floatsOf(await reader.read(name), reader.name);
    },
    async blocks(name) {
      const found = await packed.get(name)?.blocks?.();
      if (found === undefined) throw new FormatError(`${reader.name}: no blocks of tensor ${name}, expected MXFP4, got another format. Read its numbers.`);
      return found;
    },
    close: () => reader.close(),
  };
}

async function packedIn(reader: TensorReader): Promise<Map<string, PackedWeight>> {
  const found: [string, PackedWeight][] = [];
  for (const name of reader.tensors.keys()) found.push(...mxfp4Of(reader, name), ...int8Of(reader, name), ...(await fourBitsOf(reader, name)));
  return new Map(found);
}

/** Experts of gpt-oss: `X_blocks` (experts, out, in / 32, 16) and `X_scales` (experts, out, in / 32) are X (experts, in, out). */
function mxfp4Of(reader: TensorReader, codes: string): [string, PackedWeight][] {
  const name = codes.replace(/_blocks$/, "");
  const exponents = `${name}_scales`;
  const [first, second] = [reader.tensors.get(codes), reader.tensors.get(exponents)];
  if (name === codes || first?.dtype !== "U8" || second?.dtype !== "U8") return [];
  const [experts, rows, groups, bytes] = first.shape as [number, number, number, number];
  if (first.shape.length !== 4 || bytes !== MXFP4_CODES || second.shape.join() !== [experts, rows, groups].join())
    throw new FormatError(
      `${reader.name}: ${codes} and ${exponents} do not belong together, expected U8 (experts, out, in / 32, ${MXFP4_CODES}) and (experts, out, in / 32), got (${first.shape.join(", ")}) and (${second.shape.join(", ")}). Get the files again.`,
    );
  const columns = 32 * groups;
  const blocks = async () => mxfp4ToGguf((await reader.read(codes)).data, (await reader.read(exponents)).data);
  const read = async () => {
    const values = dequantizeBlocks("MXFP4", await blocks(), `${reader.name}, tensor ${codes}`);
    const out = new Float32Array(values.length);
    for (let at = 0; at < values.length; at += rows * columns)
      for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[at + j * rows + i] = values[at + i * columns + j];
    return out;
  };
  return [[name, { shape: [experts, columns, rows], format: "MXFP4", of: [codes, exponents], read, blocks }]];
}

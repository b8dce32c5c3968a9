/**
 * Weights as bitsandbytes packs them and transformers saves them: of a weight `X` in four bits the codes under its own name, beside them `X.absmax` (the blocks' sizes),
 * `X.quant_map` (the sixteen values) and `X.quant_state.bitsandbytes__nf4` (JSON: shape, blocks); with double quantisation `X.nested_absmax`, `X.nested_quant_map`. Of
 * `L.weight` in int8 the codes, and `L.SCB` (the rows' sizes).
 */
import * as z from "zod";
import { FormatError } from "../errors.ts";
import { parseConfig } from "./hf-config.ts";
import { parseJson } from "./json.ts";
import { dequantize4Bit, dequantizeInt8, NF4_BLOCK, NF4_GROUP, NF4_SIZES, NF4_VALUES, type Nf4, nestedSizes, quantizeInt8, quantizeNf4 } from "./nf4.ts";
import type { StoredTensor, TensorReader } from "./safetensors.ts";
import type { TensorEntry } from "./safetensors-write.ts";

/** Numbers of a file that are packed so, by the tensors that hold them. */
export interface Packed {
  readonly shape: readonly number[];
  readonly format: string;
  /** The names of the tensors. */
  readonly of: readonly string[];
  read(): Promise<Float32Array<ArrayBuffer>>;
}

const STATE = /\.quant_state\.bitsandbytes__(nf4|fp4)$/;
const size = z.int().positive();
const stateSchema = z.object({
  quant_type: z.enum(["nf4", "fp4"]),
  blocksize: size,
  dtype: z.string(),
  shape: z.array(z.int().min(0)).length(2),
  nested_blocksize: size.optional(),
  nested_dtype: z.literal("float32").optional(),
  nested_offset: z.number().optional(),
});

/** The weight whose state this tensor is, if it is one. @throws FormatError where a part is missing or has another size than the state tells */
export async function fourBitsOf(reader: TensorReader, state: string): Promise<[string, Packed][]> {
  const name = state.replace(STATE, "");
  if (name === state) return [];
  const where = `${reader.name}, tensor ${state}`;
  const text = new TextDecoder().decode((await reader.read(state)).data);
  const {
    quant_type,
    shape,
    blocksize,
    nested_blocksize: group,
    nested_offset: offset = 0,
  } = parseConfig(stateSchema, parseJson(text, where, { maxDepth: 4 }), where);
  const length = shape.reduce((a, b) => a * b, 1);
  const blocks = Math.ceil(length / blocksize);
  const parts = {
    codes: part(reader, name, "U8", Math.ceil(length / 2)),
    sizes: part(reader, `${name}.absmax`, group === undefined ? "F32" : "U8", blocks),
    values: part(reader, `${name}.quant_map`, "F32", 16),
    ...(group === undefined
      ? {}
      : {
          scales: part(reader, `${name}.nested_absmax`, "F32", Math.ceil(blocks / group)),
          nested: part(reader, `${name}.nested_quant_map`, "F32", 256),
        }),
  };
  const read = async (): Promise<Float32Array<ArrayBuffer>> => {
    const [codes, sizes, values] = [await parts.codes.read(), await parts.sizes.read(), floats(await parts.values.read())];
    const scales = await parts.scales?.read();
    const nested = await parts.nested?.read();
    const largest =
      scales === undefined || nested === undefined || group === undefined
        ? floats(sizes)
        : nestedSizes({ sizes: sizes.data, values: floats(nested), group, scales: floats(scales), offset: Math.fround(offset) });
    return dequantize4Bit({ length, codes: codes.data, values, block: blocksize, sizes: largest });
  };
  return [[name, { shape, format: quant_type.toUpperCase(), of: [state, ...Object.values(parts).map((one) => one.name)], read }]];
}

/** The weight of which this tensor has the rows' sizes, if it is one. @throws FormatError where it has another number of rows */
export function int8Of(reader: TensorReader, sizes: string): [string, Packed][] {
  const name = sizes.replace(/\.SCB$/, ".weight");
  const info = reader.tensors.get(name);
  if (name === sizes || info?.dtype !== "I8") return [];
  const { shape } = info;
  const rows = part(reader, sizes, "F32", shape[0] as number);
  const layout = sizes.replace(/SCB$/, "weight_format");
  const read = async () => dequantizeInt8({ codes: new Int8Array((await reader.read(name)).data.buffer), sizes: floats(await rows.read()) });
  return [[name, { shape, format: "INT8", of: [name, sizes, ...(reader.tensors.has(layout) ? [layout] : [])], read }]];
}

const floats = ({ data }: StoredTensor): Float32Array<ArrayBuffer> => new Float32Array(data.buffer);

/** A tensor that must be there, with so many items. */
function part(reader: TensorReader, name: string, dtype: "U8" | "F32", items: number): { name: string; read(): Promise<StoredTensor> } {
  const info = reader.tensors.get(name);
  const there = info?.shape.reduce((a, b) => a * b, 1);
  if (info?.dtype !== dtype || there !== items)
    throw new FormatError(
      `${reader.name}: a weight that is packed is not whole, expected ${name} with ${items} items of ${dtype}, got ${info === undefined ? "none" : `${there} of ${info.dtype}`}. Get the files again.`,
    );
  return { name, read: () => reader.read(name) };
}

/** How `packedEntries` packs. */
export type Packing = "nf4" | "int8";
/** The ways to pack. */
export const PACKINGS: readonly Packing[] = ["nf4", "int8"];

/** A weight (out, in) as tensors of a file. Its numbers are asked for twice: for all that is small at once, and for the codes. */
export function packedEntries(packing: Packing, name: string, shape: readonly number[], read: () => Promise<Float32Array>): TensorEntry[] {
  const [rows, columns] = shape as [number, number];
  if (packing === "int8") {
    let small: Promise<Float32Array> | undefined;
    const sizes = () => (small ??= read().then((values) => quantizeInt8(values, rows).sizes));
    const layer = name.replace(/weight$/, "");
    return [
      { name, dtype: "I8", shape, data: async () => quantizeInt8(await read(), rows).codes },
      { name: `${layer}SCB`, dtype: "F32", shape: [rows], data: sizes },
      // Rows as they are; others were for older GPUs.
      { name: `${layer}weight_format`, dtype: "U8", shape: [], data: new Uint8Array(1) },
    ];
  }
  let small: Promise<Omit<Nf4, "codes">> | undefined;
  const once = () => (small ??= read().then((values) => withoutCodes(quantizeNf4(values))));
  const length = rows * columns;
  const blocks = Math.ceil(length / NF4_BLOCK);
  return [
    { name, dtype: "U8", shape: [Math.ceil(length / 2), 1], data: async () => quantizeNf4(await read()).codes },
    { name: `${name}.absmax`, dtype: "U8", shape: [blocks], data: async () => (await once()).sizes },
    { name: `${name}.quant_map`, dtype: "F32", shape: [NF4_VALUES.length], data: NF4_VALUES },
    { name: `${name}.nested_absmax`, dtype: "F32", shape: [Math.ceil(blocks / NF4_GROUP)], data: async () => (await once()).scales },
    { name: `${name}.nested_quant_map`, dtype: "F32", shape: [NF4_SIZES.length], data: NF4_SIZES },
    {
      name: `${name}.quant_state.bitsandbytes__nf4`,
      dtype: "U8",
      shape: [stateText(shape, 0).length],
      data: async () => stateText(shape, (await once()).offset),
    },
  ];
}

const withoutCodes = ({ codes: _, ...rest }: Nf4): Omit<Nf4, "codes"> => rest;

/** The state's JSON, filled up with spaces, so that its length is known before its offset is. */
function stateText(shape: readonly number[], offset: number): Uint8Array {
  const state = { quant_type: "nf4", blocksize: NF4_BLOCK, dtype: "float32", shape, nested_blocksize: NF4_GROUP, nested_dtype: "float32" };
  // A number takes up to 24 characters.
  return new TextEncoder().encode(`${JSON.stringify(state).slice(0, -1)},"nested_offset":${String(offset).padEnd(24)}}`);
}

/** `quantization_config` of config.json, as transformers writes it. */
export function packingConfig(packing: Packing): Record<string, unknown> {
  const four = packing === "nf4";
  return {
    _load_in_4bit: four,
    _load_in_8bit: !four,
    bnb_4bit_compute_dtype: "float32",
    bnb_4bit_quant_storage: "uint8",
    bnb_4bit_quant_type: four ? "nf4" : "fp4",
    bnb_4bit_use_double_quant: four,
    llm_int8_enable_fp32_cpu_offload: false,
    llm_int8_has_fp16_weight: false,
    llm_int8_skip_modules: null,
    llm_int8_threshold: 6,
    load_in_4bit: four,
    load_in_8bit: !four,
    quant_method: "bitsandbytes",
  };
}

/** Its keys that must be written with a point. */
export const PACKING_FLOATS: readonly string[] = ["llm_int8_threshold"];

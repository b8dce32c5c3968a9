/** Real files, changed by structure and by bytes: what the readers make of them is a value or a typed error. */
import { readFileSync } from "node:fs";
import { FormatError, GroundupError } from "../../src/errors.ts";
import { DEQUANTIZED, dequantizeBlocks } from "../../src/formats/gguf/dequantize.ts";
import { openGguf } from "../../src/formats/gguf/read.ts";
import { openPytorch } from "../../src/formats/pytorch/read.ts";
import { openModelWeights } from "../../src/formats/safetensors-shards.ts";
import { encodeModelWeights, type SafetensorsFile, type TensorEntry } from "../../src/formats/safetensors-write.ts";
import { bytesSource, memoryFolder } from "../../src/formats/source.ts";
import { createTokenizer, loadTokenizer, memoryFiles, readTiktoken, readTokenizerJson } from "../../src/tokenizers/index.ts";
import { type Random, random } from "../random.ts";

export async function bytesOf(file: SafetensorsFile): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of file.content) pieces.push(piece.slice());
  return new Uint8Array(Buffer.concat(pieces));
}

export interface Outcome {
  accepted: number;
  refused: number;
}

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const SCALARS: Json[] = [
  null,
  true,
  false,
  0,
  -1,
  1,
  2,
  4,
  7,
  0.5,
  1e9,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  -(2 ** 53),
  1e300,
  "",
  "0",
  "F32",
  "F64",
  "BPE",
  "ByteLevel",
  "\ud800",
];
const KEYS = ["__proto__", "constructor", "", "type", "dtype", "shape", "data_offsets", "content", "id", "x"];

/** One change somewhere in a JSON value: a part replaced, left out, given twice, exchanged with another, or with a strange key beside it. */
export function changeJson(root: Json, r: Random): void {
  const places: [object: Record<string, Json>, key: string][] = [];
  const walk = (value: Json): void => {
    if (typeof value !== "object" || value === null) return;
    // Of long lists only some, so that the rest of the document has its turn too.
    const keys = Object.keys(value);
    for (const key of keys.length > 40 ? Array.from({ length: 8 }, () => r.pick(keys)) : keys) {
      places.push([value as Record<string, Json>, key]);
      walk((value as Record<string, Json>)[key] as Json);
    }
  };
  walk(root);
  if (places.length === 0) return;
  const [object, key] = r.pick(places);
  const [other, otherKey] = r.pick(places);
  switch (r.below(6)) {
    case 0:
      if (Array.isArray(object)) object.splice(Number(key), 1);
      else delete object[key];
      break;
    case 1:
      object[Array.isArray(object) ? String(object.length) : r.pick(KEYS)] = structuredClone(other[otherKey]) as Json;
      break;
    case 2:
      object[key] = structuredClone(other[otherKey]) as Json;
      break;
    case 3:
      object[key] = r.once(2) ? [] : {};
      break;
    case 4:
      object[key] = typeof object[key] === "number" ? (object[key] as number) + r.pick([-1, 1, 4, -8]) : r.pick(SCALARS);
      break;
    default:
      object[key] = r.pick(SCALARS);
  }
}

/** Flips, cuts, and pieces put in or left out. */
export function changeBytes(bytes: Uint8Array, r: Random): Uint8Array {
  const at = r.below(bytes.length + 1);
  const with_ = (middle: number[], left: number) => new Uint8Array([...bytes.subarray(0, at), ...middle, ...bytes.subarray(at + left)]);
  switch (r.below(5)) {
    case 0:
      return bytes.slice(0, at);
    case 1:
      return with_([], r.below(9));
    case 2:
      return with_(
        Array.from({ length: r.below(9) }, () => r.below(256)),
        0,
      );
    case 3:
      return with_([...new TextEncoder().encode(r.pick(['"', "{", "]", ",", "9", "-", "1e9", "null", "\\u0000", "[[[["]))], r.below(3));
    default:
      return with_([r.below(256)], 1);
  }
}

const encoder = new TextEncoder();

async function count(what: string, rounds: number, refuses: typeof GroundupError, attempt: () => Promise<unknown> | unknown): Promise<Outcome> {
  const outcome: Outcome = { accepted: 0, refused: 0 };
  for (let i = 0; i < rounds; i++) {
    try {
      await attempt();
      outcome.accepted++;
    } catch (error) {
      if (!(error instanceof refuses)) throw new Error(`${what}, round ${i}`, { cause: error });
      outcome.refused++;
    }
  }
  return outcome;
}

/** A sharded model, of several dtypes, with one of its files changed. */
export async function fuzzSafetensors(seed: number, rounds: number): Promise<Outcome> {
  const r = random(seed);
  const entries: TensorEntry[] = [
    { name: "embed.weight", dtype: "F32", shape: [4, 3], data: Float32Array.from({ length: 12 }, (_, i) => i) },
    { name: "norm.weight", dtype: "BF16", shape: [3], data: Uint16Array.of(0x3f80, 0x3f80, 0) },
    { name: "ids", dtype: "I64", shape: [2], data: BigInt64Array.of(1n, -1n) },
    { name: "mask", dtype: "BOOL", shape: [1, 5], data: Uint8Array.of(0, 1, 1, 0, 1) },
    { name: "scalar", dtype: "F16", shape: [], data: Uint16Array.of(0x3c00) },
  ];
  const files: Record<string, Uint8Array> = {};
  for (const file of encodeModelWeights(entries, { metadata: { format: "pt" }, maxShardBytes: r.pick([64, 2 ** 20]) })) files[file.file] = await bytesOf(file);
  const names = Object.keys(files);
  return count(`safetensors, seed ${seed}`, rounds, FormatError, async () => {
    const name = r.pick(names);
    const whole = files[name] as Uint8Array;
    let bytes = whole;
    if (r.once(2)) {
      bytes = changeBytes(bytes, r);
    } else {
      const start = name.endsWith(".json") ? 0 : 8;
      const length = start === 0 ? whole.length : Number(new DataView(whole.buffer).getBigUint64(0, true));
      const header = JSON.parse(new TextDecoder().decode(whole.subarray(start, start + length))) as Json;
      for (let edits = r.below(3); edits >= 0; edits--) changeJson(header, r);
      const text = encoder.encode(JSON.stringify(header));
      bytes = new Uint8Array([...new Uint8Array(start), ...text, ...whole.subarray(start + length)]);
      if (start > 0) new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length + (r.once(8) ? r.below(5) - 2 : 0)), true);
    }
    const reader = await openModelWeights(memoryFolder({ ...files, [name]: bytes }));
    try {
      for (const [tensor, info] of reader.tensors) {
        const { data } = await reader.read(tensor);
        if (data.byteLength !== info.bytes || data.byteLength > bytes.length + whole.length) throw new Error(`${tensor} has ${data.byteLength} bytes`);
      }
    } finally {
      await reader.close();
    }
  });
}

const gguf = Buffer.from(
  (JSON.parse(readFileSync(new URL("../../src/formats/gguf/gguf.fixture.json", import.meta.url), "utf8")) as { file: string }).file,
  "base64",
);

/** A GGUF file with some of its numbers, lengths and texts changed: what is opened can be read to its end. */
export async function fuzzGguf(seed: number, rounds: number): Promise<Outcome> {
  const r = random(seed);
  const header = 1100;
  return count(`GGUF, seed ${seed}`, rounds, FormatError, async () => {
    let bytes = new Uint8Array(gguf);
    for (let edits = r.below(3); edits >= 0; edits--) {
      if (bytes.length < 16) break;
      const at = r.below(Math.min(header, bytes.length - 8));
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      if (r.once(3)) view.setUint32(at, r.pick([0, 1, 8, 9, 12, 13, 31, 32, 64, 255, 65536, 2 ** 31, 2 ** 32 - 1]), true);
      else if (r.once(2)) view.setBigUint64(at, r.pick([0n, 1n, 32n, 33n, 2n ** 20n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]), true);
      else bytes = new Uint8Array([...changeBytes(bytes.subarray(0, header), r), ...bytes.subarray(header)]);
    }
    const reader = await openGguf(bytesSource(bytes, "f.gguf"));
    for (const [name, info] of reader.tensors) {
      const blocks = await reader.read(name);
      if (blocks.length !== info.bytes) throw new Error(`${name} has ${blocks.length} bytes`);
      if (DEQUANTIZED.includes(info.type)) dequantizeBlocks(info.type, blocks, name);
    }
    if (reader.metadata.size > 1000) throw new Error("more keys than the file has room for");
  });
}

const pytorch = JSON.parse(readFileSync(new URL("../../src/formats/pytorch/pytorch.fixture.json", import.meta.url), "utf8")) as Record<string, string>;

/** torch.save's archive, its pickle and its directory changed: what is opened can be read to its end. */
export async function fuzzPytorch(seed: number, rounds: number): Promise<Outcome> {
  const r = random(seed);
  const whole = Buffer.from(pytorch.tensors as string, "base64");
  const pickle = whole.indexOf("PK\x03\x04", 0, "latin1");
  const directory = whole.indexOf("PK\x01\x02", 0, "latin1");
  return count(`PyTorch, seed ${seed}`, rounds, FormatError, async () => {
    const bytes = Uint8Array.from(whole);
    // Lengths stay, so that the places behind what is changed are still those that the directory tells.
    for (let edits = r.below(3); edits >= 0; edits--) bytes[r.once(4) ? directory + r.below(bytes.length - directory) : pickle + r.below(2000)] = r.below(256);
    const reader = await openPytorch(bytesSource(bytes, "f.pt"));
    for (const [name, info] of reader.tensors) {
      const { data } = await reader.read(name);
      if (data.length > bytes.length || (info.dtype !== "BOOL" && data.length !== info.bytes)) throw new Error(`${name} has ${data.length} bytes`);
    }
  });
}

const reference = JSON.parse(readFileSync(new URL("../../src/tokenizers/fixtures/reference.json", import.meta.url), "utf8")) as {
  trained: { file: string }[];
  ranks: { file: string }[];
};

function tryTokenizer(spec: ReturnType<typeof readTokenizerJson>): void {
  const tokenizer = createTokenizer(spec);
  const { ids } = tokenizer.encode("some text, 12 💥 \ud800", { allowSpecial: true });
  if (typeof tokenizer.decode(ids) !== "string") throw new Error("not text");
  tokenizer.dispose();
}

/** tokenizer.json of Hugging Face's tokenizers, changed. */
export function fuzzTokenizerJson(seed: number, rounds: number): Promise<Outcome> {
  const r = random(seed);
  return count(`tokenizer.json, seed ${seed}`, rounds, GroundupError, () => {
    const { file } = r.pick(reference.trained);
    const document = JSON.parse(file) as Json;
    if (!r.once(3)) for (let edits = r.below(3); edits >= 0; edits--) changeJson(document, r);
    let text = JSON.stringify(document);
    if (r.once(3)) text = new TextDecoder().decode(changeBytes(encoder.encode(text), r));
    tryTokenizer(readTokenizerJson(text, "tokenizer.json"));
  });
}

const pipelines = JSON.parse(readFileSync(new URL("../../src/tokenizers/pipeline-tokenizer.fixture.json", import.meta.url), "utf8")) as {
  tokenizers: Record<string, { file: string }>;
};

/** tokenizer.json of every other kind, changed. */
export function fuzzPipelines(seed: number, rounds: number): Promise<Outcome> {
  const r = random(seed);
  const files = Object.values(pipelines.tokenizers).map(({ file }) => file);
  return count(`pipelines, seed ${seed}`, rounds, GroundupError, () => {
    const document = JSON.parse(r.pick(files)) as { [key: string]: Json };
    // The vocabulary is most of the file; what stands around it has its turn as often.
    const part = r.pick(["normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens", "model"]);
    for (let edits = r.below(3); edits >= 0; edits--) changeJson(r.once(4) ? document : ((document[part] ?? document) as Json), r);
    tryTokenizer(readTokenizerJson(JSON.stringify(document), "tokenizer.json"));
  });
}

const sentencePieces = JSON.parse(readFileSync(new URL("../../src/tokenizers/sentencepiece/sentencepiece.fixture.json", import.meta.url), "utf8")) as {
  models: { model: string }[];
};

/** SentencePiece's files, changed. */
export function fuzzSentencePiece(seed: number, rounds: number): Promise<Outcome> {
  const r = random(seed);
  const files = sentencePieces.models.map(({ model }) => Uint8Array.from(Buffer.from(model, "base64")));
  return count(`SentencePiece, seed ${seed}`, rounds, GroundupError, async () => {
    let bytes = r.pick(files);
    for (let edits = r.below(3); edits >= 0; edits--) bytes = changeBytes(bytes, r) as Uint8Array<ArrayBuffer>;
    const tokenizer = await loadTokenizer(memoryFiles({ "tokenizer.model": bytes }));
    if (typeof tokenizer.decode(tokenizer.encode("some text, 12 💥 \ud800", { allowSpecial: true }).ids) !== "string") throw new Error("not text");
  });
}

/** Rank files of tiktoken, changed. */
export function fuzzTiktoken(seed: number, rounds: number): Promise<Outcome> {
  const r = random(seed);
  return count(`tiktoken, seed ${seed}`, rounds, GroundupError, () => {
    const lines = r.pick(reference.ranks).file.split("\n");
    for (let edits = r.below(3); edits >= 0; edits--) {
      const at = r.below(lines.length);
      const [token = "", rank = ""] = (lines[at] as string).split(" ");
      const other = lines[r.below(lines.length)] as string;
      const changed = [
        `${token} ${Number(rank) + r.pick([-1, 1, 1e6])}`,
        `${other.split(" ")[0]} ${rank}`,
        other,
        "",
        `${token}= ${rank}`,
        `${token}  ${rank} 0`,
      ];
      lines.splice(at, r.below(2), r.pick(changed));
    }
    let text = lines.join("\n");
    if (r.once(3)) text = new TextDecoder().decode(changeBytes(encoder.encode(text), r));
    tryTokenizer(readTiktoken(text, "f", { pattern: "gpt2" }));
  });
}

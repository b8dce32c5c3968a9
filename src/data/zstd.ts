/**
 * Zstandard (RFC 8878), frame by frame. Node's own zlib has it from 22.15 on and checks the checksums, but its stream ends with the first frame, and with a
 * skippable one before any text; before that fzstd does it, which checks no checksums. Whole files have many frames: parallel compressors and `cat` make them.
 */
import { type Duplex, pipeline, Readable } from "node:stream";
import zlib from "node:zlib";
import { Decompress } from "fzstd";

// What the zstd program too takes without being told otherwise (--memory).
const MAX_WINDOW = 1 << 27;
// Section 3.1.1.2.4: no block is larger.
const MAX_BLOCK = 1 << 17;
const MAGIC = 0xfd2f_b528;
// Section 3.1.2: frames of sixteen numbers from this on hold a size and whatever their writer likes, no text.
const USER_DATA = 0x184d_2a50;

type Decoder = (frame: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

/** The decompressed bytes. Throws an Error that says what is wrong with the data, without the file's name. */
export async function* unzstd(raw: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const create = (zlib as { createZstdDecompress?: (options: { chunkSize: number }) => Duplex }).createZstdDecompress;
  const decode: Decoder = create === undefined ? slowly : (frame) => pipeline(Readable.from(frame), create({ chunkSize: 1 << 18 }), () => {});
  const bytes = reader(raw);
  while (await bytes.more()) {
    const magic = await bytes.take(4);
    const kind = view(magic).getUint32(0, true);
    if (kind === MAGIC) yield* decode(frameOf(magic, bytes));
    else if ((kind & 0xffff_fff0) >>> 0 === USER_DATA) await bytes.drop(view(await bytes.take(4)).getUint32(0, true));
    else throw new Error(`a frame that begins with ${kind.toString(16).padStart(8, "0")} (not ${MAGIC.toString(16)})`);
  }
}

/** The bytes of one frame, in its blocks. Sections 3.1.1.1 and 3.1.1.2. */
async function* frameOf(magic: Uint8Array, bytes: Reader): AsyncGenerator<Uint8Array> {
  const descriptor = await bytes.take(1);
  const [single, sizeCode] = [(descriptor[0] & 0x20) !== 0, descriptor[0] >> 6];
  const [dictionaryBytes, sizeBytes] = [[0, 1, 2, 4][descriptor[0] & 3], [single ? 1 : 0, 2, 4, 8][sizeCode]];
  const header = await bytes.take((single ? 0 : 1) + dictionaryBytes + sizeBytes);
  const window = single ? contentSize(header.subarray(dictionaryBytes)) : windowSize(header[0]);
  // The decoder allocates it.
  if (window > MAX_WINDOW) throw new Error(`a window of ${window} bytes (at most ${MAX_WINDOW} is read)`);
  yield Buffer.concat([magic, descriptor, header]);
  for (let last = false; !last; ) {
    const head = await bytes.take(3);
    const bits = head[0] | (head[1] << 8) | (head[2] << 16);
    last = (bits & 1) === 1;
    const [type, size] = [(bits >> 1) & 3, bits >> 3];
    if (type === 3 || size > MAX_BLOCK) throw new Error(`a block of type ${type} and ${size} bytes (types 0 to 2, at most ${MAX_BLOCK})`);
    yield head;
    // A block of type 1 is one byte, repeated.
    yield await bytes.take(type === 1 ? 1 : size);
  }
  if ((descriptor[0] & 4) !== 0) yield await bytes.take(4);
}

/** In one segment the window is the whole content; from two bytes on, 256 is added to a size of two (table 3.1.1.1.4). */
function contentSize(bytes: Uint8Array): number {
  let size = bytes.length === 2 ? 256 : 0;
  for (const [i, byte] of bytes.entries()) size += byte * 256 ** i;
  return size;
}

function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

const slowly: Decoder = async function* (frame) {
  let ready: Uint8Array[] = [];
  const stream = new Decompress((piece) => {
    if (piece.length > 0) ready.push(piece);
  });
  for await (const block of frame) {
    stream.push(block);
    yield* ready;
    ready = [];
  }
  stream.push(new Uint8Array(0), true);
  yield* ready;
};

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

type Reader = ReturnType<typeof reader>;

/** Takes exact numbers of bytes from chunks of any size. */
function reader(raw: AsyncIterable<Uint8Array>) {
  const chunks = raw[Symbol.asyncIterator]();
  let chunk = new Uint8Array(0);
  const more = async (): Promise<boolean> => {
    while (chunk.length === 0) {
      const next = await chunks.next();
      if (next.done) return false;
      chunk = next.value as typeof chunk;
    }
    return true;
  };
  const some = async (most: number): Promise<Uint8Array> => {
    if (!(await more())) throw new Error("an end in the middle of a frame");
    const part = chunk.subarray(0, most);
    chunk = chunk.subarray(part.length);
    return part;
  };
  return {
    /** Whether any byte is left. */
    more,
    take: async (n: number): Promise<Uint8Array> => {
      if (n === 0) return new Uint8Array(0);
      const first = await some(n);
      if (first.length === n) return first;
      const parts = [first];
      for (let left = n - first.length; left > 0; ) {
        const part = await some(left);
        parts.push(part);
        left -= part.length;
      }
      return Buffer.concat(parts);
    },
    drop: async (n: number): Promise<void> => {
      for (let left = n; left > 0; ) left -= (await some(left)).length;
    },
  };
}

import { expect, test } from "vitest";
import { unzstd } from "./zstd.ts";

/** Made with the zstd program: "zed\n" as one segment with its checksum. */
const ZED = Buffer.from("KLUv/QRYIQAAemVkCtY0kAo=", "base64");
const skippable = (content: number[]) => Buffer.from([0x5f, 0x2a, 0x4d, 0x18, content.length, 0, 0, 0, ...content]);
/** A frame without checksum: a window of 1 KiB, then a block of type 1 ("x", 9 times) and one of type 0 ("end"). */
const BLOCKS = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0, (9 << 3) | 2, 0, 0, 0x78, (3 << 3) | 1, 0, 0, 0x65, 0x6e, 0x64]);

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function read(bytes: Uint8Array, size: number): Promise<string> {
  const parts: Uint8Array[] = [];
  for await (const part of unzstd(inPieces(bytes, size))) parts.push(part.slice());
  return Buffer.concat(parts).toString();
}

test.each([1, 2, 5, 1000])("all frames are read, with skippable ones anywhere, from pieces of %i bytes", async (size) => {
  const bytes = Buffer.concat([skippable([1, 2, 3]), ZED, BLOCKS, skippable([]), skippable([0x28, 0xb5, 0x2f, 0xfd]), ZED, skippable([9])]);
  expect(await read(bytes, size)).toBe("zed\nxxxxxxxxxendzed\n");
});

test("nothing is no text", async () => {
  expect(await read(new Uint8Array(0), 5)).toBe("");
  expect(await read(skippable([7]), 5)).toBe("");
});

test.each([
  ["cut in a block", ZED.subarray(0, 12), /an end in the middle of a frame/],
  ["cut in the checksum", ZED.subarray(0, -1), /an end in the middle of a frame/],
  ["cut in a skippable frame", skippable([1, 2, 3]).subarray(0, -1), /an end in the middle of a frame/],
  ["something else behind a frame", Buffer.concat([ZED, Buffer.from("text")]), /a frame that begins with 74786574/],
  ["a window of 2^41 bytes", Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0xf8, 1, 0, 0]), /a window of 2199023255552 bytes/],
  ["a segment of 2^32 bytes", Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0]), /a window of 4294967296 bytes/],
  ["a block of type 3", Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0, (3 << 3) | 6, 0, 0, 1, 2, 3]), /a block of type 3/],
  ["a block of 2 MiB", Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 0xf8, 0xff, 0xff, 1]), /a block of type 0 and 2097151 bytes/],
])("refuses %s", async (_, bytes, message) => {
  await expect(read(bytes, 7)).rejects.toThrow(message);
});

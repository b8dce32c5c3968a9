/**
 * The zip archives that `torch.save` writes: entries that are stored as they are, each at a place that the directory at the end tells and the entry's own header repeats.
 *
 * Source: PKWARE's APPNOTE.TXT 6.3.9 (4.3: structure; 4.5.3: sizes beyond 4 GB). Compressed and encrypted entries, several disks, and entries that overlap or contradict
 * their directory are refused.
 */
import { FormatError } from "../../errors.ts";
import type { Source } from "../source.ts";

/** A file in the archive. */
export interface ZipEntry {
  readonly name: string;
  readonly bytes: number;
  /** First byte, counted from the start of the archive. */
  readonly offset: number;
}

const MOST_DIRECTORY = 64 << 20;
const END = 0x06054b50;
const END_64 = 0x06064b50;
const LOCATOR_64 = 0x07064b50;
const ENTRY = 0x02014b50;
const LOCAL = 0x04034b50;

/** The entries by name. @throws FormatError for an archive that is damaged, compressed or lies about its places */
export async function readZip(source: Source): Promise<Map<string, ZipEntry>> {
  const fail = (what: string, expected: string, got: unknown): never => {
    throw new FormatError(
      `${source.name}: ${what}, expected ${expected}, got ${String(got)}. The file is damaged or hostile; fetch it again from a source you trust.`,
    );
  };
  const { count, start, length } = await findDirectory(source, fail);
  if (length > MOST_DIRECTORY || start + length > source.size)
    fail("absurd directory", `at most ${MOST_DIRECTORY} bytes inside the file`, `${length} at ${start}`);
  const directory = await source.read(start, length);
  const view = new DataView(directory.buffer);
  const listed: { name: string; bytes: number; header: number }[] = [];
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > length || view.getUint32(at, true) !== ENTRY) fail("broken directory", `${count} entries`, `${i}`);
    const [flags, method] = [view.getUint16(at + 8, true), view.getUint16(at + 10, true)];
    const [nameLength, extraLength, commentLength] = [view.getUint16(at + 28, true), view.getUint16(at + 30, true), view.getUint16(at + 32, true)];
    if (at + 46 + nameLength + extraLength + commentLength > length) fail("broken directory", "entries inside it", `entry ${i}`);
    const name = new TextDecoder("utf-8").decode(directory.subarray(at + 46, at + 46 + nameLength));
    if ((flags & 1) !== 0) fail(`entry ${JSON.stringify(name)} is encrypted`, "plain bytes", "flag 1");
    if (method !== 0) fail(`entry ${JSON.stringify(name)} is compressed`, "bytes as they are, as torch.save writes them", `method ${method}`);
    const wide = wideSizes(view, at, at + 46 + nameLength, extraLength, fail);
    if (wide.compressed !== wide.bytes) fail(`entry ${JSON.stringify(name)} contradicts itself`, `${wide.bytes} bytes`, wide.compressed);
    listed.push({ name, bytes: wide.bytes, header: wide.header });
    at += 46 + nameLength + extraLength + commentLength;
  }
  const entries = new Map<string, ZipEntry>();
  let [end, last] = [0, ""];
  for (const { name, bytes, header } of listed.toSorted((a, b) => a.header - b.header)) {
    if (entries.has(name)) fail(`entry ${JSON.stringify(name)} comes twice`, "each name once", "it again");
    if (header < end) fail(`entry ${JSON.stringify(name)} overlaps ${JSON.stringify(last)}`, `a start from ${end}`, header);
    if (header + 30 > start) fail(`entry ${JSON.stringify(name)} lies outside`, `a start below ${start}`, header);
    const local = new DataView((await source.read(header, 30)).buffer);
    if (local.getUint32(0, true) !== LOCAL || local.getUint16(8, true) !== 0)
      fail(`entry ${JSON.stringify(name)} has no header of its own`, "one at its place", "other bytes");
    const offset = header + 30 + local.getUint16(26, true) + local.getUint16(28, true);
    if (offset + bytes > start) fail(`entry ${JSON.stringify(name)} lies outside`, `an end within ${start}`, offset + bytes);
    [end, last] = [offset + bytes, name];
    entries.set(name, { name, bytes, offset });
  }
  return entries;
}

type Fail = (what: string, expected: string, got: unknown) => never;

async function findDirectory(source: Source, fail: Fail): Promise<{ count: number; start: number; length: number }> {
  // The end's own record has 22 bytes and a comment of up to 65535.
  const tail = Math.min(source.size, 22 + 65535 + 20);
  const bytes = await source.read(source.size - tail, tail);
  const view = new DataView(bytes.buffer);
  let at = tail - 22;
  while (at >= 0 && !(view.getUint32(at, true) === END && at + 22 + view.getUint16(at + 20, true) === tail)) at--;
  if (at < 0) return fail("no directory (the file may be cut off)", "the end of a zip archive", "other bytes");
  const disk = view.getUint16(at + 4, true);
  if (disk !== 0 && disk !== 0xffff) fail("an archive of several disks", "one", disk);
  const [count, length, start] = [view.getUint16(at + 10, true), view.getUint32(at + 12, true), view.getUint32(at + 16, true)];
  if (at < 20 || view.getUint32(at - 20, true) !== LOCATOR_64) return { count, start, length };
  const place = Number(view.getBigUint64(at - 20 + 8, true));
  if (!Number.isSafeInteger(place) || place + 56 > source.size) fail("broken directory", "its larger record inside the file", place);
  const wide = new DataView((await source.read(place, 56)).buffer);
  if (wide.getUint32(0, true) !== END_64) fail("broken directory", "its larger record", "other bytes");
  const number = (offset: number) => Number(wide.getBigUint64(offset, true));
  const found = { count: number(32), length: number(40), start: number(48) };
  if (!Object.values(found).every(Number.isSafeInteger)) fail("absurd directory", "sizes inside the file", JSON.stringify(found));
  return found;
}

/** Sizes and place of an entry; those of 32 bits that are full stand in its extra field, in this order. */
function wideSizes(view: DataView, at: number, extra: number, extraLength: number, fail: Fail): { bytes: number; compressed: number; header: number } {
  const [compressed, bytes, header] = [view.getUint32(at + 20, true), view.getUint32(at + 24, true), view.getUint32(at + 42, true)];
  const full = 0xffffffff;
  if (bytes !== full && compressed !== full && header !== full) return { bytes, compressed, header };
  for (let p = extra; p + 4 <= extra + extraLength; p += 4 + view.getUint16(p + 2, true)) {
    if (view.getUint16(p, true) !== 1) continue;
    let next = p + 4;
    const end = Math.min(next + view.getUint16(p + 2, true), extra + extraLength);
    const wide = (value: number): number => {
      if (value !== full) return value;
      if (next + 8 > end) return fail("broken directory", "sizes of 64 bits", "none");
      next += 8;
      return Number(view.getBigUint64(next - 8, true));
    };
    const found = { bytes: wide(bytes), compressed: wide(compressed), header: wide(header) };
    return Object.values(found).every(Number.isSafeInteger) ? found : fail("absurd sizes", "numbers inside the file", JSON.stringify(found));
  }
  return fail("broken directory", "sizes of 64 bits", "none");
}

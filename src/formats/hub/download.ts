/**
 * One file's way into the cache: into `<hash>.incomplete`, from where an earlier try ended, checked against size and hash, and under its name when it is whole.
 */
import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import * as fs from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { HubError, RunError } from "../../errors.ts";
import { byteSize } from "../../quantities.ts";
import { makeFolder } from "../atomic-write.ts";
import { takeLock } from "../process-lock.ts";
import { fileAddress, type HubFile, type HubModel } from "./api.ts";
import { type CachePlaces, sizeOf } from "./cache.ts";
import { type Answer, bodyOf, type Connection, getOnce, persist, Transient } from "./http.ts";

/** Bytes of a file that are here: more as they come, fewer where they were wrong. */
export type OnBytes = (here: number) => void;

/** How often another process's download is looked at. */
const LOCK_POLL_MS = 200;

/**
 * Makes sure that a file's blob is in the cache.
 * @returns the bytes that were fetched for it
 * @throws HubError for wrong bytes or sizes (what was fetched is deleted) and broken connections, RunError for a full disk (what was fetched stays), AbortError
 */
export async function downloadBlob(connection: Connection, places: CachePlaces, model: HubModel, file: HubFile, onBytes: OnBytes): Promise<number> {
  const where = `${model.repo}: ${file.path}`;
  const blob = places.blob(file.hash.hex);
  if ((await sizeOf(blob)) === file.bytes) {
    onBytes(file.bytes);
    return 0;
  }
  const part = `${blob}.incomplete`;
  try {
    await makeFolder(dirname(blob));
    const free = await locked(connection, places, file, where, blob);
    if (free === null) {
      onBytes(file.bytes);
      return 0;
    }
    try {
      return await fetchInto(connection, model, file, where, part, blob, onBytes);
    } finally {
      free();
    }
  } catch (error) {
    throw diskError(error, where, part, file, (await sizeOf(part)) ?? 0);
  }
}

/** Waits until no other process fetches the same file; null where that one has brought it. */
async function locked({ signal, onNote }: Connection, places: CachePlaces, file: HubFile, where: string, blob: string): Promise<(() => void) | null> {
  const lock = places.lock(file.hash.hex);
  await makeFolder(dirname(lock));
  for (let told = false; ; told = true) {
    const taken = takeLock(lock, where, "Choose another folder with HF_HUB_CACHE.");
    if (typeof taken === "function") {
      if ((await sizeOf(blob)) !== file.bytes) return taken;
      taken();
      return null;
    }
    if (!told) onNote?.(`${where}: another pull (process ${taken.pid} on ${taken.host}) fetches it, waiting for that one; if it is gone, remove ${lock}`);
    await sleep(LOCK_POLL_MS, undefined, signal === undefined ? {} : { signal });
  }
}

async function fetchInto(connection: Connection, model: HubModel, file: HubFile, where: string, part: string, blob: string, onBytes: OnBytes): Promise<number> {
  let resumed = (await sizeOf(part)) ?? 0;
  let fetched = 0;
  // Once more from the start where it was an older part that made the whole wrong.
  for (let again = false; ; again = true) {
    const handle = await fs.open(part, "a+");
    let hex: string;
    try {
      const state = { handle, here: (await handle.stat()).size, furthest: 0, hash: newHash(file) };
      if (state.here > file.bytes) await restart(state, file);
      await hashPart(part, state.here, state.hash);
      onBytes(state.here);
      await persist(connection, where, async (progress) => {
        while (state.here < file.bytes) fetched += await fetchRest(connection, model, file, where, state, onBytes, progress);
      });
      hex = state.hash.digest("hex");
      await handle.sync();
    } catch (error) {
      if (error instanceof WrongSize) await fs.rm(part, { force: true });
      throw error;
    } finally {
      await handle.close();
    }
    if (hex === file.hash.hex) break;
    await fs.rm(part, { force: true });
    onBytes(0);
    if (resumed === 0 || again)
      throw new HubError(
        `${where}: other bytes than the hub promises, expected ${file.hash.kind} ${file.hash.hex}, got ${hex}. They were deleted. Pull again; if it happens again, do not trust this source.`,
      );
    resumed = 0;
  }
  await fs.rename(part, blob);
  return fetched;
}

interface State {
  readonly handle: fs.FileHandle;
  /** Bytes of the part. */
  here: number;
  /** The most that there have been: only beyond is progress. */
  furthest: number;
  hash: Hash;
}

/** Git hashes a header before the bytes (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects). */
function newHash({ hash, bytes }: HubFile): Hash {
  return hash.kind === "sha256" ? createHash("sha256") : createHash("sha1").update(`blob ${bytes}\0`);
}

async function hashPart(path: string, bytes: number, hash: Hash): Promise<void> {
  if (bytes === 0) return;
  for await (const piece of createReadStream(path, { end: bytes - 1, highWaterMark: 1 << 20 })) hash.update(piece as Uint8Array);
}

async function restart(state: State, file: HubFile): Promise<void> {
  await state.handle.truncate(0);
  state.here = 0;
  state.hash = newHash(file);
}

class WrongSize extends HubError {}

/** One request for what is missing. Gives the bytes that came. */
async function fetchRest(
  connection: Connection,
  model: HubModel,
  file: HubFile,
  where: string,
  state: State,
  onBytes: OnBytes,
  progress: () => void,
): Promise<number> {
  const range: Record<string, string> = state.here > 0 ? { Range: `bytes=${state.here}-` } : {};
  const answer = await getOnce(connection, where, fileAddress(connection.settings.endpoint, model, file.path), range, [200, 206, 416]);
  let came = 0;
  try {
    checkHeaders(answer, model, file, where);
    const { status } = answer.response;
    if (status === 416) {
      // The server has no more: of these bytes it has another file.
      await restart(state, file);
      throw new Transient("a file that is shorter than was promised");
    }
    if (status === 200 && state.here > 0) await restart(state, file);
    checkLength(answer, file, state.here, where);
    for await (const piece of bodyOf(answer, connection)) {
      if (state.here + piece.length > file.bytes) throw wrongSize(where, file, "more");
      await writeAll(state.handle, piece);
      state.hash.update(piece);
      state.here += piece.length;
      came += piece.length;
      if (state.here > state.furthest) {
        state.furthest = state.here;
        progress();
      }
      onBytes(state.here);
    }
    if (state.here < file.bytes) throw new Transient(`the end of the connection after ${state.here} of ${file.bytes} bytes`);
    return came;
  } finally {
    answer.close();
  }
}

async function writeAll(handle: fs.FileHandle, piece: Uint8Array): Promise<void> {
  for (let done = 0; done < piece.length; ) done += (await handle.write(piece, done)).bytesWritten;
}

/** What the hub says beside a file must be what its list said. */
function checkHeaders({ hub }: Answer, { commit }: HubModel, file: HubFile, where: string): void {
  const lies = (what: string, expected: string | number, got: string) =>
    new HubError(
      `${where}: the hub contradicts itself, expected ${what} ${expected} as in its list of files, got ${JSON.stringify(got.slice(0, 80))}. Nothing was kept. Pull again later.`,
    );
  const said = hub.get("x-repo-commit");
  if (said !== null && said !== commit) throw lies("commit", commit, said);
  const tag = hub.get("x-linked-etag")?.replace(/^W\//, "").replaceAll('"', "");
  if (tag !== undefined && tag !== file.hash.hex) throw lies("X-Linked-ETag", file.hash.hex, tag);
  const size = hub.get("x-linked-size");
  if (size !== null && Number(size) !== file.bytes) throw lies("X-Linked-Size", file.bytes, size);
}

/** The answer's own length, before its bytes. */
function checkLength({ response: { status, headers } }: Answer, file: HubFile, from: number, where: string): void {
  if (status === 206) {
    const found = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(headers.get("content-range") ?? "");
    if (found === null || Number(found[1]) !== from || (found[3] !== "*" && Number(found[3]) !== file.bytes))
      throw wrongSize(where, file, `the range ${JSON.stringify(headers.get("content-range") ?? "")}`);
  }
  const length = headers.get("content-length");
  if (length !== null && status === 200 && Number(length) !== file.bytes) throw wrongSize(where, file, length);
}

const wrongSize = (where: string, file: HubFile, got: string) =>
  new WrongSize(
    `${where}: another size than the hub promises, expected ${file.bytes} bytes, got ${got}. What had come was deleted. Pull again; if it happens again, do not trust this source.`,
  );

const FULL: Record<string, string> = {
  ENOSPC: "the disk is full",
  EDQUOT: "your disk quota is used up",
  EFBIG: "the file is too large for this file system or limit",
};

/** A failing disk in words. */
function diskError(error: unknown, where: string, part: string, file: HubFile, here: number): unknown {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  if (error instanceof HubError || error instanceof RunError || code === undefined || syscall === undefined) return error;
  const what = Object.hasOwn(FULL, code) ? `${FULL[code]} (${code})` : `the system refuses (${message})`;
  return new RunError(
    `${where}: could not be written, ${what}, expected room for ${byteSize(file.bytes)} at ${part}, got as far as byte ${here}. What is here stays: make room (or name another folder with HF_HUB_CACHE) and pull again, it goes on from there.`,
    { cause: error },
  );
}

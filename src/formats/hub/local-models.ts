/** Models that are on this machine already: in the hub's cache, Ollama's folder and LM Studio's. */
import { existsSync } from "node:fs";
import * as fs from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { isGgufFile } from "../gguf/is-gguf-file.ts";
import { filesBelow, whereThere } from "../node-file.ts";
import { type BegunPull, begunPulls } from "./begun-pulls.ts";
import { type CachePlaces, cachePlaces, sizeOf } from "./cache.ts";
import { COMMIT } from "./model-id.ts";
import { OLLAMA, ollamaModels } from "./ollama.ts";
import { hubCache } from "./settings.ts";

/** A model on this machine. */
export interface LocalModel {
  readonly source: "hub" | "ollama" | "lmstudio";
  /** What `fromPretrained` and the commands take. */
  readonly id: string;
  /** Its folder, or its GGUF file. */
  readonly path: string;
  readonly bytes: number;
  /** When it was read last, in milliseconds since 1970, as far as the disk tells; null where it does not. */
  readonly lastUsed: number | null;
  /** Of the hub: the commit, and the names that mean it. */
  readonly revision: { readonly commit: string; readonly names: readonly string[] } | null;
  /** Of a pull of the hub that has not come to its end: the bytes that were asked for, where that is known, and the options of `pullModel` that go on with it. */
  readonly incomplete: { readonly bytes: number | null; readonly include: readonly string[]; readonly exclude: readonly string[] } | null;
}

/** What is here, the hub's cache first. What can't be read is left out, and said to `unreadable`. */
export async function localModels(unreadable: (error: Error) => void): Promise<LocalModel[]> {
  const found: LocalModel[] = [];
  for (const place of [hubModels, ollama, lmStudio]) {
    try {
      found.push(...(await place(unreadable)));
    } catch (error) {
      unreadable(error as Error);
    }
  }
  return found;
}

const WEIGHTS = /\.(safetensors|bin|pt|pth|gguf)$/i;

const entriesOf = (folder: string): Promise<string[]> => whereThere(folder, fs.readdir(folder), []);

async function hubModels(unreadable: (error: Error) => void): Promise<LocalModel[]> {
  const cache = hubCache();
  const found: LocalModel[] = [];
  for (const folder of (await entriesOf(cache)).sort()) {
    if (!folder.startsWith("models--")) continue;
    try {
      found.push(...(await inFolder(cache, folder)));
    } catch (error) {
      unreadable(error as Error);
    }
  }
  return found;
}

/** What the hub's cache has of one model. */
async function inFolder(cache: string, folder: string): Promise<LocalModel[]> {
  const found: LocalModel[] = [];
  const root = join(cache, folder);
  const repo = folder.slice("models--".length).replace("--", "/");
  const refs = await refsOf(join(root, "refs"));
  const places = cachePlaces(cache, repo);
  const halves = (await Promise.all((await begunPulls(places)).map((pull) => halfOf(places, pull)))).filter((half) => half !== null);
  const namesOf = (commit: string) => refs.filter((ref) => ref.commit === commit).map(({ name }) => name);
  for (const { pull, bytes } of halves) {
    const { id, commit, files, include, exclude } = pull;
    const incomplete = { bytes: files.reduce((total, file) => total + file.bytes, 0), include, exclude };
    found.push({ source: "hub", id, path: places.snapshot(commit), bytes, lastUsed: null, revision: { commit, names: namesOf(commit) }, incomplete });
  }
  // Parts of files that Python's library was fetching, which keeps no list of what else it was to bring.
  const claimed = new Set(halves.flatMap(({ pull }) => pull.files.map(({ blob }) => `${blob}.incomplete`)));
  const parts = (await filesIn(join(root, "blobs"))).filter(({ name }) => name.endsWith(".incomplete") && !claimed.has(name));
  const unfinished = { bytes: null, include: [], exclude: [] };
  for (const commit of await entriesOf(join(root, "snapshots"))) {
    if (!COMMIT.test(commit)) continue;
    const names = namesOf(commit);
    const revision = { commit, names };
    const id = names.includes("main") ? repo : `${repo}@${names[0] ?? commit}`;
    const path = join(root, "snapshots", commit);
    const listed = new Set(halves.flatMap(({ pull }) => (pull.commit === commit ? pull.files.map((file) => file.path) : [])));
    const files = (await filesIn(path)).filter(({ name }) => !listed.has(name));
    if (files.length === 0) continue;
    const ggufs = files.filter(({ name }) => /\.gguf$/i.test(name));
    const rest = files.filter((file) => !ggufs.includes(file));
    for (const { name, bytes, lastUsed } of ggufs)
      found.push({ source: "hub", id: `${id}:${name}`, path: join(path, name), bytes, lastUsed, revision, incomplete: null });
    if (ggufs.length === 0 || rest.some(({ name }) => name === "config.json")) {
      const bare = parts.length > 0 && !files.some(({ name }) => WEIGHTS.test(name));
      const [bytes, incomplete] = bare ? [sum(rest) + sum(parts), unfinished] : [sum(rest), null];
      found.push({ source: "hub", id, path, bytes, lastUsed: Math.max(...rest.map((file) => file.lastUsed)), revision, incomplete });
    }
  }
  if (found.length === 0 && parts.length > 0)
    found.push({ source: "hub", id: repo, path: root, bytes: sum(parts), lastUsed: null, revision: null, incomplete: unfinished });
  return found;
}

/** A pull that was begun, of which some is here and some is not; with the bytes that are. Null for one that was finished otherwise, or has brought nothing. */
async function halfOf(places: CachePlaces, pull: BegunPull): Promise<{ pull: BegunPull; bytes: number } | null> {
  let [bytes, whole] = [0, true];
  for (const { path, bytes: all, blob } of pull.files) {
    const size = await sizeOf(join(places.snapshot(pull.commit), path));
    if (size !== all) whole = false;
    bytes += size ?? Math.min(all, (await sizeOf(`${places.blob(blob)}.incomplete`)) ?? 0);
  }
  return whole || bytes === 0 ? null : { pull, bytes };
}

async function refsOf(folder: string): Promise<{ name: string; commit: string }[]> {
  const refs: { name: string; commit: string }[] = [];
  for (const name of await filesBelow(folder)) {
    const path = join(folder, name);
    const commit = (await whereThere(path, fs.readFile(path, "utf8"), "")).trim();
    if (COMMIT.test(commit)) refs.push({ name, commit });
  }
  return refs.sort((a, b) => a.name.localeCompare(b.name));
}

interface FileFacts {
  name: string;
  bytes: number;
  lastUsed: number;
}

/** The files below a folder, links followed; links that lead nowhere are left out. */
async function filesIn(folder: string): Promise<FileFacts[]> {
  const files: FileFacts[] = [];
  for (const name of await filesBelow(folder)) {
    const path = join(folder, name);
    const stat = await whereThere(path, fs.stat(path), null);
    if (stat?.isFile()) files.push({ name, bytes: stat.size, lastUsed: stat.atimeMs });
  }
  return files;
}

const sum = (files: readonly FileFacts[]): number => files.reduce((total, { bytes }) => total + bytes, 0);

const accessed = async (path: string): Promise<number | null> => (await whereThere(path, fs.stat(path), null))?.atimeMs ?? null;

async function ollama(unreadable: (error: Error) => void): Promise<LocalModel[]> {
  const models = await ollamaModels(unreadable);
  return Promise.all(
    models.map(async ({ name, path, bytes }) => ({
      source: "ollama" as const,
      id: `${OLLAMA}${name}`,
      path,
      bytes,
      lastUsed: await accessed(path),
      revision: null,
      incomplete: null,
    })),
  );
}

/** LM Studio's folders, the newer first: publisher/model/file.gguf. */
async function lmStudio(): Promise<LocalModel[]> {
  const found: LocalModel[] = [];
  for (const folder of [join(homedir(), ".lmstudio", "models"), join(homedir(), ".cache", "lm-studio", "models")].filter((path) => existsSync(path))) {
    for (const { name, bytes, lastUsed } of await filesIn(folder)) {
      const path = join(folder, name);
      if (!/\.gguf$/i.test(name) || /(^|\/)mmproj/i.test(name) || !(await isGgufFile(path))) continue;
      found.push({ source: "lmstudio", id: path, path, bytes, lastUsed, revision: null, incomplete: null });
    }
  }
  return found;
}

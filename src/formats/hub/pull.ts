/** Getting a model from the hub into the cache. */
import { setMaxListeners } from "node:events";
import { join } from "node:path";
import { ConfigError, RunError } from "../../errors.ts";
import { checkOptions } from "../../options.ts";
import { byteSize } from "../../quantities.ts";
import { type HubFile, modelOnHub } from "./api.ts";
import { rememberPull } from "./begun-pulls.ts";
import { cachePlaces, linkFile, rememberCommit, sizeOf } from "./cache.ts";
import { checkTogether, chooseFiles, type Need } from "./choose-files.ts";
import { downloadBlob } from "./download.ts";
import { freeBytes } from "./free-bytes.ts";
import { type Connection, PATIENCE, type Patience } from "./http.ts";
import { modelId } from "./model-id.ts";
import { hubSettings } from "./settings.ts";

/** How far a pull is. */
export interface PullProgress {
  /** What has been chosen, in bytes and files. */
  readonly bytes: number;
  readonly files: number;
  /** Of these bytes, here; and what of them was fetched by this pull. */
  readonly here: number;
  readonly fetched: number;
  /** Files that are whole. */
  readonly done: number;
}

/** What is fetched, and how. */
export interface PullOptions {
  /** Patterns of the files to fetch, in place of the usual ones (config, tokenizer, chat template, safetensors): `*.json`, `onnx/*`. */
  include?: readonly string[];
  /** Patterns of files to leave out. */
  exclude?: readonly string[];
  /** Files at a time; default 4. */
  parallel?: number;
  /** `tokenizer` leaves the weights out; default `model`. */
  need?: Need;
  /** Stops and leaves what is here, to go on from. */
  signal?: AbortSignal;
  onProgress?: (progress: PullProgress) => void;
  /** Told where config.json is, which is fetched before everything else; nothing more is where it throws. */
  onConfig?: (path: string) => void | Promise<void>;
  /** Told what is waited for: a connection that broke, another process. */
  onNote?: (sentence: string) => void;
  /** How patient with a bad connection. */
  patience?: Partial<Patience>;
}

/** What a pull has brought. */
export interface Pulled {
  readonly id: string;
  /** The revision that was asked for, and the commit that it means. */
  readonly revision: string;
  readonly commit: string;
  /** The folder of this commit. */
  readonly folder: string;
  /** The files that were chosen, in `folder`. */
  readonly files: readonly { readonly path: string; readonly bytes: number }[];
  /** Bytes that came over the network. */
  readonly fetched: number;
}

/**
 * Fetches a model, `org/name`, `org/name@revision` or `org/name:file.gguf`, from the Hugging Face hub (or HF_ENDPOINT) into the cache that Python's
 * huggingface_hub has (HF_HUB_CACHE, HF_HOME). What is there already is not fetched again; broken connections are mended, and an interrupted pull goes on from
 * where it was. Every file is checked against the hub's hash.
 *
 * @throws ConfigError for what is no id, no choice, or offline; HubError where the model is not to be had or not what was promised; RunError for a disk that is full
 */
export async function pullModel(id: string, options: PullOptions = {}): Promise<Pulled> {
  checkOptions("pullModel", options, {
    include: true,
    exclude: true,
    parallel: true,
    need: true,
    signal: true,
    onProgress: true,
    onConfig: true,
    onNote: true,
    patience: true,
  });
  const { repo, revision: asked, file } = modelId(id);
  const revision = asked ?? "main";
  const { parallel = 4, signal, onNote } = options;
  if (!Number.isInteger(parallel) || parallel < 1)
    throw new ConfigError(`pullModel: bad parallel, expected a whole number of at least 1, got ${parallel}. Correct it.`);
  const settings = hubSettings();
  if (settings.offline)
    throw new ConfigError(`${id}: offline, expected a connection to pull, got HF_HUB_OFFLINE. Unset it, or open what "groundup models" lists.`);
  const connection: Connection = { settings, patience: { ...PATIENCE, ...options.patience }, signal, onNote, contact: { made: false } };
  const model = await modelOnHub(connection, repo, revision);
  const chosen = chooseFiles(model.files, { ...options, file }, `${repo}@${revision}`);
  checkTogether(chosen, repo);
  const places = cachePlaces(settings.cache, repo);
  let forget = async (): Promise<void> => {};
  const fetched = await fetchAll(chosen, parallel, connection, options, {
    async begin() {
      const { include = [], exclude = [] } = options;
      const files = chosen.map(({ path, bytes, hash }) => ({ path, bytes, blob: hash.hex }));
      forget = await rememberPull(places, { id, include: [...include], exclude: [...exclude], commit: model.commit, files });
    },
    placeOf: ({ path }) => join(places.snapshot(model.commit), path),
    blobs: async (hash) => (await sizeOf(places.blob(hash))) ?? (await sizeOf(`${places.blob(hash)}.incomplete`)) ?? 0,
    fetch: async (one, stop, onBytes) => downloadBlob({ ...connection, signal: stop }, places, model, one, onBytes),
    link: (one) => linkFile(places, model.commit, one.path, one.hash.hex),
    root: places.root,
  });
  // Last, so that a name never means half a model.
  await rememberCommit(places, revision, model.commit);
  await forget();
  return {
    id: repo,
    revision,
    commit: model.commit,
    folder: places.snapshot(model.commit),
    files: chosen.map(({ path, bytes }) => ({ path, bytes })),
    fetched,
  };
}

interface Steps {
  /** Before the first byte, where some are missing. */
  begin(): Promise<void>;
  placeOf(file: HubFile): string;
  /** Bytes that are here of a blob. */
  blobs(hash: string): Promise<number>;
  fetch(file: HubFile, signal: AbortSignal, onBytes: (here: number) => void): Promise<number>;
  link(file: HubFile): Promise<void>;
  readonly root: string;
}

/** All files, some at a time, each blob once. The first failure stops the others, which keep what they have. */
async function fetchAll(chosen: readonly HubFile[], parallel: number, { signal }: Connection, options: PullOptions, steps: Steps): Promise<number> {
  // Files of the same content share a blob.
  const blobs = new Map<string, HubFile[]>();
  for (const file of chosen) blobs.set(file.hash.hex, [...(blobs.get(file.hash.hex) ?? []), file]);
  const queue = [...blobs.values()];
  const bytes = queue.reduce((sum, [file]) => sum + file.bytes, 0);
  const here = new Map<string, number>();
  for (const [file] of queue) here.set(file.hash.hex, Math.min(file.bytes, await steps.blobs(file.hash.hex)));
  const sum = () => [...here.values()].reduce((a, b) => a + b, 0);
  await checkRoom(steps.root, bytes - sum(), bytes);
  if (sum() < bytes) await steps.begin();
  let [fetched, done] = [0, 0];
  let arrived = 0;
  const show = () => options.onProgress?.({ bytes, files: chosen.length, here: sum(), fetched: arrived, done });
  show();

  const stop = new AbortController();
  const all = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
  // Each file in transfer listens.
  setMaxListeners(0, all);
  let failed: unknown;
  const bring = async (group: HubFile[]) => {
    const [file] = group;
    const came = await steps.fetch(file, all, (now) => {
      arrived += Math.max(0, now - (here.get(file.hash.hex) ?? 0));
      here.set(file.hash.hex, now);
      show();
    });
    fetched += came;
    for (const one of group) await steps.link(one);
    done += group.length;
    show();
  };
  const isConfig = ({ path }: HubFile) => path === "config.json";
  const [config] = queue.filter((group) => group.some(isConfig));
  if (config !== undefined) {
    queue.splice(queue.indexOf(config), 1);
    await bring(config);
    await options.onConfig?.(steps.placeOf(config.find(isConfig) as HubFile));
  }
  const work = async () => {
    for (let group = queue.shift(); group !== undefined && !all.aborted; group = queue.shift()) await bring(group);
  };
  await Promise.all(
    Array.from({ length: Math.min(parallel, queue.length) }, () =>
      work().catch((error) => {
        failed ??= error;
        stop.abort();
      }),
    ),
  );
  signal?.throwIfAborted();
  if (failed !== undefined) throw failed;
  return fetched;
}

async function checkRoom(folder: string, missing: number, bytes: number): Promise<void> {
  const free = await freeBytes(folder);
  if (free !== null && missing > free)
    throw new RunError(
      `${folder}: not enough room on the disk, expected ${byteSize(missing)} free (of ${byteSize(bytes)} in all), got ${byteSize(free)}. Make room, or name another folder with HF_HUB_CACHE.`,
    );
}

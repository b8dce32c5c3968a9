/**
 * The cache of Python's huggingface_hub, so that both share what is downloaded:
 *
 *   models--org--name/refs/main               the commit that the name meant when it was last asked
 *                     snapshots/<commit>/…    the files by name, as relative links to
 *                     blobs/<hash>            their bytes, by SHA-256 (large files) or Git's SHA-1 (small ones)
 *                     blobs/<hash>.incomplete what has come of one so far
 *   .locks/models--org--name/…                who fetches a file, and which pulls were begun (begun-pulls.ts)
 *
 * Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
 */
import { randomBytes } from "node:crypto";
import * as fs from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";
import { HubError } from "../../errors.ts";
import { makeFolder, writeFileAtomic } from "../atomic-write.ts";
import { whereThere } from "../node-file.ts";
import { COMMIT } from "./model-id.ts";

/** A model's places in the cache. */
export interface CachePlaces {
  readonly root: string;
  blob(hash: string): string;
  snapshot(commit: string): string;
  ref(revision: string): string;
  /** Of this program; Python's lie beside it under another name. */
  lock(hash: string): string;
  /** The folder of the locks, which has what pulls were begun, too (begun-pulls.ts). */
  readonly pulls: string;
}

export function cachePlaces(cache: string, repo: string): CachePlaces {
  const folder = `models--${repo.replaceAll("/", "--")}`;
  const root = join(cache, folder);
  return {
    root,
    blob: (hash) => join(root, "blobs", hash),
    snapshot: (commit) => join(root, "snapshots", commit),
    ref: (revision) => join(root, "refs", revision),
    lock: (hash) => join(cache, ".locks", folder, `${hash}.groundup.lock`),
    pulls: join(cache, ".locks", folder),
  };
}

/** The commit that a revision meant when it was last asked; a commit means itself. Null where nobody has asked. */
export async function cachedCommit(places: CachePlaces, revision: string): Promise<string | null> {
  if (COMMIT.test(revision)) return revision;
  const ref = places.ref(revision);
  const text = await whereThere(ref, fs.readFile(ref, "utf8"), "");
  return COMMIT.test(text.trim()) ? text.trim() : null;
}

/** Remembers which commit a revision means. */
export async function rememberCommit(places: CachePlaces, revision: string, commit: string): Promise<void> {
  if (COMMIT.test(revision) || (await cachedCommit(places, revision)) === commit) return;
  await writeFileAtomic(places.ref(revision), commit);
}

/** How many bytes a file has; null where there is none, or a link that leads nowhere. */
export async function sizeOf(path: string): Promise<number | null> {
  const stat = await whereThere(path, fs.stat(path), null);
  return stat?.isFile() ? stat.size : null;
}

/**
 * Puts a blob into a snapshot under its name.
 * @throws HubError where the name leads out of the model's folder, through links that somebody has put there
 */
export async function linkFile(places: CachePlaces, commit: string, path: string, hash: string): Promise<void> {
  const at = join(places.snapshot(commit), path);
  await makeFolder(dirname(at));
  const [root, folder] = await Promise.all([fs.realpath(places.root), fs.realpath(dirname(at))]);
  if (!folder.startsWith(root + sep))
    throw new HubError(`${at}: leads out of the cache, expected a folder below ${root}, got ${folder}. Remove the link that is in the way, and pull again.`);
  const target = relative(dirname(at), places.blob(hash));
  if ((await whereThere(at, fs.lstat(at), null))?.isSymbolicLink() && (await fs.readlink(at)) === target) return;
  // A link under another name first: a reader finds the old file or the new one, and two writers do not disturb each other.
  const draft = join(dirname(at), `.${randomBytes(6).toString("hex")}.tmp`);
  try {
    await fs.symlink(target, draft).catch(async (error: NodeJS.ErrnoException) => {
      // Windows without the right to make links: a second copy, as Python's library does it there.
      if (!["EPERM", "ENOSYS", "ENOTSUP", "EINVAL"].includes(error.code ?? "")) throw error;
      await fs.copyFile(places.blob(hash), draft);
    });
    await fs.rename(draft, at);
  } catch (error) {
    await fs.rm(draft, { force: true });
    throw error;
  }
}

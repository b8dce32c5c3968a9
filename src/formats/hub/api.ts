/**
 * What the hub says of a model: its commit, its files with their sizes and hashes.
 *
 * Source: https://huggingface.co/docs/hub/api (`/api/models/{repo}/revision/{revision}`, `/api/models/{repo}/tree/{revision}`)
 */
import * as z from "zod";
import { HubError } from "../../errors.ts";
import { type Connection, getJson } from "./http.ts";
import { COMMIT, checkFileName } from "./model-id.ts";

/** A file of a model. */
export interface HubFile {
  readonly path: string;
  readonly bytes: number;
  /** The name of its blob: SHA-256 of a large file (LFS), Git's SHA-1 of a small one. */
  readonly hash: { readonly kind: "sha256" | "git-sha1"; readonly hex: string };
}

export interface HubModel {
  readonly repo: string;
  readonly commit: string;
  readonly files: readonly HubFile[];
}

const size = z.int().min(0);
const INFO = z.object({ sha: z.string().regex(COMMIT) });
const TREE = z.array(
  z.discriminatedUnion("type", [
    z.object({
      type: z.literal("file"),
      path: z.string(),
      oid: z.string().regex(COMMIT),
      size,
      lfs: z.object({ oid: z.string().regex(/^[0-9a-f]{64}$/), size }).nullish(),
    }),
    z.object({ type: z.literal("directory"), path: z.string() }),
  ]),
);
/** A repository with more files is no model. */
const MOST_FILES = 100_000;

/** @throws HubError for a model that is not there or may not be seen, and for answers that are none */
export async function modelOnHub(connection: Connection, repo: string, revision: string): Promise<HubModel> {
  const { endpoint } = connection.settings;
  const where = `${repo}@${revision}`;
  const info = await getJson(connection, where, `${endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}`);
  const { sha: commit } = checked(INFO, info.text, where);
  const files: HubFile[] = [];
  let next: string | null = `${endpoint}/api/models/${repo}/tree/${commit}?recursive=true`;
  while (next !== null) {
    const page: { text: string; headers: Headers } = await getJson(connection, where, next);
    for (const entry of checked(TREE, page.text, where)) {
      if (entry.type !== "file") continue;
      checkFileName(where, entry.path);
      const { lfs } = entry;
      files.push({
        path: entry.path,
        bytes: lfs?.size ?? entry.size,
        hash: lfs ? { kind: "sha256", hex: lfs.oid } : { kind: "git-sha1", hex: entry.oid },
      });
    }
    if (files.length > MOST_FILES) throw new HubError(`${where}: an absurd model, expected at most ${MOST_FILES} files, got more. Choose another model.`);
    next = nextPage(page.headers.get("link"), next, endpoint, where);
  }
  return { repo, commit, files };
}

/** The next page as `Link: <…>; rel="next"` (RFC 8288) names it. */
function nextPage(link: string | null, page: string, endpoint: string, where: string): string | null {
  const found = /<([^>]+)>\s*;\s*rel="?next"?/.exec(link ?? "")?.[1];
  if (found === undefined) return null;
  const url = URL.canParse(found, page) ? new URL(found, page) : null;
  if (url === null || url.origin !== new URL(endpoint).origin || url.href === page)
    throw new HubError(
      `${where}: a list of files that goes on elsewhere, expected a next page of the hub, got ${JSON.stringify(found.slice(0, 100))}. Check HF_ENDPOINT.`,
    );
  return url.href;
}

function checked<T extends z.ZodType>(schema: T, text: string, where: string): z.output<T> {
  const parsed = schema.safeParse(plainJson(text, where));
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0];
  throw new HubError(
    `${where}: an answer that is not the hub's, expected what its interface says, got a bad ${path.join(".") || "answer"} (${message}). Check HF_ENDPOINT.`,
  );
}

function plainJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new HubError(
      `${where}: an answer that is not the hub's, expected JSON, got ${JSON.stringify(text.slice(0, 40))}. Check HF_ENDPOINT and proxies in between.`,
      { cause },
    );
  }
}

/** The address of a file's bytes. */
export const fileAddress = (endpoint: string, { repo, commit }: HubModel, path: string): string =>
  `${endpoint}/${repo}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;

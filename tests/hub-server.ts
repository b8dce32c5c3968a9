/** A hub on the loopback for tests: it speaks the interface of the Hugging Face hub, and on demand breaks, lies, refuses and stalls. */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What a request does in place of being answered well. */
export type Fault = (response: ServerResponse, content: Buffer, request: IncomingMessage) => unknown;

export interface Seen {
  /** `hub`, or `cdn`: the other origin that large files are redirected to. */
  readonly at: "hub" | "cdn";
  readonly method: string;
  readonly path: string;
  readonly range: string | null;
  readonly authorization: string | null;
}

interface Model {
  commit: string;
  files: Map<string, { content: Buffer; lfs: boolean }>;
}

export interface TestHub {
  readonly endpoint: string;
  readonly cdn: string;
  readonly seen: Seen[];
  /** Adds a model, or a new commit of it; files of over 1,000 bytes are large ones (LFS). */
  add(repo: string, files: Record<string, Buffer | string>): string;
  /** The next requests whose path ends so do this, in order. */
  fault(ending: string, ...faults: Fault[]): void;
  /** Takes away the faults that were not met. */
  calm(): void;
  /** Changes what the interface says, before it is sent. */
  edit: ((path: string, body: unknown) => unknown) | null;
  close(): Promise<void>;
}

export const sha256 = (content: Buffer): string => createHash("sha256").update(content).digest("hex");
export const gitSha1 = (content: Buffer): string => createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");

/** Sends so many bytes and breaks the connection. */
export const breakAfter =
  (bytes: number): Fault =>
  (response, content, request) => {
    const [from, status, headers] = rangeOf(request, content);
    response.writeHead(status, headers);
    response.write(content.subarray(from, from + bytes), () => setTimeout(() => response.destroy(), 20));
  };
export const status =
  (code: number, headers: Record<string, string> = {}): Fault =>
  (response) =>
    response.writeHead(code, headers).end();
/** Other bytes of the same length. */
export const wrongBytes: Fault = (response, content, request) => {
  const [from, code, headers] = rangeOf(request, content);
  response.writeHead(code, headers).end(Buffer.alloc(content.length - from, 7));
};
/** Sends so many bytes and then nothing, or the rest when `goOn` is there. */
export const hold =
  (bytes: number, goOn?: Promise<unknown>): Fault =>
  (response, content, request) => {
    const [from, code, headers] = rangeOf(request, content);
    response.writeHead(code, headers);
    response.write(content.subarray(from, from + bytes));
    void goOn?.then(() => response.end(content.subarray(from + bytes)));
  };
/** A piece every few milliseconds. */
export const slow =
  (piece: number, ms: number): Fault =>
  (response, content, request) => {
    let [at, code, headers] = rangeOf(request, content);
    response.writeHead(code, headers);
    const timer = setInterval(() => {
      response.write(content.subarray(at, (at += piece)));
      if (at < content.length) return;
      clearInterval(timer);
      response.end();
    }, ms);
    response.on("close", () => clearInterval(timer));
  };

function rangeOf({ headers }: IncomingMessage, content: Buffer): [from: number, status: number, headers: Record<string, string | number>] {
  const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0);
  if (from === 0) return [0, 200, { "Content-Length": content.length }];
  if (from >= content.length) return [0, 416, { "Content-Range": `bytes */${content.length}` }];
  return [from, 206, { "Content-Length": content.length - from, "Content-Range": `bytes ${from}-${content.length - 1}/${content.length}` }];
}

export async function startHub(): Promise<TestHub> {
  const models = new Map<string, Model[]>();
  const faults: { ending: string; fault: Fault }[] = [];
  const seen: Seen[] = [];
  const addresses = { endpoint: "", cdn: "" };

  function note(at: Seen["at"], request: IncomingMessage, path: string): void {
    seen.push({ at, method: request.method ?? "", path, range: request.headers.range ?? null, authorization: request.headers.authorization ?? null });
  }
  function faulty(path: string, response: ServerResponse, content: Buffer, request: IncomingMessage): boolean {
    const i = faults.findIndex(({ ending }) => path.endsWith(ending));
    if (i < 0) return false;
    faults.splice(i, 1)[0].fault(response, content, request);
    return true;
  }
  function sendFile(path: string, content: Buffer, request: IncomingMessage, response: ServerResponse, extra: Record<string, string> = {}): void {
    for (const [name, value] of Object.entries(extra)) response.setHeader(name, value);
    if (request.method !== "HEAD" && faulty(path, response, content, request)) return;
    const [from, code, headers] = rangeOf(request, content);
    response.writeHead(code, headers);
    response.end(request.method === "HEAD" || code === 416 ? undefined : content.subarray(from));
  }
  const json = (response: ServerResponse, body: unknown, headers: Record<string, string> = {}) =>
    response.writeHead(200, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(body));

  function refuse(response: ServerResponse, code: number, why: string): void {
    response.writeHead(code, { "X-Error-Code": why }).end();
  }

  function answer(request: IncomingMessage, response: ServerResponse): unknown {
    const url = new URL(request.url ?? "/", addresses.endpoint);
    const path = decodeURIComponent(url.pathname);
    note("hub", request, path);
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/(.+)$/.exec(path);
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path);
    const found = api ?? file;
    const versions = models.get(found?.[1] ?? "");
    const revision = (api ? api[3] : file?.[2]) ?? "";
    const model = revision === "main" ? versions?.at(-1) : versions?.find(({ commit }) => commit === revision);
    if (api !== null && faulty(path, response, Buffer.alloc(0), request)) return;
    if (versions === undefined) return refuse(response, 401, "RepoNotFound");
    if (model === undefined) return refuse(response, 404, "RevisionNotFound");
    if (api !== null) {
      const entries = [...model.files].map(([name, { content, lfs }]) => ({
        type: "file",
        oid: gitSha1(content),
        size: content.length,
        path: name,
        ...(lfs ? { lfs: { oid: sha256(content), size: content.length, pointerSize: 130 } } : {}),
      }));
      // Two to a page, so that every list has several.
      const from = Number(url.searchParams.get("cursor") ?? 0);
      const next = `${addresses.endpoint}${url.pathname}?recursive=true&cursor=${from + 2}`;
      const body: unknown =
        api[2] === "tree"
          ? [{ type: "directory", oid: "0", size: 0, path: "folder" }, ...entries.slice(from, from + 2)]
          : { id: api[1], sha: model.commit, private: false, gated: false, siblings: entries.map((entry) => ({ rfilename: entry.path })) };
      return json(response, edited(path, body), api[2] === "tree" && from + 2 < entries.length ? { Link: `<${next}>; rel="next"` } : {});
    }
    const name = file?.[3] ?? "";
    const served = model.files.get(name);
    if (served === undefined) return refuse(response, 404, "EntryNotFound");
    const { content, lfs } = served;
    const headers = { "X-Repo-Commit": model.commit, ETag: `"${lfs ? sha256(content) : gitSha1(content)}"` };
    if (!lfs) return sendFile(path, content, request, response, headers);
    const linked = {
      "X-Linked-ETag": `"${sha256(content)}"`,
      "X-Linked-Size": String(content.length),
      Location: `${addresses.cdn}/${found?.[1]}/${model.commit}/${name}`,
    };
    return response.writeHead(302, { ...headers, ...(edited(path, linked) as Record<string, string>) }).end();
  }
  const edited = (path: string, body: unknown) => hub.edit?.(path, body) ?? body;

  function answerFile(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(request.url ?? "/");
    note("cdn", request, path);
    const [, owner, name, commit, ...rest] = path.split("/");
    const served = models
      .get(`${owner}/${name}`)
      ?.find((model) => model.commit === commit)
      ?.files.get(rest.join("/"));
    if (served === undefined) response.writeHead(404).end();
    else sendFile(path, served.content, request, response);
  }

  const servers: Server[] = [];
  async function listen(handler: (request: IncomingMessage, response: ServerResponse) => unknown): Promise<string> {
    const server = createServer(handler);
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  addresses.endpoint = await listen(answer);
  addresses.cdn = await listen(answerFile);

  const hub: TestHub = {
    ...addresses,
    seen,
    edit: null,
    add(repo, files) {
      const versions = models.get(repo) ?? [];
      const contents = Object.entries(files).map(([name, content]) => [name, Buffer.from(content as string)] as const);
      const commit = createHash("sha1").update(`${repo}${versions.length}`).digest("hex");
      models.set(repo, [...versions, { commit, files: new Map(contents.map(([name, content]) => [name, { content, lfs: content.length > 1000 }])) }]);
      return commit;
    },
    fault: (ending, ...list) => void faults.push(...list.map((fault) => ({ ending, fault }))),
    calm: () => void faults.splice(0),
    async close() {
      for (const server of servers) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
  return hub;
}

/** The environment of a process that uses a test hub and a cache of its own. */
export const hubEnvironment = (hub: TestHub, home: string): Record<string, string> => ({
  HF_ENDPOINT: hub.endpoint,
  HF_HOME: home,
  HF_HUB_CACHE: "",
  HUGGINGFACE_HUB_CACHE: "",
  HF_HUB_OFFLINE: "",
  HF_TOKEN: "",
  HF_TOKEN_PATH: "",
  HUGGING_FACE_HUB_TOKEN: "",
  // Not the models of whoever runs the tests.
  OLLAMA_MODELS: `${home}/ollama`,
});

import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import fsPromises from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { breakAfter, gitSha1, hold, hubEnvironment, sha256, slow, startHub, status, type TestHub, wrongBytes } from "../../../tests/hub-server.ts";
import { HubError, RunError } from "../../errors.ts";
import { type PullOptions, type PullProgress, pullModel } from "./pull.ts";

let hub: TestHub;
let home: string;
const weights = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 251));
const files = {
  "config.json": '{"model_type":"llama"}',
  "tokenizer.json": "{}",
  "model.safetensors": weights,
  "pytorch_model.bin": Buffer.alloc(2000, 1),
  "onnx/model.onnx": Buffer.alloc(2000, 2),
  "README.md": "# A model",
};
let commit = "";

beforeAll(async () => {
  hub = await startHub();
  commit = hub.add("org/tiny", files);
});
afterAll(() => hub.close());
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "groundup-hub-"));
  for (const [name, value] of Object.entries(hubEnvironment(hub, home))) vi.stubEnv(name, value);
  hub.seen.length = 0;
  hub.edit = null;
  hub.calm();
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true, force: true });
});

const PATIENCE = { waitMs: 1, tries: 4, stallMs: 200 };
const pull = (id = "org/tiny", options: PullOptions = {}) => pullModel(id, { patience: PATIENCE, ...options });
const root = () => join(home, "hub", "models--org--tiny");
const blobs = () => readdirSync(join(root(), "blobs")).sort();
const partOf = (content: Buffer) => join(root(), "blobs", `${sha256(content)}.incomplete`);
const fileRequests = (ending: string) => hub.seen.filter(({ path, at }) => path.endsWith(ending) && at === "cdn");

describe("a pull", () => {
  test("brings config, tokenizer and safetensors into the layout of huggingface_hub; a second one brings nothing", async () => {
    const pulled = await pull();
    expect(pulled).toMatchObject({ id: "org/tiny", revision: "main", commit, folder: join(root(), "snapshots", commit) });
    expect(pulled.files.map(({ path }) => path)).toEqual(["config.json", "tokenizer.json", "model.safetensors"]);
    expect(readFileSync(join(root(), "refs", "main"), "utf8")).toBe(commit);
    expect(readlinkSync(join(pulled.folder, "config.json"))).toBe(`../../blobs/${gitSha1(Buffer.from(files["config.json"]))}`);
    expect(readlinkSync(join(pulled.folder, "model.safetensors"))).toBe(`../../blobs/${sha256(weights)}`);
    expect(readFileSync(join(pulled.folder, "model.safetensors")).equals(weights)).toBe(true);
    expect(blobs()).toHaveLength(3);
    expect(readdirSync(join(home, "hub", ".locks", "models--org--tiny"))).toEqual([]);
    expect(pulled.fetched).toBe(pulled.files.reduce((sum, { bytes }) => sum + bytes, 0));
    hub.seen.length = 0;
    expect((await pull()).fetched).toBe(0);
    expect(hub.seen.filter(({ path }) => path.includes("/resolve/"))).toEqual([]);
  });

  test("takes patterns, a commit, and files in folders", async () => {
    const pulled = await pull(`org/tiny@${commit}`, { include: ["*.onnx", "*.json"], exclude: ["token*"] });
    expect(pulled.files.map(({ path }) => path)).toEqual(["config.json", "onnx/model.onnx"]);
    expect(readlinkSync(join(pulled.folder, "onnx/model.onnx"))).toBe(`../../../blobs/${sha256(files["onnx/model.onnx"])}`);
    expect(existsSync(join(root(), "refs"))).toBe(false);
    await expect(pull("org/tiny", { include: ["*.gguf"] })).rejects.toThrow(
      /nothing to fetch, expected files that match \*\.gguf, got config\.json, tokenizer\.json/,
    );
  });

  test("files of one content are fetched once, and a new commit fetches what is new", async () => {
    hub.add("org/twins", { "config.json": "{}", "a.json": "{}", "model.safetensors": weights });
    const first = await pull("org/twins");
    expect(hub.seen.filter(({ path }) => /resolve.*\/(config|a)\.json$/.test(path))).toHaveLength(1);
    expect(readFileSync(join(first.folder, "a.json"), "utf8")).toBe("{}");
    hub.add("org/twins", { "config.json": '{"a":1}', "a.json": "{}", "model.safetensors": weights });
    const second = await pull("org/twins");
    expect([second.fetched, second.commit === first.commit]).toEqual([7, false]);
    expect(readFileSync(join(first.folder, "config.json"), "utf8")).toBe("{}");
    expect(readFileSync(join(home, "hub", "models--org--twins", "refs", "main"), "utf8")).toBe(second.commit);
  });

  test("tells how far it is", async () => {
    const told: PullProgress[] = [];
    await pull("org/tiny", { onProgress: (progress) => told.push(progress) });
    const bytes = told[0].bytes;
    expect(told[0]).toEqual({ bytes, files: 3, here: 0, fetched: 0, done: 0 });
    expect(told.at(-1)).toEqual({ bytes, files: 3, here: bytes, fetched: bytes, done: 3 });
  });

  test("many at a time, without a warning of Node's", async () => {
    hub.add("org/many", Object.fromEntries(Array.from({ length: 24 }, (_, i) => [`${i}.json`, `{"a":${i}}`])));
    const warnings: unknown[] = [];
    const warn = (warning: unknown) => warnings.push(warning);
    process.on("warning", warn);
    for (let i = 0; i < 24; i++) hub.fault(`/${i}.json`, slow(4, 30));
    expect((await pull("org/many", { parallel: 24 })).files).toHaveLength(24);
    process.off("warning", warn);
    expect(warnings).toEqual([]);
  });

  test("two at once share the work and both end well", async () => {
    hub.fault("model.safetensors", slow(30_000, 20));
    const both = await Promise.all([pull(), pull()]);
    expect(both[0].folder).toBe(both[1].folder);
    expect(fileRequests("model.safetensors")).toHaveLength(1);
    expect(readFileSync(join(both[0].folder, "model.safetensors")).equals(weights)).toBe(true);
  });
});

describe("bad connections", () => {
  test("what broke goes on from where it was", async () => {
    hub.fault("model.safetensors", breakAfter(100_000), breakAfter(50_000));
    const notes: string[] = [];
    await pull("org/tiny", { onNote: (note) => notes.push(note) });
    expect(fileRequests("model.safetensors").map(({ range }) => range)).toEqual([null, "bytes=100000-", "bytes=150000-"]);
    expect(notes[0]).toMatch(/^org\/tiny: model\.safetensors: a broken connection \(.+\); trying again in \d/);
  });

  test("a server without ranges, and one that says there is no more, begin again", async () => {
    hub.fault("model.safetensors", breakAfter(1000), (response, content) => response.writeHead(200, { "Content-Length": content.length }).end(content));
    await pull();
    rmSync(root(), { recursive: true });
    hub.fault("model.safetensors", breakAfter(1000), status(416));
    await pull();
    expect(fileRequests("model.safetensors").map(({ range }) => range)).toEqual([null, "bytes=1000-", null, "bytes=1000-", null]);
  });

  test("429 with Retry-After, 500, and a connection that stalls, are waited out", async () => {
    const started = performance.now();
    hub.fault("/revision/main", status(429, { "Retry-After": "1" }), status(503));
    hub.fault("tokenizer.json", status(500), status(502));
    hub.fault("model.safetensors", hold(10));
    await pull();
    expect(performance.now() - started).toBeGreaterThan(990);
    expect(fileRequests("model.safetensors").map(({ range }) => range)).toEqual([null, "bytes=10-"]);
  });

  test("in the end it gives up, in words, and what is here stays", async () => {
    hub.fault("model.safetensors", breakAfter(5000), ...Array.from({ length: 4 }, () => status(500)));
    await expect(pull()).rejects.toThrow(
      /^org\/tiny: model\.safetensors: the hub has a failure of its own, expected an answer, got status 500, 4 times\. Wait until it is mended, then run it again; what is here already stays\.$/,
    );
    expect(statSync(partOf(weights)).size).toBe(5000);
    expect(existsSync(join(root(), "refs", "main"))).toBe(false);
    await pull();
    expect(fileRequests("model.safetensors").at(-1)?.range).toBe("bytes=5000-");
  });

  test("where nobody is, or nobody may be asked, it says so at once; where there is no such host, after the second try", async () => {
    const gone = await startHub();
    await gone.close();
    const error = async (endpoint: string) => {
      vi.stubEnv("HF_ENDPOINT", endpoint);
      const notes: string[] = [];
      return [((await pull("org/tiny", { onNote: (note) => notes.push(note) }).catch((e) => e)) as Error).message, notes.length];
    };
    const message = (endpoint: string, got: string) =>
      `org/tiny@main: no hub at ${endpoint}, expected a connection, got ${got}. It is HF_ENDPOINT's: correct or unset it.`;
    expect(await error(gone.endpoint)).toEqual([message(gone.endpoint, `connect ECONNREFUSED ${gone.endpoint.slice("http://".length)}`), 0]);
    expect(await error("http://127.0.0.1:1")).toEqual([message("http://127.0.0.1:1", "a port that Node's fetch never opens"), 0]);
    // It listens, and speaks no TLS.
    const secure = hub.endpoint.replace("http:", "https:");
    expect(await error(secure)).toEqual([expect.stringContaining(`org/tiny@main: no hub at ${secure}, expected a connection, got `), 0]);
    const absent = Object.assign(new Error("getaddrinfo ENOTFOUND no.hub"), { code: "ENOTFOUND" });
    const asked = vi.spyOn(globalThis, "fetch").mockRejectedValue(new TypeError("fetch failed", { cause: absent }));
    expect(await error("http://no.hub")).toEqual([message("http://no.hub", "getaddrinfo ENOTFOUND no.hub, 2 times"), 1]);
    expect(await error("https://huggingface.co")).toEqual([
      expect.stringContaining("2 times. Check the network and proxies; HF_ENDPOINT names another hub."),
      1,
    ]);
    asked.mockRestore();
  });

  test("a limit on requests is told with how long to wait, and a wait that is too long is not begun", async () => {
    const limit = (headers: Record<string, string>, times: number) => hub.fault("/revision/main", ...Array.from({ length: times }, () => status(429, headers)));
    limit({}, 4);
    await expect(pull()).rejects.toThrow(
      "org/tiny@main: the hub takes no more requests for now, expected an answer, got status 429, 4 times. Wait a few minutes (with a token in HF_TOKEN more is allowed), then run it again; what is here already stays.",
    );
    limit({ "Retry-After": "3600" }, 1);
    await expect(pull()).rejects.toThrow(/got status 429\. Wait 3600 s \(with a token/);
    limit({ RateLimit: '"api";r=0;t=301' }, 1);
    vi.stubEnv("HF_TOKEN", "hf_secret");
    await expect(pull()).rejects.toThrow(/got status 429\. Wait 301 s, then run it again/);
    const started = performance.now();
    limit({ RateLimit: '"api";r=0;t=1' }, 1);
    await pull();
    expect(performance.now() - started).toBeGreaterThan(990);
  });

  test("a signal stops it and leaves what has come", async () => {
    hub.fault("model.safetensors", slow(10_000, 20));
    const stop = new AbortController();
    const pulling = pull("org/tiny", { signal: stop.signal, onProgress: ({ here }) => here > 50_000 && stop.abort() });
    await expect(pulling).rejects.toMatchObject({ name: "AbortError" });
    const { size } = statSync(partOf(weights));
    expect(size).toBeGreaterThan(40_000);
    await pull();
    expect(fileRequests("model.safetensors").at(-1)?.range).toBe(`bytes=${size}-`);
  });
});

/** In pieces, so that no Content-Length says it before. */
function longer(response: ServerResponse, content: Buffer): void {
  response.write(content);
  response.end(Buffer.alloc(10));
}

describe("what is not as promised is refused and deleted", () => {
  test("wrong bytes, in a large file and a small one", async () => {
    hub.fault("model.safetensors", wrongBytes);
    await expect(pull()).rejects.toThrow(/model\.safetensors: other bytes than the hub promises, expected sha256 \w{64}, got \w{64}\. They were deleted\./);
    expect(existsSync(partOf(weights))).toBe(false);
    rmSync(root(), { recursive: true });
    hub.fault("tokenizer.json", wrongBytes);
    await expect(pull()).rejects.toThrow(/tokenizer\.json: other bytes than the hub promises, expected git-sha1 /);
    expect(blobs().filter((name) => name.startsWith(gitSha1(Buffer.from("{}"))))).toEqual([]);
  });

  test("a part that somebody else left wrong costs one more try, not the pull", async () => {
    mkdirSync(join(root(), "blobs"), { recursive: true });
    writeFileSync(partOf(weights), Buffer.alloc(1000, 9));
    const pulled = await pull();
    expect(fileRequests("model.safetensors").map(({ range }) => range)).toEqual(["bytes=1000-", null]);
    expect(readFileSync(join(pulled.folder, "model.safetensors")).equals(weights)).toBe(true);
    rmSync(root(), { recursive: true });
    mkdirSync(join(root(), "blobs"), { recursive: true });
    writeFileSync(partOf(weights), Buffer.concat([weights, Buffer.alloc(5)]));
    expect((await pull()).fetched).toBeGreaterThan(weights.length);
    // Whole, but not under its name yet.
    rmSync(root(), { recursive: true });
    mkdirSync(join(root(), "blobs"), { recursive: true });
    writeFileSync(partOf(weights), weights);
    hub.seen.length = 0;
    await pull();
    expect(fileRequests("model.safetensors")).toEqual([]);
  });

  test.each([
    ["a longer body", longer],
    ["a longer Content-Length", (response: ServerResponse, content: Buffer) => response.end(Buffer.concat([content, Buffer.alloc(10)]))],
    ["another Content-Length", (response: ServerResponse) => response.writeHead(200, { "Content-Length": 5 }).end("12345")],
  ])("a size that lies: %s", async (_, fault) => {
    hub.fault("model.safetensors", fault);
    await expect(pull()).rejects.toThrow(
      /model\.safetensors: another size than the hub promises, expected 300000 bytes, got (more|300010|5)\. What had come was deleted\./,
    );
    expect(existsSync(partOf(weights))).toBe(false);
  });

  test("a range of another file", async () => {
    hub.fault("model.safetensors", breakAfter(1000), (response) =>
      response.writeHead(206, { "Content-Range": "bytes 1000-1999/2000", "Content-Length": 1000 }).end(Buffer.alloc(1000)),
    );
    await expect(pull()).rejects.toThrow(/another size .*got the range "bytes 1000-1999\/2000"/);
  });

  test.each([
    ["X-Linked-ETag", `"${"0".repeat(64)}"`],
    ["X-Linked-Size", "7"],
    ["X-Repo-Commit", "0".repeat(40)],
  ])("a header that contradicts the list: %s", async (header, value) => {
    hub.edit = (path, body) => (path.includes("/resolve/") ? { ...(body as object), [header]: value } : body);
    await expect(pull()).rejects.toThrow(/model\.safetensors: the hub contradicts itself, expected .* as in its list of files, got /);
  });

  test.each(["../../evil", "/etc/passwd", "a/../../b", "a\\b", "c:/x", "a//b", "", "a/./b", "x\u0000y"])("a hostile file name: %j", async (path) => {
    hub.edit = (at, body) => (at.includes("/tree/") ? [{ type: "file", path, oid: "0".repeat(40), size: 1 }] : body);
    await expect(pull()).rejects.toThrow(/hostile file name, expected a path inside the model's folder, got .*Nothing was fetched\./);
    expect(existsSync(root())).toBe(false);
  });

  test.each([
    ["a hash that is none", { path: "config.json", oid: "../../x", size: 1 }, /expected what its interface says, got a bad 0\.oid/],
    ["a negative size", { path: "config.json", oid: "0".repeat(40), size: -1 }, /got a bad 0\.size/],
    [
      "more than the disk has",
      { path: "config.json", oid: "0".repeat(40), size: 9e15 },
      /not enough room on the disk, expected 9000000\.0 GB free .* Make room/,
    ],
  ])("%s", async (_, entry, message) => {
    hub.edit = (at, body) => (at.includes("/tree/") ? [{ type: "file", ...entry }] : body);
    await expect(pull()).rejects.toThrow(message);
  });

  test("a commit that is none, an answer that is no JSON, and a list that goes on elsewhere", async () => {
    hub.edit = (at, body) => (at.includes("/revision/") ? { sha: "../../../x" } : body);
    await expect(pull()).rejects.toThrow(/got a bad sha/);
    hub.edit = null;
    hub.fault("/revision/main", (response) => response.end("<html>"));
    await expect(pull()).rejects.toThrow(/an answer that is not the hub's, expected JSON, got "<html>"/);
    hub.fault(`/tree/${commit}`, (response) => response.writeHead(200, { Link: `<${hub.cdn}/x>; rel="next"` }).end("[]"));
    await expect(pull()).rejects.toThrow(/a list of files that goes on elsewhere/);
  });

  test("a link that leads out of the cache is not followed", async () => {
    mkdirSync(join(root(), "snapshots", commit), { recursive: true });
    const outside = mkdtempSync(join(home, "outside-"));
    symlinkSync(outside, join(root(), "snapshots", commit, "onnx"));
    await expect(pull("org/tiny", { include: ["onnx/*"] })).rejects.toThrow(/leads out of the cache/);
    expect(readdirSync(outside)).toEqual([]);
  });
});

test("where links may not be made, the snapshot has the files themselves", async () => {
  const { symlink } = fsPromises;
  fsPromises.symlink = async () => {
    throw Object.assign(new Error("not permitted"), { code: "EPERM", syscall: "symlink" });
  };
  syncBuiltinESMExports();
  try {
    const { folder } = await pull();
    expect(lstatSync(join(folder, "model.safetensors")).isFile()).toBe(true);
    expect(readFileSync(join(folder, "model.safetensors")).equals(weights)).toBe(true);
    expect((await pull()).fetched).toBe(0);
  } finally {
    fsPromises.symlink = symlink;
    syncBuiltinESMExports();
  }
});

describe("the token", () => {
  test("goes to the hub, from HF_TOKEN or its file, and to no other origin", async () => {
    vi.stubEnv("HF_TOKEN", "hf_secret");
    await pull();
    expect(new Set(hub.seen.filter(({ at }) => at === "hub").map(({ authorization }) => authorization))).toEqual(new Set(["Bearer hf_secret"]));
    expect(fileRequests("model.safetensors").map(({ authorization }) => authorization)).toEqual([null]);
    vi.stubEnv("HF_TOKEN", "");
    writeFileSync(join(home, "token"), "hf_of_file\n");
    hub.seen.length = 0;
    await pull();
    expect(hub.seen[0].authorization).toBe("Bearer hf_of_file");
  });

  test("is in no message", async () => {
    vi.stubEnv("HF_TOKEN", "hf_secret\nand more");
    const error = (await pull().catch((e) => e)) as Error;
    expect(error.message).toContain("HF_TOKEN: not a token");
    vi.stubEnv("HF_TOKEN", "hf_secret");
    const other = (await pull("org/none").catch((e) => e)) as Error;
    for (const { message, stack } of [error, other]) expect(`${message}${stack}`).not.toContain("hf_secret");
  });
});

describe("refusals in words", () => {
  test.each([
    [
      "401 without a token",
      status(401),
      /^org\/tiny@main: no such model, or a private one, .* got 401\. Check the spelling; .*make a token at .*\/settings\/tokens and set HF_TOKEN/,
    ],
    [
      "a gated model",
      status(403, { "X-Error-Code": "GatedRepo", "X-Error-Message": "ask\u009b" }),
      /a gated or closed model, .*got 403 GatedRepo \(ask\ufffd\)\. Open .*\/org\/tiny, accept the terms/,
    ],
    ["404", status(404), /no such model, or a private one/],
    ["a revision", status(404, { "X-Error-Code": "RevisionNotFound" }), /no such revision.*org\/tiny\/refs/],
    ["another", status(418), /the hub refused, expected status 200, got 418/],
    ["a circle", (response: ServerResponse) => response.writeHead(302, { Location: "/api/models/org/tiny/revision/main" }).end(), /./],
  ])("%s", async (what, fault, message) => {
    hub.fault("/revision/main", ...Array.from({ length: what === "a circle" ? 9 : 1 }, () => fault));
    const error = (await pull().catch((e) => e)) as Error;
    expect(error).toBeInstanceOf(HubError);
    expect(error.message).toMatch(what === "a circle" ? /sends requests in a circle/ : message);
  });

  test("a token that the hub does not know", async () => {
    vi.stubEnv("HF_TOKEN", "hf_old");
    hub.fault("/revision/main", status(401, { "X-Error-Message": "Invalid credentials in Authorization header" }));
    await expect(pull()).rejects.toThrow(
      /^org\/tiny@main: the token is not valid, expected one that .* knows, got 401 \(Invalid credentials .*\)\. Make a new one at/,
    );
  });

  test("what is no id, no address, or offline", async () => {
    for (const id of ["tiny", "a/b/c", "../x", "org/..", "org/na--me", "org/x@../../y", "org/x:../y"])
      await expect(pull(id)).rejects.toThrow(/not a model's id/);
    await expect(pull("org/tiny", { parallel: 0 })).rejects.toThrow(/bad parallel/);
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    await expect(pull()).rejects.toThrow(/offline, expected a connection to pull/);
    vi.stubEnv("HF_HUB_OFFLINE", "");
    vi.stubEnv("HF_ENDPOINT", "huggingface");
    await expect(pull()).rejects.toThrow(/HF_ENDPOINT: not a hub's address/);
  });

  test("a disk that refuses is told with what is here", async () => {
    mkdirSync(join(root(), "blobs"), { recursive: true });
    mkdirSync(partOf(weights));
    const error = (await pull().catch((e) => e)) as Error;
    expect(error).toBeInstanceOf(RunError);
    expect(error.message).toMatch(/model\.safetensors: could not be written, the system refuses .* pull again, it goes on from there\./);
  });
});

test("a file that fails ends the others' transfers, in whatever state they are", async () => {
  for (let i = 0; i < 25; i++) {
    rmSync(root(), { recursive: true, force: true });
    hub.fault("tokenizer.json", wrongBytes);
    await expect(pull()).rejects.toThrow(/tokenizer\.json: other bytes/);
  }
});

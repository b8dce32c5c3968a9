import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { hubEnvironment, startHub, status, type TestHub } from "../../../tests/hub-server.ts";
import { loadTokenizer } from "../../tokenizers/index.ts";
import { isGguf } from "../gguf/magic.ts";
import { bytesSource } from "../source.ts";
import { localModels } from "./local-models.ts";
import { locate } from "./locate.ts";
import { pullModel } from "./pull.ts";

const GGUF = Buffer.from("GGUF and more");
let hub: TestHub;
let home: string;
let commit: string;
const before = process.cwd();
beforeAll(async () => {
  hub = await startHub();
  commit = hub.add("org/tiny", { "config.json": "{}", "tokenizer.json": "{}", "model.safetensors": "weights" });
  hub.add("org/tiny-GGUF", { "a-Q8_0.gguf": GGUF, "a-Q4_0.gguf": Buffer.concat([GGUF, Buffer.alloc(9)]), "README.md": "x" });
});
afterAll(() => hub.close());
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "groundup-locate-"));
  process.chdir(home);
  for (const [name, value] of Object.entries({ ...hubEnvironment(hub, join(home, "hf")), HOME: home })) vi.stubEnv(name, value);
  hub.seen.length = 0;
});
afterEach(() => {
  process.chdir(before);
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true, force: true });
});
const both = { weights: true, tokenizer: true };
const snapshot = () => join(home, "hf", "hub", "models--org--tiny", "snapshots", commit);

test("a path wins over an id, a model in the cache is opened without asking, what is missing is fetched", async () => {
  expect(await locate("org/tiny", both)).toEqual({ path: snapshot(), gguf: false, commit });
  const asked = hub.seen.length;
  expect(await locate("org/tiny", { ...both, offline: true })).toEqual({ path: snapshot(), gguf: false, commit });
  expect(await locate(`org/tiny@${commit}`, both)).toEqual({ path: snapshot(), gguf: false, commit });
  expect(hub.seen).toHaveLength(asked);
  rmSync(join(snapshot(), "tokenizer.json"));
  expect((await locate("org/tiny", { weights: true })).path).toBe(snapshot());
  expect(hub.seen).toHaveLength(asked);
  await locate("org/tiny", { tokenizer: true });
  expect(hub.seen.length).toBeGreaterThan(asked);
  mkdirSync("org/tiny", { recursive: true });
  expect(await locate("org/tiny", both)).toEqual({ path: "org/tiny", gguf: false });
});

test("only the tokenizer's files are fetched where no more is needed, and shards must all be there", async () => {
  const at = await locate("org/tiny", { tokenizer: true });
  expect(hub.seen.some(({ path }) => path.endsWith("model.safetensors"))).toBe(false);
  await expect(locate("org/tiny", { ...both, offline: true })).rejects.toThrow(/not on this machine/);
  writeFileSync(join(at.path, "model.safetensors.index.json"), '{"weight_map":{"a":"model-00001-of-00001.safetensors"}}');
  await expect(locate("org/tiny", { weights: true, offline: true })).rejects.toThrow(/not on this machine/);
  writeFileSync(join(at.path, "model-00001-of-00001.safetensors"), "x");
  expect(await locate("org/tiny", { weights: true, offline: true })).toEqual(at);
});

test("GGUF files of the hub, named and not", async () => {
  await expect(locate("org/tiny-GGUF", both)).rejects.toThrow(/several GGUF files/);
  const found = await locate("org/tiny-GGUF:Q8_0", both);
  expect(found).toMatchObject({ gguf: true, path: expect.stringMatching(/a-Q8_0\.gguf$/) });
  for (const name of ["org/tiny-GGUF:Q8_0", "org/tiny-GGUF:a-Q8_0.gguf", "org/tiny-GGUF"])
    expect(await locate(name, { ...both, offline: true })).toEqual(found);
});

test("offline, a wrong id, and a misspelt path, in words", async () => {
  await expect(locate("org/tiny", { ...both, offline: true })).rejects.toThrow(
    /^org\/tiny: not on this machine, expected a file, a folder or a model in .*, got none, and --offline \(or HF_HUB_OFFLINE\) forbids to fetch it\. Pull it where/,
  );
  vi.stubEnv("HF_HUB_OFFLINE", "true");
  await expect(locate("org/tiny", both)).rejects.toThrow(/HF_HUB_OFFLINE/);
  vi.stubEnv("HF_HUB_OFFLINE", "0");
  await expect(locate("org/none", both)).rejects.toThrow(/no such model, or a private one, .*There is no file or folder org\/none here/);
  hub.fault("/revision/main", status(403));
  await expect(locate("org/tiny", both)).rejects.toThrow(/gated or closed/);
  mkdirSync("runs/mine", { recursive: true });
  hub.seen.length = 0;
  for (const path of ["runs/mime", "some/model.gguf", "./org/tiny", "/org/tiny", "tiny"]) expect(await locate(path, both)).toMatchObject({ path });
  expect(hub.seen).toEqual([]);
});

test("where there is no file system, a tokenizer's path is refused in words", async () => {
  vi.stubGlobal("process", { env: process.env });
  await expect(loadTokenizer("org/tiny")).rejects.toThrow(/no file system here, expected Node, got another runtime\. Pass TokenizerFiles/);
  vi.unstubAllGlobals();
  expect(hub.seen).toEqual([]);
});

test("a GGUF file is told by its first bytes, not its name", async () => {
  writeFileSync("blob", GGUF);
  writeFileSync("text.gguf", "no model");
  writeFileSync("short", "GGU");
  expect(await locate("blob", {})).toEqual({ path: "blob", gguf: true });
  expect(await locate("text.gguf", {})).toEqual({ path: "text.gguf", gguf: false });
  expect((await locate("short", {})).gguf).toBe(false);
  expect(await isGguf(bytesSource(GGUF))).toBe(true);
  expect(await isGguf(bytesSource(new Uint8Array(3)))).toBe(false);
});

test("models of Ollama and LM Studio, and what is in the cache", async () => {
  const digest = createHash("sha256").update(GGUF).digest("hex");
  const manifests = join(home, ".ollama/models/manifests/registry.ollama.ai");
  const manifest = (at: string, value: unknown) => {
    mkdirSync(join(manifests, at, ".."), { recursive: true });
    writeFileSync(join(manifests, at), JSON.stringify(value));
  };
  const layer = (digest: string) => ({
    layers: [
      { mediaType: "application/vnd.ollama.image.license", digest: "sha256:1" },
      { mediaType: "application/vnd.ollama.image.model", digest },
    ],
  });
  manifest("library/tiny/1b", layer(`sha256:${digest}`));
  manifest("someone/tiny/latest", layer(`sha256:${digest}`));
  manifest("library/evil/latest", layer("sha256:x/../../evil"));
  writeFileSync(join(home, ".ollama/models/evil"), GGUF);
  manifest("library/broken/latest", 5);
  const blob = join(home, ".ollama/models/blobs", `sha256-${digest}`);
  mkdirSync(join(blob, ".."), { recursive: true });
  writeFileSync(blob, GGUF);
  // A home that is asked by itself; other folders of this machine may come to it.
  vi.stubEnv("OLLAMA_MODELS", "");
  expect((await localModels(() => {})).map(({ id }) => id)).toContain("ollama:tiny:1b");
  vi.stubEnv("OLLAMA_MODELS", join(home, ".ollama/models"));
  expect(await locate("ollama:tiny:1b", both)).toEqual({ path: blob, gguf: true });
  expect(await locate("ollama:someone/tiny", both)).toEqual({ path: blob, gguf: true });
  await expect(locate("ollama:tiny:2b", both)).rejects.toThrow(
    /no such model here, expected one of someone\/tiny:latest, tiny:1b, got "tiny:2b"\. Did you mean "tiny:1b"\?/,
  );

  const studio = join(home, ".lmstudio/models/org/tiny");
  mkdirSync(studio, { recursive: true });
  for (const name of ["a.gguf", "mmproj-a.gguf"]) writeFileSync(join(studio, name), GGUF);
  writeFileSync(join(studio, "b.gguf"), "no model");
  await locate("org/tiny", both);
  await pullModel(`org/tiny@${commit}`);
  await locate("org/tiny-GGUF:Q4_0", both);
  const unreadable: string[] = [];
  const models = await localModels(({ message }) => unreadable.push(message));
  expect(unreadable.sort()).toEqual([
    expect.stringMatching(/library\/broken\/latest: .*expected/),
    expect.stringMatching(/library\/evil\/latest: no manifest of a model, expected a layer .*SHA-256/),
  ]);
  expect(models.map(({ id }) => id)).toEqual(["org/tiny", "org/tiny-GGUF:a-Q4_0.gguf", "ollama:someone/tiny:latest", "ollama:tiny:1b", join(studio, "a.gguf")]);
  expect(models[0]).toMatchObject({ source: "hub", path: snapshot(), bytes: 11, revision: { commit, names: ["main"] }, lastUsed: expect.any(Number) });
  for (const { id, path } of models) expect((await locate(id, { offline: true })).path).toBe(path);
  vi.stubEnv("OLLAMA_MODELS", join(home, "elsewhere"));
  expect((await localModels(() => {})).some(({ source }) => source === "ollama")).toBe(false);
});

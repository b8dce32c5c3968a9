/** `groundup pull` as a process of its own: killed, stopped, beside another, and on a disk that is full. */
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { ensureBuilt, groundup, start, startOnSmallDisk } from "./built.ts";
import { hold, hubEnvironment, sha256, startHub, type TestHub } from "./hub-server.ts";

let hub: TestHub;
let home: string;
let env: Record<string, string>;
const weights = Buffer.from(Array.from({ length: 400_000 }, (_, i) => (i * 31) % 253));
let commit: string;

beforeAll(async () => {
  ensureBuilt();
  hub = await startHub();
  commit = hub.add("org/tiny", { "config.json": '{"model_type":"gpt2"}', "model.safetensors": weights });
});
afterAll(() => hub.close());
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "groundup-pull-"));
  env = hubEnvironment(hub, home);
  hub.seen.length = 0;
  hub.calm();
  return () => rmSync(home, { recursive: true, force: true });
});

const root = () => join(home, "hub", "models--org--tiny");
const part = () => join(root(), "blobs", `${sha256(weights)}.incomplete`);
const ranges = () => hub.seen.filter(({ at }) => at === "cdn").map(({ range }) => range);
const wholeNow = () => readFileSync(join(root(), "snapshots", commit, "model.safetensors")).equals(weights);
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(10);
}
const partOver = (bytes: number) => until(() => existsSync(part()) && statSync(part()).size > bytes);

test("killed in the middle, it goes on behind the last byte that it has", async () => {
  hub.fault("model.safetensors", hold(200_000));
  const { child, ended } = start(["pull", "org/tiny"], env);
  await partOver(100_000);
  child.kill("SIGKILL");
  await ended;
  const { size } = statSync(part());
  expect(existsSync(join(root(), "refs", "main"))).toBe(false);
  const again = await groundup(["pull", "org/tiny", "--json"], env);
  expect(again.code).toBe(0);
  expect(ranges()).toEqual([null, `bytes=${size}-`]);
  // The small file may have come before the kill.
  expect([weights.length - size, weights.length - size + 21]).toContain(JSON.parse(again.stdout).fetched);
  expect(wholeNow()).toBe(true);
});

test("Ctrl-C leaves what has come and says how to go on", async () => {
  hub.fault("model.safetensors", hold(200_000));
  const { child, ended } = start(["pull", "org/tiny"], env);
  await partOver(100_000);
  child.kill("SIGINT");
  const { code, stderr } = await ended;
  expect(code).toBe(130);
  expect(stderr).toMatch(/What has come stays\. Go on with: .*groundup pull org\/tiny\n/);
  const { size } = statSync(part());
  await groundup(["pull", "org/tiny"], env);
  expect(ranges()).toEqual([null, `bytes=${size}-`]);
});

test("two processes at once fetch each byte once", async () => {
  const both = [start(["pull", "org/tiny"], env), start(["pull", "org/tiny"], env)];
  // The one that comes first gets the second half when the other one says that it waits.
  const waits = Promise.race(both.map(({ child }) => once(child.stderr as Readable, "data")));
  hub.fault("model.safetensors", hold(200_000, waits));
  const ended = await Promise.all(both.map(({ ended }) => ended));
  expect(ended.map(({ code }) => code)).toEqual([0, 0]);
  expect(ended.map(({ stderr }) => stderr).join("")).toMatch(
    /^(org\/tiny: \S+: another pull \(process \d+ on .*\) fetches it, waiting for that one; if it is gone, remove .*\n)+$/,
  );
  expect(ranges()).toEqual([null]);
  expect(wholeNow()).toBe(true);
});

test("a full disk is said, and it goes on when there is room", async () => {
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  const { code, stderr } = await startOnSmallDisk(["pull", "org/tiny"], 150_000).ended;
  vi.unstubAllEnvs();
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /model\.safetensors: could not be written, the file is too large for this file system or limit \(EFBIG\), expected room for 400\.0 kB at .*, got as far as byte \d+\. What is here stays: /,
  );
  expect(stderr).not.toContain("    at ");
  const { size } = statSync(part());
  expect(size).toBeGreaterThan(100_000);
  expect((await groundup(["pull", "org/tiny"], env)).code).toBe(0);
  expect(ranges()).toEqual([null, `bytes=${size}-`]);
  expect(wholeNow()).toBe(true);
});

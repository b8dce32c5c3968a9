/** Live bytes and resident memory over 1,000 training steps and 1,000 generations. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureBuilt, ROOT } from "../built.ts";

const dir = mkdtempSync(join(tmpdir(), "groundup-memory-"));
beforeAll(() => ensureBuilt());
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const MEGABYTE = 1e6;
/**
 * V8 doubles its young generation once in the life of a process, at a moment of its own choosing: 13 MB that are no leak.
 * Here it has its full size (that of 64-bit systems) from the start.
 */
const FLAGS = ["--expose-gc", "--min-semi-space-size=16", "--max-semi-space-size=16"];
type Settled = Record<number, { live: number; rss: number }>;

test("steps 100 and 1,000 hold the same memory; so do generations 100 and 1,000", { timeout: 600_000 }, () => {
  const { stdout, stderr, status } = spawnSync(process.execPath, [...FLAGS, join(ROOT, "tests", "full", "memory-child.mjs"), dir], { encoding: "utf8" });
  expect(status, stderr).toBe(0);
  const measured: Record<"steps" | "generations", Settled> = JSON.parse(stdout);
  for (const [name, at] of Object.entries(measured)) {
    const line = Object.entries(at).map(([i, { rss }]) => `${i}: ${(rss / MEGABYTE).toFixed(1)}`);
    console.info(`${name}, ${at[1000].live} bytes live, MB resident at ${line.join(", ")}`);
    expect(at[1000].live, name).toBe(at[100].live);
    expect(at[1000].rss - at[100].rss, name).toBeLessThan(10 * MEGABYTE);
  }
});

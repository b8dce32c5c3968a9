import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ensureBuilt } from "./built.ts";

let root: string;
const at = (...names: string[]) => join(root, ...names);
const source = (text: string) => {
  writeFileSync(at("src", "cli", "main.ts"), text);
  // Newer than whatever was compiled before, whatever the clock's steps.
  const soon = new Date(Date.now() + 1000);
  utimesSync(at("src", "cli", "main.ts"), soon, soon);
};
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "groundup-built-"));
  for (const folder of ["src", "dist"]) mkdirSync(at(folder, "cli"), { recursive: true });
  writeFileSync(at("package.json"), '{ "type": "module" }');
  const compilerOptions = { target: "es2022", module: "nodenext", types: [], strict: true, rootDir: "src", outDir: "dist" };
  writeFileSync(at("tsconfig.build.json"), JSON.stringify({ compilerOptions, include: ["src"] }));
  writeFileSync(at("dist", "cli", "main.js"), "old");
});
afterEach(() => rmSync(root, { recursive: true, force: true }));
const compiled = () => readFileSync(at("dist", "cli", "main.js"), "utf8");

test("sources that do not compile are an error each time, although an older build is there", () => {
  source('export const n: number = "one";\n');
  for (const _ of [1, 2]) expect(() => ensureBuilt(root)).toThrow(/build failed: .*main\.ts.*TS2322/);
  expect(compiled()).toBe("old");
  source("export const n: number = 1;\n");
  ensureBuilt(root);
  expect(compiled()).toContain("n = 1");
});

test("one process builds at a time; what a dead one left is no obstacle", async () => {
  const busy = at("dist", ".building");
  source("export const n = 1;\n");
  mkdirSync(busy);
  const left = new Int32Array(new SharedArrayBuffer(4));
  const other = new Worker(
    'const { rmdirSync } = require("fs"); setTimeout(() => { Atomics.store(require("worker_threads").workerData, 0, 1); rmdirSync(process.argv[2]); }, 700)',
    { eval: true, argv: [busy], workerData: left },
  );
  await new Promise((resolve) => other.once("online", resolve));
  // As if the other had built it: only the wait is left.
  const later = new Date(Date.now() + 5000);
  utimesSync(at("dist", "cli", "main.js"), later, later);
  ensureBuilt(root);
  expect(Atomics.load(left, 0)).toBe(1);
  expect(compiled()).toBe("old");
  mkdirSync(busy);
  utimesSync(busy, new Date(0), new Date(0));
  ensureBuilt(root);
});

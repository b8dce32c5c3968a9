/** The examples, as a stranger runs them after `npm ci`: one command, on any Node that groundup supports. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureBuilt, NATIVE, ROOT, WELL } from "./built.ts";

const dir = mkdtempSync(join(tmpdir(), "groundup-examples-"));
beforeAll(() => ensureBuilt());
afterAll(() => rmSync(dir, { recursive: true }));

const example = (...args: string[]) => spawnSync(process.execPath, [join(ROOT, "scripts", "run-example.mjs"), ...args], { cwd: dir, encoding: "utf8" });

test("nanogpt learns a small text and writes like it, the same on every run", { timeout: 120_000 }, () => {
  const text = join(dir, "text.txt");
  writeFileSync(text, "The whale swims in the sea, and the sea is wide. The ship sails on the sea, and the whale is white. ".repeat(60));
  // What a text this small can be told by: 2.47 nats for whoever counts its characters, 1.16 for whoever also sees the one before. The whole
  // model gets below both in 100 steps; on the plain backend there is time for a quarter of its width, which gets well below the first.
  const [width, bound] = NATIVE ? ["128", 1] : ["32", 2];
  const { stdout, stderr, status } = example("nanogpt", text, "100", width);
  expect(stderr).toBe(WELL);
  expect(status).toBe(0);
  const losses = [...stdout.matchAll(/^step (\d+): training loss ([\d.]+), validation loss ([\d.]+)$/gm)].map(([, ...numbers]) => numbers.map(Number));
  expect(losses.map(([step]) => step)).toEqual([0, 100]);
  // At first no better than guessing among its 17 characters.
  expect(losses[0][1]).toBeCloseTo(Math.log(17), 0);
  expect(losses[1][2]).toBeLessThan(bound);
  expect(stdout).toMatch(/ (the|whale) /);
  expect(example("nanogpt", text, "100", width).stdout).toBe(stdout);
});

test("every example reads on a page, says how it is run, and a wrong name gets the list", () => {
  const names = readdirSync(join(ROOT, "examples")).map((file) => file.replace(/\.ts$/, ""));
  for (const name of names) {
    const source = readFileSync(join(ROOT, "examples", `${name}.ts`), "utf8");
    expect(source.trimEnd().split("\n").length).toBeLessThanOrEqual(150);
    expect(source).toContain(`npm run example -- ${name}`);
  }
  const wrong = example("nanogtp");
  expect(wrong.status).toBe(2);
  expect(wrong.stderr).toContain(`expected one of ${names.join(", ")}, got "nanogtp"`);
});

test("wrong arguments of an example or a benchmark are one line that says what is expected", () => {
  const bench = (...args: string[]) => spawnSync(process.execPath, [join(ROOT, "bench", "run.mjs"), ...args], { cwd: dir, encoding: "utf8" });
  const small = join(dir, "small.txt");
  writeFileSync(small, "Too little to learn from.");
  const wrong: [run: ReturnType<typeof bench>, says: RegExp][] = [
    [example("nanogpt", small), /^nanogpt: expected a text of 650 characters or more, got 25\n$/],
    [example("nanogpt", "nofile.txt"), /^nanogpt: ENOENT: no such file or directory, open 'nofile\.txt'\n$/],
    [example("nanogpt", join(ROOT, "README.md"), "many"), /^nanogpt: cosine: .*, got steps NaN, .*\n$/],
    [bench("gemm", "--setting", "big"), /^bench gemm: expected a setting MxNxK, got big\n$/],
    [bench("gem"), /^bench: expected one of .*gemm.*, got gem\. Example: .*\n$/],
    [bench("gemm", "--seting", "1x1x1"), /^bench: Unknown option '--seting'.*\n$/],
  ];
  for (const [{ stdout, stderr, status }, says] of wrong) {
    expect([stdout, stderr.replace(WELL, "")]).toEqual(["", expect.stringMatching(says)]);
    expect(status).toBeGreaterThan(0);
  }
});

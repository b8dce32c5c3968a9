/** What threads share beyond tensors, and what must not get from one process to another: each test has processes of its own. */
import { spawnSync } from "node:child_process";
import { beforeAll, expect, test } from "vitest";
import { ensureBuilt } from "../../tests/built.ts";
import { whereNative } from "../../tests/where-native.ts";

const ENTRY = new URL("../../dist/index.js", import.meta.url).href;

beforeAll(() => ensureBuilt(), 120_000);

/** Runs a module that has groundup as `g`; what it prints. */
function run(program: string, env: Record<string, string> = {}): string {
  const source = `import { once } from "node:events"; import { Worker } from "node:worker_threads"; const g = await import("${ENTRY}"); ${program}`;
  const child = spawnSync(process.execPath, ["--input-type=module", "-e", source], { env: { ...process.env, ...env }, encoding: "utf8" });
  expect([child.stderr, child.status]).toEqual(["", 0]);
  return child.stdout.trim();
}

whereNative("the variables of the environment", () => {
  const worker = (program: string) =>
    `await once(new Worker(${JSON.stringify(`import("${ENTRY}").then((g) => { ${program} })`)}, { eval: true, execArgv: [] }), "exit");`;
  const settings = "[g.backend().threads(), g.backend().isa()].join()";

  test("set threads and instruction set once: a worker leaves what the program has set since", () => {
    const program = `
      const before = ${settings};
      g.backend().threads(4);
      g.backend().isa(g.backend().isas()[0]);
      const best = g.backend().isas()[0];
      ${worker("g.zeros([1]).dispose()")}
      console.log(before, ${settings} === "4," + best);`;
    expect(run(program, { GROUNDUP_THREADS: "1", GROUNDUP_ISA: "portable" })).toBe("1,portable true");
  });

  test("hold for the process when a worker is the first to use it", () => {
    expect(
      run(`${worker("g.zeros([1]).dispose(); g.backend().threads(3)")} console.log(${settings});`, { GROUNDUP_THREADS: "2", GROUNDUP_ISA: "portable" }),
    ).toBe("3,portable");
  });

  test("are checked in every thread, and again after an error", () => {
    const program = `
      const words = [];
      for (let i = 0; i < 2; i++) try { g.zeros([1]); } catch (error) { words.push(error.message.split(",")[0]); }
      process.env.GROUNDUP_THREADS = "3";
      console.log(words.join(), g.backend().threads());`;
    expect(run(program, { GROUNDUP_THREADS: "none" })).toBe("GROUNDUP_THREADS: not a number of threads,GROUNDUP_THREADS: not a number of threads 3");
  });
});

whereNative("a description", () => {
  test("is refused in another process, also where that has shared memory of the same number", () => {
    const shared = "const shared = g.share(g.tensor([1, 2, 3]));";
    const theirs = run(`${shared} console.log(JSON.stringify(shared));`);
    const program = `
      ${shared}
      try { g.fromShared(${theirs}); } catch (error) { console.log(error.name, error.message); }
      console.log(g.fromShared(JSON.parse(JSON.stringify(shared))).dataSync().join(), shared.memory.number === ${theirs}.memory.number);`;
    const [words, claimed] = run(program).split("\n");
    expect(words).toContain("ShapeError fromShared: nothing to claim, expected memory that a thread of this process shared on the native backend");
    expect(claimed).toBe("1,2,3 true");
  });
});

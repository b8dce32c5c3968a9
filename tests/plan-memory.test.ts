/** The memory of a whole process against its plan: what a user's machine must have, not the tensors alone. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureBuilt, groundup, NATIVE } from "./built.ts";

const dir = mkdtempSync(join(tmpdir(), "groundup-plan-"));
beforeAll(() => ensureBuilt());
afterAll(() => rmSync(dir, { recursive: true }));

const TELL = 'data:text/javascript,process.on("exit",()=>console.error("peak",process.resourceUsage().maxRSS*1024))';

// The plain backend keeps its tensors in V8's arrays; the plan is that of the native one.
if (NATIVE) {
  test("a small recipe's process takes what was planned, to 10 percent", { timeout: 120_000 }, async () => {
    const changes = ["--set", "training.max_steps=60", "--set", "eval.eval_steps=60", "--set", "data.validation_fraction=0.03"];
    const { memory } = JSON.parse((await groundup(["plan", "settings-c", ...changes, "--json"])).stdout);
    const { stderr, code } = await groundup(["pretrain", "settings-c", ...changes, "--out", join(dir, "run")], {
      NODE_OPTIONS: `--import=${TELL.replaceAll('"', "%22")}`,
    });
    expect(code).toBe(0);
    const measured = Number(/^peak (\d+)$/m.exec(stderr)?.[1]);
    expect(memory.process / measured).toBeGreaterThan(0.9);
    expect(memory.process / measured).toBeLessThan(1.1);
  });
} else {
  test("without a native library the process's plan is not measured", () => expect(NATIVE).toBe(false));
}

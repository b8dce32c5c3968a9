import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { dir, open, recipeOf } from "../../tests/tiny-run.ts";
import { NonFiniteError } from "../errors.ts";
import { quote, watchTraining } from "./training-view.ts";

test("a sample is a paragraph no wider than the terminal, its control characters as symbols and its line breaks as ¶", () => {
  expect(quote(7, "It was\u000e", " a\u001b[2Jday\r\n in\tApril", 80)).toBe("  step 7   It was␎▸ a␛[2Jday ¶ in\tApril");
  const lines = quote(7, "It was", " a bright cold day in April".repeat(9), 40).split("\n");
  expect(lines.length).toBeGreaterThan(5);
  for (const line of lines) expect(line.length).toBeLessThan(40);
});

test("a run that fails leaves its report, and says where it could not", async () => {
  const lines: string[] = [];
  const io = { json: false, print: () => {}, write: () => {}, log: (line: string) => void lines.push(line), signal: new AbortController().signal };
  const report = (name: string) => join(dir, name, "report.html");
  for (const name of ["run", "blocked"]) {
    const session = await open(recipeOf({ learning_rate: 1e30, max_grad_norm: null }), { out: join(dir, name) });
    // A folder in the file's place.
    if (name === "blocked") mkdirSync(join(report(name), "in the way"), { recursive: true });
    await expect(watchTraining(session, io)).rejects.toThrow(NonFiniteError);
    await session.close();
  }
  expect(readFileSync(report("run"), "utf8")).toContain("<h2>Curves</h2>");
  expect(lines).toEqual([expect.stringMatching(/blocked\/report\.html: could not be written/)]);
});

/** What looking at a path gives where nothing is, and where it can't be said. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { FormatError } from "../errors.ts";
import { filesBelow, openFolder, whereThere } from "./node-file.ts";

const dir = mkdtempSync(join(tmpdir(), "groundup-node-file-"));
afterAll(() => rmSync(dir, { recursive: true }));
const at = (...names: string[]) => join(dir, ...names);

test("nothing at a path is an answer, and every other error is thrown in words", async () => {
  writeFileSync(at("file"), "x");
  symlinkSync("circle", at("circle"));
  for (const path of [at("none"), at("file", "below"), at("circle"), at("x".repeat(5000))])
    expect(await whereThere(path, stat(path), "nothing")).toBe("nothing");
  expect(await whereThere(at("file"), stat(at("file")), null)).toMatchObject({ size: 1 });
  const denied = whereThere("locked", Promise.reject(Object.assign(new Error("no"), { code: "EACCES" })), null);
  await expect(denied).rejects.toThrow(FormatError);
  await expect(denied).rejects.toThrow("locked: can't be read, expected a readable file, got no permission (EACCES).");
  const folder = openFolder(dir);
  expect([await folder.has("file"), await folder.has("none"), await openFolder(at("none")).has("file")]).toEqual([true, false, false]);
});

test("files below a folder, by their names from there", async () => {
  mkdirSync(at("deep", "er"), { recursive: true });
  writeFileSync(at("deep", "er", "a"), "");
  symlinkSync("er/a", at("deep", "b"));
  expect((await filesBelow(at("deep"))).sort()).toEqual(["b", "er/a"]);
  expect(await filesBelow(at("none"))).toEqual([]);
  await expect(filesBelow("\0")).rejects.toThrow(FormatError);
});

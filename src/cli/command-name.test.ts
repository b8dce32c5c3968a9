import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { commandName, word } from "./command-name.ts";

test("the program's name is what a person would type again", () => {
  expect(commandName("/usr/local/bin/groundup")).toBe("groundup");
  expect(commandName("/home/me/project/node_modules/.bin/groundup")).toBe("npx groundup");
  expect(commandName("/home/me/clone/dist/cli/main.js")).toBe("npx groundup");
});

test.each([
  ["runs/mine", "runs/mine"],
  ["runs\\mine", "'runs\\mine'"],
  ["", '""'],
  ["läufe/鯨-1.0", "läufe/鯨-1.0"],
  ["my runs/a", '"my runs/a"'],
  ["it's", '"it\'s"'],
  ["$HOME `a` it's!", "'$HOME `a` it'\\''s!'"],
])("a path or prompt in a command that can be copied: %s", (path, written) => {
  expect(word(path, "linux")).toBe(written);
  if (process.platform !== "win32") expect(execFileSync("sh", ["-c", `printf %s ${written}`]).toString()).toBe(path);
});

test.each([
  ["runs\\mine", "runs\\mine"],
  ["C:\\runs/mine", "C:\\runs/mine"],
  ["my runs\\a", '"my runs\\a"'],
  ["my runs\\", '"my runs\\\\"'],
  ["it's $HOME", '"it\'s $HOME"'],
  ['say "a\\"', '"say ""a\\\\"""'],
  ["", '""'],
])("the same for Windows: %s", (path, written) => {
  expect(word(path, "win32")).toBe(written);
});

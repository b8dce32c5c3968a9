import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { loadChat, saveChat, type Turn } from "./chat-file.ts";
import { COMMANDS, createInputLines, helpText } from "./chat-input.ts";
import { createInterrupts } from "./chat-interrupts.ts";

describe("input", () => {
  const all = (...lines: string[]) => {
    const input = createInputLines();
    return [...lines.map((line) => input.push(line)), input.end()].filter((found) => found !== null);
  };
  const message = (text: string) => ({ kind: "message", text });

  test("a line is a message, and blank ones are none", () => {
    expect(all("Hello", "", "  ", "there ")).toEqual([message("Hello"), message("there ")]);
  });

  test("quotes and backslashes gather lines", () => {
    expect(all('"""', "a", "/help", "", 'b"""', "c")).toEqual([message("a\n/help\n\nb"), message("c")]);
    expect(all('"""a b"""', '"""a', '"""')).toEqual([message("a b"), message("a")]);
    expect(all("a\\", "/b\\", "c", "d")).toEqual([message("a\n/b\nc"), message("d")]);
    expect(all('"""', "a")).toEqual([message("a")]);
    const input = createInputLines();
    input.push("a\\");
    expect(input.open).toBe(true);
    input.reset();
    expect([input.open, input.push("b")]).toEqual([false, message("b")]);
  });

  test("commands", () => {
    expect(all("/system Be brief. ", "/system", "/save a b.json", "/exit")).toEqual([
      { kind: "command", name: "system", argument: "Be brief." },
      { kind: "command", name: "system", argument: "" },
      { kind: "command", name: "save", argument: "a b.json" },
      { kind: "command", name: "exit", argument: "" },
    ]);
    expect(all("//usr/bin")).toEqual([message("/usr/bin")]);
    const mistakes = all("/retyr", "/clear all", "/save").map((found) => (found as { text: string }).text);
    expect(mistakes).toEqual([
      expect.stringContaining('Did you mean "/retry"?'),
      '/clear: takes nothing behind it, expected it alone, got "all". Write /clear.',
      "/save: lacks its file, expected /save FILE, got nothing. Name one.",
    ]);
    for (const [name] of COMMANDS) expect(helpText()).toContain(`/${name}`);
  });
});

test("Ctrl-C stops an answer, and at the prompt it takes two", () => {
  const interrupts = createInterrupts();
  const signal = interrupts.begin();
  expect([interrupts.press(), signal.aborted]).toEqual(["stop answer", true]);
  interrupts.end();
  expect([interrupts.press(), interrupts.press()]).toEqual(["warn", "leave"]);
  interrupts.typed();
  expect(interrupts.press()).toBe("warn");
  interrupts.begin();
  interrupts.end();
  expect(interrupts.press()).toBe("warn");
  // An answer that does not stop can be left.
  const other = createInterrupts();
  other.begin();
  expect([other.press(), other.press(), other.press()]).toEqual(["stop answer", "warn", "leave"]);
});

describe("files", () => {
  const folder = mkdtempSync(join(tmpdir(), "groundup-chat-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const at = (name: string) => join(folder, name);

  test("what was saved is loaded", async () => {
    const turns: Turn[] = [
      { role: "system", content: "Be brief." },
      { role: "user", content: 'a "b"\n\u{1f600}' },
      { role: "assistant", content: "" },
    ];
    await saveChat(at("a.json"), turns);
    expect(await loadChat(at("a.json"))).toEqual(turns);
    await saveChat(at("a.json"), turns.slice(0, 1));
    expect(await loadChat(at("a.json"))).toEqual(turns.slice(0, 1));
  });

  test("nothing but a conversation is written over", async () => {
    writeFileSync(at("thesis.txt"), "years of work");
    await expect(saveChat(at("thesis.txt"), [])).rejects.toThrow(/thesis\.txt: there already, expected a new file or a conversation that \/save wrote/);
    expect(readFileSync(at("thesis.txt"), "utf8")).toBe("years of work");
    mkdirSync(at("folder"));
    await expect(saveChat(at("folder"), [])).rejects.toThrow(/folder: there already/);
  });

  test("a misspelt folder is not made", async () => {
    await expect(saveChat(at("nosuch/a.json"), [])).rejects.toThrow(
      `${at("nosuch/a.json")}: its folder does not exist, expected one to write into, got ${at("nosuch")}. Make it, or correct the name.`,
    );
    expect(existsSync(at("nosuch"))).toBe(false);
    await expect(saveChat(at("a.json/b.json"), [])).rejects.toThrow(/its folder does not exist/);
  });

  test.each([
    ["[]", "no saved conversation"],
    ['{"format":"other"}', 'got "other"'],
    ['{"format":"groundup-chat","version":2}', "another version, expected 1, got 2"],
    ['{"format":"groundup-chat","version":1,"messages":{}}', "no messages"],
    ['{"format":"groundup-chat","version":1,"messages":[{"role":"root","content":""}]}', "messages[0] is no turn"],
    ['{"format":"groundup-chat","version":1,"messages":[{"role":"user","content":5}]}', "messages[0] is no turn"],
    ['{"format":"groundup-chat","version":1,"messages":[{"role":"user","content":""},{"role":"system","content":""}]}', "messages[1] is out of place"],
    ['{"format":', "line 1, column 11"],
  ])("%s is refused", async (content, message) => {
    writeFileSync(at("bad.json"), content);
    await expect(loadChat(at("bad.json"))).rejects.toThrow(message);
  });

  test("so is what is not there", async () => {
    await expect(loadChat(at("none.json"))).rejects.toThrow("can't be read, expected a saved conversation, got ENOENT");
    await expect(loadChat(folder)).rejects.toThrow("got no file");
  });
});

import { expect, test } from "vitest";
import { columnsOf, visible } from "./shown-text.ts";

test("control characters are shown as symbols, newline and tab are kept, and nothing else changes", () => {
  expect(visible("a\u0000\u0007\b\u000b\r\u000e\u001b[31m\u001f\u007f\u0080\u009b\u009fz")).toBe("a␀␇␈␋␍␎␛[31m␟␡\ufffd\ufffd\ufffdz");
  const plain = "one\ttwo\nCaf\u00e9\u00a0\u00ad “…” 中文 👩‍🚀 ␛ \ufffd";
  expect(visible(plain)).toBe(plain);
});

test("a stream without a width, or with one of 0, counts as 80 columns", () => {
  expect([{}, { columns: 0 }, { columns: 33 }].map(columnsOf)).toEqual([80, 80, 33]);
});

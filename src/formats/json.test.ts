import { expect, test } from "vitest";
import { FormatError } from "../errors.ts";
import { parseJson } from "./json.ts";

test.each(["null", " [ ] ", '{"a":{"b":[1,-2.5e3,true,false,null,"x\\u00e9\\n\\"\\\\/"]},"__proto__":1,"2":0,"1":0}', '"\\ud83d\\ude00 plain é 😀"', "-0"])(
  "reads what JSON.parse reads: %s",
  (text) => {
    expect(JSON.stringify(parseJson(text, "t"))).toBe(JSON.stringify(JSON.parse(text)));
  },
);

test.each([
  ["", "not JSON"],
  ["{", "bad object"],
  ["[1,]", "not JSON"],
  ['{"a":1,}', "bad object"],
  ['{"a":1,"a":2}', 'duplicate key "a"'],
  ['{"\\u0061":1,"a":2}', 'duplicate key "a"'],
  ['{"__proto__":1,"__proto__":2}', "duplicate key"],
  ["01", "text after the value"],
  ["1e999", "number too large"],
  ["9007199254740993", "integer too large"],
  ["[1152921504606846976]", 'in size, got "1152921504606846976"'],
  ['"a\nb"', "bad string"],
  ['"\\x"', "bad escape"],
  ['"\\u12g4"', "bad escape"],
  ['"abc', "bad string"],
  ["NaN", "not JSON"],
  ["tru", "not JSON"],
  ["[1] 2", "text after the value"],
  ["[".repeat(65), "nested too deep"],
])("refuses %j", (text, message) => {
  expect(() => parseJson(text, "t.json")).toThrow(FormatError);
  expect(() => parseJson(text, "t.json")).toThrow(message);
});

test("says line and column", () => {
  expect(() => parseJson('{\n  "a": 1,\n  "b" 2\n}', "c.json")).toThrow("c.json, line 3, column 7: bad object, expected a colon after the key, got");
});

test("reads Python's numbers only when asked", () => {
  expect(parseJson("[Infinity,-Infinity,NaN]", "t", { pythonNumbers: true })).toEqual([Infinity, -Infinity, NaN]);
});

test("a key named __proto__ is only a key", () => {
  const value = parseJson('{"__proto__":{"polluted":1}}', "t") as Record<string, unknown>;
  expect(value.polluted).toBeUndefined();
  expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  expect(Object.keys(value)).toEqual(["__proto__"]);
});

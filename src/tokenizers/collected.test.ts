import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { trainBpe } from "./index.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

test("a tokenizer in use keeps its native part, whatever was collected", async () => {
  const tokenizer = trainBpe("a whale a whale ".repeat(20), { vocabSize: 262, specialTokens: ["<|end|>"] });
  const expected = [...tokenizer.encode("a whale").ids];
  for (let i = 0; i < 5; i++) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect([...tokenizer.encode("a whale").ids]).toEqual(expected);
  expect(tokenizer.count("a whale", { allowSpecial: true })).toBe(expected.length);
});

import { expect, test } from "vitest";
import { ConfigError, DataError } from "../errors.ts";
import type { Document } from "./documents.ts";
import { planSplit, type SplitOptions } from "./split.ts";
import { hashHex, hashText } from "./stable-hash.ts";

const documents = (texts: string[]): Document[] => texts.map((text, index) => ({ text, source: "t", index }));
async function sides(list: Document[], options: SplitOptions = {}) {
  const plan = await planSplit(list, options);
  const take = async (side: "train" | "validation") => {
    const texts: string[] = [];
    for await (const { text } of plan.side(list, side)) texts.push(text);
    return texts;
  };
  return { plan, train: await take("train"), validation: await take("validation") };
}
const many = Array.from({ length: 5000 }, (_, i) => `document number ${i}`);

test("about the asked part of the documents is held out, each on one side", async () => {
  const { plan, train, validation } = await sides(documents(many), { validationFraction: 0.1, seed: 3 });
  expect(validation.length).toBeGreaterThan(430);
  expect(validation.length).toBeLessThan(570);
  expect([...train, ...validation].sort()).toEqual([...many].sort());
  expect(plan.documents).toEqual({ train: train.length, validation: validation.length });
  expect(plan.characters.train).toBe(train.join("").length);
  expect(plan.notes).toEqual([]);
});

test("a document stays on its side when others come and go, and copies stay together", async () => {
  const all = new Set((await sides(documents(many))).validation);
  const half = await sides(documents([...many.slice(0, 2000), ...many.slice(0, 2000)].reverse()));
  for (const text of half.validation) expect(all.has(text)).toBe(true);
  for (const text of half.train) expect(all.has(text)).toBe(false);
  const other = new Set((await sides(documents(many), { seed: 1 })).validation);
  expect([...other].filter((text) => all.has(text)).length).toBeLessThan(120);
});

test("the split never changes between versions", async () => {
  expect(hashHex(hashText("Call me Ishmael."))).toBe("ad27e9fcb416c19c");
  expect((await sides(documents(many.slice(0, 40)))).validation.map((text) => Number(text.slice(16)))).toEqual([5, 12, 20, 22, 24, 26, 29]);
});

test("a single document is cut at its tail, exactly as nanoGPT cuts, and that is said", async () => {
  const text = `${"0123456789".repeat(10)}abcde`;
  const { plan, train, validation } = await sides(documents([text]));
  expect(train).toEqual([text.slice(0, Math.floor(105 * 0.9))]);
  expect(train[0] + validation[0]).toBe(text);
  expect(plan).toMatchObject({
    by: "tail",
    documents: { train: 1, validation: 1 },
    characters: { train: 94, validation: 11 },
  });
  expect(plan.notes).toEqual(["The data is a single document, so its last 10 % (by characters) are the validation text."]);
  expect((await sides(documents([text, text]))).plan.by).toBe("tail");
  const emoji = await sides(documents(["😀".repeat(5)]), { validationFraction: 0.5 });
  expect(emoji.train).toEqual(["😀😀"]);
});

test("few documents still fill both sides, and that is said", async () => {
  for (const fraction of [0.001, 0.999]) {
    const { plan, train, validation } = await sides(documents(["a one", "b two", "c three"]), {
      validationFraction: fraction,
    });
    expect([train.length, validation.length]).toEqual(fraction < 0.5 ? [2, 1] : [1, 2]);
    expect(plan.documents).toEqual({ train: train.length, validation: validation.length });
    expect(plan.notes[0]).toMatch(/With 3 documents/);
  }
});

test("by tail takes the end of each document; empty data and bad fractions are refused", async () => {
  const { validation, plan } = await sides(documents(["aaaaaaaaab", "ccccccccccccccccccdd"]), { by: "tail" });
  expect(validation).toEqual(["b", "dd"]);
  expect(plan.notes).toEqual([]);
  await expect(planSplit([])).rejects.toThrow(DataError);
  await expect(planSplit(documents(["a"]))).rejects.toThrow(/too little text/);
  await expect(planSplit(documents(["abc"]), { validationFraction: 0 })).rejects.toThrow(ConfigError);
  await expect(planSplit(documents(["abc"]), { validationFraction: Number.NaN })).rejects.toThrow(ConfigError);
});

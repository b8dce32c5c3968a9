/** The fuzz tests at length. */
import { expect, test } from "vitest";
import { fuzzNative } from "../fuzz/native-calls.ts";

test("a million random calls of the native library", { timeout: 1_200_000 }, async () => {
  for (let seed = 100; seed < 150; seed++) expect((await fuzzNative(seed, 20_000, { large: seed % 5 === 0 })).failure).toBeNull();
});

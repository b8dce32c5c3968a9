/** The border to Rust: whatever numbers and values come, an error or an answer; never a crash, never a byte outside of a buffer. */
import { expect, test } from "vitest";
import { whereNative } from "../where-native.ts";
import { fuzzNative, kernels } from "./native-calls.ts";

whereNative("the native library", (_, binding) => {
  test("every kernel is drawn with its own arguments", () => {
    const names = kernels().map((kernel) => kernel.name);
    expect(names.sort()).toEqual(binding.kernels.split("\n").sort());
  });

  test.each([
    [1, 15_000, false],
    [2, 5000, true],
  ])("random calls of kernels and functions, seed %i", async (seed, count, large) => {
    const { failure, succeeded } = await fuzzNative(seed, count, { large });
    expect(failure).toBeNull();
    // If all were refused, nothing behind the checks was tried.
    expect([...succeeded].filter(([, times]) => times === 0)).toEqual([]);
  });
});

/** The border to Rust: whatever numbers and values come, an error or an answer; never a crash, never a byte outside of a buffer. */
import { describe, expect, test } from "vitest";
import { backend } from "../../src/tensor/backend.ts";
import { loadNative } from "../../src/tensor/native-binding.ts";
import { NATIVE, NO_NATIVE_REASON } from "../built.ts";
import { fuzzNative, kernels } from "./native-calls.ts";

if (NATIVE) {
  describe("the native library", () => {
    test("every kernel is drawn with its own arguments", () => {
      const names = kernels().map((kernel) => kernel.name);
      expect(names.sort()).toEqual(loadNative().binding?.kernels.split("\n").sort());
    });

    test.each([
      [1, 15_000, false],
      [2, 4000, true],
    ])("random calls of kernels and functions, seed %i", async (seed, count, large) => {
      const { failure, succeeded } = await fuzzNative(seed, count, { large });
      expect(failure).toBeNull();
      // If all were refused, nothing behind the checks was tried.
      expect([...succeeded].filter(([, times]) => times === 0)).toEqual([]);
    });
  });
} else {
  test("without a native library there is no border to cross, and the reason is given", () => {
    expect(backend().name).toBe("reference");
    expect(NO_NATIVE_REASON).toMatch(/native library|GROUNDUP_BACKEND=reference/);
  });
}

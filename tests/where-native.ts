/** Tests that mean nothing without the native library: of its border, and of it against the reference. */
import { describe, expect, test } from "vitest";
import { type Backend, backend } from "../src/tensor/backend.ts";
import { createNative } from "../src/tensor/native.ts";
import { loadNative, type NativeBinding } from "../src/tensor/native-binding.ts";

const { binding, reason } = loadNative();
/** A native backend for this test file alone; null where there is no library. */
export const native: Backend | null = binding === null ? null : createNative(binding);

/** Defines tests where the library is; elsewhere one test in their place: everything runs on the reference backend, and it is said why. */
export function whereNative(what: string, define: (native: Backend, binding: NativeBinding) => void): void {
  if (native !== null && binding !== null) {
    describe(what, () => define(native, binding));
    return;
  }
  test(`${what}: not here, where the reference backend runs and says why`, () => {
    expect(backend().name).toBe("reference");
    // A library that is there and does not load is a failure.
    expect(reason).toMatch(/there is no native library for|GROUNDUP_BACKEND=reference|GROUNDUP_NATIVE names a file that does not exist/);
  });
}

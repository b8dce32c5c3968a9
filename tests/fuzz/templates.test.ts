/** Chat templates from outside, and messages from strangers. */
import { expect, test } from "vitest";
import { fuzzForgery, fuzzTemplates } from "./templates.ts";

test("templates and messages that are not whole give a text or a typed error", { timeout: 60_000 }, () => {
  const { accepted, refused } = fuzzTemplates(5, 400);
  expect(accepted).toBeGreaterThan(80);
  expect(refused).toBeGreaterThan(80);
});

test("no message forges a control token", { timeout: 60_000 }, () => {
  const { forged, spelled } = fuzzForgery(6, 1000);
  expect(forged).toBe(0);
  expect(spelled).toBeGreaterThan(100);
});

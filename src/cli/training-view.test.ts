import { expect, test } from "vitest";
import { quote } from "./training-view.ts";

test("a sample is a paragraph no wider than the terminal, its control characters as symbols and its line breaks as ¶", () => {
  expect(quote(7, "It was\u000e", " a\u001b[2Jday\r\n in\tApril", 80)).toBe("  step 7   It was␎▸ a␛[2Jday ¶ in\tApril");
  const lines = quote(7, "It was", " a bright cold day in April".repeat(9), 40).split("\n");
  expect(lines.length).toBeGreaterThan(5);
  for (const line of lines) expect(line.length).toBeLessThan(40);
});

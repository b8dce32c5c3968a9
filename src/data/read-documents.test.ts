import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FormatError } from "../errors.ts";
import { openDocuments } from "./read-documents.ts";

test("a link that leads nowhere is an error, one that leads to a file is read", async () => {
  const folder = mkdtempSync(join(tmpdir(), "groundup-links-"));
  try {
    writeFileSync(join(folder, "a.txt"), "A whale.");
    symlinkSync(join(folder, "a.txt"), join(folder, "b.txt"));
    const texts: string[] = [];
    for await (const document of await openDocuments(folder)) texts.push(document.text);
    expect(texts).toEqual(["A whale.", "A whale."]);
    symlinkSync(join(folder, "gone.txt"), join(folder, "c.txt"));
    const failure = await openDocuments(folder).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(FormatError);
    expect(String(failure)).toContain("c.txt");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

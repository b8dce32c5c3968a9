/** Documents rot by naming what is gone: every path in them must exist, and every folder must be named in the architecture. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const read = (path: string) => readFileSync(join(root, path), "utf8");
const documents = [
  "README.md",
  "CONTRIBUTING.md",
  "npm/README.md",
  ...readdirSync(join(root, "docs"))
    .filter((f) => f.endsWith(".md"))
    .map((f) => `docs/${f}`),
];

describe.each(documents)("%s", (document) => {
  const text = read(document);

  test("names only files and folders that exist", () => {
    const named = [...text.matchAll(/`((?:src|crates|scripts|tests|bench|recipes|examples|npm|docs|data|\.ci|\.github)\/[\w./-]+)`/g)].map(
      (m) => m[1] as string,
    );
    // `src/x.rs` is said of a crate, beside its name.
    expect(named.filter((path) => !/^src\/[\w/]+\.rs$/.test(path) && !existsSync(join(root, path)))).toEqual([]);
  });

  test("its links lead somewhere", () => {
    const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)/g)].map((m) => m[1] as string);
    expect(links.filter((link) => !existsSync(join(root, dirname(document), link)))).toEqual([]);
  });

  test("its npm scripts exist", () => {
    const scripts = (JSON.parse(read("package.json")) as { scripts: Record<string, string> }).scripts;
    const run = [...text.matchAll(/npm run (?:-s )?([\w:]+)/g)].map((m) => m[1] as string);
    expect(run.filter((name) => !(name in scripts))).toEqual([]);
  });
});

test("docs/architecture.md names every folder, those of src and crates too, and the files to read first are there", () => {
  const text = read("docs/architecture.md");
  for (const top of ["src", "crates"]) {
    const folders = readdirSync(join(root, top), { withFileTypes: true }).filter((entry) => entry.isDirectory());
    for (const { name } of folders) expect(text).toContain(`\`${top}/${name}\``);
  }
  const ignored = read(".gitignore").split("\n");
  const tops = readdirSync(root, { withFileTypes: true }).filter(
    (entry) => entry.isDirectory() && entry.name !== ".git" && !ignored.includes(`${entry.name}/`),
  );
  for (const { name } of tops) if (name !== "src" && name !== "crates") expect(text).toContain(`\`${name}\``);
  for (const [, folder, files] of text.matchAll(/^\| `((?:src|crates)\/\w+)` \|[^|]*\| ([^|]+) \|$/gm)) {
    for (const [, file] of (files as string).matchAll(/`([\w./-]+)`/g))
      expect(existsSync(join(root, folder as string, file as string)), `${folder}/${file}`).toBe(true);
  }
});

/** Documents rot by naming what is gone: every path and recipe key in them must exist, and every folder must be named in the architecture. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { toJSONSchema } from "zod";
import { recipeSchema } from "../src/train/recipe.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const read = (path: string) => readFileSync(join(root, path), "utf8");
const documents = [
  "README.md",
  "CONTRIBUTING.md",
  "npm/README.md",
  ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((f) => f.endsWith(".md"))
    .map((f) => `docs/${f.replaceAll("\\", "/")}`),
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

describe("recipe keys", () => {
  type Properties = Record<string, { properties?: Record<string, unknown> }>;
  const sections = toJSONSchema(recipeSchema, { io: "input", unrepresentable: "any" }).properties as Properties;
  const SECTIONS = ["data", "training", "eval", "sample"];
  /** Those of the keys in a text, such as `training.max_steps`, that the schema does not have. Names of files, and what is written as in TypeScript, are none. */
  const unknownKeys = (text: string) =>
    [...text.matchAll(new RegExp(`(?<![\\w./-])(${SECTIONS.join("|")})\\.([a-z][a-z_]*)(?![\\w(]|\\.\\w)`, "g"))]
      .filter(([, section, key]) => !/^(md|ts|json|jsonl|bin)$/.test(key as string) && !(key in (sections[section as string]?.properties ?? {})))
      .map(([name]) => name);

  test("the check knows a key from what is none", () => {
    expect(SECTIONS.filter((section) => sections[section]?.properties === undefined)).toEqual([]);
    expect(unknownKeys("`training.keep`, data.path, (eval.every) and tokenizer.json, src/data/data.x")).toEqual(["training.keep", "eval.every"]);
  });

  test.each([...documents, "CHANGELOG.md"])("%s names only those of the schema", (document) => {
    expect(unknownKeys(read(document).replace(/^```ts$.*?^```$/gms, ""))).toEqual([]);
  });

  const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter((f) => f.endsWith(".ts") && !f.endsWith(".test.ts"));
  test.each(sources)("src/%s: its messages and comments too", (file) => {
    const words = read(join("src", file)).match(/\/\/.*|\/\*[\s\S]*?\*\/|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g) ?? [];
    expect(unknownKeys(words.map((word) => word.replace(/\$\{[^{}]*\}/g, "")).join("\n"))).toEqual([]);
  });
});

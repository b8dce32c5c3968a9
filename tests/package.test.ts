/** What must agree across files that no compiler compares: versions, entries, platforms, the lock file. */
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");
const json = <T>(path: string) => JSON.parse(read(path)) as T;

interface Manifest {
  version: string;
  license: string;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  exports: Record<string, string | { "groundup-source": string; types: string; default: string }>;
}
const manifest = json<Manifest>("package.json");

describe("the package", () => {
  test("Rust and JavaScript have one version: the loader refuses a library of another", () => {
    expect(read("Cargo.toml")).toContain(`\nversion = "${manifest.version}"\n`);
    expect(read("CHANGELOG.md")).toContain(`## ${manifest.version}`);
  });

  test("every entry leads to a source file, and its built file is named alike", () => {
    for (const [name, entry] of Object.entries(manifest.exports)) {
      if (typeof entry === "string") continue;
      const source = entry["groundup-source"];
      expect(existsSync(new URL(`../${source}`, import.meta.url)), `${name}: ${source}`).toBe(true);
      expect(entry.default).toBe(source.replace("./src/", "./dist/").replace(/\.ts$/, ".js"));
      expect(entry.types).toBe(source.replace("./src/", "./dist/").replace(/\.ts$/, ".d.ts"));
    }
  });

  test("every dependency has its reason in docs/dependencies.md", () => {
    const reasons = read("docs/dependencies.md");
    for (const name of Object.keys({ ...manifest.dependencies, ...manifest.devDependencies })) expect(reasons).toContain(`\`${name}\``);
    for (const crate of ["kernels", "text", "node"]) {
      const section = read(`crates/${crate}/Cargo.toml`).match(/\n\[dependencies\]\n([^[]*)/)?.[1] ?? "";
      for (const [, name] of section.matchAll(/^([a-z0-9_-]+)\s*=/gm)) if (!name.startsWith("groundup-")) expect(reasons).toContain(`\`${name}\``);
    }
  });
});

describe("platform packages", () => {
  test("the release workflow builds exactly the platforms of the list", () => {
    const built = [...read(".github/workflows/release.yml").matchAll(/- \{ platform: ([a-z0-9-]+),/g)].map((match) => match[1]);
    expect(built.sort()).toEqual(Object.keys(json<object>("npm/platforms.json")).sort());
  });

  test("none of them is a dependency in a clone", () => {
    expect(read("package.json")).not.toContain("@groundup/");
  });
});

describe("package-lock.json", () => {
  interface Lock {
    packages: Record<string, { version?: string; optionalDependencies?: Record<string, string>; resolved?: string }>;
  }
  const { packages } = json<Lock>("package-lock.json");

  test("names the optional packages of every platform (else npm ci refuses it): run scripts/complete-lock.mjs", () => {
    const wanted = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}));
    expect(wanted.filter((name) => packages[`node_modules/${name}`]?.version === undefined)).toEqual([]);
  });

  test("holds no addresses, so that any registry serves it", () => {
    expect(Object.values(packages).filter((entry) => entry.resolved !== undefined)).toEqual([]);
  });
});

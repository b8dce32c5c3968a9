// Runs groundup on the current LTS release of Node, which the npm package `node` brings, in a temporary folder.
//
//   node scripts/test-on-lts.mjs          the first steps of the quickstart, every entry of the package, an example and a few tests
//   node scripts/test-on-lts.mjs --all    the README's two commands: the whole quickstart and the whole test suite
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { manifest, root } from "./platforms.mjs";

const work = mkdtempSync(join(tmpdir(), "groundup-lts-"));
try {
  process.exitCode = main();
} finally {
  rmSync(work, { recursive: true, force: true });
}

function main() {
  writeFileSync(join(work, "package.json"), '{ "private": true }\n');
  const found = findLts();
  if (found === undefined) {
    console.error("LTS: npm could not install an LTS release of the package node; the registry must be within reach for this check");
    return 1;
  }
  const { node, bin, version } = found;
  const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` };
  const run = (...args) => spawnSync(node, args, { cwd: root, env, stdio: ["ignore", "inherit", "inherit"] }).status === 0;

  console.log(`Node ${version}`);
  const entries = Object.keys(manifest().exports)
    .filter((name) => !name.endsWith(".json"))
    .map((name) => `groundup${name.slice(1)}`);
  const imports = `for (const name of ${JSON.stringify(entries)}) await import(name); console.log("every entry imports")`;
  const all = process.argv.includes("--all");
  const quickstart = [
    "dist/cli/main.js",
    "quickstart",
    "--out",
    join(work, "run"),
    ...(all ? [] : ["--set", "training.max_steps=20", "--set", "training.warmup_steps=5"]),
  ];
  const steps = [
    ["dist/cli/main.js", "doctor"],
    ["--input-type=module", "-e", imports],
    ["scripts/run-example.mjs", "nanogpt", "", "1", "32"],
    quickstart,
    // The tests start processes of their own, which run on this Node too.
    ["node_modules/vitest/vitest.mjs", "run", ...(all ? [] : ["tests/first-program.test.ts", "src/tensor/native-binding.test.ts"])],
  ];
  return steps.every((step) => run(...step)) ? 0 : 1;
}

/** The newest release that calls itself LTS. Not every registry keeps the tag `lts`, and `latest` may be too young to be one. */
function findLts() {
  let newest;
  for (const tag of ["lts", "latest", "previous"]) {
    // LTS releases have even major numbers.
    const wanted = tag === "previous" ? String(newest - 1 - ((newest + 1) % 2)) : tag;
    const installed = install(wanted);
    if (installed?.lts) return installed;
    newest = installed?.major ?? newest;
  }
  return undefined;
}

function install(tag) {
  const args = ["install", `node@${tag}`, "--no-audit", "--no-fund", "--loglevel=error"];
  if (spawnSync("npm", args, { cwd: work, stdio: "ignore" }).status !== 0) return undefined;
  const bin = join(work, "node_modules", "node", "bin");
  const node = join(bin, process.platform === "win32" ? "node.exe" : "node");
  const [version, lts] = spawnSync(node, ["-p", "process.version + ' ' + (process.release.lts ?? '')"], { encoding: "utf8" }).stdout.trim().split(" ");
  return { node, bin, version: `${version} (${lts ?? "not an LTS release"})`, lts: lts !== undefined, major: Number(version.slice(1).split(".")[0]) };
}

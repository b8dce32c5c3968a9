// Runs groundup on the current LTS release of Node, which the npm package `node` brings, in a temporary folder.
//
//   node scripts/test-on-lts.mjs          the built command and every entry of the package
//   node scripts/test-on-lts.mjs --all    the whole test suite too
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
  // Registries differ in whether they keep the tag `lts`; `latest` is checked below.
  const version = ["lts", "latest"].find((tag) => {
    const args = ["install", `node@${tag}`, "--no-audit", "--no-fund", "--loglevel=error", "--foreground-scripts=false"];
    return spawnSync("npm", args, { cwd: work, stdio: "ignore" }).status === 0;
  });
  if (version === undefined) {
    console.error("LTS: npm could not install the package node; the registry must be within reach for this check");
    return 1;
  }
  const bin = join(work, "node_modules", "node", "bin");
  const node = join(bin, process.platform === "win32" ? "node.exe" : "node");
  const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` };
  const run = (...args) => spawnSync(node, args, { cwd: root, env, stdio: ["ignore", "inherit", "inherit"] }).status === 0;

  const release = spawnSync(node, ["-p", "process.version + ' ' + (process.release.lts ?? '(not an LTS release)')"], { encoding: "utf8" }).stdout.trim();
  console.log(`Node ${release}`);
  const entries = Object.keys(manifest().exports)
    .filter((name) => !name.endsWith(".json"))
    .map((name) => `groundup${name.slice(1)}`);
  const imports = `for (const name of ${JSON.stringify(entries)}) await import(name); console.log("every entry imports")`;
  const steps = [
    ["dist/cli/main.js", "doctor"],
    ["--input-type=module", "-e", imports],
  ];
  if (process.argv.includes("--all")) steps.push(["node_modules/vitest/vitest.mjs", "run"]);
  return steps.every((step) => run(...step)) ? 0 : 1;
}

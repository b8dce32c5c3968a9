// Builds the native library for this machine, where cargo is present, into native/groundup.<platform>.node.
// Says in one line what happened; without cargo the package still works, on the plain TypeScript backend.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { platformName, platforms, root } from "./platforms.mjs";

export async function buildNative() {
  const name = platformName();
  const platform = platforms[name];
  if (platform === undefined) return `native: no library exists for ${name}, so groundup will run on its plain TypeScript backend (slow)`;
  if (!existsSync(join(root, "Cargo.toml"))) return "native: no Rust sources here, nothing to build";
  if (spawnSync("cargo", ["--version"], { stdio: "ignore" }).status !== 0) {
    return "native: cargo was not found, so groundup will run on its plain TypeScript backend (slow). Install Rust from https://rustup.rs and run: npm run build:native";
  }
  mkdirSync(join(root, "native"), { recursive: true });
  const target = join(root, "native", `groundup.${name}.node`);
  if (!existsSync(target)) console.log("native: cargo builds the kernels, which takes 3 to 6 minutes on 2 cores the first time, longer beside other work");
  const started = Date.now();
  const seconds = () => (Date.now() - started) / 1000;
  // A terminal shows cargo's progress, a log one line a minute.
  const shown = process.stderr.isTTY;
  const building = spawn("cargo", ["build", "--release", ...(shown ? [] : ["--quiet"]), "--locked", "-p", "groundup-node"], {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
  });
  const telling = shown ? undefined : setInterval(() => console.log(`native: cargo has been building for ${(seconds() / 60).toFixed(0)} min`), 60_000);
  const [status] = await once(building, "close").finally(() => clearInterval(telling));
  if (status !== 0) throw new Error("native: cargo build failed (its messages are above). To go on without it, take cargo off the PATH");
  // Renamed over the old one: a process that has it loaded keeps its own copy.
  copyFileSync(join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "release", platform.library), `${target}.new`);
  renameSync(`${target}.new`, target);
  return seconds() < 2 ? `native: up to date for ${name}` : `native: built for ${name} in ${seconds().toFixed(0)} s`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    console.log(await buildNative());
  } catch (error) {
    console.error(error.message);
    process.exit(1);
  }
}

// What `npm ci` runs in a clone: compiles TypeScript to dist/ and the native library to native/.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { buildNative } from "./build-native.mjs";
import { root } from "./platforms.mjs";

const main = join(root, "dist", "cli", "main.js");
// `npx groundup` in a clone links the clone into npx's cache, which runs this script each time the link is made.
if (process.env.npm_command === "exec" && existsSync(main)) process.exit(0);

const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
if (!existsSync(tsc)) {
  console.log("build: TypeScript is not installed here (npm ci without --omit=dev brings it), nothing was compiled");
  process.exit(existsSync(main) ? 0 : 1);
}
const compiled = spawnSync(process.execPath, [tsc, "-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
removeStale();
if (existsSync(main)) chmodSync(main, 0o755);
if (compiled.status !== 0) process.exit(compiled.status ?? 1);
try {
  console.log(await buildNative());
} catch (error) {
  console.error(error.message);
  process.exit(1);
}

/** What was compiled from a file that is gone would still be found by imports and be packed. */
function removeStale() {
  const dist = join(root, "dist");
  for (const file of readdirSync(dist, { recursive: true })) {
    const source = file.replace(/(\.d\.ts|\.js)$/, ".ts");
    if (source !== file && !existsSync(join(root, "src", source))) rmSync(join(dist, file));
  }
}

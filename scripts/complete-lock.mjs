// Completes package-lock.json after `npm install`: npm leaves out the optional packages of other platforms when the registry at hand
// does not carry them, and `npm ci` then refuses the file on every platform. Run it after each change of dependencies.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./platforms.mjs";

const SYSTEMS = { linux: "linux", darwin: "darwin", win32: "win32", android: "android", freebsd: "freebsd", openharmony: "openharmony" };
const PROCESSORS = { x64: "x64", arm64: "arm64", arm: "arm", ia32: "ia32", ppc64: "ppc64", s390x: "s390x" };

const path = join(root, "package-lock.json");
const lock = JSON.parse(readFileSync(path, "utf8"));
const added = [];
for (const [place, entry] of Object.entries(lock.packages)) {
  if (place === "") continue;
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const key = `node_modules/${name}`;
    if (key in lock.packages || `${place}/${key}` in lock.packages) continue;
    if (!/^\d+\.\d+\.\d+$/.test(version))
      throw new Error(`complete-lock: ${name} is asked for as ${version}, expected an exact version. Add its entry by hand`);
    const words = name.split("/").at(-1).split("-");
    const [os, cpu] = [words.map((word) => SYSTEMS[word]).find(Boolean), words.map((word) => PROCESSORS[word]).find(Boolean)];
    if (os === undefined || cpu === undefined)
      throw new Error(`complete-lock: ${name} does not name its platform, expected a system and a processor. Add its entry by hand`);
    const libc = words.includes("musl") ? ["musl"] : os === "linux" && words.includes("gnu") ? ["glibc"] : undefined;
    lock.packages[key] = {
      version,
      cpu: [cpu],
      dev: entry.dev,
      ...(libc && { libc }),
      license: entry.license,
      optional: true,
      os: [os],
      engines: entry.engines,
    };
    added.push(name);
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
console.log(added.length === 0 ? "package-lock.json is complete" : `added ${added.length} packages of other platforms to package-lock.json`);

// Makes the tarballs of a release: the main package, and the platform packages whose libraries are at hand.
//
//   node scripts/pack.mjs OUT                         the main package, and the platform package of the library in native/
//   node scripts/pack.mjs OUT --native PLATFORM FILE  only a platform package, from that library (the release workflow)
//   node scripts/pack.mjs OUT --main                  only the main package
//
// The optionalDependencies on the platform packages are written here, not in package.json: while a version is not released
// its platform packages are in no registry, and `npm ci` in a clone must not look for them.
import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { manifest, platformName, platforms, root } from "./platforms.mjs";

const writeJson = (path, value) => writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
const shared = ({ version, license, engines, repository }) => ({ version, license, engines, ...(repository && { repository }) });

/** Fills `folder` with the platform package for `platform`, whose library is `file`. */
export function stageNative(folder, platform, file) {
  const entry = platforms[platform];
  if (entry === undefined) throw new Error(`pack: unknown platform, expected one of ${Object.keys(platforms).join(", ")}, got ${platform}`);
  mkdirSync(folder, { recursive: true });
  const library = `groundup.${platform}.node`;
  copyFileSync(file, join(folder, library));
  copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  writeJson(join(folder, "package.json"), {
    name: `@groundup/native-${platform}`,
    description: `The native library of groundup for ${platform}. Installed by groundup itself.`,
    ...shared(manifest()),
    os: [entry.os],
    cpu: [entry.cpu],
    ...(entry.libc && { libc: [entry.libc] }),
    main: library,
    files: [library],
  });
  writeFileSync(
    join(folder, "README.md"),
    `The native library of groundup for ${platform} (${entry.target}). Install \`groundup\`, which asks for the one that fits.\n`,
  );
}

/** Fills `folder` with the main package as it is published. */
export function stageMain(folder) {
  const listed = JSON.parse(
    execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }),
  );
  // npm 12 answers an object by package name, older ones a list.
  const [{ files }] = Array.isArray(listed) ? listed : Object.values(listed);
  for (const { path } of files) cpSync(join(root, path), join(folder, path));
  const published = manifest();
  delete published.devDependencies;
  delete published.scripts;
  published.optionalDependencies = Object.fromEntries(Object.keys(platforms).map((name) => [`@groundup/native-${name}`, published.version]));
  // The sources are for work in a clone.
  for (const entry of Object.values(published.exports)) if (typeof entry === "object") delete entry["groundup-source"];
  writeJson(join(folder, "package.json"), published);
}

/** Packs a staged folder and returns the tarball's path. */
export function pack(folder, out) {
  mkdirSync(out, { recursive: true });
  const name = execFileSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", out], {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  return join(out, name.trim().split("\n").at(-1));
}

/** Packs what was asked for; returns the tarballs' paths. */
export function packAll(out, { main = true, native = localLibrary() } = {}) {
  const stage = mkdtempSync(join(tmpdir(), "groundup-pack-"));
  try {
    const made = {};
    if (main) {
      stageMain(join(stage, "main"));
      made.main = pack(join(stage, "main"), out);
    }
    if (native !== undefined) {
      stageNative(join(stage, "native"), native.platform, native.file);
      made.native = pack(join(stage, "native"), out);
    }
    return made;
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

function localLibrary() {
  const platform = platformName();
  const file = join(root, "native", `groundup.${platform}.node`);
  return existsSync(file) ? { platform, file } : undefined;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [out, mode, platform, file] = process.argv.slice(2);
  if (out === undefined || (mode !== undefined && mode !== "--main" && !(mode === "--native" && file !== undefined))) {
    console.error(
      readFileSync(fileURLToPath(import.meta.url), "utf8")
        .split("\n")
        .slice(2, 5)
        .join("\n"),
    );
    process.exit(2);
  }
  const options = mode === "--main" ? { native: undefined } : mode === "--native" ? { main: false, native: { platform, file } } : {};
  for (const path of Object.values(packAll(resolve(out), options))) console.log(path);
}

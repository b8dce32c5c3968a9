// Packs groundup as a release would, installs the tarballs into an empty folder without any network, and runs it there: with the
// native package, without it, with another platform's, with a broken one. Exits with 1 when something is not as it should be.
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { packAll } from "./pack.mjs";
import { manifest, platformName, platforms, root } from "./platforms.mjs";

const MAX_PACKED_BYTES = 15e6;
const work = mkdtempSync(join(tmpdir(), "groundup-check-"));
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(GROUNDUP_|npm_config_)/i.test(name)));
let failed = 0;

function check(what, holds, got = "") {
  console.log(`${holds ? "ok    " : "FAILED"} ${what}${holds || got === "" ? "" : `: got ${got}`}`);
  if (!holds) failed++;
}

try {
  const tarballs = packAll(join(work, "tarballs"));
  checkTarball(tarballs.main);
  await checkLint(tarballs.main);
  install(tarballs);
  checkRuns(tarballs.native !== undefined);
  checkEntries();
} finally {
  rmSync(work, { recursive: true, force: true });
}
console.log(failed === 0 ? "packaging: everything holds" : `packaging: ${failed} checks failed`);
process.exitCode = failed === 0 ? 0 : 1;

function checkTarball(tarball) {
  const bytes = statSync(tarball).size;
  check(`the package is at most ${MAX_PACKED_BYTES / 1e6} MB (${(bytes / 1e6).toFixed(2)} MB)`, bytes <= MAX_PACKED_BYTES);
  const files = execFileSync("tar", ["tzf", tarball], { encoding: "utf8" }).trim().split("\n");
  const strays = files.filter((file) => /\.test\.|\.fixture\.|^package\/(src|tests|crates|target|native|scripts|bench)\//.test(file));
  check("it holds no tests, sources, or build outputs", strays.length === 0, strays.slice(0, 5).join(" "));
  for (const wanted of ["LICENSE", "README.md", "CHANGELOG.md", "dist/cli/main.js"]) check(`it holds ${wanted}`, files.includes(`package/${wanted}`));
}

async function checkLint(tarball) {
  const bytes = readFileSync(tarball);
  const { messages, pkg } = await publint({ pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) }, strict: true });
  check("publint finds nothing", messages.filter((m) => m.type !== "suggestion").length === 0);
  for (const message of messages) console.log(`         ${message.type}: ${formatMessage(message, pkg, { color: false })}`);
}

/** The dependencies come from this checkout, so that no registry is asked. */
function install(tarballs) {
  mkdirSync(join(work, "app"));
  writeFileSync(join(work, "app", "package.json"), '{ "name": "app", "private": true, "type": "module" }\n');
  const dependencies = Object.keys(manifest().dependencies).map((name) => join(root, "node_modules", name));
  const args = ["install", "--offline", "--install-links", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  const done = spawnSync("npm", [...args, ...Object.values(tarballs), ...dependencies], { cwd: join(work, "app"), env, encoding: "utf8" });
  check("npm installs the tarballs into an empty folder", done.status === 0, done.stderr);
}

/** Runs the installed command as a user's shell would. */
function groundup(args, more = {}) {
  return spawnSync(join(work, "app", "node_modules", ".bin", "groundup"), args, {
    cwd: join(work, "app"),
    env: { ...env, ...more },
    encoding: "utf8",
    shell: process.platform === "win32",
  });
}

function doctor(more) {
  const { status, stdout, stderr } = groundup(["doctor", "--json"], more);
  return status === 0 ? { ...JSON.parse(stdout), stderr } : { backend: "none", reason: `exit code ${status}`, stderr };
}

function checkRuns(native) {
  check("groundup --version", groundup(["--version"]).stdout.trim() === manifest().version);
  const scope = join(work, "app", "node_modules", "@groundup");
  const here = platformName();
  const place = join(scope, `native-${here}`);
  const says = (what, report, ...words) =>
    check(
      `doctor ${what}`,
      report.backend === "reference" && words.every((word) => report.reason.includes(word)),
      `${report.backend}: ${report.reason} ${report.stderr}`,
    );
  if (native) {
    const { backend, reason, stderr } = doctor();
    check(
      "doctor with the native package: the native backend",
      backend === "native" && reason === `the package @groundup/native-${here}`,
      `${backend}: ${reason} ${stderr}`,
    );
    check("nothing is said where everything is well", stderr === "", stderr);
    says("on request: the reference backend", doctor({ GROUNDUP_BACKEND: "reference" }), "GROUNDUP_BACKEND=reference");
    const file = join(place, `groundup.${here}.node`);
    check("GROUNDUP_NATIVE names another file", doctor({ GROUNDUP_NATIVE: file }).reason.includes("GROUNDUP_NATIVE"));

    const other = Object.keys(platforms).find((name) => platforms[name].os !== process.platform);
    renameSync(place, join(scope, `native-${other}`));
    says("with another platform's package", doctor(), "is for another platform", `got @groundup/native-${other}`);
    renameSync(join(scope, `native-${other}`), place);

    copyFileSync(file, `${file}.whole`);
    writeFileSync(file, new Uint8Array(5000));
    says("with a damaged library", doctor(), "did not load", "Install it again");
    rmSync(file);
    says("with a missing library", doctor(), "its file is missing");
    renameSync(`${file}.whole`, file);
  } else {
    console.log("       (no native library was built here, so only its absence is checked)");
  }
  rmSync(scope, { recursive: true, force: true });
  const alone = doctor();
  says("without the native package", alone, `no native library for ${here}`, "npm install @groundup/native-");
  check("the reason is printed once", alone.stderr.split("slow:").length === 2, alone.stderr);
}

/** Every entry of the published package can be imported. */
function checkEntries() {
  const app = pathToFileURL(join(work, "app", "x.js")).href;
  for (const entry of Object.keys(manifest().exports).filter((name) => !name.endsWith(".json"))) {
    const name = `groundup${entry.slice(1)}`;
    const code = `import(${JSON.stringify(name)}).then((m) => { if (Object.keys(m).length === 0) throw new Error("it exports nothing"); }, (e) => { console.error(e.message); process.exit(1); })`;
    const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", code], { cwd: join(work, "app"), env, encoding: "utf8" });
    check(`import "${name}"`, status === 0, `${stderr.trim()} ${existsSync(new URL("node_modules/groundup", app)) ? "" : "(not installed)"}`);
  }
}

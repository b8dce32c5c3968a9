/**
 * Finds and loads the native library, and says in words why it could not. The only file that knows where the library lies. No static
 * import of Node's modules, so that `src/tensor` also loads in browsers, where there is simply no native library.
 */
import { GroundupError } from "../errors.ts";

/** What the library exports (crates/node). Kernels are called by number with their arguments in `args`. */
export interface NativeBinding {
  readonly args: ArrayBuffer;
  /** Kernel names, one a line; a kernel's number is its line. */
  readonly kernels: string;
  /** The version of groundup that the library was built from. */
  readonly version: string;
  /** A name that no other process has. */
  readonly process: string;
  exec(kernel: number): void;
  /** As `exec` of one kernel after the other: its number, the count of its arguments, and those. */
  replay(calls: Float64Array): void;
  alloc(bytes: number): number;
  free(buffer: number): void;
  write(buffer: number, byteOffset: number, data: ArrayBufferView): void;
  read(buffer: number, byteOffset: number, into: ArrayBufferView): void;
  share(buffer: number): number;
  claim(shared: number, bytes: number): number;
  /** What buffers hold in the whole process, as JSON. */
  memory(): string;
  /** True for the first call in the process, whose thread sets what the environment says. */
  firstToSet(): boolean;
  threads(count?: number): number;
  isa(name?: string): string;
  isas(): string;
  /** 1 where the instruction set in use has bf16 products. */
  bf16(): number;
  readonly [other: string]: unknown;
}

export interface NativeSearch {
  readonly binding: NativeBinding | null;
  /** What was found, or why nothing was. */
  readonly reason: string;
  /** True where the user asked for the reference backend, so there is nothing to warn of. */
  readonly asked: boolean;
}

/** What the search needs of Node; tests pass their own. */
export interface Host {
  readonly env: Record<string, string | undefined>;
  readonly platform: string;
  /** The version of this package. */
  readonly version: string;
  /** The library that a checkout builds for itself. */
  readonly local: string;
  /** Loads a file or package; throws as `require` does. */
  load(id: string): unknown;
  exists(path: string): boolean;
  /** Names of the installed packages of the scope `@groundup`, without the scope. */
  installed(): string[];
}

interface NodeModules {
  "node:module": { createRequire(from: string): { (id: string): unknown; resolve: { paths(id: string): string[] | null } } };
  "node:fs": { existsSync(path: string): boolean; readdirSync(path: string): string[] };
  "node:url": { fileURLToPath(url: URL): string };
}

let search: NativeSearch | undefined;

/** The platform's name as in the binary's file name and its npm package, e.g. `linux-x64-gnu`. */
export function platformName(): string {
  const { platform, arch } = process;
  if (platform !== "linux") return platform === "win32" ? `win32-${arch}-msvc` : `${platform}-${arch}`;
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return `linux-${arch}-${report?.header?.glibcVersionRuntime === undefined ? "musl" : "gnu"}`;
}

/**
 * Loads the native library once: the file that `GROUNDUP_NATIVE` names, else the one built in this checkout, else the platform package.
 * `GROUNDUP_BACKEND=reference` asks for none, `GROUNDUP_BACKEND=native` for nothing else.
 *
 * @throws GroundupError when the native backend was asked for and can't be had
 */
export function loadNative(): NativeSearch {
  if (search === undefined) {
    const host = nodeHost();
    search = host === undefined ? none("this JavaScript runtime loads no native libraries") : findNative(host);
  }
  return search;
}

function nodeHost(): Host | undefined {
  const builtin = <Name extends keyof NodeModules>(name: Name) => globalThis.process?.getBuiltinModule?.(name) as NodeModules[Name] | undefined;
  const [module, fs, url] = [builtin("node:module"), builtin("node:fs"), builtin("node:url")];
  if (module === undefined || fs === undefined || url === undefined) return undefined;
  const load = module.createRequire(import.meta.url);
  const platform = platformName();
  return {
    env: process.env,
    platform,
    // Two folders up, in `src` and in `dist`.
    version: (load("../../package.json") as { version: string }).version,
    local: url.fileURLToPath(new URL(`../../native/groundup.${platform}.node`, import.meta.url)),
    load,
    exists: fs.existsSync,
    installed() {
      const folders = (load.resolve.paths("@groundup/any") ?? []).map((folder) => `${folder}/@groundup`);
      return folders.filter((folder) => fs.existsSync(folder)).flatMap((folder) => fs.readdirSync(folder));
    },
  };
}

const none = (reason: string, asked = false): NativeSearch => ({ binding: null, reason, asked });

/** The search itself. */
export function findNative(host: Host): NativeSearch {
  const wanted = host.env.GROUNDUP_BACKEND ?? "";
  if (wanted === "reference") return none("GROUNDUP_BACKEND=reference", true);
  if (wanted !== "" && wanted !== "native") {
    throw new GroundupError(`GROUNDUP_BACKEND: no such backend, expected native or reference, got "${wanted}". Set one of them, or unset it`);
  }
  const found = look(host);
  if (wanted === "native" && found.binding === null) {
    throw new GroundupError(`GROUNDUP_BACKEND=native: expected the native library, got none: ${found.reason}`);
  }
  return found;
}

function look(host: Host): NativeSearch {
  const { env, platform } = host;
  const override = env.GROUNDUP_NATIVE ?? "";
  if (override !== "") {
    // Anything else would be run as JavaScript.
    if (!override.endsWith(".node"))
      return none(`GROUNDUP_NATIVE names no native library: expected a path that ends in .node, got ${override}. Correct the path, or unset it.`);
    return host.exists(override)
      ? take(host, override, `the file that GROUNDUP_NATIVE names (${override})`, "Build that file again, or unset GROUNDUP_NATIVE.")
      : none(`GROUNDUP_NATIVE names a file that does not exist: ${override}. Correct the path, or unset it.`);
  }
  if (host.exists(host.local))
    return take(host, host.local, `the native library built in this checkout for ${platform}`, 'Build it again with "npm run build:native".');
  const name = `@groundup/native-${platform}`;
  const found = host.installed().filter((other) => other.startsWith("native-"));
  if (!found.includes(`native-${platform}`)) return none(absent(host, name, found));
  return take(host, name, `the package ${name}`, `Install it again: npm install ${name}@${host.version}`);
}

/** Loads and checks one library. */
function take(host: Host, id: string, what: string, remedy: string): NativeSearch {
  let binding: NativeBinding;
  try {
    binding = host.load(id) as NativeBinding;
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    const missing = code === "MODULE_NOT_FOUND" ? "its file is missing" : message.split("\n")[0];
    return none(`${what} did not load: ${missing}.${libcHint(host.platform, message)} ${remedy}`);
  }
  if (binding.version !== host.version) {
    return none(`${what} is of another version, expected ${host.version}, got ${binding.version ?? "one without a version"}. ${remedy}`);
  }
  return { binding, reason: what, asked: false };
}

/** A library for the other C library of Linux fails with messages that name neither. */
function libcHint(platform: string, message: string): string {
  if (!platform.startsWith("linux-")) return "";
  if (/ld-musl|libc\.musl/.test(message)) return " It was built for musl (Alpine), and this Linux has glibc.";
  if (/GLIBC_[0-9.]+' not found/.test(message)) return " It was built against a newer glibc than this Linux has.";
  if (/ld-linux|libc\.so\.6|libgcc_s|__.*: symbol not found/.test(message) && platform.endsWith("-musl"))
    return " It was built for glibc, and this Linux has musl.";
  return "";
}

function absent(host: Host, name: string, found: readonly string[]): string {
  const { platform } = host;
  if (found.length > 0) {
    const others = found.map((other) => `@groundup/${other}`).join(", ");
    const libc = found.some((other) => other.replace(/-(gnu|musl)$/, "") === `native-${platform}`.replace(/-(gnu|musl)$/, ""));
    const why = libc
      ? `This Linux has ${platform.endsWith("-musl") ? "musl" : "glibc"}, and that package is for the other C library, as when node_modules comes from another container image.`
      : "This happens when node_modules was copied from another machine or container, or when Node runs for another processor (Rosetta, 32-bit).";
    return `the installed native library is for another platform, expected ${name}, got ${others}. ${why} Delete node_modules and install again here.`;
  }
  return (
    `there is no native library for ${platform}. In a clone, install cargo (https://rustup.rs) and run "npm run build:native"; ` +
    `otherwise run "npm install ${name}@${host.version}" (npm leaves it out with --omit=optional)`
  );
}

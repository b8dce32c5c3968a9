/**
 * Finds and loads the native library. The only file that knows where it lies. No static import of Node's modules, so that
 * `src/tensor` also loads in browsers, where there is simply no native library.
 */

/** What the library exports (crates/node). Kernels are called by number with their arguments in `args`. */
export interface NativeBinding {
  readonly args: ArrayBuffer;
  /** Kernel names, one a line; a kernel's number is its line. */
  readonly kernels: string;
  exec(kernel: number): void;
  alloc(bytes: number): number;
  free(buffer: number): void;
  write(buffer: number, byteOffset: number, data: ArrayBufferView): void;
  read(buffer: number, byteOffset: number, into: ArrayBufferView): void;
  memory(): string;
  threads(count?: number): number;
  isa(name?: string): string;
  isas(): string;
  readonly [other: string]: unknown;
}

export interface NativeSearch {
  readonly binding: NativeBinding | null;
  /** What was found, or why nothing was. */
  readonly reason: string;
  /** True where the user asked for the reference backend, so there is nothing to warn of. */
  readonly asked: boolean;
}

interface NodeModule {
  createRequire(from: string): (id: string) => unknown;
}

let search: NativeSearch | undefined;

/** The platform's name as in the binary's file name and its npm package, e.g. `linux-x64-gnu`. */
export function platformName(): string {
  const { platform, arch } = process;
  if (platform !== "linux") return platform === "win32" ? `win32-${arch}-msvc` : `${platform}-${arch}`;
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return `linux-${arch}-${report?.header?.glibcVersionRuntime === undefined ? "musl" : "gnu"}`;
}

/** Loads the native library once: the one built in this checkout, else the platform package beside this one. */
export function loadNative(): NativeSearch {
  search ??= find();
  return search;
}

function find(): NativeSearch {
  if (globalThis.process?.env.GROUNDUP_BACKEND === "reference") {
    return { binding: null, reason: "GROUNDUP_BACKEND=reference", asked: true };
  }
  const modules = globalThis.process?.getBuiltinModule?.("node:module") as NodeModule | undefined;
  if (modules === undefined) return { binding: null, reason: "this JavaScript runtime loads no native libraries", asked: false };
  const load = modules.createRequire(import.meta.url);
  const platform = platformName();
  const tried: string[] = [];
  for (const place of [`../../native/groundup.${platform}.node`, `@groundup/native-${platform}`]) {
    try {
      return { binding: load(place) as NativeBinding, reason: `native library for ${platform}`, asked: false };
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      if (code !== "MODULE_NOT_FOUND") tried.push(`${place}: ${message.split("\n")[0]}`);
    }
  }
  const reason =
    tried.length > 0
      ? `the native library did not load (${tried.join("; ")}). Build it here with "npm run build:native"`
      : `there is no native library for ${platform}. Install cargo (https://rustup.rs) and run "npm run build:native", or install the package @groundup/native-${platform}`;
  return { binding: null, reason, asked: false };
}

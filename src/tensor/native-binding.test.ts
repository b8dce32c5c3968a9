import { describe, expect, test } from "vitest";
import { findNative, type Host } from "./native-binding.ts";

const library = { version: "1.2.3" };

function host(changes: Partial<Host> & { packages?: Record<string, unknown>; files?: Record<string, unknown> } = {}): Host {
  const { packages = {}, files = {}, ...rest } = changes;
  return {
    env: {},
    platform: "linux-x64-gnu",
    version: "1.2.3",
    local: "/clone/native/groundup.linux-x64-gnu.node",
    load(id) {
      const found = packages[id] ?? files[id];
      if (found instanceof Error) throw found;
      if (found === undefined) throw Object.assign(new Error(`Cannot find module '${id}'\nRequire stack:`), { code: "MODULE_NOT_FOUND" });
      return found;
    },
    exists: (path) => path in files,
    installed: () => Object.keys(packages).map((name) => name.replace("@groundup/", "")),
    ...rest,
  };
}

describe("finding the native library", () => {
  test("the checkout's own build comes before the platform package", () => {
    const own = { ...library };
    const found = findNative(host({ files: { "/clone/native/groundup.linux-x64-gnu.node": own }, packages: { "@groundup/native-linux-x64-gnu": library } }));
    expect(found.binding).toBe(own);
    expect(found.reason).toContain("built in this checkout");
  });

  test("the platform package", () => {
    expect(findNative(host({ packages: { "@groundup/native-linux-x64-gnu": library } }))).toEqual({
      binding: library,
      reason: "the package @groundup/native-linux-x64-gnu",
      asked: false,
    });
  });

  test("GROUNDUP_BACKEND=reference is no failure", () => {
    const found = findNative(host({ env: { GROUNDUP_BACKEND: "reference" }, packages: { "@groundup/native-linux-x64-gnu": library } }));
    expect(found).toEqual({ binding: null, reason: "GROUNDUP_BACKEND=reference", asked: true });
  });

  test("GROUNDUP_BACKEND=native is taken at its word, a misspelling refused", () => {
    expect(() => findNative(host({ env: { GROUNDUP_BACKEND: "native" } }))).toThrow("expected the native library, got none: there is no native library");
    expect(() => findNative(host({ env: { GROUNDUP_BACKEND: "nativ" } }))).toThrow('expected native or reference, got "nativ"');
  });

  test("GROUNDUP_NATIVE names a file", () => {
    const env = { GROUNDUP_NATIVE: "/tmp/mine.node" };
    expect(findNative(host({ env, files: { "/tmp/mine.node": library } })).binding).toBe(library);
    const script = findNative(host({ env: { GROUNDUP_NATIVE: "/tmp/mine.js" }, files: { "/tmp/mine.js": library } }));
    expect([script.binding, script.reason]).toEqual([
      null,
      "GROUNDUP_NATIVE names no native library: expected a path that ends in .node, got /tmp/mine.js. Correct the path, or unset it.",
    ]);
    expect(findNative(host({ env })).reason).toBe("GROUNDUP_NATIVE names a file that does not exist: /tmp/mine.node. Correct the path, or unset it.");
  });

  test("nothing installed: says how to get it", () => {
    const { binding, reason } = findNative(host());
    expect(binding).toBeNull();
    expect(reason).toContain("no native library for linux-x64-gnu");
    expect(reason).toContain("npm install @groundup/native-linux-x64-gnu@1.2.3");
  });

  test("the package of another platform", () => {
    const { binding, reason } = findNative(host({ packages: { "@groundup/native-darwin-arm64": library } }));
    expect(binding).toBeNull();
    expect(reason).toContain("expected @groundup/native-linux-x64-gnu, got @groundup/native-darwin-arm64");
    expect(reason).toContain("copied from another machine");
  });

  test("glibc here, musl installed, and the other way round", () => {
    expect(findNative(host({ packages: { "@groundup/native-linux-x64-musl": library } })).reason).toContain("This Linux has glibc");
    expect(findNative(host({ platform: "linux-x64-musl", packages: { "@groundup/native-linux-x64-gnu": library } })).reason).toContain("This Linux has musl");
  });

  test("a package whose file is missing", () => {
    const gone = Object.assign(new Error("Cannot find module …"), { code: "MODULE_NOT_FOUND" });
    const { reason } = findNative(host({ packages: { "@groundup/native-linux-x64-gnu": gone } }));
    expect(reason).toBe(
      "the package @groundup/native-linux-x64-gnu did not load: its file is missing. Install it again: npm install @groundup/native-linux-x64-gnu@1.2.3",
    );
  });

  test("a library that the loader of the system refuses", () => {
    const refused = Object.assign(new Error("/lib/libc.so.6: version `GLIBC_2.39' not found (required by x.node)"), { code: "ERR_DLOPEN_FAILED" });
    expect(findNative(host({ packages: { "@groundup/native-linux-x64-gnu": refused } })).reason).toContain("newer glibc than this Linux has");
  });

  test("package and library of different versions do not run together", () => {
    const { binding, reason } = findNative(host({ packages: { "@groundup/native-linux-x64-gnu": { version: "1.2.2" } } }));
    expect(binding).toBeNull();
    expect(reason).toContain("expected 1.2.3, got 1.2.2");
    const old = findNative(host({ files: { "/clone/native/groundup.linux-x64-gnu.node": {} } }));
    expect(old.reason).toContain('got one without a version. Build it again with "npm run build:native".');
  });
});

// The platforms that native packages exist for (npm/platforms.json), and which one this machine is.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..");
export const platforms = JSON.parse(readFileSync(join(root, "npm", "platforms.json"), "utf8"));
export const manifest = () => JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** Named as in src/tensor/native-binding.ts. */
export function platformName() {
  const { platform, arch } = process;
  if (platform !== "linux") return platform === "win32" ? `win32-${arch}-msvc` : `${platform}-${arch}`;
  return `linux-${arch}-${process.report.getReport().header.glibcVersionRuntime === undefined ? "musl" : "gnu"}`;
}

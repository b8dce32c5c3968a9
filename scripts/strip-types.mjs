/** A load hook for Node before 22.18: TypeScript files become JavaScript as they are imported. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { transform } from "@swc/core";

export async function load(url, context, nextLoad) {
  if (!url.endsWith(".ts")) return nextLoad(url, context);
  const path = fileURLToPath(url);
  const { code } = await transform(await readFile(path, "utf8"), {
    filename: path,
    sourceMaps: "inline",
    jsc: { parser: { syntax: "typescript" }, target: "es2022", transform: { verbatimModuleSyntax: true, useDefineForClassFields: true } },
  });
  return { format: "module", source: code, shortCircuit: true };
}

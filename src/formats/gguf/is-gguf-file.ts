/** Whether a path is a GGUF file. By itself, so that whoever asks need not load what reads one. */
import * as fs from "node:fs/promises";
import { openFile, whereThere } from "../node-file.ts";
import { isGguf } from "./magic.ts";

/** Whether a path is a GGUF file, by its first bytes. No for folders and what is not there. */
export async function isGgufFile(path: string): Promise<boolean> {
  const stat = await whereThere(path, fs.stat(path), null);
  if (stat === null || !stat.isFile()) return false;
  const source = await openFile(path);
  return isGguf(source).finally(() => source.close());
}

/** report.html (thin for now). */
import { writeFileAtomic } from "../formats/index.ts";
import type { Manifest } from "./pretrain.ts";
import type { RunFolder } from "./run-folder.ts";

export async function writeReport(run: RunFolder, manifest: Manifest): Promise<string> {
  const file = run.at("report.html");
  await writeFileAtomic(file, `<pre>${JSON.stringify(manifest)}</pre>`);
  return file;
}

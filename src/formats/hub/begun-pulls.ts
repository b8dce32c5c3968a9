/**
 * What was asked for by pulls that have not come to their end, so that half a model is told from a whole one and gone on with: a file for each beside the locks,
 * written before the first byte and removed after the last.
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { FormatError } from "../../errors.ts";
import { writeFileAtomic } from "../atomic-write.ts";
import { parseJson } from "../json.ts";
import { readError, whereThere } from "../node-file.ts";
import type { CachePlaces } from "./cache.ts";

const ENDING = ".groundup.pull";

const BEGUN = z.object({
  /** As `pullModel` takes it. */
  id: z.string(),
  include: z.array(z.string()),
  exclude: z.array(z.string()),
  commit: z.string(),
  files: z.array(z.object({ path: z.string(), bytes: z.number(), blob: z.string() })),
});
/** A pull that was begun. */
export type BegunPull = z.output<typeof BEGUN>;

/** Remembers a pull; gives the function that forgets it. The same pull in two processes is one. */
export async function rememberPull(places: CachePlaces, pull: BegunPull): Promise<() => Promise<void>> {
  const { id, include, exclude, commit } = pull;
  const name = createHash("sha256")
    .update(JSON.stringify([id, include, exclude, commit]))
    .digest("hex")
    .slice(0, 16);
  const file = join(places.pulls, `${name}${ENDING}`);
  await writeFileAtomic(file, JSON.stringify(pull));
  return () => fs.rm(file, { force: true });
}

/** The pulls of a model that were begun. @throws FormatError for a file that is none */
export async function begunPulls({ pulls }: CachePlaces): Promise<BegunPull[]> {
  const names = (await whereThere(pulls, fs.readdir(pulls), [])).filter((name) => name.endsWith(ENDING));
  return Promise.all(
    names.sort().map(async (name) => {
      const file = join(pulls, name);
      const text = fs.readFile(file, "utf8").catch((cause) => {
        throw readError(file, cause);
      });
      const { success, data } = BEGUN.safeParse(parseJson(await text, file));
      if (success) return data;
      throw new FormatError(`${file}: no pull, expected an id and a list of files, got something else. Remove it, and pull the model again.`);
    }),
  );
}

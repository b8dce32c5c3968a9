/** Room on a disk. */
import { statfs } from "node:fs/promises";
import { dirname } from "node:path";

/** Free bytes where a folder is, or will be made; null where the file system does not say. */
export async function freeBytes(folder: string): Promise<number | null> {
  for (let at = folder; ; at = dirname(at)) {
    try {
      const disk = await statfs(at);
      return disk.bavail * disk.bsize;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT" || dirname(at) === at) return null;
    }
  }
}

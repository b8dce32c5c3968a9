/** What the fuzz tests of files share. */
import type { SafetensorsFile } from "../../src/formats/safetensors-write.ts";

export async function bytesOf(file: SafetensorsFile): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of file.content) pieces.push(piece.slice());
  return new Uint8Array(Buffer.concat(pieces));
}

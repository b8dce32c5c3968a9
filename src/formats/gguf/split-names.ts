/** llama.cpp's names of a model in several files, counted from 1: `stem-00001-of-00003.gguf`. */
export const SPLIT = /-(\d{5})-of-(\d{5})\.gguf$/i;

/** The file by which a model is opened that these are all of: the only one, or the first of several with its number and theirs in the name. */
export function firstOfGgufs(names: readonly string[]): string | null {
  const files = names.filter((name) => /\.gguf$/i.test(name)).sort();
  if (files.length === 1) return files[0];
  const [, number, count] = SPLIT.exec(files[0] ?? "") ?? [];
  if (number !== "00001" || files.length !== Number(count)) return null;
  const named = (i: number) => (files[0] as string).replace(SPLIT, `-${String(i + 1).padStart(5, "0")}-of-${count}.gguf`);
  return files.every((name, i) => name.toLowerCase() === named(i).toLowerCase()) ? (files[0] as string) : null;
}

/** Options objects: a key that does nothing is a mistake, and is said. */
import { didYouMean } from "./did-you-mean.ts";
import { ConfigError } from "./errors.ts";

/** The keys that options of this type may have: all of them, or it does not compile. */
export type KnownOptions<Options> = Readonly<Record<keyof Options & string, true>>;

/**
 * Refuses keys that are not known. Called on every operation with options, so it only looks keys up.
 * @throws ConfigError with what was probably meant
 */
export function checkOptions<Options extends object>(where: string, options: Options, known: KnownOptions<Options>): void {
  for (const key in options) if (known[key] !== true) refuse(where, options, known, key);
}

function refuse(where: string, options: object, known: Readonly<Record<string, true>>, key: string): never {
  const names = Object.keys(known);
  const got = Array.isArray(options) || typeof options === "string" ? JSON.stringify(options) : key;
  throw new ConfigError(
    `${where}: unknown option, expected ${names.length === 1 ? names[0] : `one of ${names.join(", ")}`}, got ${got}.${didYouMean(key, names)} Correct or remove it.`,
  );
}

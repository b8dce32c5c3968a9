/** Suggestions for misspelt names: config keys, flags, commands, tensors, files. */

/**
 * Edits that turn one word into another: insertions, deletions, substitutions and swaps of neighbours
 * (the optimal string alignment distance). Gives up early with `limit + 1`.
 */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        row[j] = Math.min(row[j], beforeLast[j - 2] + 1);
      }
    }
    if (Math.min(...row) > limit) return limit + 1;
    beforeLast = last;
    last = row;
  }
  return last[b.length];
}

// `learningRate`, `learning-rate` and `learning_rate` are one word to a person.
const plain = (name: string) => name.toLowerCase().replace(/[-_.\s]/g, "");

/**
 * The candidate that was probably meant, or undefined when none is near: at most one edit in three letters, or the
 * candidates' own words in another order or with another spelling of the word breaks.
 */
export function closestName(name: string, candidates: Iterable<string>): string | undefined {
  const wanted = plain(name).slice(0, 100);
  const wantedWords = words(name);
  const limit = Math.max(1, Math.floor(wanted.length / 3));
  let best: string | undefined;
  let bestDistance = limit + 1;
  for (const candidate of candidates) {
    const distance = words(candidate) === wantedWords ? 0.5 : editDistance(wanted, plain(candidate).slice(0, 100), limit);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function words(name: string): string {
  return name
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .toLowerCase()
    .split(/[-_.\s]+/)
    .sort()
    .join(" ");
}

/** ` Did you mean "x"?` (with the leading space) for use at the end of a sentence, or an empty string. */
export function didYouMean(name: string, candidates: Iterable<string>): string {
  const closest = closestName(name, candidates);
  return closest === undefined ? "" : ` Did you mean "${closest}"?`;
}

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
 * candidates' own words in another order or with another spelling of the word breaks; and where there is none of these, what begins or ends with
 * the name (`hidden`, `hidden_size`; `train`, `pretrain`).
 */
export function closestName(name: string, candidates: Iterable<string>): string | undefined {
  const wanted = plain(name).slice(0, 100);
  const wantedWords = words(name);
  const limit = Math.max(1, Math.floor(wanted.length / 3));
  // A part is found in many names, so that it must be nearer.
  const edgeLimit = Math.floor(wanted.length / 5);
  const names = [...candidates];
  return (
    nearest(names, limit, (name) => (words(name) === wantedWords ? 0.5 : editDistance(wanted, plain(name).slice(0, 100), limit))) ??
    (wanted.length < 4 ? undefined : nearest(names, edgeLimit, (name) => edgeDistance(wanted, plain(name), edgeLimit)))
  );
}

/** The first of the names whose distance is the least, if that is within the limit. */
function nearest(names: readonly string[], limit: number, distanceOf: (name: string) => number): string | undefined {
  let best: string | undefined;
  let bestDistance = limit + 1;
  for (const name of names) {
    const distance = distanceOf(name);
    if (distance < bestDistance) {
      best = name;
      bestDistance = distance;
    }
  }
  return best;
}

/** The edits to the nearest beginning or end of a name; gives up with `limit + 1`. */
function edgeDistance(wanted: string, name: string, limit: number): number {
  let least = limit + 1;
  for (let length = wanted.length - limit; length <= wanted.length + limit; length++)
    for (const part of [name.slice(0, length), name.slice(-length)]) least = Math.min(least, editDistance(wanted, part, limit));
  return least;
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

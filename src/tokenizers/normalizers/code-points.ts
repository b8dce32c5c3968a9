/** Tables of code points, as unicode16.ts and normalizer-tables.ts pack them, unpacked for what they are asked. */

function numbersOf(packed: string): number[] {
  return packed.split(" ").map((word) => Number.parseInt(word, 36));
}

/** Start and end of each range of "gap length" pairs. */
export function* rangesOf(packed: string): Generator<readonly [start: number, end: number]> {
  const numbers = numbersOf(packed);
  let at = 0;
  for (let i = 0; i < numbers.length; i += 2) {
    const start = at + numbers[i];
    at = start + numbers[i + 1];
    yield [start, at];
  }
}

export function* pointsOf(packed: string): Generator<number> {
  for (const [start, end] of rangesOf(packed)) for (let point = start; point < end; point++) yield point;
}

/** The value of every code point in the ranges of "gap length value" triples. */
export function valuesOf(packed: string): Map<number, number> {
  const values = new Map<number, number>();
  const numbers = numbersOf(packed);
  let at = 0;
  for (let i = 0; i < numbers.length; i += 3) {
    at += numbers[i];
    for (const end = at + numbers[i + 1]; at < end; at++) values.set(at, numbers[i + 2]);
  }
  return values;
}

const escaped = (point: number): string => `\\u{${point.toString(16)}}`;

/** The ranges in the form that stands between `[` and `]` of a JavaScript expression with the flag u. */
export function classOf(packed: string): string {
  let body = "";
  for (const [start, end] of rangesOf(packed)) body += `${escaped(start)}-${escaped(end - 1)}`;
  return body;
}

/**
 * eˣ for the weights of a draw: some 50,000 for each token, for which calls of `Math.exp` would take a fifth of a step of a small model. By table and polynomial (Tang,
 * "Table-Driven Implementation of the Exponential Function", 1989): x = (64·e + j)·ln 2/64 + r, so eˣ = 2ᵉ · 2^(j/64) · eʳ, within an ulp or two of float64.
 * Products and roots alone, so that every JavaScript engine draws the same token.
 */

const PARTS = 64;
/** ln 2/64 in two: n times the first is exact, the second has what float64 lacks of ln 2. */
const STEP = Math.LN2 / PARTS;
const HIGH = Math.fround(STEP);
const LOW = STEP - HIGH + 2.3190468138462996e-17 / PARTS;
const PER_STEP = 1 / STEP;
const ROUNDING = 1.5 * 2 ** 52;
const LEAST_EXPONENT = -1022;

/** 2^(j/64). */
const ROOTS = new Float64Array(PARTS);
/** 2^−e. */
const POWERS = new Float64Array(1 - LEAST_EXPONENT);

ROOTS.fill(1);
for (let bit = PARTS / 2, root = Math.SQRT2; bit >= 1; bit /= 2, root = Math.sqrt(root)) {
  for (let j = 0; j < PARTS; j++) if ((j & bit) !== 0) ROOTS[j] *= root;
}
POWERS[0] = 1;
for (let e = 1; e < POWERS.length; e++) POWERS[e] = POWERS[e - 1] / 2;

/** eˣ for x ≤ 0; 0 where that is below float64's normal numbers (x < −708), −∞ included. */
export function expOfNegative(x: number): number {
  if (!(x >= -708)) return 0;
  // Beside this number float64 has no room for a fraction: adding it rounds.
  const whole = x * PER_STEP + ROUNDING - ROUNDING;
  const n = whole | 0;
  const r = x - whole * HIGH - whole * LOW;
  const tail = r + r * r * (0.5 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120))));
  const root = ROOTS[n & (PARTS - 1)];
  return (root + root * tail) * POWERS[-(n >> 6)];
}

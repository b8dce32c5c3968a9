/**
 * Several sources in fixed proportions. Which source gives sample `i`, and which of its own samples that is, follows from
 * `i` by a table: 10,000 samples hold each source's share to the nearest sample, and any stretch of them nearly so.
 */
import { ConfigError } from "../errors.ts";
import type { SampleSource } from "./samples.ts";

const PERIOD = 10_000;

/** A source, and how often it comes. */
export interface MixPart {
  source: SampleSource;
  /** Relative to the other parts' weights; more than 0. */
  weight: number;
}

/**
 * Shares of `PERIOD` by largest remainder, so that they add up; none is 0.
 */
function quotas(weights: readonly number[]): number[] {
  const sum = weights.reduce((a, b) => a + b, 0);
  const exact = weights.map((weight) => (weight / sum) * PERIOD);
  const shares = exact.map((value) => Math.max(1, Math.floor(value)));
  let open = PERIOD - shares.reduce((a, b) => a + b, 0);
  const byRemainder = exact.map((value, i) => ({ i, rest: value - shares[i] })).sort((a, b) => b.rest - a.rest || a.i - b.i);
  for (let k = 0; open > 0; k++, open--) shares[byRemainder[k % shares.length].i]++;
  // Shares that were lifted to 1 are taken from the largest.
  for (; open < 0; open++) shares[shares.indexOf(Math.max(...shares))]--;
  return shares;
}

/**
 * A source whose samples come from `parts` in proportion to their weights. Each part's own samples come in their order.
 *
 * @throws ConfigError for bad weights, and for parts of different context length or kind
 */
export function weightedMix(parts: readonly MixPart[]): SampleSource {
  const weights = parts.map(({ weight }) => weight);
  const sum = weights.reduce((a, b) => a + b, 0);
  if (parts.length === 0 || !Number.isFinite(sum) || !weights.every((weight) => weight > 0 && weight / sum >= 0.5 / PERIOD)) {
    throw new ConfigError(
      `mix: bad weights, expected numbers above 0, each at least 1/${2 * PERIOD} of their sum, got [${weights.join(", ")}]. ` +
        "Leave out sources that should not be read.",
    );
  }
  const context = parts[0].source.context;
  const odd = parts.find(({ source }) => source.context !== context);
  if (odd) throw new ConfigError(`mix: sources of different context length, expected ${context}, got ${odd.source.context}. Give all the same.`);

  const shares = quotas(weights);
  const choice = new Uint16Array(PERIOD);
  const rank = new Uint16Array(PERIOD);
  const taken = new Array<number>(parts.length).fill(0);
  for (let i = 0; i < PERIOD; i++) {
    // The source that is furthest behind its share is next.
    let next = 0;
    for (let part = 1; part < parts.length; part++) {
      if (shares[part] * (i + 1) - taken[part] * PERIOD > shares[next] * (i + 1) - taken[next] * PERIOD) next = part;
    }
    choice[i] = next;
    rank[i] = taken[next]++;
  }

  return {
    context,
    samples: Number.POSITIVE_INFINITY,
    identity: `weightedMix(${parts.map(({ source }, i) => `${shares[i]} of ${PERIOD} ${source.identity}`).join(", ")})`,
    async read(index) {
      const place = index % PERIOD;
      const part = choice[place];
      const { source } = parts[part];
      const own = Math.floor(index / PERIOD) * shares[part] + rank[place];
      return source.read(own);
    },
  };
}

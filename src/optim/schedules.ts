/**
 * Learning-rate schedules: pure functions from a step (the first is 0) to a factor on the base learning rate. A resumed run needs
 * nothing but its step.
 */
import { ConfigError } from "../errors.ts";
import { checkOptions, type KnownOptions } from "../options.ts";

/** From a step, the first being 0, to the factor on the base learning rate. */
export type Schedule = (step: number) => number;

/** What every schedule takes. */
export interface ScheduleOptions {
  /** Steps of the whole run. */
  steps: number;
  /** Steps of linear rise at the start: step s has (s + 1)/(warmup + 1) of the full rate. Default 0. */
  warmup?: number;
  /** The factor at the end; default 0. */
  final?: number;
}

const OPTIONS: KnownOptions<ScheduleOptions> = { steps: true, warmup: true, final: true };

function check<Options extends ScheduleOptions>(name: string, options: Options, known: KnownOptions<Options>): Required<ScheduleOptions> {
  checkOptions(name, options, known);
  const { steps, warmup = 0, final = 0 } = options;
  const whole = (n: number) => Number.isSafeInteger(n) && n >= 0;
  if (!whole(steps) || !whole(warmup) || !(final >= 0)) {
    throw new ConfigError(
      `${name}: bad schedule, expected whole steps and warmup and a final factor of at least 0, got steps ${steps}, warmup ${warmup}, final ${final}. Correct them.`,
    );
  }
  return { steps, warmup, final };
}

/** Rises over the warm-up, then follows `shape`: a function of the part (0 to 1) of the remaining steps that is over. */
function afterWarmup({ steps, warmup }: Required<ScheduleOptions>, shape: (part: number) => number): Schedule {
  return (step) => (step < warmup ? (step + 1) / (warmup + 1) : shape(Math.min(1, (step - warmup) / Math.max(1, steps - warmup))));
}

/** Always the base rate, after the warm-up. */
export const constant = (options: { warmup?: number } = {}): Schedule => afterWarmup(check("constant", { steps: 0, ...options }, OPTIONS), () => 1);

/** Straight down to `final`. */
export const linear = (options: ScheduleOptions): Schedule => {
  const o = check("linear", options, OPTIONS);
  return afterWarmup(o, (part) => 1 + (o.final - 1) * part);
};

/** Half a cosine down to `final` (Loshchilov and Hutter 2017, equation 5). */
export const cosine = (options: ScheduleOptions): Schedule => {
  const o = check("cosine", options, OPTIONS);
  return afterWarmup(o, (part) => o.final + (1 - o.final) * 0.5 * (1 + Math.cos(Math.PI * part)));
};

/** Warm-up, stable, decay (Hu et al. 2024, section 4): the base rate until the last `decay` steps (default a fifth), then straight down to `final`. */
export const wsd = (options: ScheduleOptions & { decay?: number }): Schedule => {
  const o = check("wsd", options, { ...OPTIONS, decay: true });
  const decay = options.decay ?? Math.ceil(o.steps / 5);
  if (!(decay >= 0 && decay + o.warmup <= o.steps))
    throw new ConfigError(`wsd: bad decay, expected 0 to ${o.steps - o.warmup} steps (what the warm-up leaves), got ${decay}. Correct it.`);
  return (step) => {
    if (step < o.warmup) return (step + 1) / (o.warmup + 1);
    const left = o.steps - step;
    return left >= decay ? 1 : o.final + ((1 - o.final) * Math.max(0, left)) / decay;
  };
};

/** One cycle (Smith and Topin 2018): half a cosine up from 1/`start` (default 1/25) over the warm-up, half a cosine down to `final`. */
export const oneCycle = (options: ScheduleOptions & { start?: number }): Schedule => {
  const o = check("oneCycle", options, { ...OPTIONS, start: true });
  const low = 1 / (options.start ?? 25);
  const between = (from: number, to: number, part: number) => to + (from - to) * 0.5 * (1 + Math.cos(Math.PI * part));
  return (step) => (step < o.warmup ? between(low, 1, step / o.warmup) : between(1, o.final, Math.min(1, (step - o.warmup) / Math.max(1, o.steps - o.warmup))));
};

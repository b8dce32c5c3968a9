/** Progress of a run in the terminal: one line that is rewritten, or a line now and then where there is no terminal. */
import { checkOptions } from "../options.ts";
import { duration } from "../quantities.ts";
import { columnsOf, visible } from "../shown-text.ts";
import type { TrainingEvent } from "./loop.ts";

/** Where progress is written, and what its rates are measured by. */
export interface ProgressOptions {
  /** Receives text; lines end in \n. */
  write(text: string): void;
  /** True where a line may be rewritten with \r. */
  live: boolean;
  /** Steps of the whole run. */
  steps: number;
  /** FLOPs of one token, and the machine's measured peak a second: together they give the percentage. */
  flopsPerToken: number;
  peakFlops: number;
  /** Width of the terminal; 80 where it is not given or 0. */
  columns?: number;
}

/** A training run's lines in a terminal. */
export interface Progress {
  /** Shows an event of the training loop. */
  show(event: TrainingEvent): void;
  /** Ends the rewritten line, so that other text may follow. */
  clear(): void;
}

const rate = (n: number): string => (n >= 1e6 ? `${(n / 1e6).toFixed(1)}M` : n >= 1e4 ? `${(n / 1e3).toFixed(1)}k` : n.toFixed(0));

const BAR = { longest: 20, shortest: 5 };

/** Parts of the line from the most important to the least, by their place in it: what is left where a terminal is too narrow for all. */
const IMPORTANT = [0, 4, 1, 2, 3];

/** A bar and `parts` that are together no wider than `width`: the bar gives way first, then the least important parts. No part is cut unless it is alone. */
function fitted(parts: readonly string[], done: number, width: number): string {
  let text = "";
  for (let kept = parts.length; kept > 0; kept--) {
    text = parts.filter((_, place) => IMPORTANT.indexOf(place) < kept).join("  ");
    if (text.length <= width) break;
  }
  const length = Math.min(BAR.longest, width - text.length - 1);
  const filled = Math.round(length * done);
  return length < BAR.shortest ? text.slice(0, width) : `${"█".repeat(filled)}${"░".repeat(length - filled)} ${text}`;
}

/** Shows steps, evaluations and notes; samples and the rest are the caller's. */
export function createProgress(options: ProgressOptions): Progress {
  checkOptions("createProgress", options, { write: true, live: true, steps: true, flopsPerToken: true, peakFlops: true, columns: true });
  const { write, live, steps, flopsPerToken, peakFlops } = options;
  const width = columnsOf(options) - 1;
  let began = 0;
  let firstStep: number | null = null;
  let smooth = { loss: 0, speed: 0, weight: 0 };
  let shown = Number.NEGATIVE_INFINITY;
  let open = false;

  let peak = peakFlops;
  const clear = () => {
    if (open) write(`\r${" ".repeat(width)}\r`);
    open = false;
  };
  const say = (text: string) => {
    clear();
    write(`${visible(text)}\n`);
  };

  return {
    clear,
    show(event) {
      switch (event.type) {
        case "note":
          say(event.text);
          return;
        case "evaluation": {
          const { loss, perplexity, bitsPerByte } = event.result;
          const bytes = bitsPerByte === null ? "" : `, ${bitsPerByte.toFixed(3)} bits per byte`;
          say(
            `  step ${String(event.step).padStart(String(steps).length)}  validation loss ${loss.toFixed(4)}, perplexity ${perplexity.toFixed(1)}${bytes}${event.best ? "  (best)" : ""}`,
          );
          return;
        }
        case "step": {
          const { step, loss, tokens_per_second } = event.metrics;
          if (firstStep === null) {
            firstStep = step - 1;
            began = performance.now() - (1000 * event.metrics.tokens) / (step * tokens_per_second);
          }
          // The last steps count most; the first ones are not diluted by zeros.
          const keep = 0.9 * (1 - 0.1 ** smooth.weight);
          smooth = { loss: keep * smooth.loss + (1 - keep) * loss, speed: keep * smooth.speed + (1 - keep) * tokens_per_second, weight: smooth.weight + 1 };
          const now = performance.now();
          if (step < steps && now - shown < (live ? 100 : 10_000)) return;
          shown = now;
          const done = step - firstStep;
          const left = ((now - began) / 1000 / done) * (steps - step);
          // A peak that was measured in a busy moment is too low: what the run has reached counts, too.
          const reached = smooth.speed * flopsPerToken;
          peak = Math.max(peak, reached);
          const share = (100 * reached) / peak;
          const parts = [
            `step ${step}/${steps}`,
            `loss ${smooth.loss.toFixed(3)}`,
            `${rate(smooth.speed)} tok/s`,
            `${share.toFixed(0)} % of peak`,
            step === steps ? `took ${duration((now - began) / 1000)}` : `${duration(left)} left`,
          ];
          if (live) {
            write(`\r${fitted(parts, step / steps, width).padEnd(width)}`);
            open = true;
          } else write(`${parts.join("  ")}\n`);
          return;
        }
        case "sample":
        case "checkpoint":
        case "end":
          return;
        default:
          event satisfies never;
      }
    },
  };
}

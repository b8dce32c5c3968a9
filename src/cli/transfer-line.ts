/** A transfer in the terminal: one line that is rewritten, or a line now and then where there is no terminal. */
import type { PullProgress } from "../formats/index.ts";
import { byteSize, duration } from "../quantities.ts";
import { columnsOf } from "../shown-text.ts";

export interface TransferLine {
  show(progress: PullProgress): void;
  /** Takes the line away, so that other text may follow. */
  clear(): void;
}

/** What a line is written to: standard error. */
interface Screen {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** The speed is that of the last seconds, so that a wait shows. */
const WINDOW_MS = 10_000;
const SHOWN_EVERY_MS = 100;
const QUIET_EVERY_MS = 10_000;

/** @param now the clock, in milliseconds */
export function createTransferLine(screen: Screen = process.stderr, now: () => number = () => performance.now()): TransferLine {
  const live = screen.isTTY === true;
  const samples: { at: number; fetched: number }[] = [];
  let shown = live ? Number.NEGATIVE_INFINITY : now();
  let open = false;
  return {
    show(progress) {
      const at = now();
      if (samples.length > 0 && at - samples[samples.length - 1].at < SHOWN_EVERY_MS) return;
      samples.push({ at, fetched: progress.fetched });
      while (samples.length > 2 && at - samples[0].at > WINDOW_MS) samples.shift();
      if (!live && at - shown < QUIET_EVERY_MS) return;
      shown = at;
      const line = transferText(progress, speedOf(samples));
      if (!live) {
        screen.write(`${line}\n`);
        return;
      }
      screen.write(`\r\u001b[K${line.slice(0, columnsOf(screen) - 1)}`);
      open = true;
    },
    clear() {
      if (open) screen.write("\r\u001b[K");
      open = false;
    },
  };
}

/** Bytes a second, from the first sample to the last. */
function speedOf(samples: readonly { at: number; fetched: number }[]): number {
  const [first, last] = [samples[0], samples[samples.length - 1]];
  return last.at === first.at ? 0 : ((last.fetched - first.fetched) / (last.at - first.at)) * 1000;
}

/** `12.3 MB of 1.2 GB (1 %), file 1 of 5, 3.4 MB/s, 5m03s left`. */
export function transferText({ bytes, here, files, done }: PullProgress, speed: number): string {
  const parts = [
    `${byteSize(here)} of ${byteSize(bytes)} (${bytes === 0 ? 100 : Math.floor((100 * here) / bytes)} %)`,
    `${done} of ${files} ${files === 1 ? "file" : "files"}`,
  ];
  if (speed > 0) parts.push(`${byteSize(Math.round(speed))}/s`, `${duration((bytes - here) / speed)} left`);
  return parts.join(", ");
}

/** What a plan must know of the machine and the process that it is made in. */
import type { Precision } from "../tensor/index.ts";
import { measurePeakFlops } from "./peak-flops.ts";

/** What `planTraining` must know of a machine. */
export interface Machine {
  /** Rate of large matrix products with the backend that is in use, FLOP/s. */
  flops: number;
  /** What this process takes before it trains: Node, and groundup's code. */
  processBytes: number;
}

/** Looks at the process first: measuring makes tensors. Takes about a tenth of a second. */
export function measureMachine(precision: Precision = "f32"): Machine {
  const processBytes = process.memoryUsage.rss();
  return { processBytes, flops: measurePeakFlops(precision) };
}

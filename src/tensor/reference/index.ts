/**
 * The reference backend: every kernel of `kernels.ts` in a few lines of plain TypeScript. It is the oracle of the tests and the text
 * to read when you want to know what a kernel does, and it runs where there is no native binary. Sums are in float64, results are
 * stored in float32; it has one thread.
 */
import { ShapeError } from "../../errors.ts";
import type { Backend } from "../backend.ts";
import type { Kernels } from "../kernels.ts";
import { attentionKernels } from "./attention.ts";
import { elementwiseKernels } from "./elementwise.ts";
import { gatedKernels } from "./gated.ts";
import { indexingKernels } from "./indexing.ts";
import { lossKernels } from "./loss.ts";
import { matmulKernels } from "./matmul.ts";
import { createMemory } from "./memory.ts";
import { movingKernels } from "./moving.ts";
import { normKernels } from "./norm.ts";
import { optimKernels } from "./optim.ts";
import { quantizedKernels } from "./quantized.ts";
import { randomKernels } from "./random.ts";
import { reduceKernels } from "./reduce.ts";
import { ropeKernels } from "./rope.ts";
import { softmaxKernels } from "./softmax.ts";

/** A backend with its own, empty memory. */
export function createReference(): Backend {
  const views = createMemory();
  const kernels: Kernels = {
    ...movingKernels(views),
    ...elementwiseKernels(views),
    ...reduceKernels(views),
    ...indexingKernels(views),
    ...matmulKernels(views),
    ...quantizedKernels(views),
    ...normKernels(views),
    ...softmaxKernels(views),
    ...lossKernels(views),
    ...ropeKernels(views),
    ...gatedKernels(views),
    ...attentionKernels(views),
    ...randomKernels(views),
    ...optimKernels(views),
  };
  const { alloc, free, write, read, share, claim, held } = views;
  return {
    ...kernels,
    name: "reference",
    calls: null,
    alloc,
    free,
    write,
    read,
    share,
    claim,
    held,
    threads: () => 1,
    isa(name) {
      if (name !== undefined && name !== "javascript") throw new ShapeError(`isa: not available on the reference backend, expected javascript, got ${name}`);
      return "javascript";
    },
    isas: () => ["javascript"],
    bf16: () => "emulated",
  };
}

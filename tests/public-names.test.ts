/** What the entry `groundup` offers: a name that is added or taken away is a change for users, and shows here. */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import * as groundup from "../src/index.ts";

const NAMES = `
ConfigError DataError FormatError GroundupError NonFiniteError OutOfMemoryError RunError STREAMS ShapeError Tensor
UseAfterFreeError abs add addInPlace arange argmax argmin argsort attention autocast autocastPrecision backend backendReason
backward cast ceil checkpoint clamp clone concat contiguous copyFrom cos crossEntropy cumsum customFunction detach diagonal div
dropout einsum embedding enableGrad eq erf exp expand expm1 eye fill fillNormal fillUniform flip floor full gated gather ge gelu
geluTanh gradEnabled gt indexSelect keep layerNorm le linear linearCrossEntropy linspace log log1p logSoftmax logicalAnd
logicalNot logicalOr logicalXor logsumexp lt manualSeed maskedFill matmul max maximum mean memory min minimum mlp mseLoss mul narrow
ne neg noGrad oneHot ones operations pad permute pow print printGraph prod promote rand randint randn randomStream reciprocal
registerHook relu remainder repeat resetPeakMemory reshape rmsNorm roll rope round rsqrt scatterAdd scope setMemoryLimit sigmoid
sign silu sin slice softmax softplus sort split sqrt square squeeze stack streams sub sum tanh tensor tensorFrom tensorFromBytes
topk transpose tril triu unsqueeze useBackend variance where zeros
`;

test("the entry's values are these and no others", () => {
  expect(Object.keys(groundup).sort()).toEqual(NAMES.trim().split(/\s+/));
});

test("each has words above its declaration, which an editor shows", () => {
  const source = fileURLToPath(new URL("../src/", import.meta.url));
  const text = ["errors.ts", ...readdirSync(`${source}tensor`, { recursive: true }).map((file) => `tensor/${file}`)]
    .filter((file) => /(?<!\.test)\.ts$/.test(file))
    .map((file) => readFileSync(source + file, "utf8"))
    .join("\n");
  const bare = Object.keys(groundup).filter((name) => !new RegExp(`\\*/\\nexport (?:const|function|class) ${name}\\b`).test(text));
  expect(bare).toEqual([]);
});

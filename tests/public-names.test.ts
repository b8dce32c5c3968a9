/** What the package's entries offer: a name that is added or taken away is a change for users, and shows here. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import packageJson from "../package.json" with { type: "json" };
import * as groundup from "../src/index.ts";

const ROOT_NAMES = `
ConfigError DataError FormatError GroundupError HubError NonFiniteError OutOfMemoryError RunError STREAMS ShapeError TemplateError Tensor
UseAfterFreeError abs add addInPlace arange argmax argmin argsort attention autocast autocastPrecision backend backendReason
backward cast ceil checkpoint clamp clone concat contiguous copyFrom cos crossEntropy cumsum customFunction dequantize detach diagonal div
dropout einsum embedding enableGrad eq erf exp expand expm1 eye fill fillNormal fillUniform flip floor fromShared full gated gather ge gelu
geluTanh gradEnabled groupedLinear gt indexSelect keep layerNorm le linear linearCrossEntropy linspace log log1p logSoftmax logicalAnd
logicalNot logicalOr logicalXor logsumexp lt manualSeed maskedFill matmul max maximum mean memory min minimum mlp mseLoss mul narrow
ne neg noGrad oneHot ones operations pad permute pow print printGraph prod promote quantizedFromBytes rand randint randn randomStream reciprocal
registerHook relu remainder repeat resetPeakMemory reshape rmsNorm roll rope round rsqrt scatterAdd scope setMemoryLimit share sigmoid
sign silu sin slice softmax softplus sort split sqrt square squeeze stack streams sub sum tanh tensor tensorFrom tensorFromBytes
topk transpose tril triu unsqueeze useBackend variance where zeros
`;

/** The other entries', each under its name. */
const NAMES: Record<string, string> = {
  nn: `
    ATTENTION_POINTS BatchNorm Dropout Embedding LayerNorm Linear Module MultiHeadAttention Owned RMSNorm RouteRecord Sequential attend buffer
    expertLoad init loadBalancingLoss mixExperts parameter parameterReplacer projections replaceParameter routeTokens routerZLoss sinusoidalPositions sumOf through
  `,
  optim: `
    adam adamw clipFactor clipGradNorm constant cosine decayGroups linear oneCycle rmsprop sgd wsd
  `,
  tokenizers: `
    WHOLE byteTokenizer charTokenizer createTokenizer loadTokenizer memoryFiles readTiktoken readTokenizerJson tokenizerFiles traceEncoding
    trainBpe trainBpeStream trainUnigram trainWordPiece unknownId writeTokenizerJson
  `,
  data: `
    IGNORE MAX_DOCUMENT_CHARACTERS batchesOnce countDocument dataLoader decodeText documentModeSchema documentOfJsonLine emptyStatistics hashHex hashText
    manifestSchema memoryTokens openDocuments openShards openTokenFile packedDocuments planSplit readBatch sampledWindows
    sequentialWindows splitIntoDocuments weightedMix withStatistics writeShards
  `,
  formats: `
    COMMON_KEYS DEQUANTIZED FILE_TYPES GGML_TYPES KNOWN_MODELS NF4_VALUES PACKINGS PLAIN_FILE_TYPES PickledTensor QUANTIZED SAFETENSORS_DTYPES
    bytesSource checkpointName dequantizeBlocks dequantizeInt8 dequantizeNf4 encodeGguf encodeModelWeights encodeSafetensors floatsOf hashFile
    isGguf isGgufFile isJsonObject isTemporary lastGoodCheckpoint layoutOf listCheckpoints localModels memoryFolder normaliseKeys openFile
    openFolder openGguf openGgufFiles openModelWeights openPytorch openSafetensors parseConfig parseConfigText parseJson parseModelConfig
    pullModel quantizeBlocks quantizeInt8 quantizeNf4 readConfigJson readGenerationConfig readText removeLeftovers saveModelWeights
    verifyCheckpoint writeCheckpoint writeFileAtomic writeFolderAtomic
  `,
  models: `
    Bloom CausalLM CausalLMOutput FOLDER_DTYPES Falcon GPT2 GPTNeoX Gemma Gemma2 Gemma3Text GptOss Granite Llama Mistral Mixtral OPT Olmo2 Phi3
    Qwen2 Qwen3 Qwen3Moe SmolLM3 architectureNamed architectures bloomConfigSchema bloomCounts configKeys configText contextOf countsFrom
    createModel defineArchitecture describeGguf describeModel falconConfigSchema falconCounts fromPretrained gemma2ConfigSchema gemma2Counts
    gemma3TextConfigSchema gemma3TextCounts gemmaConfigSchema gemmaCounts gpt2ConfigSchema gpt2Counts gptNeoXConfigSchema gptNeoXCounts
    gptOssConfigSchema gptOssCounts graniteConfigSchema graniteCounts llamaConfigSchema llamaCounts loadWeights mistralConfigSchema
    mistralCounts mixtralConfigSchema mixtralCounts modelCounts olmo2ConfigSchema olmo2Counts openWeights optConfigSchema optCounts outputOf
    parameterCountOf phi3ConfigSchema phi3Counts qwen2ConfigSchema qwen2Counts qwen3ConfigSchema qwen3Counts qwen3MoeConfigSchema qwen3MoeCounts
    registerArchitecture saveFolder saveGguf saveModel shiftLabels sizedConfig sizedKeys smolLM3ConfigSchema smolLM3Counts weightEntries
    weightsOf
  `,
  train: `
    END_OF_TEXT accumulateGradients bars chart checkMemory checkPrompts checkSameData createProgress differences emulationNote evaluateLoss
    findLearningRate findNonFinite frequentTokens inputsOf isSpike loadCheckpoint measureMachine measurePeakFlops modelConfig newWatch
    newestCheckpoint nonFiniteLoss openPretraining openRun openText optimizerOf planText planTraining prepareData pruneCheckpoints
    readRun recipeSchema reportHtml resolveDataPaths saveCheckpoint scheduleOf trainingLoop waysToFit writeReport
  `,
  generate: `
    PAGE addLogitBias applyTemperature beamSearch breakerIds checkSampling contrastiveSearch createEngine createPagedState createTextStream
    draw endIds generate generateStream greedy keepMinP keepSurprise keepTopK keepTopNSigma keepTopP keepTypical logprobs penalizeDry
    penalizePresence penalizeRepetition sample samplerState shapeLogits uniformAt
  `,
  eval: `
    negativeLogLikelihood ngramModel perplexity tasks tasksNamed
  `,
};

const source = fileURLToPath(new URL("../src/", import.meta.url));

test("the root entry's values are these and no others", () => {
  expect(Object.keys(groundup).sort()).toEqual(ROOT_NAMES.trim().split(/\s+/));
});

test("each has words above its declaration, which an editor shows", () => {
  const text = ["errors.ts", ...readdirSync(`${source}tensor`, { recursive: true }).map((file) => `tensor/${file}`)]
    .filter((file) => /(?<!\.test)\.ts$/.test(file))
    .map((file) => readFileSync(source + file, "utf8"))
    .join("\n");
  const bare = Object.keys(groundup).filter((name) => !new RegExp(`\\*/\\nexport (?:const|function|class) ${name}\\b`).test(text));
  expect(bare).toEqual([]);
});

test("every entry of the package has its list", () => {
  const entries = Object.keys(packageJson.exports).filter((entry) => entry !== "." && entry !== "./package.json");
  expect(entries.map((entry) => entry.slice(2)).sort()).toEqual(Object.keys(NAMES).sort());
});

describe.each(Object.entries(NAMES))("groundup/%s", (entry, names) => {
  test("its values are these and no others", { timeout: 60_000 }, async () => {
    expect(Object.keys(await import(`../src/${entry}/index.ts`)).sort()).toEqual(names.trim().split(/\s+/));
  });

  test("each of its values and types has words above its declaration", () => {
    const index = readFileSync(`${source}${entry}/index.ts`, "utf8");
    const bare: string[] = [];
    let seen = 0;
    for (const [, list, from] of index.matchAll(/export (?:type )?\{([^}]*)\} from "([^"]+)"/g)) {
      const text = readFileSync(join(source, entry, from as string), "utf8");
      for (const name of (list as string)
        .replaceAll(/\btype /g, "")
        .split(",")
        .map((part) => part.trim())
        .filter(Boolean)) {
        seen++;
        const declared = `\\*/\\nexport (?:abstract |async )?(?:const|function\\*?|class|interface|type) ${name}\\b`;
        if (!new RegExp(declared).test(text)) bare.push(name);
      }
    }
    expect(bare).toEqual([]);
    // The pattern above has met every export: a star would pass it by.
    expect(seen).toBeGreaterThanOrEqual(
      names
        .trim()
        .split(/\s+/)
        .filter((name) => name !== "init").length,
    );
  });
});

/** A misspelt option is refused wherever options are taken, with what was probably meant. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  dataLoader,
  memoryTokens,
  openDocuments,
  openShards,
  openTokenFile,
  packedDocuments,
  planSplit,
  sampledWindows,
  sequentialWindows,
  writeShards,
} from "./data/index.ts";
import { ConfigError } from "./errors.ts";
import { negativeLogLikelihood, ngramModel, perplexity } from "./eval/index.ts";
import {
  bytesSource,
  encodeModelWeights,
  encodeSafetensors,
  memoryFolder,
  parseJson,
  saveModelWeights,
  verifyCheckpoint,
  writeCheckpoint,
  writeFileAtomic,
  writeFolderAtomic,
} from "./formats/index.ts";
import { checkSampling, createPagedState, generate, generateStream, sample, shapeLogits } from "./generate/index.ts";
import { GPT2, saveModel, weightEntries } from "./models/index.ts";
import * as nn from "./nn/index.ts";
import * as optim from "./optim/index.ts";
import * as t from "./tensor/index.ts";
import { byteTokenizer, charTokenizer, loadTokenizer, readTiktoken, trainBpe, trainBpeStream } from "./tokenizers/index.ts";
import * as train from "./train/index.ts";

const x = t.keep(
  t.tensor(
    [
      [1, 2],
      [3, 4],
    ],
    { requiresGrad: true },
  ),
);
const q = t.keep(t.ones([1, 2, 1, 2]));
const targets = t.keep(t.tensor(Int32Array.of(0, 1)));
const model = new GPT2({ vocab_size: 11, n_embd: 8, n_layer: 1, n_head: 2, n_positions: 6 });
const tokenizer = byteTokenizer();
const data = memoryTokens(Int32Array.from({ length: 20 }, (_, i) => i));
const source = sampledWindows(data, { context: 4 });
const recipe = train.recipeSchema.parse({ data: { path: "x" }, model: { model_type: "gpt2" }, training: { max_steps: 1, batch_size: 1, context_length: 4 } });
const no = (options: object) => options as never;

async function inTemporaryFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "groundup-options-"));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** `saveCheckpoint` of what there is here. */
const saved = (options: never) =>
  train.saveCheckpoint("/nowhere/at/all", no({ step: 1 }), { model, optimizer: optim.sgd([x], { lr: 1 }), tokenizerFiles: {} }, options);

const CALLS: [name: string, wrong: string, meant: string, call: () => unknown][] = [
  ["attention", "causl", "causal", () => t.attention(q, q, q, no({ causl: true }))],
  ["MultiHeadAttention's attention", "widnow", "window", () => new nn.MultiHeadAttention(2, 1).forward(t.ones([1, 2, 2]), no({ widnow: 3 }))],
  ["linear", "residul", "residual", () => t.linear(x, x, null, no({ residul: x }))],
  ["crossEntropy", "label_smoothing", "labelSmoothing", () => t.crossEntropy(x, targets, no({ label_smoothing: 0.1 }))],
  ["linearCrossEntropy", "reducton", "reduction", () => t.linearCrossEntropy(x, x, targets, no({ reducton: "sum" }))],
  ["rope", "interleave", "interleaved", () => t.rope(q, q, q, targets, no({ interleave: true }))],
  ["dropout", "trainig", "training", () => t.dropout(x, 0.5, no({ trainig: false }))],
  ["sum", "keepdim", "keepDim", () => t.sum(x, 0, no({ keepdim: true }))],
  ["mean", "keepdim", "keepDim", () => x.mean(0, no({ keepdim: true }))],
  ["variance", "corection", "correction", () => t.variance(x, 0, no({ corection: 0 }))],
  ["logsumexp", "keepdim", "keepDim", () => t.logsumexp(x, 0, no({ keepdim: true }))],
  ["argmax", "keepdim", "keepDim", () => t.argmax(x, 0, no({ keepdim: true }))],
  ["sort", "descendng", "descending", () => t.sort(x, 0, no({ descendng: true }))],
  ["topk", "largst", "largest", () => t.topk(x, 1, 0, no({ largst: false }))],
  ["backward", "retain_graph", "retainGraph", () => t.backward(t.sum(x), no({ retain_graph: true }))],
  ["tensor", "requires_grad", "requiresGrad", () => t.tensor([1], no({ requires_grad: true }))],
  ["zeros", "dtyp", "dtype", () => t.zeros([2], no({ dtyp: "i32" }))],
  ["arange", "dtyp", "dtype", () => t.arange(0, 3, 1, no({ dtyp: "f32" }))],
  ["rand", "hihg", "high", () => t.rand([2], no({ hihg: 3 }))],
  ["randn", "sdt", "std", () => t.randn([2], no({ sdt: 3 }))],
  ["randint", "strem", "stream", () => t.randint(0, 3, [2], no({ strem: 3 }))],
  ["fillNormal", "sdt", "std", () => t.noGrad(() => t.fillNormal(t.zeros([2]), no({ sdt: 3 })))],
  ["init.uniform", "bond", "bound", () => nn.init.uniform(t.zeros([2]), no({ bond: 3 }))],
  ["init.kaimingNormal", "gian", "gain", () => nn.init.kaimingNormal(t.zeros([2, 2]), no({ gian: 3 }))],
  ["Linear", "bais", "bias", () => new nn.Linear(2, 3, no({ bais: false }))],
  ["LayerNorm", "epsilon", "eps", () => new nn.LayerNorm(2, no({ epsilon: 1 }))],
  ["RMSNorm", "esp", "eps", () => new nn.RMSNorm(2, no({ esp: 1 }))],
  ["BatchNorm", "momentun", "momentum", () => new nn.BatchNorm(2, no({ momentun: 1 }))],
  ["MultiHeadAttention", "kv_heads", "kvHeads", () => new nn.MultiHeadAttention(2, 1, no({ kv_heads: 1 }))],
  ["adamw", "weight_decay", "weightDecay", () => optim.adamw([x], no({ lr: 1, weight_decay: 1 }))],
  ["sgd", "momentun", "momentum", () => optim.sgd([x], no({ lr: 1, momentun: 1 }))],
  ["cosine", "warmpu", "warmup", () => optim.cosine(no({ steps: 3, warmpu: 1 }))],
  ["wsd", "decya", "decay", () => optim.wsd(no({ steps: 3, decya: 1 }))],
  ["generate", "temprature", "temperature", () => generate(model, Int32Array.of(1), no({ temprature: 1 }))],
  ["generate", "max_new_tokens", "maxNewTokens", () => generate(model, Int32Array.of(1), no({ max_new_tokens: 1 }))],
  ["perplexity", "strid", "stride", () => perplexity(model, { encode: () => ({ ids: Int32Array.of(1, 2, 3) }) } as never, "text", no({ strid: 1 }))],
  ["encode", "allowSpecials", "allowSpecial", () => tokenizer.encode("a", no({ allowSpecials: true }))],
  ["encodeBatch", "allowSpecials", "allowSpecial", () => tokenizer.encodeBatch(["a"], no({ allowSpecials: true }))],
  ["encodeAll", "addSpecialToken", "addSpecialTokens", () => tokenizer.encodeAll(["a"], no({ addSpecialToken: false }))],
  ["count", "allowSpecials", "allowSpecial", () => tokenizer.count("a", no({ allowSpecials: true }))],
  ["decode", "skipSpecialToken", "skipSpecialTokens", () => tokenizer.decode([1], no({ skipSpecialToken: true }))],
  ["decodeStream", "skipSpecialToken", "skipSpecialTokens", () => tokenizer.decodeStream(no({ skipSpecialToken: true }))],
  ["trainBpe", "minFrequence", "minFrequency", () => trainBpe("ab ab", no({ vocabSize: 257, minFrequence: 2 }))],
  ["charTokenizer", "unknowToken", "unknownToken", () => charTokenizer("ab", no({ unknowToken: "?" }))],
  ["byteTokenizer", "specialToken", "specialTokens", () => byteTokenizer(no({ specialToken: ["a"] }))],
  ["loadTokenizer", "patern", "pattern", () => loadTokenizer("nowhere", no({ patern: "gpt2" }))],
  ["memoryTokens", "vocabsize", "vocabSize", () => memoryTokens([1], no({ vocabsize: 3 }))],
  ["openTokenFile", "dtyp", "dtype", () => openTokenFile(bytesSource(new Uint8Array(4), "x"), no({ dtyp: "u32" }))],
  ["openDocuments", "feld", "field", () => openDocuments("nowhere", no({ feld: "body" }))],
  ["openShards", "keepByte", "keepBytes", () => openShards(memoryFolder({}), no({ keepByte: 1 }))],
  ["writeShards", "shardToken", "shardTokens", () => writeShards("nowhere", [], tokenizer, no({ vocabSize: 256, shardToken: 1 }))],
  ["planSplit", "sed", "seed", () => planSplit([], no({ sed: 1 }))],
  ["sampledWindows", "sed", "seed", () => sampledWindows(data, no({ context: 4, sed: 1 }))],
  ["sequentialWindows", "overlaps", "overlap", () => sequentialWindows(data, no({ context: 4, overlaps: 1 }))],
  ["packedDocuments", "shufle", "shuffle", () => packedDocuments(data, no({ context: 4, shufle: false }))],
  ["dataLoader", "wrld", "world", () => dataLoader(source, no({ batchSize: 2, wrld: 2 }))],
  ["createPagedState", "maxPage", "maxPages", () => createPagedState(model, no({ maxPage: 1 }))],
  ["saveModel", "dtyp", "dtype", () => saveModel(model, "nowhere", no({ dtyp: "bf16" }))],
  ["ngramModel", "ordr", "order", () => ngramModel([1, 2], no({ ordr: 3 }))],
  ["print", "precison", "precision", () => t.print(x, no({ precison: 2 }))],
  ["toString", "linewidth", "lineWidth", () => x.toString(no({ linewidth: 2 }))],
  ["linspace", "dtyp", "dtype", () => t.linspace(0, 1, 3, no({ dtyp: "i32" }))],
  ["eye", "dtyp", "dtype", () => t.eye(2, no({ dtyp: "i32" }))],
  ["tensorFrom", "dtyp", "dtype", () => t.tensorFrom([1], [1], no({ dtyp: "i32" }))],
  ["ones", "dtyp", "dtype", () => t.ones([2], no({ dtyp: "i32" }))],
  ["full", "dtyp", "dtype", () => t.full([2], 3, no({ dtyp: "i32" }))],
  ["fillUniform", "hihg", "high", () => t.noGrad(() => t.fillUniform(t.zeros([2]), no({ hihg: 3 })))],
  ["mlp", "residul", "residual", () => t.mlp(x, { weight: x, bias: null }, { weight: x, bias: null }, no({ residul: x }))],
  ["max", "keepdim", "keepDim", () => t.max(x, 0, no({ keepdim: true }))],
  ["min", "keepdim", "keepDim", () => t.min(x, 0, no({ keepdim: true }))],
  ["prod", "keepdim", "keepDim", () => t.prod(x, 0, no({ keepdim: true }))],
  ["argmin", "keepdim", "keepDim", () => t.argmin(x, 0, no({ keepdim: true }))],
  ["argsort", "descendng", "descending", () => t.argsort(x, 0, no({ descendng: true }))],
  ["init.normal", "sdt", "std", () => nn.init.normal(t.zeros([2]), no({ sdt: 3 }))],
  ["init.xavierUniform", "gian", "gain", () => nn.init.xavierUniform(t.zeros([2, 2]), no({ gian: 3 }))],
  ["init.xavierNormal", "gian", "gain", () => nn.init.xavierNormal(t.zeros([2, 2]), no({ gian: 3 }))],
  ["init.kaimingUniform", "gian", "gain", () => nn.init.kaimingUniform(t.zeros([2, 2]), no({ gian: 3 }))],
  ["Linear's fused", "residul", "residual", () => new nn.Linear(2, 2).fused(x, no({ residul: x }))],
  ["attend", "widnow", "window", () => nn.attend(q, q, q, { positions: targets, training: false }, 0, no({ widnow: 3 }))],
  ["buffer", "save", "saved", () => nn.buffer(t.zeros([2]), no({ save: true }))],
  ["forward of a model", "target", "targets", () => model.forward(no({ inputIds: t.tensor([Int32Array.of(1, 2)]), target: targets }))],
  ["adam", "bets", "betas", () => optim.adam([x], no({ lr: 1, bets: [0, 0] }))],
  ["rmsprop", "alhpa", "alpha", () => optim.rmsprop([x], no({ lr: 1, alhpa: 1 }))],
  ["parameter group", "weight_decay", "weightDecay", () => optim.sgd([no({ parameters: [["x", x]], weight_decay: 1 })], { lr: 1 })],
  ["constant", "warmpu", "warmup", () => optim.constant(no({ warmpu: 1 }))],
  ["linear schedule", "warmpu", "warmup", () => optim.linear(no({ steps: 3, warmpu: 1 }))],
  ["oneCycle", "strat", "start", () => optim.oneCycle(no({ steps: 3, strat: 1 }))],
  ["generateStream", "temprature", "temperature", () => generateStream(model, Int32Array.of(1), no({ temprature: 1 })).next()],
  ["checkSampling", "topk", "topK", () => checkSampling(no({ topk: 1 }))],
  ["shapeLogits", "topk", "topK", () => shapeLogits(Float32Array.of(1, 2), no({ topk: 1 }), [], [])],
  ["sample", "topk", "topK", () => sample(Float32Array.of(1, 2), no({ topk: 1 }), [], [], 0.5)],
  ["negativeLogLikelihood", "strid", "stride", () => negativeLogLikelihood(model, Int32Array.of(1, 2, 3), no({ strid: 1 }))],
  ["an n-gram model's perplexity", "byte", "bytes", () => ngramModel([1, 2]).perplexity([1, 2], no({ byte: 3 }))],
  ["trainBpeStream", "minFrequence", "minFrequency", () => trainBpeStream((async function* () {})(), no({ vocabSize: 257, minFrequence: 2 }))],
  ["readTiktoken", "patern", "pattern", () => readTiktoken("", "x.tiktoken", no({ patern: "gpt2" }))],
  ["writeFileAtomic", "byte", "bytes", () => writeFileAtomic("/nowhere/at/all", "", no({ byte: 1 }))],
  ["writeFolderAtomic", "replce", "replace", () => writeFolderAtomic("/nowhere/at/all", async () => {}, no({ replce: true }))],
  ["a folder writer's write", "byte", "bytes", () => inTemporaryFolder((f) => writeFolderAtomic(join(f, "x"), (x) => x.write("a", "", no({ byte: 1 }))))],
  ["writeCheckpoint", "fileSytem", "fileSystem", () => writeCheckpoint("/nowhere/at/all", 1, async () => {}, no({ fileSytem: {} }))],
  ["encodeSafetensors", "metdata", "metadata", () => encodeSafetensors([], no({ metdata: {} }))],
  ["encodeModelWeights", "maxShardByte", "maxShardBytes", () => encodeModelWeights([], no({ maxShardByte: 1 }))],
  ["saveModelWeights", "maxShardByte", "maxShardBytes", () => saveModelWeights("/nowhere/at/all", [], no({ maxShardByte: 1 }))],
  ["parseJson", "maxDeph", "maxDepth", () => parseJson("1", "x", no({ maxDeph: 1 }))],
  ["weightEntries", "dtyp", "dtype", () => weightEntries(model, no({ dtyp: "bf16" }))],
  ["openPretraining", "resum", "resume", () => train.openPretraining(recipe, no({ out: "/nowhere/at/all", resum: true }))],
  ["openRun", "resum", "resume", () => train.openRun("/nowhere/at/all", recipe, no({ resum: true }))],
  ["prepareData", "onnote", "onNote", () => train.prepareData(no({ recipe }), { sources: [], hashes: {} }, no({ onnote: () => {} }))],
  ["trainingLoop", "singal", "signal", () => train.trainingLoop(no({}), no({ singal: 1 })).next()],
  ["evaluateLoss", "batchsize", "batchSize", () => train.evaluateLoss(model, data, no({ context: 4, batchsize: 1 }))],
  [
    "findLearningRate",
    "step",
    "steps",
    () =>
      train.findLearningRate(
        model,
        no(() => {}),
        no(() => {}),
        no({ step: 20 }),
      ),
  ],
  ["saveCheckpoint", "fileSytem", "fileSystem", () => saved(no({ fileSytem: {} }))],
  ["createProgress", "column", "columns", () => train.createProgress(no({ write: () => {}, column: 80 }))],
  ["chart", "titel", "title", () => train.chart(no({ titel: "a", series: [] }))],
  ["reportHtml", "basline", "baseline", () => train.reportHtml("a", [], [], no({}), recipe, no({ basline: null }))],
  ["writeReport", "basline", "baseline", () => train.writeReport(train.readRun("/nowhere/at/all", recipe), no({}), no({ basline: null }))],
  ["perplexity of nothing", "strid", "stride", () => perplexity(model, tokenizer, [], no({ strid: 2 }))],
  ["verifyCheckpoint", "hashs", "hashes", () => verifyCheckpoint("nowhere", no({ hashs: true }))],
];

test.each(CALLS)("%s: %s", async (_, wrong, meant, call) => {
  let error: unknown = null;
  try {
    await call();
  } catch (e) {
    error = e;
  }
  expect(error).toBeInstanceOf(ConfigError);
  const { message } = error as Error;
  expect(message).toMatch(/^[\w., ]+: unknown option, expected /);
  expect(message).toContain(`got ${wrong}.`);
  if (meant !== "eps" || wrong !== "epsilon") expect(message).toContain(`Did you mean "${meant}"?`);
});

test("names that every object has are no options", () => {
  expect(() => t.zeros([2], no({ constructor: 1 }))).toThrow(/unknown option/);
  expect(() => t.zeros([2], no(["f32"]))).toThrow(/unknown option, expected one of dtype, requiresGrad, got \["f32"\]/);
});

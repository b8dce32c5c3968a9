/**
 * A GPT on one page: the model is your own class, the loop is your own loop. It learns to write like the text it is given, one
 * character at a time (as in Andrej Karpathy's nanoGPT).
 *
 *   npm run example -- nanogpt [text file] [steps] [width]
 */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { arange, attention, crossEntropy, DataError, manualSeed, noGrad, rand, randint, randomStream, scope, type Tensor, tensor } from "groundup";
import { Embedding, init, LayerNorm, Linear, Module } from "groundup/nn";
import { adamw, cosine, decayGroups } from "groundup/optim";
import { charTokenizer } from "groundup/tokenizers";

// ---- the model ------------------------------------------------------------------------------------------------------

interface Config {
  vocabulary: number;
  context: number;
  layers: number;
  heads: number;
  width: number;
}

class Attention extends Module {
  config: Config;
  qkv: Linear;
  out: Linear;

  constructor(config: Config) {
    super();
    this.config = config;
    this.qkv = new Linear(config.width, 3 * config.width);
    this.out = new Linear(config.width, config.width);
  }

  override forward(x: Tensor): Tensor {
    const { heads, width } = this.config;
    const [b, t] = x.shape;
    const parts = this.qkv.forward(x).split([width, width, width], -1);
    const [q, k, v] = parts.map((y) => y.reshape([b, t, heads, width / heads])); // (B, T, H, D)
    return this.out.forward(attention(q, k, v).reshape([b, t, width])); // (B, T, C)
  }
}

class Block extends Module {
  norm1: LayerNorm;
  attention: Attention;
  norm2: LayerNorm;
  up: Linear;
  down: Linear;

  constructor(config: Config) {
    super();
    this.norm1 = new LayerNorm(config.width);
    this.attention = new Attention(config);
    this.norm2 = new LayerNorm(config.width);
    this.up = new Linear(config.width, 4 * config.width);
    this.down = new Linear(4 * config.width, config.width);
  }

  override forward(x: Tensor): Tensor {
    x = x.add(this.attention.forward(this.norm1.forward(x)));
    return x.add(this.down.forward(this.up.forward(this.norm2.forward(x)).gelu()));
  }
}

class GPT extends Module {
  tokens: Embedding;
  positions: Embedding;
  blocks: Block[];
  norm: LayerNorm;
  head: Linear;

  constructor(config: Config) {
    super();
    this.tokens = new Embedding(config.vocabulary, config.width);
    this.positions = new Embedding(config.context, config.width);
    this.blocks = Array.from({ length: config.layers }, () => new Block(config));
    this.norm = new LayerNorm(config.width);
    this.head = new Linear(config.width, config.vocabulary, { bias: false });
    for (const [, p] of this.namedParameters()) if (p.rank === 2) init.normal(p, { std: 0.02 });
  }

  /** ids (B, T) → logits (B, T, vocabulary). */
  override forward(ids: Tensor): Tensor {
    let x = this.tokens.forward(ids).add(this.positions.forward(arange(ids.shape[1]))); // (B, T, C)
    for (const block of this.blocks) x = block.forward(x);
    return this.head.forward(this.norm.forward(x));
  }
}

// ---- the text -------------------------------------------------------------------------------------------------------

const [file, wantedSteps, wantedWidth] = process.argv.slice(2);
const book = gunzipSync(readFileSync(new URL("../data/moby-dick.jsonl.gz", import.meta.url))).toString();
const chapters = JSON.parse(`[${book.trim().replaceAll("\n", ",")}]`).map(({ text }: { text: string }) => text);
const text = file ? readFileSync(file, "utf8") : chapters.join("\n\n");
const tokenizer = charTokenizer(text);
const ids = tokenizer.encode(text).ids;
const cut = Math.floor(0.9 * ids.length);

const config: Config = { vocabulary: tokenizer.vocabSize, context: 64, layers: 4, heads: 4, width: Number(wantedWidth ?? 128) };
if (ids.length - cut <= config.context) throw new DataError(`expected a text of ${10 * config.context + 10} characters or more, got ${ids.length}`);
const [batch, steps] = [12, Number(wantedSteps ?? 500)];
const order = randomStream(1, 2); // the data's own stream of random numbers
/** Windows at random places: inputs (B, T) and, one further, targets (B, T). */
function batchOf(from: number, to: number): [inputs: Tensor, targets: Tensor] {
  const starts = randint(from, to - config.context, [batch], { stream: order }).dataSync();
  const windows = (shift: number) => tensor([...starts].map((s) => ids.slice(s + shift, s + shift + config.context)));
  return [windows(0), windows(1)];
}

// ---- the loop -------------------------------------------------------------------------------------------------------

manualSeed(1);
const model = new GPT(config);
const optimizer = adamw(decayGroups(model, 0.1), { lr: 1e-3, betas: [0.9, 0.99], maxGradNorm: 1 });
const schedule = cosine({ steps, warmup: 100, final: 0.1 });
console.log(`${model.parameterCount().toLocaleString()} parameters, ${config.vocabulary} characters`);

const lossOf = ([inputs, targets]: [Tensor, Tensor]): Tensor => crossEntropy(model.forward(inputs), targets);

for (let step = 0; step <= steps; step++) {
  // A scope frees every tensor of the step at its end; parameters and their gradients stay.
  const loss = scope(() => {
    const loss = lossOf(batchOf(0, cut));
    loss.backward();
    return loss.itemSync();
  });
  optimizer.learningRate = 1e-3 * schedule(step);
  optimizer.step();
  optimizer.zeroGrad();
  if (step % 100 === 0) {
    const held = Array.from({ length: 10 }, () => scope(() => noGrad(() => lossOf(batchOf(cut, ids.length)).itemSync())));
    console.log(`step ${step}: training loss ${loss.toFixed(3)}, validation loss ${(held.reduce((a, b) => a + b) / held.length).toFixed(3)}`);
  }
}

// ---- and it writes --------------------------------------------------------------------------------------------------

const written = [...tokenizer.encode("The whale").ids];
for (let i = 0; i < 300; i++) {
  const input = written.slice(-config.context);
  const next = () => model.forward(tensor([Int32Array.from(input)])).slice(0, -1);
  const probabilities = scope(() => noGrad(() => next().softmax(-1).dataSync()));
  let left = rand([1], { stream: order }).itemSync();
  const drawn = probabilities.findIndex((p) => (left -= p) < 0);
  written.push(Math.max(0, drawn));
}
console.log(`\n${tokenizer.decode(written)}`);

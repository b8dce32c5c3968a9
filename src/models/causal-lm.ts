/** What all decoder-only models share: their inputs, their output, the loss. The architectures themselves are one file each. */
import { ShapeError } from "../errors.ts";
import { type ForwardContext, type LayerState, type Linear, loadBalancingLoss, Module, type Routes, sumOf } from "../nn/index.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import { concat, crossEntropy, full, linear, linearCrossEntropy, narrow, noGrad, reshape, softcapped, type Tensor, tensorFrom } from "../tensor/index.ts";
import type { Architecture } from "./architecture.ts";
import type { SequenceLength } from "./rope-tables.ts";

/** What a language model's `forward` takes. */
export interface CausalLMInputs {
  /** i32 (B, T), or with `cuSeqlens` ragged rows (1, ΣT). */
  inputIds: Tensor;
  /** i32, as inputIds, Hugging Face's meaning: label t is the token at place t, and the model shifts them; −100 counts for nothing. */
  labels?: Tensor;
  /** i32, as inputIds: what comes next at each place, not shifted here; −100 counts for nothing. */
  targets?: Tensor;
  /** Divides the summed loss, in place of the number of targets that count (gradient accumulation). */
  targetCount?: number;
  /** i32, as inputIds: position of each row in its sequence, below the model's context. Default 0, 1, … in each sequence. */
  positions?: Tensor;
  /** Boundaries of ragged rows: 0, t₁, t₁+t₂, … */
  cuSeqlens?: Int32Array;
  /** With cuSeqlens and positions: how many positions each sequence has with these rows, one more than its highest. Without it they are read from `positions`. */
  lengths?: Int32Array;
  /** One state a layer; its presence makes the rows continuations of what the states hold. Needs cuSeqlens and positions. */
  state?: readonly LayerState[];
}

const INPUTS: KnownOptions<CausalLMInputs> = {
  inputIds: true,
  labels: true,
  targets: true,
  targetCount: true,
  positions: true,
  cuSeqlens: true,
  lengths: true,
  state: true,
};

/** Refuses inputs that the architectures here do not take; others may have more. @throws ConfigError with what was probably meant */
export const checkInputs = (inputs: CausalLMInputs): void => checkOptions("forward", inputs, INPUTS);

/** Inputs that say what is to be predicted: the output then has a loss. */
export type CausalLMTraining = CausalLMInputs & ({ labels: Tensor } | { targets: Tensor });

/** What `forward` gives. Logits are computed when they are first read, so that training with the fused loss never makes them. */
export class CausalLMOutput<Loss extends Tensor | null = Tensor | null> {
  /** Mean cross-entropy over the targets that count; null without labels or targets. */
  readonly loss: Loss;
  /** The last hidden states (B, T, hidden), normalised: what the head sees (in OPT 350M as narrow as the embeddings, in Granite divided as the logits are). */
  readonly hidden: Tensor;
  /** Of mixtures of experts: where each layer's router sent the rows, in the order of the layers that have one. */
  readonly routes: readonly Routes[];
  private readonly head: (rows: Tensor) => Tensor;
  private computed: Tensor | null;

  constructor(hidden: Tensor, loss: Loss, head: (rows: Tensor) => Tensor, logits: Tensor | null = null, routes: readonly Routes[] = []) {
    this.hidden = hidden;
    this.loss = loss;
    this.head = head;
    this.computed = logits;
    this.routes = routes;
  }

  /** @internal The same with its routes, and where `balance` is given with that many times the balance loss in the loss. */
  routed(routes: readonly Routes[], balance: number | null): CausalLMOutput {
    const loss = this.loss === null || balance === null ? this.loss : this.loss.add(loadBalancingLoss(routes).mul(balance));
    return new CausalLMOutput(this.hidden, loss, this.head, this.computed, routes);
  }

  /** (B, T, vocabulary). */
  get logits(): Tensor {
    this.computed ??= this.head(this.hidden);
    return this.computed;
  }

  /** Logits of some of the rows only: hidden states (…, hidden) → (…, vocabulary). */
  logitsOf(rows: Tensor): Tensor {
    return this.head(rows);
  }

  /** @internal */
  heldTensors(): Tensor[] {
    const ofRouters = this.routes.flatMap(({ weights, experts, logits }) => [weights, experts, logits]);
    return [this.hidden, this.loss, this.computed, ...ofRouters].filter((t): t is Tensor => t !== null);
  }
}

/**
 * Positions of every row: those given, or counted from 0 in each sequence; and how many places and positions each sequence has (`sequences`).
 * @throws ShapeError where a position is beyond `limit`, the number of positions that the model can serve
 */
export function contextOf(inputs: CausalLMInputs, training: boolean, limit: number): ForwardContext & { sequences: SequenceLength[] } {
  const { inputIds, positions, cuSeqlens, lengths: reached, state } = inputs;
  if (inputIds.rank !== 2 || inputIds.dtype !== "i32")
    throw new ShapeError(`forward: expected inputIds i32 (B, T), got ${inputIds.dtype} (${inputIds.shape.join(", ")}). One sequence is tensor([ids])`);
  const [b, t] = inputIds.shape as [number, number];
  if (cuSeqlens !== undefined && b !== 1) throw new ShapeError(`forward: expected ragged rows (1, ΣT) with cuSeqlens, got (${b}, ${t})`);
  if (state !== undefined && (cuSeqlens === undefined || positions === undefined))
    throw new ShapeError("forward: expected cuSeqlens and positions with state, got none. Say where each sequence's rows are");
  const lengths = cuSeqlens === undefined ? new Array<number>(b).fill(t) : [...cuSeqlens.subarray(1)].map((end, i) => end - (cuSeqlens[i] as number));
  if (reached !== undefined && (positions === undefined || reached.length !== lengths.length || cuSeqlens === undefined))
    throw new ShapeError(`forward: expected cuSeqlens, positions and lengths of as many sequences, got ${reached.length} lengths for ${lengths.length}`);
  const given = reached === undefined ? (positions?.dataSync() as Int32Array | undefined) : undefined;
  let at = 0;
  const sequences = lengths.map((rows, s) => {
    if (reached !== undefined) return { rows, positions: reached[s] as number };
    const own = given?.subarray(at, (at += rows));
    return { rows, positions: own === undefined ? rows : 1 + own.reduce((a, p) => Math.max(a, p), -1) };
  });
  const longest = sequences.reduce((a, { positions: n }) => Math.max(a, n), 0);
  if (longest > limit) {
    throw new ShapeError(
      `forward: the sequence is too long, expected at most ${limit} positions (the model's context), got ${longest}. Shorten it, or give it in windows`,
    );
  }
  if (positions !== undefined) return { positions, cuSeqlens, state, training, sequences };
  const counted = new Int32Array(inputIds.size);
  let row = 0;
  for (let s = 0; s < lengths.length; s++) for (let i = 0; i < (lengths[s] as number); i++) counted[row++] = i;
  return { positions: tensorFrom(counted, cuSeqlens === undefined ? [b, t] : [inputIds.size]), cuSeqlens, training, sequences };
}

/** Hugging Face's labels as targets: place t is asked for label t + 1, the last place for nothing. */
export function shiftLabels(labels: Tensor): Tensor {
  return noGrad(() => {
    const [b, t] = labels.shape as [number, number];
    return concat([narrow(labels, 1, 1, t - 1), full([b, 1], -100, { dtype: "i32" })], 1);
  });
}

/**
 * The loss where there is something to learn from, and the output. `headWeight` is (vocabulary, hidden); who watches the logits makes the loss hold them all.
 * With `softcap` the logits are softcap·tanh(what the head gives/softcap); who watches the head sees them before.
 */
export function outputOf(
  hidden: Tensor,
  headWeight: Tensor,
  inputs: CausalLMInputs,
  watch?: (logits: Tensor) => Tensor,
  { softcap }: { softcap?: number | undefined } = {},
): CausalLMOutput {
  const { inputIds, labels, targets, targetCount } = inputs;
  if (labels !== undefined && targets !== undefined)
    throw new ShapeError("forward: expected labels or targets, got both. Labels are shifted inside, targets are not");
  const wanted = targets ?? (labels === undefined ? undefined : shiftLabels(labels));
  const plain = (rows: Tensor) => linear(rows, headWeight, null, { watch });
  const head = softcap === undefined ? plain : (rows: Tensor) => softcapped(plain(rows), softcap);
  let loss: Tensor | null = null;
  if (wanted !== undefined) {
    if (wanted.size !== inputIds.size) throw new ShapeError(`forward: expected one label for each of the ${inputIds.size} ids, got ${wanted.size}`);
    const rows = reshape(wanted, hidden.shape.slice(0, -1));
    const options = targetCount === undefined ? {} : { count: targetCount };
    if (watch !== undefined) {
      const logits = head(hidden);
      return new CausalLMOutput(hidden, crossEntropy(logits, rows, options), head, logits);
    }
    loss = linearCrossEntropy(hidden, headWeight, rows, { ...options, softcap });
  }
  return new CausalLMOutput(hidden, loss, head);
}

/** Sizes that generation and planning need, whatever a model's config calls them. */
export interface ModelDimensions {
  vocabulary: number;
  hidden: number;
  layers: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** The longest sequence the model was made for; `forward` refuses longer ones, except where the config stretches rotary positions (rope scaling). */
  context: number;
}

/** What a config says of a model, without the model: enough to count and to plan. A model is one too. */
export interface ModelDescription {
  readonly architecture: Architecture;
  /** As config.json names it. */
  readonly modelType: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly dimensions: ModelDimensions;
}

/** A decoder-only language model. */
export abstract class CausalLM extends Module implements ModelDescription {
  /** Null where the logits come from the embedding's table; the name can be watched all the same. */
  abstract lm_head: Linear | null;
  abstract readonly architecture: Architecture;
  abstract readonly config: Readonly<Record<string, unknown>>;
  abstract readonly dimensions: ModelDimensions;
  /**
   * True for a model whose `forward` does other things from step to step than its inputs say, without looking at a tensor's values: generation then runs it in each step. Otherwise steps
   * of few tokens that came before in the same form run as their kernels alone (as with vLLM, whose option is `enforce_eager`).
   */
  eager = false;
  /** Ids that the tokenizer gives a meaning, kept in config.json; generation stops at `eos_token_id`. */
  tokenIds: { bos_token_id: number | null; eos_token_id: number | readonly number[] | null; pad_token_id: number | null } = {
    bos_token_id: null,
    eos_token_id: null,
    pad_token_id: null,
  };

  get modelType(): string {
    return this.architecture.modelType;
  }

  /** Runs the model; `loss` is a tensor where the inputs have `labels` or `targets`. */
  override forward(inputs: CausalLMTraining): CausalLMOutput<Tensor>;
  override forward(inputs: CausalLMInputs): CausalLMOutput;
  override forward(inputs: CausalLMInputs): CausalLMOutput {
    return this.run(inputs);
  }

  /** `forward`, one architecture's. */
  protected abstract run(inputs: CausalLMInputs): CausalLMOutput;

  override get points(): readonly string[] {
    return this.lm_head === null ? ["lm_head"] : [];
  }

  /** Shows the logits to whoever watches the head. */
  protected watchingHead(): ((logits: Tensor) => Tensor) | undefined {
    if (this.lm_head !== null) return sumOf(this.lm_head);
    const watch = this.watching("lm_head");
    return watch && ((logits) => watch("lm_head", logits, 0));
  }

  /** What config.json should hold. */
  abstract configJson(): Record<string, unknown>;
}

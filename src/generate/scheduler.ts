/**
 * What runs in each step: many requests in one ragged batch, prompts in chunks beside single tokens (Yu et al., "Orca", 2022; Agrawal et al.,
 * "Sarathi-Serve", 2024). Nothing here waits: `step()` is one forward pass, and who calls it again and again (`generateStream`, the engine) decides when. Because
 * a row's bytes do not depend on the rows beside it, all of this only decides when a token comes, never which.
 */
import { ConfigError, DataError, OutOfMemoryError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import type { KnownOptions } from "../options.ts";
import { argmax, logsumexp, max, noGrad, type StateDType, scope, type Tensor } from "../tensor/index.ts";
import { createPagedState, DEFAULT_STATE_DTYPE, PAGE, type Sequence, type StateOptions, type StepEntry } from "./paged-state.ts";
import { createPrefixCache, pageKey } from "./prefix-cache.ts";
import { type LogitsRow, nextToken, type Request, readsLogits, type TokenEvent } from "./request.ts";
import { adapt, createDrafter, type SpeculationOptions } from "./speculation.ts";

/** How much runs at once. */
export interface BatchOptions extends Pick<StateOptions, "stateDtype"> {
  /** Requests that take part in a step at most; others wait in the order of their arrival. Default 64. */
  maxBatch?: number;
  /** Pages of 64 positions for keys and values, those of the prefix cache included. Default: as many as 1 GiB holds, and enough for one sequence of the model's context. */
  maxPages?: number;
  /** Prompt tokens that one step takes at most, over all requests; no more than 128 while others generate, who would wait for them. Default 512. */
  prefillTokens?: number;
  /** Keeps the keys and values of what was computed, for requests that begin with the same tokens, as long as there is room. Default true. */
  prefixCache?: boolean;
  /** Guesses tokens ahead; the text is the same. Default: no. */
  speculation?: SpeculationOptions;
}

export const BATCH_OPTIONS: KnownOptions<BatchOptions> = {
  maxBatch: true,
  maxPages: true,
  stateDtype: true,
  prefillTokens: true,
  prefixCache: true,
  speculation: true,
};

/** What there is and what has been done. */
export interface BatchUsage {
  /** Requests that take part in steps, and those that wait. */
  running: number;
  waiting: number;
  /** Pages that hold something, those of them that only the prefix cache has, and the most there may be. */
  usedPages: number;
  cachedPages: number;
  maxPages: number;
  steps: number;
  /** Sums over all requests so far, as in `RequestUsage`. */
  promptTokens: number;
  cachedTokens: number;
  generatedTokens: number;
  draftedTokens: number;
  acceptedTokens: number;
  preemptions: number;
}

/** A token, or why there will be none. */
export type StepResult = { request: Request; event: TokenEvent; error?: undefined } | { request: Request; event: null; error: Error };

export interface Scheduler {
  /** @throws DataError for a request that needs more pages than there can be */
  add(request: Request): void;
  /** One forward pass over what is next. A request whose `cancelled` is set leaves before it. */
  step(): StepResult[];
  /** Requests that are not done. */
  size(): number;
  usage(): BatchUsage;
  dispose(): void;
}

/** Prompt tokens that one request takes in a turn. */
const CHUNK = 128;
/** Rows of tokens and guesses in a step: the weights are read once for all, so up to about so many cost little more than one. */
const SPECULATION_ROWS = 32;

/** In place of logits that nobody reads. */
const NOTHING = new Float32Array(0);

interface Entry extends StepEntry {
  readonly request: Request;
  readonly sequence: Sequence;
  readonly logits: number;
  readonly pages: number;
}

export function createScheduler(where: string, model: CausalLM, options: BatchOptions): Scheduler {
  const { maxBatch = 64, prefillTokens = 512, speculation } = options;
  const maxPages = options.maxPages ?? defaultPages(model, options.stateDtype ?? DEFAULT_STATE_DTYPE);
  const problems: string[] = [];
  for (const [name, value] of Object.entries({ maxBatch, maxPages, prefillTokens }))
    if (!(Number.isInteger(value) && value >= 1)) problems.push(`${name}: expected a whole number of at least 1, got ${value}`);
  if (problems.length > 0) throw new ConfigError(`${where}: bad options. ${problems.join("; ")}. Correct them.`);
  const adaptive = adaptsToLength(model);
  const drafter = speculation === undefined || adaptive ? null : createDrafter(where, model, speculation);
  const { maxTokens = 8 } = speculation ?? {};
  const state = createPagedState(model, { maxPages, stateDtype: options.stateDtype });
  const cache = (options.prefixCache ?? true) && !adaptive ? createPrefixCache(state) : null;
  /** In order of arrival, both. */
  let [waiting, running]: Request[][] = [[], []];
  /** The first of those who wait did not fit, and nothing has been freed since. */
  let blocked = false;
  let steps = 0;
  const totals = { promptTokens: 0, cachedTokens: 0, generatedTokens: 0, draftedTokens: 0, acceptedTokens: 0, preemptions: 0 };
  let data = new Float32Array(0);

  /** Whether so many pages are free, or can be made so. */
  function available(pages: number): boolean {
    const { most, used } = state.usage();
    const missing = pages - (most - used);
    return missing <= 0 || (cache !== null && cache.evict(missing) >= missing);
  }

  /** Ends a request's part in steps. */
  function leave(request: Request): void {
    if (request.sequence !== null) state.free(request.sequence);
    request.sequence = null;
    request.node = null;
    request.draft = [];
    drafter?.forget(request);
    blocked = false;
  }

  function end(request: Request): void {
    leave(request);
    running = running.filter((r) => r !== request);
    request.usage.generatedTokens = request.generated.length;
    for (const key of Object.keys(totals) as (keyof typeof totals)[]) totals[key] += request.usage[key];
  }

  /** Takes a request's pages; it comes back later, and computes them again. */
  function preempt(request: Request): void {
    leave(request);
    request.usage.preemptions++;
    running = running.filter((r) => r !== request);
    waiting = [...waiting, request].sort((a, b) => a.index - b.index);
    blocked = true;
  }

  /** Takes what the prefix cache has of the request's next tokens. The last token is left: somebody must compute the logits. */
  function reuse(request: Request): void {
    if (cache === null) return;
    let node = request.sequence === null ? cache.root : request.node;
    if (node === null) return;
    const first = request.sequence?.length ?? 0;
    const pages: number[] = [];
    for (let at = first; at + PAGE < request.length; at += PAGE) {
      const next = cache.find(node, request.ids, at);
      if (next === undefined) break;
      pages.push(next.page);
      node = next;
    }
    if (request.sequence !== null && pages.length === 0) return;
    const old = request.sequence;
    request.sequence = state.allocate([...(old?.pages.slice(0, first / PAGE) ?? []), ...pages]);
    if (old !== null) state.free(old);
    request.node = node;
    request.kept = request.sequence.length;
    if (pages.length > 0) cache.touch(node);
    if (request.generated.length === 0) request.usage.cachedTokens += pages.length * PAGE;
  }

  function admit(): void {
    while ((!blocked || running.length === 0) && waiting.length > 0 && running.length < maxBatch) {
      const [request] = waiting;
      reuse(request);
      request.sequence ??= state.allocate();
      // Those who run come first: each needs room for the tokens that it has, and one more.
      let committed = 0;
      for (const r of running) committed += state.needs(r.sequence as Sequence, r.length - (r.sequence as Sequence).length);
      if (running.length > 0 && !available(committed + state.needs(request.sequence, request.length - request.sequence.length))) {
        leave(request);
        if (request.generated.length === 0) request.usage.cachedTokens = 0;
        blocked = true;
        return;
      }
      waiting.shift();
      running = [...running, request].sort((a, b) => a.index - b.index);
    }
  }

  /** What this step does: a token of each that generates (and guesses), then prompts, those first that have waited longest. */
  function plan(): Entry[] {
    let entries: Entry[] = [];
    let planned = 0;

    /** Plans the next `count` tokens of a request; younger ones give way where pages are short. */
    function take(request: Request, count: number): void {
      const sequence = request.sequence as Sequence;
      const pages = state.needs(sequence, count);
      while (pages > 0 && !available(planned + pages)) {
        const youngest = running[running.length - 1];
        const out = entries.find((e) => e.request === youngest);
        if (out !== undefined) planned -= out.pages;
        entries = entries.filter((e) => e !== out);
        preempt(youngest);
        if (youngest === request) return;
      }
      planned += pages;
      const draws = sequence.length + count >= request.length;
      const ids = request.ids.subarray(sequence.length, Math.min(request.length, sequence.length + count));
      entries.push(
        request.draft.length === 0
          ? { request, sequence, ids, logits: draws ? 1 : 0, pages }
          : { request, sequence, ids: [...ids, ...request.draft], logits: count, pages },
      );
    }

    const left = (r: Request): number => r.length - (r.sequence as Sequence).length;
    const generating = running.filter((r) => left(r) === 1);
    if (drafter !== null && generating.length > 0) guess(generating);
    for (const request of generating) {
      if (request.sequence === null) continue;
      // Guesses are not worth another's pages.
      if (request.draft.length > 0 && !available(planned + state.needs(request.sequence, 1 + request.draft.length))) request.draft = [];
      take(request, 1 + request.draft.length);
    }

    let budget = generating.length > 0 ? Math.min(prefillTokens, CHUNK) : prefillTokens;
    const prompts = running.filter((r) => left(r) > 1).sort((a, b) => a.served - b.served || a.index - b.index);
    /** Pages that others compute in this step, by what comes before them. */
    const begun = new Map<object, Set<string>>();
    const turns: { request: Request; count: number }[] = [];
    for (const request of prompts) {
      if (budget === 0) break;
      const at = (request.sequence as Sequence).length;
      if (cache !== null && at % PAGE === 0) reuse(request);
      if (somebodyBegan(request, begun)) continue;
      // A prompt whose rows depend on how much of it there is goes as it would go alone: at once, and what follows token by token.
      const count = adaptive ? (at === 0 ? request.prompt.length : 1) : Math.min(left(request), CHUNK, budget);
      budget = Math.max(0, budget - count);
      turns.push({ request, count });
    }
    // What is left of the budget goes to those who can use it.
    for (const turn of turns) {
      if (budget === 0 || adaptive) break;
      const more = Math.min(left(turn.request) - turn.count, budget);
      turn.count += more;
      budget -= more;
    }
    for (const { request, count } of turns) {
      if (request.sequence === null) continue;
      request.served = steps;
      take(request, count);
    }
    return entries;
  }

  /** True where another request of this step computes the page that is next: it will be in the cache one step later. */
  function somebodyBegan({ node, sequence, ids, length }: Request, begun: Map<object, Set<string>>): boolean {
    const at = (sequence as Sequence).length;
    if (node === null || at % PAGE !== 0 || at + PAGE >= length) return false;
    const key = pageKey(ids, at);
    const keys = begun.get(node);
    if (keys?.has(key)) return true;
    if (keys === undefined) begun.set(node, new Set([key]));
    else keys.add(key);
    return false;
  }

  function guess(generating: readonly Request[]): void {
    let rows = SPECULATION_ROWS - generating.length;
    const [who, counts]: [Request[], number[]] = [[], []];
    for (const request of generating) {
      const { pace, most, generated, length } = request;
      request.draft = [];
      if (pace.pause > 0) {
        pace.pause--;
        continue;
      }
      const count = Math.min(pace.length, maxTokens, most - generated.length - 1, model.dimensions.context - length, rows);
      if (count < 1) continue;
      rows -= count;
      who.push(request);
      counts.push(count);
    }
    if (who.length > 0) (drafter as NonNullable<typeof drafter>).draft(who, counts);
  }

  /** Runs entries and reads what they give; `results` gets it. */
  function run(entries: readonly Entry[], results: StepResult[]): void {
    const before = entries.map(({ sequence }) => sequence.length);
    let rows: readonly LogitsRow[] = [];
    try {
      const all = entries.some(({ request, logits }) => logits > 0 && readsLogits(request));
      scope(() => {
        rows = noGrad(() => rowsOf(state.step(entries), all));
      });
    } catch (error) {
      // Memory may have ended behind the pass: what is tried again begins where it began.
      for (const [i, { sequence }] of entries.entries()) if (sequence.length > before[i]) state.truncate(sequence, before[i]);
      if (error instanceof OutOfMemoryError && running.length > 1) {
        // Memory ends before maxPages: the younger half comes back when another request has ended.
        cache?.evict(Number.POSITIVE_INFINITY);
        for (const request of running.slice(running.length >> 1)) preempt(request);
        const rest = entries.filter(({ request }) => request.sequence !== null);
        if (rest.length > 0) run(rest, results);
      }
      // One of them is to blame: each runs alone, and who fails alone fails.
      else if (entries.length > 1) for (const entry of entries) run([entry], results);
      else fail(entries[0].request, error, results);
      return;
    }
    let row = 0;
    for (const { request, logits } of entries) {
      const own = rows.slice(row, (row += logits));
      try {
        read(request, own, results);
      } catch (error) {
        fail(request, error, results);
      }
    }
  }

  /** Logits (rows, vocabulary), each row for `nextToken`; `all`: with the logits themselves. */
  function rowsOf(logits: Tensor, all: boolean): LogitsRow[] {
    const [count, vocabulary] = logits.shape as [number, number];
    if (count === 0) return [];
    const [norms, largest, places] = [logsumexp(logits, -1), max(logits, -1), argmax(logits, -1)].map((t) => t.dataSync());
    if (all && data.length !== logits.size) data = new Float32Array(logits.size);
    if (all) logits.readInto(data);
    return Array.from({ length: count }, (_, r) => ({
      norm: norms[r],
      largest: largest[r],
      at: places[r],
      logits: all ? data.subarray(r * vocabulary, (r + 1) * vocabulary) : NOTHING,
    }));
  }

  /** Draws from the rows of one entry; guesses are right as long as what is drawn equals them. */
  function read(request: Request, rows: readonly LogitsRow[], results: StepResult[]): void {
    const { draft, usage } = request;
    let event: TokenEvent | null = null;
    let accepted = 0;
    for (let i = 0; i < rows.length; i++) {
      event = nextToken(request, rows[i]);
      results.push({ request, event });
      if (event.done !== null || i === draft.length || event.id !== draft[i]) break;
      accepted++;
    }
    if (draft.length > 0) {
      usage.draftedTokens += draft.length;
      usage.acceptedTokens += accepted;
      adapt(request.pace, draft.length, accepted, maxTokens);
      request.draft = [];
      // What was computed for wrong guesses goes; the last token is not computed yet.
      state.truncate(request.sequence as Sequence, request.length - 1);
    }
    remember(request);
    if (event === null || event.done === null) return;
    usage.generatedTokens = request.generated.length;
    event.usage = { ...usage };
    end(request);
  }

  /** Gives the prefix cache the pages that have become full. */
  function remember(request: Request): void {
    if (cache === null || request.node === null) return;
    const { length, pages } = request.sequence as Sequence;
    while (request.node !== null && request.kept + PAGE <= length) {
      request.node = cache.add(request.node, request.ids, request.kept, pages[request.kept / PAGE]);
      request.kept += PAGE;
    }
  }

  function fail(request: Request, error: unknown, results: StepResult[]): void {
    end(request);
    results.push({ request, event: null, error: error as Error });
  }

  return {
    add(request) {
      const pages = Math.ceil((request.prompt.length + Math.max(0, request.most - 1)) / PAGE);
      if (pages > maxPages)
        throw new DataError(
          `${where}: ${request.name} does not fit, expected at most ${maxPages} pages of ${PAGE} positions (maxPages), got ${request.prompt.length} tokens and ${request.most} new ones, which take ${pages}. Ask for fewer new tokens, or give more pages.`,
        );
      waiting.push(request);
    },
    step() {
      const results: StepResult[] = [];
      for (const request of running) if (request.cancelled) end(request);
      if (waiting.some((r) => r.cancelled)) waiting = waiting.filter((r) => !r.cancelled);
      admit();
      const entries = plan();
      if (entries.length > 0) run(entries, results);
      steps++;
      return results;
    },
    size: () => waiting.length + running.length,
    usage() {
      const { used, most } = state.usage();
      const live = new Set<number>();
      for (const { sequence } of running) for (const page of sequence?.pages ?? []) live.add(page);
      return { running: running.length, waiting: waiting.length, usedPages: used, cachedPages: used - live.size, maxPages: most, steps, ...totals };
    },
    dispose() {
      waiting = [];
      running = [];
      drafter?.dispose();
      state.dispose();
    },
  };
}

/** As many pages as 1 GiB holds, and at least those of one whole context. */
function defaultPages(model: CausalLM, dtype: StateDType): number {
  const { layers, kvHeads, headDim, context } = model.dimensions;
  return Math.max(Math.floor(2 ** 30 / (2 * layers * kvHeads * headDim * (dtype === "f16" ? 2 : 4) * PAGE)), Math.ceil(context / PAGE));
}

/**
 * Rotary scalings that turn a position otherwise once the sequence has grown long: what is computed of a beginning depends on how much of the text there
 * was, so beginnings are not shared, and prompts not cut.
 */
function adaptsToLength(model: CausalLM): boolean {
  return ["rope_parameters", "rope_scaling"].some((key) => {
    const rope = model.config[key] as Readonly<Record<string, unknown>> | null | undefined;
    return ["dynamic", "longrope", "su"].includes(String(rope?.rope_type ?? rope?.type));
  });
}

/**
 * The engine of a server: requests come and go while others run, each as an iterable of its own. One loop does a step for all of them and then lets
 * the event loop breathe.
 */
import { GroundupError } from "../errors.ts";
import type { CausalLM } from "../models/index.ts";
import { checkOptions, type KnownOptions } from "../options.ts";
import type { Tokenizer } from "../tokenizers/index.ts";
import { turn } from "../turn.ts";
import { type Generation, joined } from "./generate.ts";
import { checkRequest, createRequest, type Prompt, type Request, type RequestOptions, type TokenEvent } from "./request.ts";
import { BATCH_OPTIONS, type BatchOptions, type BatchUsage, createScheduler, type StepResult } from "./scheduler.ts";

/** How much an engine runs at once, and what it decodes with. */
export interface EngineOptions extends BatchOptions {
  /** Needed for prompts of text, for text in the events, and for stop strings. */
  tokenizer?: Tokenizer;
}

/** How one prompt is continued, and when not any more. */
export interface EngineRequestOptions extends RequestOptions {
  /** Ends the request before the next step; its iterable then throws the signal's reason. */
  signal?: AbortSignal;
}

/** A request's tokens as they come. They are kept until they are read; leaving the loop over them cancels the request. */
export interface EngineStream extends AsyncIterable<TokenEvent> {
  /** Which request, in order of arrival; `request` of its events. */
  readonly index: number;
  /** The rest of the events as a whole. */
  result(): Promise<Generation>;
  /** Ends the request before the next step; its iterable throws `reason`. */
  cancel(reason?: unknown): void;
}

/** Takes requests and runs them together. */
export interface Engine {
  /**
   * Takes a request; it runs from the next turn of the event loop on.
   * @throws ConfigError, DataError for options and prompts that cannot be
   */
  submit(prompt: Prompt, options?: EngineRequestOptions): EngineStream;
  usage(): BatchUsage;
  /** Resolves when nothing is left to do. */
  drain(): Promise<void>;
  /** Ends everything at once: iterables throw, memory is free. */
  dispose(): void;
}

const OPTIONS: KnownOptions<EngineOptions> = { ...BATCH_OPTIONS, tokenizer: true };

/** @throws ConfigError for options out of range or a draft model with another vocabulary */
export function createEngine(model: CausalLM, options: EngineOptions = {}): Engine {
  checkOptions("createEngine", options, OPTIONS);
  const { tokenizer, ...batch } = options;
  const scheduler = createScheduler("engine", model, batch);
  const open = new Map<Request, Channel>();
  const drained: (() => void)[] = [];
  let [count, looping, disposed] = [0, false, false];

  /** A step; where it breaks as a whole, no request can go on, and those that come later can. */
  function stepped(): StepResult[] {
    try {
      return scheduler.step();
    } catch (error) {
      for (const request of [...open.keys()]) end(request, error);
      return [];
    }
  }

  async function loop(): Promise<void> {
    looping = true;
    await turn();
    while (!disposed && scheduler.size() > 0) {
      for (const { request, event, error } of stepped()) {
        const channel = open.get(request);
        if (error !== undefined || event.done !== null) open.delete(request);
        if (error !== undefined) channel?.fail(error);
        else channel?.push(event);
      }
      await turn();
    }
    looping = false;
    for (const resolve of drained.splice(0)) resolve();
  }

  function end(request: Request, reason: unknown): void {
    request.cancelled = true;
    open.get(request)?.fail(reason);
    open.delete(request);
  }

  return {
    submit(prompt, options = {}) {
      if (disposed) throw new GroundupError("engine: disposed, expected an engine that runs, got one after dispose(). Create another.");
      const { signal, ...wanted } = options;
      checkRequest("engine", wanted, tokenizer);
      const request = createRequest("engine", model, prompt, { index: count, name: "the prompt" }, wanted, tokenizer);
      const cancel = (reason: unknown = new DOMException("The request was cancelled", "AbortError")): void => end(request, reason);
      const channel = createChannel(() => cancel());
      const stop = (): void => cancel(signal?.reason);
      if (signal?.aborted) channel.fail(signal.reason);
      else if (request.most === 0) channel.close();
      else {
        scheduler.add(request);
        open.set(request, channel);
        signal?.addEventListener("abort", stop, { once: true });
        channel.ended = () => signal?.removeEventListener("abort", stop);
        if (!looping) void loop();
      }
      count++;
      return {
        index: request.index,
        cancel,
        [Symbol.asyncIterator]: () => channel.iterator,
        async result() {
          const events: TokenEvent[] = [];
          for await (const event of { [Symbol.asyncIterator]: () => channel.iterator }) events.push(event);
          return joined(events);
        },
      };
    },
    usage: () => scheduler.usage(),
    drain: () => (looping ? new Promise((resolve) => drained.push(resolve)) : Promise.resolve()),
    dispose() {
      if (disposed) return;
      disposed = true;
      const error = new GroundupError("engine: disposed, expected the engine to run until the request is done, got dispose(). Await drain() before it.");
      for (const request of [...open.keys()]) end(request, error);
      scheduler.dispose();
    },
  };
}

/** Events of one request between the loop, which pushes, and one reader. */
interface Channel {
  push(event: TokenEvent): void;
  /** The reader gets what is there, then this. */
  fail(reason: unknown): void;
  close(): void;
  /** Called once, when no more comes. */
  ended(): void;
  readonly iterator: AsyncIterator<TokenEvent>;
}

function createChannel(abandoned: () => void): Channel {
  const queue: TokenEvent[] = [];
  let end: { reason?: unknown; failed: boolean } | null = null;
  let wakes: (() => void)[] = [];

  function wake(): void {
    const all = wakes;
    wakes = [];
    for (const resolve of all) resolve();
  }

  function finish(how: { reason?: unknown; failed: boolean }): void {
    if (end !== null) return;
    end = how;
    wake();
    channel.ended();
  }

  const channel: Channel = {
    push(event) {
      queue.push(event);
      if (event.done !== null) finish({ failed: false });
      else wake();
    },
    fail: (reason) => finish({ reason, failed: true }),
    close: () => finish({ failed: false }),
    ended() {},
    iterator: {
      async next() {
        while (queue.length === 0 && end === null) await new Promise<void>((resolve) => wakes.push(resolve));
        const value = queue.shift();
        if (value !== undefined) return { done: false, value };
        if (end?.failed) {
          const { reason } = end;
          end = { failed: false };
          throw reason;
        }
        return { done: true, value: undefined };
      },
      async return() {
        queue.length = 0;
        if (end === null) abandoned();
        end = { failed: false };
        return { done: true, value: undefined };
      },
    },
  };
  return channel;
}

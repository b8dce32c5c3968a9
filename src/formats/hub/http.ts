/**
 * Requests to the hub. Redirects are followed here and not by the runtime: the token goes to the hub's own origin only, and the headers that the hub sends beside
 * a redirect (which file, how large, which hash) are read before it is followed.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { HubError } from "../../errors.ts";
import { visible } from "../../shown-text.ts";
import { DEFAULT_ENDPOINT, type HubSettings } from "./settings.ts";

/** How patient requests are. */
export interface Patience {
  /** Tries without any progress before a request is given up. */
  readonly tries: number;
  /** The first wait; each further one is twice as long. */
  readonly waitMs: number;
  /** A connection that brings nothing for so long is broken. */
  readonly stallMs: number;
}

export const PATIENCE: Patience = { tries: 6, waitMs: 500, stallMs: 30_000 };
/** Where not even a connection can be made, and never was: there is no network here, or no such host. */
const UNREACHABLE = /^(ENOTFOUND|EAI_AGAIN|ENETUNREACH|EHOSTUNREACH)$/;
const TRIES_UNREACHABLE = 2;
/** Where somebody is there, and no hub: nothing listens, or what does has no certificate that counts, or does not speak HTTP. No waiting mends that. */
const NO_HUB = /^ECONNREFUSED$|CERT|SIGNATURE|TLS|SSL|^HPE_/;
/** What fetch says of ports that it opens no connection to, whoever listens. */
const BAD_PORT = "bad port";
const LONGEST_WAIT_MS = 60_000;
/** What a server may ask for: the hub counts requests over windows of five minutes (https://huggingface.co/docs/hub/rate-limits). */
const LONGEST_ASKED_MS = 300_000;
const MOST_REDIRECTS = 8;
/** Larger than any real answer of the interface (a page of a tree has at most 1,000 files). */
const MOST_JSON_BYTES = 1 << 26;

/** A connection, and what it is used for. */
export interface Connection {
  readonly settings: HubSettings;
  readonly patience: Patience;
  readonly signal?: AbortSignal | undefined;
  /** Whether the hub has answered yet. */
  readonly contact: { made: boolean };
  /** Told what is waited for. */
  readonly onNote?: ((sentence: string) => void) | undefined;
}

export interface Answer {
  readonly response: Response;
  /** Headers of the hub itself, from before it sent us elsewhere. */
  readonly hub: Headers;
  /** Ends the request: to be called when its body has been read, or is not wanted. */
  close(): void;
  /** To be called when bytes have come: the connection is alive. */
  alive(): void;
  /** Aborts when the connection is given up. */
  readonly stopped: AbortSignal;
}

/** What a new try may mend. */
export class Transient extends Error {
  /** The status that a server answered with, where it did. */
  readonly status: number | undefined;
  /** How long it asks to be left alone. */
  readonly waitMs: number | undefined;
  constructor(message: string, options: { cause?: unknown; status?: number; waitMs?: number | undefined } = {}) {
    super(message, { cause: options.cause });
    this.status = options.status;
    this.waitMs = options.waitMs;
  }
}

/** Whether a file's bytes come from where the token may be shown. */
const sameOrigin = (url: URL, endpoint: string): boolean => url.origin === new URL(endpoint).origin;

/**
 * One GET, redirects followed.
 * @throws Transient for what a new try may mend, HubError for a redirect that may not be followed, AbortError
 */
async function get(connection: Connection, address: string, headers: Readonly<Record<string, string>>): Promise<Answer> {
  const { settings, patience, signal } = connection;
  signal?.throwIfAborted();
  const stop = new AbortController();
  const abort = () => stop.abort(signal?.reason);
  signal?.addEventListener("abort", abort);
  let timer: NodeJS.Timeout | undefined;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(new Transient(`nothing came for ${Math.round(patience.stallMs / 1000)} s`)), patience.stallMs);
  };
  const close = () => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
    stop.abort();
  };
  let url = new URL(address);
  const hub = new Headers();
  try {
    for (let hop = 0; hop <= MOST_REDIRECTS; hop++) {
      alive();
      const own = sameOrigin(url, settings.endpoint);
      const sent = {
        "User-Agent": "groundup",
        "Accept-Encoding": "identity",
        ...headers,
        ...(own && settings.token !== null ? { Authorization: `Bearer ${settings.token}` } : {}),
      };
      const response = await unlessStopped(fetch(url.href, { headers: sent, redirect: "manual", signal: stop.signal }), stop.signal).catch((error) => {
        signal?.throwIfAborted();
        throw stop.signal.reason instanceof Transient ? stop.signal.reason : new Transient(reasonOf(error), { cause: error });
      });
      connection.contact.made = true;
      if (own) for (const [name, value] of response.headers) hub.has(name) || hub.set(name, value);
      const next = response.headers.get("location");
      if (response.status < 300 || response.status >= 400 || response.status === 304 || next === null)
        return { response, hub, close, alive, stopped: stop.signal };
      await response.body?.cancel();
      url = redirected(url, next);
    }
    throw new HubError(`${url.host}: sends requests in a circle, expected at most ${MOST_REDIRECTS} redirects, got more. Check HF_ENDPOINT.`);
  } catch (error) {
    close();
    throw error;
  }
}

/** The work, or the reason of the signal: a body that is read after its request was aborted may never answer. */
function unlessStopped<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop);
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

function redirected(from: URL, location: string): URL {
  const to = URL.canParse(location, from.href) ? new URL(location, from) : null;
  if (to === null || !/^https?:$/.test(to.protocol) || (from.protocol === "https:" && to.protocol === "http:"))
    throw new HubError(
      `${from.host}: a redirect that is not followed, expected https:// again, got ${to === null ? "no address" : to.protocol}. Check HF_ENDPOINT.`,
    );
  return to;
}

/** Why a connection failed, in the system's words: fetch hides them in its error's cause. */
export function reasonOf(error: unknown): string {
  const { message, cause } = error as { message?: string; cause?: { message?: string; code?: string; errors?: { message: string }[] } };
  return cause?.errors?.[0]?.message || cause?.message || cause?.code || message || String(error);
}

/** Whether no try has met a hub yet, and how many there are before that is said. */
function triesOf({ cause, message }: Transient, { contact, patience }: Connection): { met: boolean; tries: number } {
  const { code = "" } = (cause as { cause?: { code?: string } } | undefined)?.cause ?? {};
  if (!contact.made && (NO_HUB.test(code) || message === BAD_PORT)) return { met: false, tries: 1 };
  if (!contact.made && UNREACHABLE.test(code)) return { met: false, tries: TRIES_UNREACHABLE };
  return { met: true, tries: patience.tries };
}

const AGAIN = "then run it again; what is here already stays.";

/** What is said when a request is given up: what happened, how often, and what to do. */
function givenUp(error: Transient, connection: Connection, where: string, failures: number, met: boolean): HubError {
  const times = failures === 1 ? "" : `, ${failures} times`;
  return new HubError(`${where}: ${wordsFor(error, connection, times, met)}`, { cause: error });
}

function wordsFor({ message, status, waitMs }: Transient, { settings, contact }: Connection, times: string, met: boolean): string {
  const { endpoint, token } = settings;
  const got = visible(message);
  if (!met) {
    const why = got === BAD_PORT ? "a port that Node's fetch never opens" : got;
    const advice =
      endpoint === DEFAULT_ENDPOINT ? "Check the network and proxies; HF_ENDPOINT names another hub." : "It is HF_ENDPOINT's: correct or unset it.";
    return `no hub at ${endpoint}, expected a connection, got ${why}${times}. ${advice}`;
  }
  if (status === 429) {
    const asked = waitMs === undefined ? "a few minutes" : `${Math.ceil(waitMs / 1000)} s`;
    const more = token === null ? " (with a token in HF_TOKEN more is allowed)" : "";
    return `the hub takes no more requests for now, expected an answer, got status 429${times}. Wait ${asked}${more}, ${AGAIN}`;
  }
  if (status !== undefined) return `the hub has a failure of its own, expected an answer, got status ${status}${times}. Wait until it is mended, ${AGAIN}`;
  if (contact.made) return `the connection keeps breaking, expected the whole answer, got ${got}${times}. Check the connection, ${AGAIN}`;
  return `${endpoint} does not answer, expected a hub, got ${got}${times}. Check the connection and HF_ENDPOINT, ${AGAIN}`;
}

/**
 * Runs `once` until it succeeds, as long as its failures are Transient: waits twice as long each time, and at least as long as the server says.
 * @param once is given a function to call when there was progress: what went before no longer counts
 * @throws HubError when it is given up
 */
export async function persist<T>(connection: Connection, where: string, once: (progress: () => void) => Promise<T>): Promise<T> {
  const { patience, signal } = connection;
  let failures = 0;
  for (;;) {
    try {
      return await once(() => (failures = 0));
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof Transient)) throw error;
      failures++;
      const { met, tries } = triesOf(error, connection);
      const asked = error.waitMs ?? 0;
      if (failures >= tries || asked > LONGEST_ASKED_MS) throw givenUp(error, connection, where, failures, met);
      // A little more or less, so that many clients do not come back at once; never sooner than was asked for.
      const wait = Math.max(asked, Math.min(LONGEST_WAIT_MS, patience.waitMs * 2 ** (failures - 1) * (0.8 + 0.4 * Math.random())));
      connection.onNote?.(`${where}: ${visible(error.message)}; trying again in ${(wait / 1000).toFixed(1)} s`);
      await sleep(wait, undefined, signal === undefined ? {} : { signal });
    }
  }
}

/** One GET whose answer must be 200 (or 206, or another that is expected). Call `close` when done. */
export async function getOnce(
  connection: Connection,
  where: string,
  url: string,
  headers: Readonly<Record<string, string>> = {},
  accepted = [200],
): Promise<Answer> {
  const answer = await get(connection, url, headers);
  const { status } = answer.response;
  if (accepted.includes(status)) return answer;
  answer.close();
  if (status === 408 || status === 429 || status >= 500) throw new Transient(`status ${status}`, { status, waitMs: retryAfter(answer.response.headers) });
  throw refusal(connection.settings, where, status, answer.response.headers);
}

/** `Retry-After` (RFC 9110, 10.2.3): seconds, or a date; or what is left of the window in `RateLimit` (`"api";r=0;t=55`), as the hub has it. */
function retryAfter(headers: Headers): number | undefined {
  const text = headers.get("retry-after") ?? /;\s*t=(\d+)/.exec(headers.get("ratelimit") ?? "")?.[1];
  if (text === undefined) return undefined;
  const ms = /^[0-9]+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}

/** What a status means, and what to do. The hub says more in X-Error-Code. */
function refusal({ endpoint, token }: HubSettings, where: string, status: number, headers: Headers): HubError {
  const code = headers.get("x-error-code") ?? "";
  const repo = where.split(/[@:, ]/)[0];
  const said = visible(headers.get("x-error-message") ?? "").slice(0, 200);
  const got = `${status}${code === "" ? "" : ` ${visible(code).slice(0, 50)}`}${said === "" ? "" : ` (${said})`}`;
  const login =
    token === null
      ? `make a token at ${endpoint}/settings/tokens and set HF_TOKEN to it`
      : "check that your token belongs to that account and may read this model";
  if (code === "GatedRepo" || (status === 403 && code === ""))
    return new HubError(
      `${where}: a gated or closed model, expected your agreement to its terms, got ${got}. Open ${endpoint}/${repo}, accept the terms there, then ${login}.`,
    );
  if (code === "RevisionNotFound")
    return new HubError(`${where}: no such revision, expected a branch, tag or commit of the model, got ${got}. Look at ${endpoint}/${repo}/refs.`);
  if (code === "EntryNotFound")
    return new HubError(`${where}: no such file in the model, expected one of its files, got ${got}. Look at ${endpoint}/${repo}/tree/main.`);
  if (status === 401 && token !== null && /invalid .*(credential|token)/i.test(said))
    return new HubError(
      `${where}: the token is not valid, expected one that ${endpoint} knows, got ${got}. Make a new one at ${endpoint}/settings/tokens and set HF_TOKEN to it, or unset it for public models.`,
    );
  // The hub does not tell strangers which private models there are: 401 is what a wrong name gets, too.
  if (status === 401 || status === 404 || code === "RepoNotFound")
    return new HubError(
      `${where}: no such model, or a private one, expected a model at ${endpoint}, got ${got}. Check the spelling; for a private or gated model ${login}.`,
    );
  return new HubError(`${where}: the hub refused, expected status 200, got ${got}. Check the id, HF_ENDPOINT and your account.`);
}

/** A JSON answer with its headers, persistently. */
export function getJson(connection: Connection, where: string, url: string): Promise<{ text: string; headers: Headers }> {
  return persist(connection, where, async () => {
    const answer = await getOnce(connection, where, url);
    try {
      const pieces: Uint8Array[] = [];
      let bytes = 0;
      for await (const piece of bodyOf(answer, connection)) {
        bytes += piece.length;
        if (bytes > MOST_JSON_BYTES) throw new HubError(`${where}: an absurd answer, expected at most ${MOST_JSON_BYTES} bytes, got more. Check HF_ENDPOINT.`);
        pieces.push(piece);
      }
      return { text: Buffer.concat(pieces).toString("utf8"), headers: answer.response.headers };
    } finally {
      answer.close();
    }
  });
}

/** The body's pieces. @throws Transient where the connection breaks or stalls */
export async function* bodyOf(answer: Answer, { signal }: Connection): AsyncGenerator<Uint8Array> {
  const reader = answer.response.body?.getReader();
  if (reader === undefined) return;
  for (;;) {
    answer.alive();
    const { done, value } = await unlessStopped(reader.read(), answer.stopped).catch((error) => {
      signal?.throwIfAborted();
      throw error instanceof Transient ? error : new Transient(`a broken connection (${reasonOf(error)})`, { cause: error });
    });
    if (done) return;
    yield value;
  }
}

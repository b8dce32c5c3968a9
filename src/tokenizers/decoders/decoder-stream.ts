/**
 * Decoding as tokens come, one by one: each push gives the text that no later token can change, so that all of it together is `decodeTokens` of the whole
 * list, in time linear in the text.
 *
 * A decoder is a stage that hands parts of tokens on to the next. What it must keep back: ByteLevel the bytes of an unfinished character, ByteFallback a run
 * of bytes (the last of them decides about the first), BPEDecoder and Strip what may be the end, Replace what may become a match, WordPiece, CTC and Replace
 * with an expression the token until it is whole. Behind Fuse or ByteLevel all text is one token: there the last three keep everything until the end.
 */
import { type DecoderSpec, decodeByteRun, decodeCtc, fallbackByte, type TokenwiseSpec, tokenBytes, tokenDecoder } from "./decoders.ts";

/** Gives text as soon as it is settled. */
export interface TokenStream {
  push(token: string): string;
  /** What was kept back. */
  end(): string;
}

/** Takes a list of tokens in parts. */
interface Stage {
  part(text: string): void;
  endToken(): void;
  endList(): void;
}

export function createTokenStream(spec: DecoderSpec | null): TokenStream {
  let settled = "";
  const sink: Stage = {
    part: (text) => {
      settled += text;
    },
    endToken: () => {},
    endList: () => {},
  };
  const first = spec === null ? joinByBlanks(sink) : createStage(spec, sink);
  const take = (): string => {
    const text = settled;
    settled = "";
    return text;
  };
  return {
    push(token) {
      give(first, token);
      return take();
    },
    end() {
      first.endList();
      return take();
    },
  };
}

function give(stage: Stage, token: string): void {
  stage.part(token);
  stage.endToken();
}

function createStage(spec: DecoderSpec, next: Stage): Stage {
  switch (spec.type) {
    case "Sequence":
      return spec.decoders.reduceRight((stage, decoder) => createStage(decoder, stage), next);
    case "Fuse":
      return fuse(next);
    case "ByteLevel": {
      const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
      return wholeTokens(
        (token) => next.part(decoder.decode(tokenBytes(token), { stream: true })),
        () => {
          give(next, decoder.decode());
          next.endList();
        },
      );
    }
    case "ByteFallback":
      return byteFallback(next);
    case "CTC": {
      let last: string | undefined;
      return wholeTokens(
        (token) => {
          const text = token === last ? "" : decodeCtc(spec, token);
          last = token;
          if (text !== "") give(next, text);
        },
        () => next.endList(),
      );
    }
    case "Metaspace":
      return metaspace(spec, next);
    case "Strip":
      return strip(spec, next);
    case "Replace":
      if ("String" in spec.pattern && spec.pattern.String !== "") return replace(spec.pattern.String, spec.content, next);
      return tokenwise(spec, next);
    case "BPEDecoder":
      return tokenwiseOfLast(spec, next);
    case "WordPiece":
      return tokenwise(spec, next);
  }
}

/** A stage that looks at whole tokens only. */
function wholeTokens(take: (token: string) => void, endList: () => void): Stage {
  let token = "";
  return {
    part: (text) => {
      token += text;
    },
    endToken: () => {
      const whole = token;
      token = "";
      take(whole);
    },
    endList,
  };
}

function tokenwise(spec: TokenwiseSpec, next: Stage): Stage {
  const decode = tokenDecoder(spec);
  let first = true;
  return wholeTokens(
    (token) => {
      give(next, decode(token, first, false));
      first = false;
    },
    () => next.endList(),
  );
}

/** Where the last token is another's: each waits until one follows. */
function tokenwiseOfLast(spec: TokenwiseSpec, next: Stage): Stage {
  const decode = tokenDecoder(spec);
  let first = true;
  let waiting: string | undefined;
  const giveWaiting = (last: boolean): void => {
    if (waiting === undefined) return;
    give(next, decode(waiting, first, last));
    first = false;
  };
  return wholeTokens(
    (token) => {
      giveWaiting(false);
      waiting = token;
    },
    () => {
      giveWaiting(true);
      next.endList();
    },
  );
}

function joinByBlanks(next: Stage): Stage {
  let first = true;
  return wholeTokens(
    (token) => {
      give(next, first ? token : ` ${token}`);
      first = false;
    },
    () => next.endList(),
  );
}

function fuse(next: Stage): Stage {
  return {
    part: (text) => next.part(text),
    endToken: () => {},
    endList: () => {
      next.endToken();
      next.endList();
    },
  };
}

function byteFallback(next: Stage): Stage {
  let run: number[] = [];
  const endRun = (): void => {
    for (const text of decodeByteRun(run)) give(next, text);
    run = [];
  };
  return wholeTokens(
    (token) => {
      const byte = fallbackByte(token);
      if (byte !== undefined) {
        run.push(byte);
        return;
      }
      endRun();
      give(next, token);
    },
    () => {
      endRun();
      next.endList();
    },
  );
}

function metaspace(spec: DecoderSpec & { type: "Metaspace" }, next: Stage): Stage {
  const decode = tokenDecoder(spec);
  let first = true;
  return {
    part: (text) => next.part(decode(text, first, false)),
    endToken: () => {
      first = false;
      next.endToken();
    },
    endList: () => next.endList(),
  };
}

function strip(spec: DecoderSpec & { type: "Strip" }, next: Stage): Stage {
  const { content } = spec;
  let left = spec.start;
  /** Up to `stop` times the content: what goes if the token ends here. */
  let tail = "";
  return {
    part: (text) => {
      let start = 0;
      while (left > 0 && text.startsWith(content, start)) {
        start += content.length;
        left--;
      }
      if (start < text.length) left = 0;
      const all = tail + text.slice(start);
      let end = all.length;
      for (let i = 0; i < spec.stop && end >= content.length && all.startsWith(content, end - content.length); i++) end -= content.length;
      tail = all.slice(end);
      next.part(all.slice(0, end));
    },
    endToken: () => {
      left = spec.start;
      tail = "";
      next.endToken();
    },
    endList: () => next.endList(),
  };
}

function replace(pattern: string, content: string, next: Stage): Stage {
  let tail = "";
  return {
    part: (text) => {
      const all = tail + text;
      let result = "";
      let at = 0;
      for (let found = all.indexOf(pattern); found >= 0; found = all.indexOf(pattern, at)) {
        result += all.slice(at, found) + content;
        at = found + pattern.length;
      }
      // The end may be the beginning of a match.
      let settled = Math.max(at, all.length - pattern.length + 1);
      while (!pattern.startsWith(all.slice(settled))) settled++;
      next.part(result + all.slice(at, settled));
      tail = all.slice(settled);
    },
    endToken: () => {
      next.part(tail);
      tail = "";
      next.endToken();
    },
    endList: () => next.endList(),
  };
}

/** The native functions given anything at all: an exception or an answer, never a crash. */
import { expect, it } from "vitest";
import { random } from "../../../tests/random.ts";
import { whereNative } from "../../../tests/where-native.ts";

const NAMES = [
  "textVocabRead",
  "textVocabFind",
  "textVocabEncoder",
  "textVocabFree",
  "textEncoderNew",
  "textEncoderFree",
  "textEncode",
  "textEncodeBatch",
  "textCount",
  "textDecode",
  "textPipelineNew",
  "textPipelineFree",
  "textPipelineEncode",
  "textPipelineCount",
  "textTrainerNew",
  "textTrainerFeed",
  "textTrainerFinish",
  "textTrainerFree",
];

whereNative("the native library", (_, library) =>
  it("random arguments", () => {
    const binding = library as unknown as Record<string, (...a: unknown[]) => unknown>;
    const { below: next } = random(12);
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    const lengths = new Int32Array(256).fill(1);
    const file = new TextEncoder().encode('{"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}');
    const [none, noScores] = [new Uint8Array(0), new Float64Array(0)];
    const live: number[] = [];
    const newest = new Map<string, unknown>();
    const kindOf = (name: string): string => /Pipeline|Trainer|Vocab/.exec(name)?.[0] ?? "Encoder";
    /** What comes behind a handle. */
    const after = (name: string): unknown[] | undefined => {
      switch (name) {
        case "textVocabFind":
          return [bytes, Int32Array.of(1, next(3), next(300))];
        case "textVocabEncoder":
          return [Int32Array.of(next(5) - 1), bytes, Int32Array.of(next(3)), bytes, Int32Array.of(next(300)), next(2) === 0, next(7)];
        case "textEncode":
          return ["text 語", next(3)];
        case "textEncodeBatch":
        case "textCount":
          return [["a", bytes], next(3)];
        case "textDecode":
          return [Int32Array.of(65, next(300))];
        case "textPipelineEncode":
        case "textPipelineCount":
          return [["a <x>", bytes], new Uint8Array(next(3)).fill(1), next(3)];
        case "textTrainerFeed":
          return [["a b"], next(3)];
        case "textTrainerFinish":
          return [300, 1, none, new Int32Array(0)];
        default:
          return undefined;
      }
    };
    const values = (): unknown[] => [
      undefined,
      null,
      0,
      1,
      -1,
      1.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      2 ** 31,
      2 ** 53,
      300,
      true,
      false,
      "",
      "text 語",
      "\ud800",
      Symbol("s"),
      {},
      [],
      ["a", "b"],
      ["a", 7],
      [null],
      new Proxy([], {}),
      bytes,
      lengths,
      new Uint8Array(0),
      new Int32Array(0),
      Int32Array.of(-1, 5, 2 ** 30),
      new Float64Array(3),
      new DataView(new ArrayBuffer(8)),
      new ArrayBuffer(8),
      10n,
      ...live,
    ];
    const done = new Set<string>();
    let answers = 0;
    let refusals = 0;
    for (let i = 0; i < 4000; i++) {
      const name = NAMES[next(NAMES.length)];
      // Now and then whole arguments, so that calls get past the first check.
      const good = next(4) === 0;
      const list = values();
      let args = Array.from({ length: next(8) }, () => list[next(list.length)]);
      if (good && name === "textEncoderNew") args = [bytes, lengths, new Int32Array(0), next(2) === 0, new Int32Array(0), true, next(8)];
      if (good && name === "textTrainerNew") args = [next(6)];
      if (good && name === "textVocabRead") args = [next(2) === 0 ? file : file.subarray(0, next(file.length))];
      // An encoder that was freed, another kind of handle, or words that lack a part are refused.
      const words = ["Token", "3", "<x>", "yes", "no", "no", "no", "NFC", "Pattern", "1", "no", "Model", "Bytes"];
      if (good && name === "textPipelineNew") args = [words.slice(next(3) === 0 ? next(14) : 0), none, new Int32Array(0), new Int32Array(0), noScores, none, 0];
      if (good && name === "textPipelineNew" && live.length > 0) args[6] = live[next(live.length)];
      const rest = good ? after(name) : undefined;
      if (rest !== undefined) args = [newest.get(kindOf(name)), ...rest];
      if (good && name.endsWith("Free") && live.length > 0) args[0] = live[next(live.length)];
      try {
        const answer = binding[name](...args);
        const made = name.endsWith("New") || name === "textVocabEncoder" ? answer : name === "textVocabRead" ? (answer as unknown[])[0] : 0;
        if (made) {
          live.push(made as number);
          newest.set(name === "textVocabEncoder" ? "Encoder" : kindOf(name), made);
        }
        if (good) done.add(name);
        answers++;
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
        refusals++;
      }
    }
    for (const handle of live) {
      binding.textVocabFree(handle);
      binding.textEncoderFree(handle);
      binding.textPipelineFree(handle);
      binding.textTrainerFree(handle);
    }
    expect(answers).toBeGreaterThan(100);
    expect(refusals).toBeGreaterThan(1000);
    expect([...done].sort()).toEqual([...NAMES].sort());
  }),
);

/** The native functions given anything at all: an exception or an answer, never a crash. */
import { expect, it } from "vitest";
import { random } from "../../../tests/random.ts";
import { whereNative } from "../../../tests/where-native.ts";

const NAMES = [
  "textEncoderNew",
  "textEncoderFree",
  "textEncode",
  "textEncodeBatch",
  "textCount",
  "textDecode",
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
    const live: number[] = [];
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
      if (good && live.length > 0) args[0] = live[next(live.length)];
      try {
        const answer = binding[name](...args);
        if (name.endsWith("New")) live.push(answer as number);
        answers++;
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
        refusals++;
      }
    }
    for (const handle of live) {
      binding.textEncoderFree(handle);
      binding.textTrainerFree(handle);
    }
    expect(answers).toBeGreaterThan(100);
    expect(refusals).toBeGreaterThan(1000);
  }),
);

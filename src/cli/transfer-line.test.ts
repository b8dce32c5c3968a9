import { expect, test } from "vitest";
import { createTransferLine, transferText } from "./transfer-line.ts";

const progress = (here: number, fetched = here) => ({ bytes: 1_000_000, files: 3, here, fetched, done: 1 });

test("bytes, files, speed and time left", () => {
  expect(transferText(progress(0), 0)).toBe("0 bytes of 1.0 MB (0 %), 1 of 3 files");
  expect(transferText(progress(250_000), 50_000)).toBe("250.0 kB of 1.0 MB (25 %), 1 of 3 files, 50.0 kB/s, 15s left");
  expect(transferText({ bytes: 0, files: 1, here: 0, fetched: 0, done: 1 }, 0)).toBe("0 bytes of 0 bytes (100 %), 1 of 1 file");
});

test("one line on a terminal, by the speed of the last ten seconds; lines now and then in a file", () => {
  let time = 0;
  const written: string[] = [];
  const write = (text: string) => written.push(text);
  const live = createTransferLine({ isTTY: true, columns: 60, write }, () => time);
  live.show(progress(500_000, 0));
  for (time = 1000; time <= 30_000; time += 1000) live.show(progress(500_000 + time, time <= 15_000 ? time : 15_000 + 10 * (time - 15_000)));
  expect(written[0]).toBe("\r\u001b[K500.0 kB of 1.0 MB (50 %), 1 of 3 files");
  expect(written.at(-1)).toBe("\r\u001b[K530.0 kB of 1.0 MB (53 %), 1 of 3 files, 10.0 kB/s, 47s lef");
  time = 30_050;
  live.show(progress(1));
  expect(written).toHaveLength(31);
  live.clear();
  live.clear();
  expect(written.slice(31)).toEqual(["\r\u001b[K"]);

  written.length = time = 0;
  const quiet = createTransferLine({ write }, () => time);
  for (time = 0; time <= 25_000; time += 500) quiet.show(progress(time));
  quiet.clear();
  expect(written).toEqual(["10.0 kB of 1.0 MB (1 %), 1 of 3 files, 1.0 kB/s, 16m30s left\n", "20.0 kB of 1.0 MB (2 %), 1 of 3 files, 1.0 kB/s, 16m20s left\n"]);
});

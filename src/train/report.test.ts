import { expect, test } from "vitest";
import type { Manifest } from "./pretrain.ts";
import { reportHtml } from "./report.ts";

test("control characters of prompts, samples, tokens and the recipe are symbols on the page", () => {
  const counts = { train: 10, validation: 5 };
  const host = { cpu: "a", backend: "native", isa: "avx2", threads: 1 };
  const manifest = {
    parameters: 1,
    vocabulary: 9,
    bytes: counts,
    documents: counts,
    tokens: counts,
    data: {},
    host,
    groundup: "0",
    node: "20",
    seed: 0,
    started: "now",
  };
  const html = reportHtml(
    "run\u0001",
    [],
    [{ step: 1, prompt: "It\u001b", text: "\u0007 was\n\u009d" }],
    manifest as unknown as Manifest,
    { prompt: "\u007f" },
    { frequent: [{ text: "\u0085", count: 3 }] },
  );
  expect(html).toContain("<mark>It␛</mark>␇ was\n\ufffd</p>");
  expect(html.match(/(?![\n\t])\p{Cc}/u)).toBeNull();
});

import { expect, test } from "vitest";
import { closestName, didYouMean } from "./did-you-mean.ts";

const flags = ["learning_rate", "batch_size", "max_steps", "vocab_size", "n_embd", "hidden_size"];

test.each([
  ["learnign_rate", "learning_rate"],
  ["learningRate", "learning_rate"],
  ["rate_learning", "learning_rate"],
  ["batchsize", "batch_size"],
  ["max-step", "max_steps"],
  ["size_hidden", "hidden_size"],
  ["hidden", "hidden_size"],
  ["vocba", "vocab_size"],
  ["rate", "learning_rate"],
])("%s means %s", (wrong, right) => {
  expect(closestName(wrong, flags)).toBe(right);
});

test("a word that a command ends in means that command", () => {
  for (const wrong of ["train", "trian", "trainn"]) expect(closestName(wrong, ["plan", "pretrain", "quickstart"])).toBe("pretrain");
});

test("says nothing when nothing is near", () => {
  expect(didYouMean("zzz", flags)).toBe("");
  expect(didYouMean("optimiser", flags)).toBe("");
  expect(didYouMean("max", flags)).toBe("");
  expect(didYouMean("hide", flags)).toBe("");
  expect(didYouMean("n_embed", flags)).toBe(' Did you mean "n_embd"?');
});

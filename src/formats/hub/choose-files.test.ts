import { expect, test } from "vitest";
import type { HubFile } from "./api.ts";
import { checkTogether, chooseFiles, globPattern } from "./choose-files.ts";

const listOf = (...paths: string[]): HubFile[] => paths.map((path) => ({ path, bytes: 10, hash: { kind: "git-sha1", hex: "0".repeat(40) } }));
const chosen = (paths: string[], choice: Parameters<typeof chooseFiles>[1] = {}) => chooseFiles(listOf(...paths), choice, "org/m@main").map(({ path }) => path);

test("one set of weights, safetensors before PyTorch's, with what opens a model", () => {
  const small = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "merges.txt", "chat_template.jinja", "LICENSE"];
  const other = ["README.md", ".gitattributes", "onnx/model.onnx", "original/consolidated.00.pth", "flax_model.msgpack", "trainer_state.json", "tf_model.h5"];
  expect(chosen([...small, ...other, "model.safetensors", "pytorch_model.bin", "model.fp16.safetensors"])).toEqual([...small, "model.safetensors"]);
  const shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
  const index = "model.safetensors.index.json";
  expect(chosen([...small, index, ...shards, "consolidated.safetensors", "pytorch_model.bin.index.json"])).toEqual([...small, index, ...shards]);
  expect(chosen(["config.json", "pytorch_model.bin", "model.gguf"])).toEqual(["config.json", "pytorch_model.bin"]);
  expect(chosen(["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
  expect(chosen(["modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "model.safetensors"])).toEqual([
    "modules.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "model.safetensors",
    "2_Dense/model.safetensors",
  ]);
  expect(chosen([...small, "model.safetensors"], { need: "tokenizer" })).toEqual(small);
});

test("of several GGUF files one is to be named: whole, by a part, as the parts of one", () => {
  const files = [
    "README.md",
    "config.json",
    "m-Q4_K_M.gguf",
    "m-Q4_K_S.gguf",
    "m-Q8_0.gguf",
    "mmproj-m.gguf",
    "big-F16-00001-of-00002.gguf",
    "big-F16-00002-of-00002.gguf",
  ];
  expect(() => chosen(files)).toThrow(
    /several GGUF files, .* got 4 of them\. Name one as org\/m:FILE, or with --include:\n {2}m-Q4_K_M\.gguf {2}10 bytes\n(?:.*\n)*.*big-F16-00001-of-00002\.gguf {2}20 bytes/,
  );
  expect(chosen(["README.md", "config.json", "m.gguf", "mmproj.gguf"])).toEqual(["m.gguf"]);
  expect(chosen(files, { file: "m-Q8_0.gguf" })).toEqual(["m-Q8_0.gguf"]);
  expect(chosen(files, { file: "q8_0" })).toEqual(["m-Q8_0.gguf"]);
  expect(chosen(files, { file: "Q4_K_M" })).toEqual(["m-Q4_K_M.gguf"]);
  expect(chosen(files, { file: "F16" })).toEqual(files.slice(-2));
  expect(chosen(files, { file: "big-F16-00001-of-00002.gguf" })).toEqual(files.slice(-2));
  expect(() => chosen(files, { file: "Q4_K" })).toThrow(/no such file, expected one of the model's, got "Q4_K"/);
  expect(() => chosen(files, { file: "m" })).toThrow(/more than one such file/);
  expect(() => chosen(files, { file: "m-Q8_1.gguf" })).toThrow(/Did you mean "m-Q8_0\.gguf"\?/);
  expect(() => chosen(files, { file: "x", include: ["*"] })).toThrow(/two choices/);
});

test("patterns are fnmatch's", () => {
  const matching = (glob: string) => ["a.json", "b/a.json", "a[1].txt", "a1.txt", "a-txt"].filter((path) => globPattern(glob).test(path));
  expect(matching("*.json")).toEqual(["a.json", "b/a.json"]);
  expect(matching("b/")).toEqual(["b/a.json"]);
  expect(matching("a?txt")).toEqual(["a-txt"]);
  expect(matching("a[0-9].txt")).toEqual(["a1.txt"]);
  expect(matching("[!b]*n")).toEqual(["a.json"]);
  expect(matching("a[[]1].txt")).toEqual(["a[1].txt"]);
  expect(() => globPattern("[z-a]")).toThrow(/not a pattern/);
});

test("a file whose name is another's folder is refused", () => {
  expect(() => checkTogether(listOf("a/b.json", "a"), "org/m")).toThrow(/in each other's way, expected a file or a folder, got "a" as both/);
  checkTogether(listOf("a/b.json", "a.json", "a/c"), "org/m");
});

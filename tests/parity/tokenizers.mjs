// What groundup's tokenizers make of golden files, test vectors, a large text and fuzzed strings, written down for tests/parity/python/check_tokenizers.py.
// scripts/test-parity.mjs says what FOLDER holds.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { createTokenizer, loadTokenizer, memoryFiles, readTiktoken, readTokenizerJson, tokenizerFiles } from "groundup/tokenizers";
import { fuzzTexts } from "./fuzz-texts.mjs";

/** As it stands: nothing around it, spellings of special tokens are text, nothing cut or padded. */
const PLAIN = { addSpecialTokens: false, truncation: false, padding: false };

/** Where FOLDER has tokenizers: what their files' names end with, and who else reads them. */
const PLACES = [
  { under: "gpt2", ends: "vocab.bpe", by: ["tiktoken", "tokenizers"] },
  { under: "tiktoken", ends: ".tiktoken", by: ["tiktoken", "tokenizers"] },
  { under: "hf", ends: "/tokenizer.json", by: ["tokenizers"] },
  { under: "kitoken/models/tokenizers", ends: ".json", by: ["tokenizers"] },
  { under: "kitoken/models/sentencepiece", ends: ".model", by: ["sentencepiece"] },
  { under: "sentencepiece", ends: ".model", by: ["sentencepiece"] },
  { under: "gguf", ends: ".gguf", by: ["gguf"] },
];
/** Files of FOLDER that are no tokenizers but belong to one, or say what one should give. */
const BESIDE = /^(golden\/(bpe|sentencepiece)\.jsonl|kitoken\/vectors\.tar|gpt2\/encoder\.json|hf\/[^/]+\/tokenizer_config\.json|gguf\/.*\.gguf\.(inp|out))$/;

/**
 * @param from FOLDER
 * @param texts the large text in pieces
 * @param strings how many strings to fuzz each tokenizer with
 * @returns the arguments of the check in Python
 */
export async function writeTokenizers(folder, { from, texts, strings }) {
  const files = readdirSync(from, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath.slice(from.length + 1), entry.name))
    .map((file) => file.replace(/\.gz$/, ""))
    .sort();
  const read = (file) => (existsSync(join(from, file)) ? readFileSync(join(from, file)) : gunzipSync(readFileSync(join(from, `${file}.gz`))));
  const has = (file) => files.includes(file);
  const golden = Object.fromEntries(["bpe", "sentencepiece"].map((name) => [name, has(`golden/${name}.jsonl`) ? jsonLines(read(`golden/${name}.jsonl`)) : []]));
  const vectors = has("kitoken/vectors.tar") ? unpacked(read("kitoken/vectors.tar")) : new Map();

  writeFileSync(join(folder, "texts.json"), JSON.stringify(texts));
  const list = [];
  const unread = [];
  for (const file of files) {
    const place = PLACES.find(({ under, ends }) => file.startsWith(`${under}/`) && file.endsWith(ends));
    if (place === undefined) {
      if (!BESIDE.test(file)) unread.push(file);
      continue;
    }
    const name = nameOf(file);
    const tokenizer = await opened(file, join(from, file), read);
    const own = join(folder, name.replaceAll("/", "-"));
    mkdirSync(own);
    const began = performance.now();
    const fuzz = fuzzTexts(list.length + 1, strings, [...tokenizer.specialTokens.keys()]);
    writeFileSync(join(own, "strings.json"), JSON.stringify(fuzz));
    write(own, "text", texts, tokenizer, PLAIN);
    write(own, "fuzz", fuzz, tokenizer, PLAIN);
    // As callers have it who say nothing but that the text may hold special tokens.
    if (place.by[0] !== "sentencepiece") write(own, "special", fuzz, tokenizer, { allowSpecial: true });
    writeFileSync(join(own, "source"), read(file));
    if (place.by.includes("tokenizers")) writeFileSync(join(own, "tokenizer.json"), has(file) && file.endsWith(".json") ? read(file) : tokenizerFiles(tokenizer.spec)["tokenizer.json"]);
    if (file === "gpt2/vocab.bpe") writeFileSync(join(own, "source"), read("tiktoken/r50k_base.tiktoken"));
    const expected = [...goldenOf(name, golden), ...llamaVectors(file, has, read), ...kitokenVectors(file, vectors)];
    list.push({ name, folder: own, by: place.by, checks: expected.map(({ what, lines }) => ({ what, lines: lines.length, wrong: lines.filter((line) => !holds(tokenizer, line)) })) });
    tokenizer.dispose();
    console.log(`       ${name}: ${((performance.now() - began) / 1000).toFixed(0)} s here`);
  }
  writeFileSync(join(folder, "list.json"), JSON.stringify({ list, unread }));
  return [folder];
}

function nameOf(file) {
  if (file === "gpt2/vocab.bpe") return "gpt2";
  return file.replace(/(\/tokenizer)?\.(json|tiktoken|model|gguf)$/, "").replace("kitoken/models/", "kitoken/");
}

/** A GGUF is opened where it lies, any other file from memory, as it may be packed. */
async function opened(file, path, read) {
  if (file.endsWith(".gguf")) return loadTokenizer(path);
  if (file === "gpt2/vocab.bpe") return loadTokenizer(memoryFiles({ "encoder.json": read("gpt2/encoder.json"), "vocab.bpe": read(file) }));
  if (file.endsWith(".tiktoken")) return createTokenizer(readTiktoken(read(file).toString(), file));
  if (file.endsWith(".model")) return loadTokenizer(memoryFiles({ "tokenizer.model": read(file) }));
  return createTokenizer(readTokenizerJson(read(file).toString(), file));
}

/** Ids, places and decoded texts of one set: FOLDER/SET.ids and .places are int32, .json has the lengths and the decoded texts. */
function write(folder, set, texts, tokenizer, options) {
  const encodings = [];
  for (let at = 0; at < texts.length; at += 1000) {
    for (const encoding of tokenizer.encodeBatch(texts.slice(at, at + 1000), options)) {
      const places = new Int32Array(2 * encoding.ids.length);
      for (const [i, [start, end]] of encoding.offsets.entries()) places.set([start, end], 2 * i);
      encodings.push({ ids: encoding.ids, places, decoded: tokenizer.decode(encoding.ids) });
    }
  }
  const bytes = (lists) => Buffer.concat(lists.map((list) => Buffer.from(list.buffer, list.byteOffset, list.byteLength)));
  writeFileSync(join(folder, `${set}.ids`), bytes(encodings.map(({ ids }) => ids)));
  writeFileSync(join(folder, `${set}.places`), bytes(encodings.map(({ places }) => places)));
  writeFileSync(join(folder, `${set}.json`), JSON.stringify({ lengths: encodings.map(({ ids }) => ids.length), decoded: encodings.map(({ decoded }) => decoded) }));
}

/** Whether a text has these ids and, where they are given, pieces and decoded text. */
function holds(tokenizer, { text, ids, pieces, decoded, options = PLAIN }) {
  const encoding = tokenizer.encode(text, options);
  const same = (a, b) => JSON.stringify([...a]) === JSON.stringify(b);
  return same(encoding.ids, ids) && (pieces === undefined || same(encoding.tokens, pieces)) && (decoded === undefined || tokenizer.decode(ids) === decoded);
}

function jsonLines(bytes) {
  return bytes
    .toString()
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

/** Golden files have what several tokenizers make of a text: of BPE the ids, of SentencePiece also pieces and decoded text. */
function goldenOf(name, golden) {
  const key = name.split("/").at(-1);
  const lines = [
    ...(/^(gpt2|tiktoken\/.*|hf\/.*)$/.test(name) ? golden.bpe.filter((line) => key in line).map((line) => ({ text: line.text, ids: line[key] })) : []),
    ...(name.startsWith("sentencepiece/") ? golden.sentencepiece.filter((line) => key in line).map((line) => ({ text: line.text, ...line[key] })) : []),
  ];
  return lines.length === 0 ? [] : [{ what: "golden file", lines }];
}

/** llama.cpp's vectors: texts between lines of __ggml_vocab_test__, ids a line each. */
function llamaVectors(file, has, read) {
  if (!has(`${file}.inp`)) return [];
  const texts = read(`${file}.inp`).toString().split("\n__ggml_vocab_test__\n").slice(0, -1);
  const ids = read(`${file}.out`).toString().split("\n");
  return [{ what: "llama.cpp's vectors", lines: texts.map((text, i) => ({ text, ids: numbers(ids[i], " ") })) }];
}

/** kitoken's vectors: a text a line with \n for line ends and \s for a blank at the end (utf8: one text), ids a line each, decoded texts likewise where they differ from the text. */
function kitokenVectors(file, vectors) {
  const [kind, name] = file.startsWith("kitoken/models/") ? file.split("/").slice(2) : file.startsWith("tiktoken/") ? file.split("/") : [];
  if (kind === undefined) return [];
  const stem = name.replace(/\.[^.]*$/, "");
  return ["small", "mixed", "utf8"].flatMap((set) => {
    const ids = vectors.get(`${kind}/${set}_tokens_${stem}.txt`);
    if (ids === undefined) return [];
    const lines = (text) => (set === "utf8" ? [text] : text.replace(/\n$/, "").split("\n").map((line) => line.replaceAll("\\n", "\n").replaceAll("\\s", " ")));
    const texts = lines(vectors.get(`${set}_input.txt`));
    const decoded = vectors.get(`${kind}/${set}_output_${stem}.txt`);
    const outputs = decoded === undefined ? texts : lines(decoded);
    const all = lines(ids).map((line, i) => ({ text: texts[i], ids: numbers(line, ","), decoded: outputs[i], options: { addSpecialTokens: false, allowSpecial: kind !== "sentencepiece" } }));
    return [{ what: `kitoken's vectors, ${set}`, lines: all }];
  });
}

const numbers = (line, between) => line.split(between).flatMap((word) => (word.trim() === "" ? [] : [Number(word)]));

/** The files of a tar archive (POSIX ustar): a block of 512 bytes with name and size, then the content in whole blocks. */
function unpacked(tar) {
  const files = new Map();
  for (let at = 0; tar[at] !== 0 && at < tar.length; ) {
    const field = (from, length) => tar.toString("utf8", at + from, at + from + length).replace(/\0.*$/s, "");
    const size = Number.parseInt(field(124, 12), 8);
    files.set(field(0, 100), tar.toString("utf8", at + 512, at + 512 + size));
    at += 512 * (1 + Math.ceil(size / 512));
  }
  return files;
}

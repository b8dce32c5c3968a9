// What groundup's tokenizers make of golden files, test vectors, a large text and fuzzed strings, compared by tests/parity/python/check_tokenizers.py, one tokenizer
// after the other in each of two workers. scripts/test-parity.mjs says what FOLDER holds.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { gunzipSync } from "node:zlib";
import { createTokenizer, loadTokenizer, memoryFiles, readTiktoken, readTokenizerJson, tokenizerFiles } from "groundup/tokenizers";
import { fuzzTexts } from "./fuzz-texts.mjs";

/** As it stands: nothing around it, spellings of special tokens are text, nothing cut or padded. */
const PLAIN = { addSpecialTokens: false, truncation: false, padding: false };

/** Texts encoded in one call: places of many long ones take much memory. */
const TOGETHER = 16;

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

const CHECK = fileURLToPath(new URL("python/check_tokenizers.py", import.meta.url));
const WORKERS = 2;

/**
 * @param from FOLDER
 * @param texts the large text in pieces
 * @param strings how many strings to fuzz each tokenizer with
 * @returns whether all agree
 */
export async function compareTokenizers(folder, { python, from, texts, strings }) {
  const files = readdirSync(from, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath.slice(from.length + 1), entry.name).replace(/\.gz$/, ""))
    .sort();
  const placeOf = (file) => PLACES.find(({ under, ends }) => file.startsWith(`${under}/`) && file.endsWith(ends));
  const unread = files.filter((file) => placeOf(file) === undefined && !BESIDE.test(file));
  if (unread.length > 0) console.log(`FAILED files that no check reads: ${unread.join(", ")}`);
  writeFileSync(join(folder, "texts.json"), JSON.stringify(texts));
  const jobs = files.flatMap((file, i) => (placeOf(file) === undefined ? [] : [{ file, by: placeOf(file).by, seed: i + 1 }]));
  const ends = await Promise.all(Array.from({ length: WORKERS }, () => working(jobs, { folder, python, from, files, strings })));
  return unread.length === 0 && ends.every((agrees) => agrees);
}

/** A worker that takes jobs from the list until it is empty. */
function working(jobs, workerData) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData });
    let agrees = true;
    const next = () => {
      const job = jobs.shift();
      if (job === undefined) void worker.terminate().then(() => resolve(agrees));
      else worker.postMessage(job);
    };
    worker.on("error", reject);
    worker.on("message", ({ status, said }) => {
      process.stdout.write(said);
      agrees &&= status === 0;
      next();
    });
    next();
  });
}

if (!isMainThread && workerData !== null)
  parentPort.on("message", async (job) => {
    const own = await written(job, workerData);
    const { status, stdout, stderr, error } = spawnSync(workerData.python, [CHECK, own, join(workerData.folder, "texts.json")], {
      encoding: "utf8",
      maxBuffer: 2 ** 28,
    });
    if (error !== undefined) throw error;
    rmSync(own, { recursive: true });
    parentPort.postMessage({ status, said: stdout + stderr });
  });

/** Everything about one tokenizer, in a folder for the check. */
async function written({ file, by, seed }, { folder, from, files, strings }) {
  const read = (path) => (existsSync(join(from, path)) ? readFileSync(join(from, path)) : gunzipSync(readFileSync(join(from, `${path}.gz`))));
  const has = (path) => files.includes(path);
  const name = nameOf(file);
  const own = join(folder, name.replaceAll("/", "-"));
  mkdirSync(own);
  const began = performance.now();
  const tokenizer = await opened(file, join(from, file), read);
  const texts = JSON.parse(readFileSync(join(folder, "texts.json"), "utf8"));
  const fuzz = fuzzTexts(seed, strings, [...tokenizer.specialTokens.keys()]);
  writeFileSync(join(own, "strings.json"), JSON.stringify(fuzz));
  write(own, "text", texts, tokenizer, PLAIN);
  write(own, "fuzz", fuzz, tokenizer, PLAIN);
  // As callers have it who say nothing but that the text may hold special tokens.
  if (by[0] !== "sentencepiece") write(own, "special", fuzz, tokenizer, { allowSpecial: true });
  writeFileSync(join(own, "source"), file === "gpt2/vocab.bpe" ? read("tiktoken/r50k_base.tiktoken") : read(file));
  if (by.includes("tokenizers"))
    writeFileSync(join(own, "tokenizer.json"), file.endsWith(".json") ? read(file) : tokenizerFiles(tokenizer.spec)["tokenizer.json"]);
  const expected = [...goldenOf(name, has, read), ...llamaVectors(file, has, read), ...kitokenVectors(file, has, read)];
  const checks = expected.map(({ what, lines }) => ({
    what,
    lines: lines.length,
    wrong: lines.filter((line) => !holds(tokenizer, line)).map(({ text }) => text),
  }));
  tokenizer.dispose();
  writeFileSync(join(own, "entry.json"), JSON.stringify({ name, by, checks, seconds: (performance.now() - began) / 1000 }));
  return own;
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
  for (let at = 0; at < texts.length; at += TOGETHER) {
    for (const encoding of tokenizer.encodeBatch(texts.slice(at, at + TOGETHER), options)) {
      const places = new Int32Array(2 * encoding.ids.length);
      for (const [i, [start, end]] of encoding.offsets.entries()) places.set([start, end], 2 * i);
      encodings.push({ ids: encoding.ids, places, decoded: tokenizer.decode(encoding.ids) });
    }
  }
  const bytes = (lists) => Buffer.concat(lists.map((list) => Buffer.from(list.buffer, list.byteOffset, list.byteLength)));
  writeFileSync(join(folder, `${set}.ids`), bytes(encodings.map(({ ids }) => ids)));
  writeFileSync(join(folder, `${set}.places`), bytes(encodings.map(({ places }) => places)));
  writeFileSync(
    join(folder, `${set}.json`),
    JSON.stringify({ lengths: encodings.map(({ ids }) => ids.length), decoded: encodings.map(({ decoded }) => decoded) }),
  );
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
function goldenOf(name, has, read) {
  const key = name.split("/").at(-1);
  const golden = Object.fromEntries(["bpe", "sentencepiece"].map((kind) => [kind, has(`golden/${kind}.jsonl`) ? jsonLines(read(`golden/${kind}.jsonl`)) : []]));
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
function kitokenVectors(file, has, read) {
  const [kind, name] = file.startsWith("kitoken/models/") ? file.split("/").slice(2) : file.startsWith("tiktoken/") ? file.split("/") : [];
  if (kind === undefined || !has("kitoken/vectors.tar")) return [];
  const vectors = unpacked(read("kitoken/vectors.tar"));
  const stem = name.replace(/\.[^.]*$/, "");
  return ["small", "mixed", "utf8"].flatMap((set) => {
    const ids = vectors.get(`${kind}/${set}_tokens_${stem}.txt`);
    if (ids === undefined) return [];
    const lines = (text) =>
      set === "utf8"
        ? [text]
        : text
            .replace(/\n$/, "")
            .split("\n")
            .map((line) => line.replaceAll("\\n", "\n").replaceAll("\\s", " "));
    const texts = lines(vectors.get(`${set}_input.txt`));
    const decoded = vectors.get(`${kind}/${set}_output_${stem}.txt`);
    const outputs = decoded === undefined ? texts : lines(decoded);
    const all = lines(ids).map((line, i) => ({
      text: texts[i],
      ids: numbers(line, ","),
      decoded: outputs[i],
      options: { addSpecialTokens: false, allowSpecial: kind !== "sentencepiece" },
    }));
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

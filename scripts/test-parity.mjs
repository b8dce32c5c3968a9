// What groundup says against what PyTorch, transformers, tokenizers, tiktoken and sentencepiece say, live. Needs `npm run build:ts` and a Python that has them
// (and numpy, safetensors, gguf); `npm test` has the same comparisons with committed fixtures, and needs neither.
//
//   npm run test:parity -- --python .venv/bin/python [--tokenizers FOLDER] [--text FILE] [--strings N] [--only models,tokenizers,training,fixtures]
//   (--optional: nothing to do where neither --python nor GROUNDUP_PYTHON names a Python)
//
//   models      folders saved by groundup open in transformers with the same logits, their tokenizers with the same ids, conversations, lengths and padding
//   tokenizers  every tokenizer of FOLDER gives the ids, places and decoded text that tokenizers, tiktoken or sentencepiece give: on the text, and on N (20,000)
//               fuzzed strings of its own (tests/parity/fuzz-texts.mjs), as ordinary text and with special tokens; and what golden files and vectors say
//   training    a BPE trained by groundup has the merges of tokenizers' BpeTrainer, in the same order
//   fixtures    every committed fixture comes out of its script again
//
// FOLDER holds what tokenizers' publishers offer, each file also as .gz; a file that nothing here reads is a failure:
//   gpt2/encoder.json and vocab.bpe; tiktoken/<encoding>.tiktoken (gpt2 needs r50k_base)   tiktoken by these ranks; tokenizers by the tokenizer.json that groundup writes
//   hf/<name>/tokenizer.json; kitoken/models/tokenizers/<name>.json                        tokenizers
//   sentencepiece/<name>.model; kitoken/models/sentencepiece/<name>.model                  sentencepiece
//   gguf/<name>.gguf                       tokenizers or sentencepiece, built from the metadata as gguf reads it
//   golden/bpe.jsonl                       lines { "text": …, "<vocabulary>": ids, … }
//   golden/sentencepiece.jsonl             lines { "text": …, "<model>": { "ids": …, "pieces": …, "decoded": … }, … }
//   gguf/<name>.gguf.inp and .out          llama.cpp's vectors
//   kitoken/vectors.tar                    kitoken's vectors, its folder tests/data
//
// What differs by intent is counted and said, and the rest compared: where a Unigram model has special tokens among its pieces, tokenizers cuts ordinary text into them;
// sentencepiece and groundup don't. tiktoken says where tokens begin only. sentencepiece gives the bytes of a character but the last, and a blank that it puts before
// a text, no place; here they have the place of the character that comes.
//
// The text (default: the bundled book) should be large and mixed: some 20 lines in turn from files in several scripts, with their line ends, until there are 10 MB (for
// example the Debian handbook in ar, de, es, fr, ja, zh, LibreOffice's help in hi, Chinese poems, Python's and Linux's documentation, the declaration of human rights in all
// languages). With 10 MB, 20,000 strings and 20 tokenizers that is 23 minutes of CPU time, some 12 minutes on two cores.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { manualSeed, noGrad, randint, randn, scope } from "groundup";
import { openFolder, readConfigJson } from "groundup/formats";
import { createModel, saveModel } from "groundup/models";
import { loadTokenizer, memoryFiles, tokenizerFiles, trainBpe } from "groundup/tokenizers";
import { compareTokenizers } from "../tests/parity/tokenizers.mjs";
import { root } from "./platforms.mjs";

const { values: options } = parseArgs({
  options: {
    python: { type: "string", default: process.env.GROUNDUP_PYTHON },
    tokenizers: { type: "string" },
    text: { type: "string" },
    strings: { type: "string", default: "20000" },
    only: { type: "string" },
    optional: { type: "boolean", default: false },
  },
});
if (options.python === undefined) {
  console.log("parity: nothing was compared, expected a Python with torch and transformers, got none. Name it by --python or GROUNDUP_PYTHON");
  process.exit(options.optional ? 0 : 2);
}
const python = options.python.includes("/") ? resolve(options.python) : options.python;
const work = mkdtempSync(join(tmpdir(), "groundup-parity-"));
const CHAT = [
  { role: "user", content: "Who's there?" },
  { role: "assistant", content: "A whale." },
];
const failed = [];
const notAsked = [];
try {
  const checks = { models, tokenizers, training, fixtures };
  const wanted = options.only?.split(",") ?? Object.keys(checks);
  const unknown = wanted.filter((name) => !(name in checks));
  if (unknown.length > 0) throw new Error(`--only: unknown, expected some of ${Object.keys(checks).join(", ")}, got ${unknown.join(", ")}`);
  for (const name of wanted) {
    const folder = join(work, name);
    mkdirSync(folder);
    console.log(`\n== ${name}`);
    const given = await checks[name](folder);
    if (given === null) notAsked.push(name);
    else if (typeof given === "boolean") failed.push(...(given ? [] : [name]));
    else if (spawnSync(python, [join(root, "tests", "parity", "python", `check_${name}.py`), ...given], { stdio: "inherit" }).status !== 0) failed.push(name);
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
if (notAsked.length > 0) console.log(`\nnot compared: ${notAsked.join(", ")} (needs --tokenizers FOLDER)`);
console.log(failed.length === 0 ? "\nparity: everything that was compared agrees" : `\nparity: ${failed.join(", ")} FAILED`);
process.exitCode = failed.length === 0 ? 0 : 1;

/** The text in pieces of whole lines, some 100 kB each. */
function documents() {
  if (options.text === undefined) return book();
  const pieces = [];
  let piece = "";
  for (const line of readFileSync(options.text, "utf8").split(/(?<=\n)/)) {
    piece += line;
    if (piece.length > 100_000) {
      pieces.push(piece);
      piece = "";
    }
  }
  return [...pieces, piece];
}

function book() {
  const lines = gunzipSync(readFileSync(join(root, "data", "moby-dick.jsonl.gz")))
    .toString()
    .trim()
    .split("\n");
  return lines.map((line) => JSON.parse(line).text);
}

function writeIds(file, lists) {
  writeFileSync(file, Buffer.concat(lists.map((ids) => Buffer.from(ids.buffer, ids.byteOffset, ids.byteLength))));
}

/** The parity fixtures' configs with fresh random weights, every other one in shards, and with a tokenizer of their own. */
async function models(folder) {
  const fixtures = join(root, "tests", "fixtures", "models");
  const texts = [...book().slice(3, 6), "  two blanks, é, 語, 🙂, 1234\r\n\t<|endoftext|>", ""];
  const tokenizer = await talking(trainBpe(book(), { vocabSize: 600, specialTokens: ["<|endoftext|>", "<|user|>", "<|end|>"] }));
  const list = [];
  for (const [i, name] of readdirSync(fixtures).entries()) {
    manualSeed(i);
    const place = join(folder, name);
    mkdirSync(place);
    const config = await readConfigJson(openFolder(join(fixtures, name)));
    const model = createModel({ ...config, vocab_size: tokenizer.vocabSize }).eval();
    scope(() => {
      // Large weights, and gains and biases that are not what they are at first, so that a wrong epsilon or activation shows.
      for (const [path, p] of model.namedParameters()) {
        const gain = /(norm|ln_)/.test(path) && path.endsWith("weight");
        p.write(
          randn(p.shape)
            .mul(gain ? 0.3 : 0.25)
            .add(gain ? 1 : 0)
            .dataSync(),
        );
      }
    });
    const sharded = i % 2 === 1;
    await saveModel(model, place, sharded ? { maxShardBytes: 20_000 } : {});
    await tokenizer.save(place);
    const length = (config.max_position_embeddings ?? config.n_positions ?? 24) - 1; // BLOOM's config names no length
    scope(() => {
      const inputIds = randint(0, tokenizer.vocabSize, [2, length]);
      const logits = noGrad(() => model.forward({ inputIds }).logits);
      writeIds(join(place, "ids.i32"), [inputIds.dataSync()]);
      writeIds(join(place, "logits.f32"), [logits.dataSync()]);
    });
    list.push({ folder: place, name, sharded, length });
    model.dispose();
  }
  const ids = texts.map((text) => [...tokenizer.encode(text, { allowSpecial: true }).ids]);
  const { text } = tokenizer.applyChatTemplate(CHAT, { addGenerationPrompt: true });
  const padded = tokenizer.encodeBatch(texts, { allowSpecial: true, truncation: true, padding: true }).map((each) => [[...each.ids], [...each.attentionMask]]);
  writeFileSync(join(folder, "models.json"), JSON.stringify({ models: list, texts, ids, messages: CHAT, chat: text, padded }));
  return [join(folder, "models.json")];
}

/** The tokenizer with a template, and what a tokenizer_config.json may say. */
async function talking({ spec }) {
  const config = {
    bos_token: "<|endoftext|>",
    eos_token: "<|end|>",
    pad_token: "<|end|>",
    model_max_length: 40,
    padding_side: "left",
    truncation_side: "left",
    chat_template:
      "{% for m in messages %}{{ '<|user|>' if m.role == 'user' else bos_token }}{{ m.content }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}<|endoftext|>{% endif %}",
  };
  return loadTokenizer(memoryFiles({ ...tokenizerFiles(spec), "tokenizer_config.json": JSON.stringify(config) }));
}

async function tokenizers(folder) {
  if (options.tokenizers === undefined) return null;
  return compareTokenizers(folder, { python, from: resolve(options.tokenizers), texts: documents(), strings: Number(options.strings) });
}

async function training(folder) {
  const texts = documents();
  writeFileSync(join(folder, "texts.json"), JSON.stringify(texts));
  const list = [
    { pattern: "gpt2", vocabSize: 8192, minFrequency: 0, specialTokens: [] },
    { pattern: "cl100k", vocabSize: 4096, minFrequency: 3, specialTokens: ["<|endoftext|>", "<|pad|>"] },
  ];
  for (const settings of list) {
    const tokenizer = trainBpe(texts, settings);
    writeFileSync(join(folder, `${settings.pattern}.json`), tokenizerFiles(tokenizer.spec)["tokenizer.json"]);
  }
  writeFileSync(join(folder, "list.json"), JSON.stringify(list));
  return [folder];
}

async function fixtures(folder) {
  const dump = spawnSync(process.execPath, [join(root, "tests", "fixtures", "ops", "dump.mjs")], {
    env: { ...process.env, GROUNDUP_BACKEND: "reference" },
    maxBuffer: 2 ** 30,
  });
  if (dump.status !== 0) throw new Error(`tests/fixtures/ops/dump.mjs failed: ${dump.stderr}`);
  writeFileSync(join(folder, "samples.json"), dump.stdout);
  return [root, folder];
}

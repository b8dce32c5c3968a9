// The check `llamacpp`: what `groundup convert` writes, in llama.cpp. scripts/test-parity.mjs runs it, tests/parity/python/check_llamacpp.py compares.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { manualSeed, noGrad, randint, scope } from "groundup";
import { openFolder, openModelWeights, readConfigJson } from "groundup/formats";
import { createModel, fromPretrained, loadWeights, saveModel } from "groundup/models";
import { command as convert } from "../../dist/cli/convert.js";
import { root } from "../../scripts/platforms.mjs";
import { REFUSED, VARIANTS } from "./llamacpp-cases.mjs";
import { looksUp, lookUpGelu, nearConfigs, peerChanges } from "./llamacpp-peer.mjs";
import { randomise } from "./random-weights.mjs";

const FIXTURES = join(root, "tests", "fixtures", "models");
const SILENT = { log() {}, print() {} };

/**
 * Every fixture and variant with fresh random weights: saved as a folder, converted to GGUF and back, and the logits of random ids by the folder, by the reopened file,
 * by what llama.cpp is known to compute, and by configs that are wrong in one setting.
 * @returns the arguments of the check's Python
 */
export async function llamacpp(folder, tokenizer, texts) {
  const cases = [...readdirSync(FIXTURES).map((name) => [name, name, {}, { refused: REFUSED[name] }]), ...VARIANTS];
  const list = [];
  for (const [i, [name, fixture, changes, more = {}]] of cases.entries()) {
    manualSeed(i);
    const place = join(folder, String(i));
    mkdirSync(place);
    const given = await readConfigJson(openFolder(join(FIXTURES, fixture)));
    const model = createModel({ ...given, ...changes, vocab_size: tokenizer.vocabSize }).eval();
    try {
      randomise(model);
      await saveModel(model, join(place, "hf"));
      await tokenizer.save(join(place, "hf"));
      const { modelType, dimensions } = model;
      list.push({ name, place, modelType, layers: dimensions.layers, ...(await (more.refused === undefined ? opened : refused)(model, place, more)) });
    } finally {
      model.dispose();
    }
  }
  const file = join(folder, "list.json");
  const ids = texts.map((text) => [...tokenizer.encode(text, { allowSpecial: true }).ids]);
  writeFileSync(file, JSON.stringify({ cases: list, texts, ids }));
  return [file];
}

const convertTo = (to, from, out) => convert.run([from], { to, out, force: false, offline: true }, SILENT);

async function refused(_, place, { refused }) {
  const said = await convertTo("gguf", join(place, "hf"), join(place, "model.gguf")).then(
    () => "nothing: it was converted",
    (error) => `${error.constructor.name}: ${error.message}`,
  );
  return { refused, said };
}

async function opened(model, place, { length = Math.min(model.dimensions.context, 24) - 1 }) {
  const [hf, gguf, again] = ["hf", "model.gguf", "again"].map((name) => join(place, name));
  await convertTo("gguf", hf, gguf);
  await convertTo("hf", gguf, again);
  const reopened = await fromPretrained(gguf, { dtype: "f32" });
  const { vocabulary } = model.dimensions;
  const inputIds = randint(0, vocabulary, [2, length]);
  writeNumbers(join(place, "ids.i32"), inputIds.dataSync());
  const write = (name, of) => scope(() => writeNumbers(join(place, `${name}.f32`), noGrad(() => of.forward({ inputIds }).logits).dataSync()));
  write("own", model);
  write("reopened", reopened);
  reopened.dispose();
  const said = await readConfigJson(openFolder(hf));
  const peer = peerChanges(said);
  const table = looksUp(model.modelType);
  /** The same weights under another config. */
  const writeUnder = async (name, config, table) => {
    const twin = createModel(config).eval();
    await loadWeights(twin, hf);
    if (table) lookUpGelu(twin);
    write(name, twin);
    twin.dispose();
  };
  const computed = { ...said, ...peer?.changes };
  await writeUnder("peer", computed, table);
  const near = nearConfigs(computed);
  for (const [key, config] of near) await writeUnder(`near-${key}`, config, table && !key.includes("act"));
  inputIds.dispose();
  const { why = null, positions = length } = peer ?? {};
  return { length, vocabulary, table, why, positions, near: near.map(([key]) => key), ...(await differences(hf, again)) };
}

function writeNumbers(file, values) {
  writeFileSync(file, Buffer.from(values.buffer, values.byteOffset, values.byteLength));
}

/** Settings that GGUF files have no place for, and that change nothing of what a trained model computes. */
const UNSAID = /dropout|_pdrop$|^initializer_range$|^output_router_logits$|^router_aux_loss_coef$/;
/** Settings that may stand there in another form, or not at all where they are the family's own: whether they mean the same is seen in the logits of the reopened file. */
const SEEN = ["layer_types", "rope_scaling"];
/** What a config means by leaving these out. */
const DEFAULTS = {
  head_dim: ({ hidden_size, num_attention_heads: heads }) => hidden_size / heads,
  n_inner: ({ n_embd }) => 4 * n_embd,
};

/** Tensors whose bytes, and settings whose values, did not come back. */
async function differences(there, back) {
  const [a, b] = [await tensorsOf(there), await tensorsOf(back)];
  const names = [...new Set([...a.keys(), ...b.keys()])];
  const tensors = names.filter((name) => !(a.get(name) ?? Buffer.of()).equals(b.get(name) ?? Buffer.of()));
  const [before, after] = [there, back].map((place) => JSON.parse(readFileSync(join(place, "config.json"), "utf8")));
  // Files of Mistral say that they are Llama's.
  if (before.model_type === "mistral") Object.assign(before, { model_type: "llama", architectures: after.architectures });
  const unused = before.use_sliding_window === false ? ["sliding_window", "max_window_layers"] : [];
  const means = (config, key) => JSON.stringify(config[key] || (DEFAULTS[key]?.(config) ?? null));
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((key) => !UNSAID.test(key) && ![...SEEN, ...unused].includes(key));
  const settings = keys.filter((key) => means(before, key) !== means(after, key));
  return { tensors: names.length, settings: keys.length, lost: [...tensors, ...settings.map((key) => `${key} ${means(before, key)} → ${means(after, key)}`)] };
}

/** Shape and bytes by name. */
async function tensorsOf(place) {
  const reader = await openModelWeights(openFolder(place));
  const tensors = new Map();
  for (const [name, { dtype, shape }] of reader.tensors) tensors.set(name, Buffer.concat([Buffer.from(`${dtype} ${shape}:`), (await reader.read(name)).data]));
  await reader.close();
  return tensors;
}

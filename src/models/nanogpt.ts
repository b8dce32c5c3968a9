/**
 * nanoGPT's checkpoints (`ckpt.pt`): `{ model, model_args, … }`, the weights of a GPT-2 under its own names. Its Linear layers lie (out, in) where Hugging Face's GPT-2 has
 * (in, out), and a compiled model's names begin with `_orig_mod.`.
 */
import { FormatError } from "../errors.ts";
import type { PytorchFile } from "../formats/pytorch/read.ts";
import type { Pickled } from "../formats/pytorch/unpickle.ts";
import { floatsOf } from "../formats/safetensors-values.ts";
import { describeModel } from "./architectures.ts";
import type { WeightSource } from "./weight-source.ts";

const TURNED = /\.(c_attn|c_proj|c_fc)\.weight$/;

/** @throws FormatError for a checkpoint of something else */
export function fromNanoGpt(file: PytorchFile): WeightSource {
  const args = file.beside.get("model_args");
  if (!(args instanceof Map))
    throw new FormatError(
      `${file.name}: weights without a config, expected nanoGPT's checkpoint with model_args, got none. Put pytorch_model.bin beside its config.json, and name the folder.`,
    );
  const number = (key: string): number => {
    const value = args.get(key);
    return typeof value === "number" ? value : fail(file.name, key, value);
  };
  const config = {
    model_type: "gpt2",
    vocab_size: number("vocab_size"),
    n_positions: number("block_size"),
    n_embd: number("n_embd"),
    n_layer: number("n_layer"),
    n_head: number("n_head"),
    // nanoGPT's GELU is the exact one.
    activation_function: "gelu",
    resid_pdrop: number("dropout"),
    embd_pdrop: number("dropout"),
    attn_pdrop: number("dropout"),
  };
  const description = describeModel(config, file.name);
  const files = new Map(
    [...file.tensors.keys()].filter((name) => !/(\.attn\.bias|lm_head\.weight)$/.test(name)).map((name) => [name.replace(/^_orig_mod\./, ""), name]),
  );
  const shapeOf = (name: string) => file.tensors.get(files.get(name) ?? "")?.shape ?? [];
  // Without biases (`bias: False`) they are zeros.
  const shapes = new Map<string, readonly number[]>();
  for (const name of files.keys()) {
    const shape = shapeOf(name);
    shapes.set(name, TURNED.test(name) ? shape.toReversed() : shape);
    const bias = name.replace(/\.weight$/, ".bias");
    if (args.get("bias") === false && !/\.(wte|wpe)\./.test(name)) shapes.set(bias, [shape[0] as number]);
  }
  return {
    name: file.name,
    description,
    tokenIds: { bos_token_id: null, eos_token_id: null, pad_token_id: null },
    shapes,
    formats: new Map([...shapes.keys()].map((name) => [name, file.tensors.get(files.get(name) ?? "")?.dtype ?? "F32"])),
    async read(name) {
      const stored = files.get(name);
      if (stored === undefined) return new Float32Array(shapes.get(name)?.[0] ?? 0);
      const values = floatsOf(await file.read(stored), file.name);
      const [rows, columns] = shapeOf(name) as [number, number];
      if (!TURNED.test(name)) return values;
      const out = new Float32Array(values.length);
      for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = values[i * columns + j] as number;
      return out;
    },
    close: () => file.close(),
  };
}

function fail(file: string, key: string, value: Pickled | undefined): never {
  throw new FormatError(`${file}, model_args: no "${key}", expected a number, got ${typeof value}. Only checkpoints of nanoGPT have their config with them.`);
}

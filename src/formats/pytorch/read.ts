/**
 * PyTorch's files of weights (`torch.save`: `.bin`, `.pt`, `.pth`) as a `TensorReader`: the pickle says which tensors there are and is read without being run, their bytes
 * are read when they are asked for. The format since PyTorch 1.6, a zip archive; the older one is refused with advice.
 */
import { FormatError } from "../../errors.ts";
import { findTensor, SAFETENSORS_DTYPES, type StoredTensor, type TensorDtype, type TensorInfo, type TensorReader } from "../safetensors.ts";
import type { Source } from "../source.ts";
import { type Pickled, PickledTensor, unpickle } from "./unpickle.ts";
import { readZip, type ZipEntry } from "./zip.ts";

/** A file as it was saved: its weights, and what stands beside them. */
export interface PytorchFile extends TensorReader {
  /** A checkpoint's other values by key: nanoGPT's `model_args`. Empty for a file of weights alone. */
  readonly beside: ReadonlyMap<string, Pickled>;
}

const MOST_PICKLE = 256 << 20;
/** Keys under which checkpoints hold their weights. */
const WEIGHTS = ["model", "state_dict", "model_state_dict", "module"];

/** How a pickle begins, since protocol 2. */
const PICKLE = 0x80;
/** The older format: a magic number, a version, the system it was saved on, the weights. */
const OLDER_PICKLES = 4;

/** Its pickles are read as any: a name in them that is no tensor's is told first, so that nobody runs it for an advice from here. */
async function refuseOlder(source: Source): Promise<never> {
  const { name: file } = source;
  const bytes = await source.read(0, Math.min(source.size, MOST_PICKLE));
  for (let at = 0, i = 0; i < OLDER_PICKLES && at < bytes.length; i++) at += unpickle(bytes, file, at).length;
  throw new FormatError(
    `${file}: not a zip archive, expected a file of torch.save since PyTorch 1.6, got the older format. Get safetensors, or load it by torch.load(…, weights_only=True), which runs no code of the file, and save it again.`,
  );
}

/**
 * Opens one file. The source is closed by the reader's `close()`.
 * @throws FormatError for a pickle with anything but plain values and tensors, and for archives that are damaged or compressed
 */
export async function openPytorch(source: Source): Promise<PytorchFile> {
  const { name: file } = source;
  const start = await source.read(0, Math.min(4, source.size));
  if (start[0] === PICKLE) return refuseOlder(source);
  if (!(start[0] === 0x50 && start[1] === 0x4b))
    throw new FormatError(
      `${file}: not a zip archive, expected a file of torch.save since PyTorch 1.6, got other bytes. Get the model's weights as safetensors.`,
    );
  const entries = await readZip(source);
  const pickles = [...entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const [pickle] = pickles;
  if (pickles.length !== 1 || pickle === undefined)
    throw new FormatError(
      `${file}: no weights in this archive, expected one pickle of them, got ${[...entries.keys()].slice(0, 5).join(", ") || "nothing"}. Get the file that torch.save wrote.`,
    );
  const folder = pickle.slice(0, pickle.indexOf("/") + 1);
  const order = entries.get(`${folder}byteorder`);
  if (order !== undefined && new TextDecoder().decode(await source.read(order.offset, Math.min(order.bytes, 16))) !== "little")
    throw new FormatError(`${file}: big-endian weights, expected little-endian ones, got others. Save the file on another machine.`);
  const entry = entries.get(pickle) as ZipEntry;
  if (entry.bytes > MOST_PICKLE)
    throw new FormatError(`${file}: absurd pickle, expected at most ${MOST_PICKLE} bytes, got ${entry.bytes}. These are no weights.`);
  const { value } = unpickle(await source.read(entry.offset, entry.bytes), `${file}, ${pickle}`);
  const { weights, beside } = split(value, file);
  const tensors = new Map<string, TensorInfo>();
  for (const [name, { storage, shape }] of weights) {
    const home = entries.get(`${folder}data/${storage.key}`);
    const elementBytes = SAFETENSORS_DTYPES[storage.dtype].bits / 8;
    if (home === undefined || storage.size * elementBytes > home.bytes)
      throw new FormatError(
        `${file}: tensor ${JSON.stringify(name)} has no bytes, expected ${storage.size * elementBytes} in ${folder}data/${storage.key}, got ${home?.bytes ?? "no such entry"}. The file is damaged; fetch it again.`,
      );
    tensors.set(name, { name, dtype: storage.dtype, shape, bytes: elementBytes * shape.reduce((a, b) => a * b, 1), offset: home.offset, file });
  }
  return {
    name: file,
    tensors,
    metadata: {},
    beside,
    async read(name) {
      const info = findTensor(tensors, name, file);
      return readTensor(source, info, weights.get(name) as PickledTensor);
    },
    close: () => source.close(),
  };
}

async function readTensor(source: Source, info: TensorInfo, tensor: PickledTensor): Promise<StoredTensor> {
  const { shape, strides, offset } = tensor;
  const width = SAFETENSORS_DTYPES[info.dtype].bits / 8;
  const last = shape.includes(0) ? -1 : shape.reduce((sum, size, i) => sum + (size - 1) * (strides[i] as number), 0);
  const bytes = await source.read(info.offset + offset * width, (last + 1) * width);
  const plain = shape.reduceRight((step, size, i) => (step >= 0 && (size === 1 || strides[i] === step) ? step * size : -1), 1) >= 0;
  return { name: info.name, dtype: info.dtype as TensorDtype, shape, data: plain || info.bytes === 0 ? bytes : gathered(bytes, shape, strides, width) };
}

/** Elements that lie in another order (a transposed view), row by row. */
function gathered(bytes: Uint8Array, shape: readonly number[], strides: readonly number[], width: number): Uint8Array<ArrayBuffer> {
  const count = shape.reduce((a, b) => a * b, 1);
  const out = new Uint8Array(count * width);
  const index = new Array<number>(shape.length).fill(0);
  let from = 0;
  for (let to = 0; to < count; to++) {
    for (let b = 0; b < width; b++) out[to * width + b] = bytes[from * width + b] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      from += strides[axis] as number;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      from -= (strides[axis] as number) * (shape[axis] as number);
      index[axis] = 0;
    }
  }
  return out;
}

/** The tensors of a file of weights, or those of a checkpoint with what stands beside them. */
function split(value: Pickled, file: string): { weights: Map<string, PickledTensor>; beside: Map<string, Pickled> } {
  if (!(value instanceof Map)) throw new FormatError(`${file}: no weights, expected a dict of tensors, got another value. Save model.state_dict().`);
  // A checkpoint may have a tensor of its own beside them, its best loss say.
  const holds = (item: Pickled | undefined): boolean => item instanceof Map && [...item.values()].some((inner) => inner instanceof PickledTensor);
  const key = WEIGHTS.find((name) => holds(value.get(name)));
  const dict = key === undefined ? value : (value.get(key) as Map<Pickled, Pickled>);
  const weights = new Map<string, PickledTensor>();
  for (const [name, item] of dict) if (typeof name === "string" && item instanceof PickledTensor) weights.set(name, item);
  if (weights.size === 0)
    throw new FormatError(
      `${file}: no weights, expected tensors by name (or under ${WEIGHTS.join(", ")}), got ${
        [...value.keys()]
          .slice(0, 6)
          .map((name) => (typeof name === "string" ? name : typeof name))
          .join(", ") || "an empty dict"
      }. Save model.state_dict().`,
    );
  const beside = new Map<string, Pickled>();
  if (key !== undefined) for (const [name, item] of value) if (typeof name === "string" && name !== key) beside.set(name, item);
  return { weights, beside };
}

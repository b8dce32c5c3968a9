/**
 * Reading Python's pickles without running them. A pickle is a program for a small stack machine that may call anything; here its only values are numbers, texts, lists,
 * dicts and tensors, and the only names that it may call are the few that PyTorch writes into files of weights. Anything else is refused by its name. Nothing here calls
 * itself for what is nested, and everything that is made is counted, so that neither depth nor repetition takes the process down.
 *
 * Source: CPython's `Lib/pickletools.py` (opcodes of protocols 0 to 5); PyTorch's `torch/_utils.py` and `torch/serialization.py` for what stands behind the names.
 */
import { FormatError } from "../../errors.ts";
import { SAFETENSORS_DTYPES, type SafetensorsDtype } from "../safetensors.ts";

/** A piece of the file that tensors lie in. */
export interface Storage {
  readonly dtype: SafetensorsDtype;
  readonly key: string;
  /** Elements. */
  readonly size: number;
}

/** A tensor over a storage. */
export class PickledTensor {
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];

  constructor(storage: Storage, offset: number, shape: readonly number[], strides: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }
}

/** A value of a pickle. Dicts are Maps, tuples and lists arrays; what is of no use here (a dtype, a device) is null. */
export type Pickled =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickledTensor
  | Storage
  | readonly Pickled[]
  | Map<Pickled, Pickled>
  | PickledName;

/** A name that the pickle may call. */
class PickledName {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

const STORAGES: Readonly<Record<string, SafetensorsDtype>> = {
  FloatStorage: "F32",
  DoubleStorage: "F64",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
};

/** `torch.float8_e4m3fn` and others, which newer files name in place of a storage's class. */
const DTYPES: Readonly<Record<string, SafetensorsDtype>> = {
  float32: "F32",
  float64: "F64",
  float16: "F16",
  bfloat16: "BF16",
  int64: "I64",
  int32: "I32",
  int16: "I16",
  int8: "I8",
  uint8: "U8",
  bool: "BOOL",
  float8_e4m3fn: "F8_E4M3",
  float8_e5m2: "F8_E5M2",
};

const CALLABLE = [
  "collections.OrderedDict",
  "torch._utils._rebuild_tensor",
  "torch._utils._rebuild_tensor_v2",
  "torch._utils._rebuild_tensor_v3",
  "torch._utils._rebuild_parameter",
  "torch._utils._rebuild_parameter_with_state",
  "torch._tensor._rebuild_from_type_v2",
  "torch.Tensor",
  "torch.nn.parameter.Parameter",
  "torch.Size",
  "torch.device",
  "torch.storage.UntypedStorage",
  "torch.storage.TypedStorage",
  "torch.serialization._get_layout",
  ...Object.keys(STORAGES).map((name) => `torch.${name}`),
  ...Object.keys(DTYPES).map((name) => `torch.${name}`),
];

/** Marks the start of a list on the stack. */
const MARK = Symbol("mark");
type Item = Pickled | typeof MARK;

/** Real files of weights stay below: a few thousand tensors of a dozen values each. */
const MOST_VALUES = 4_000_000;
const LONGEST_TEXT = 1 << 20;

/** How the pickle reads: its bytes up to STOP. */
export interface Unpickled {
  readonly value: Pickled;
  /** Bytes read. */
  readonly length: number;
}

/**
 * Reads one pickle that begins at `from`.
 * @throws FormatError for any name but those of tensors, for what is cut off or absurd
 */
export function unpickle(bytes: Uint8Array, where: string, from = 0): Unpickled {
  return new Machine(bytes, where, from).run();
}

class Machine {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly where: string;
  private readonly from: number;
  private at: number;
  private values = 0;
  private stack: Item[] = [];
  private readonly memo = new Map<number, Pickled>();

  constructor(bytes: Uint8Array, where: string, from: number) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.where = where;
    this.from = from;
    this.at = from;
  }

  private fail(what: string, expected: string, got: unknown): never {
    throw new FormatError(
      `${this.where}, byte ${this.at}: ${what}, expected ${expected}, got ${String(got).slice(0, 200)}. Only weights are read from pickles; get the model as safetensors, or from a source you trust.`,
    );
  }
  private take(count: number): number {
    if (!Number.isSafeInteger(count) || count < 0 || this.at + count > this.bytes.length)
      this.fail("cut off", `${count} more bytes`, this.bytes.length - this.at);
    this.at += count;
    return this.at - count;
  }
  private u8 = (): number => this.bytes[this.take(1)] as number;
  private u16 = (): number => this.view.getUint16(this.take(2), true);
  private u32 = (): number => this.view.getUint32(this.take(4), true);
  private u64 = (): number => Number(this.view.getBigUint64(this.take(8), true));
  private line(): string {
    const end = this.bytes.indexOf(10, this.at);
    if (end < 0 || end - this.at > LONGEST_TEXT) this.fail("cut off", "the end of a line", "the end of the file");
    const text = this.text(end - this.at);
    this.at++;
    return text;
  }
  private text(length: number): string {
    if (length > LONGEST_TEXT) this.fail("absurd text", `at most ${LONGEST_TEXT} bytes`, length);
    const start = this.take(length);
    return new TextDecoder("utf-8").decode(this.bytes.subarray(start, start + length));
  }
  private count(values: number): void {
    this.values += values;
    if (this.values > MOST_VALUES) this.fail("too many values", `at most ${MOST_VALUES}`, "more");
  }
  private push(value: Pickled): void {
    this.count(1);
    this.stack.push(value);
  }
  private pop(): Pickled {
    const value = this.stack.pop();
    if (value === undefined || value === MARK) return this.fail("broken program", "a value on the stack", "none");
    return value;
  }
  private top(): Pickled {
    const value = this.pop();
    this.stack.push(value);
    return value;
  }
  /** What was pushed since the last mark. */
  private sinceMark(): Pickled[] {
    const at = this.stack.lastIndexOf(MARK);
    if (at < 0) this.fail("broken program", "a mark on the stack", "none");
    return this.stack.splice(at).slice(1) as Pickled[];
  }
  private remember(index: number): void {
    if (this.memo.size >= MOST_VALUES) this.fail("too many values", `at most ${MOST_VALUES}`, "more");
    this.memo.set(index, this.top());
  }
  private recall(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) this.fail("broken program", "a value that was put aside", `number ${index}`);
    this.push(value);
  }
  private name(module: string, name: string): void {
    const full = `${module}.${name}`;
    // Python 2's and some builtin containers, which weights do without.
    if (!CALLABLE.includes(full)) this.fail("a name that weights have no use for", "those of tensors", JSON.stringify(full));
    this.push(new PickledName(full));
  }

  run(): Unpickled {
    for (;;) {
      const code = this.u8();
      if (code === 0x2e) return this.stop();
      this.step(code);
    }
  }

  private stop(): Unpickled {
    const value = this.pop();
    if (this.stack.length > 0) this.fail("broken program", "one value at its end", this.stack.length + 1);
    return { value, length: this.at - this.from };
  }

  private step(code: number): void {
    switch (String.fromCharCode(code)) {
      case "\x80": {
        const protocol = this.u8();
        if (protocol > 5) this.fail("unknown protocol", "2 to 5", protocol);
        return;
      }
      case "\x95": // FRAME
        this.take(8);
        return;
      case "(":
        this.count(1);
        this.stack.push(MARK);
        return;
      case "0":
        this.stack.pop();
        return;
      case "1":
        this.sinceMark();
        return;
      case "2":
        this.push(this.top());
        return;
      case "N":
        this.push(null);
        return;
      case "\x88":
        this.push(true);
        return;
      case "\x89":
        this.push(false);
        return;
      case "J":
        this.push(this.view.getInt32(this.take(4), true));
        return;
      case "K":
        this.push(this.u8());
        return;
      case "M":
        this.push(this.u16());
        return;
      case "\x8a":
        this.push(this.long(this.u8()));
        return;
      case "\x8b":
        this.push(this.long(this.u32()));
        return;
      case "I":
      case "L":
        this.push(this.decimal(this.line()));
        return;
      case "G":
        this.push(this.view.getFloat64(this.take(8)));
        return;
      case "F":
        this.push(Number(this.line()));
        return;
      case "X":
      case "T":
        this.push(this.text(this.u32()));
        return;
      case "\x8c":
      case "U":
        this.push(this.text(this.u8()));
        return;
      case "\x8d":
        this.push(this.text(this.u64()));
        return;
      case "V":
        this.push(this.line());
        return;
      case "S":
        this.push(this.line().replace(/^(['"])(.*)\1$/s, "$2"));
        return;
      case "B":
        this.push(this.raw(this.u32()));
        return;
      case "C":
        this.push(this.raw(this.u8()));
        return;
      case "\x8e":
        this.push(this.raw(this.u64()));
        return;
      case ")":
      case "]":
        this.push([]);
        return;
      case "}":
        this.push(new Map());
        return;
      case "t":
      case "l":
        this.push(this.sinceMark());
        return;
      case "d":
        this.push(this.filled(new Map(), this.sinceMark()));
        return;
      case "\x85":
        this.push([this.pop()]);
        return;
      case "\x86":
        this.push([this.pop(), this.pop()].reverse());
        return;
      case "\x87":
        this.push([this.pop(), this.pop(), this.pop()].reverse());
        return;
      case "a":
        this.append([this.pop()]);
        return;
      case "e":
        this.append(this.sinceMark());
        return;
      case "s": {
        const [value, key] = [this.pop(), this.pop()];
        this.filled(this.map(), [key, value]);
        return;
      }
      case "u": {
        const items = this.sinceMark();
        this.filled(this.map(), items);
        return;
      }
      case "p":
        this.remember(Number(this.line()));
        return;
      case "q":
        this.remember(this.u8());
        return;
      case "r":
        this.remember(this.u32());
        return;
      case "\x94":
        this.remember(this.memo.size);
        return;
      case "g":
        this.recall(Number(this.line()));
        return;
      case "h":
        this.recall(this.u8());
        return;
      case "j":
        this.recall(this.u32());
        return;
      case "c":
        this.name(this.line(), this.line());
        return;
      case "\x93": {
        const [name, module] = [this.pop(), this.pop()];
        if (typeof name !== "string" || typeof module !== "string") this.fail("a bad name", "two texts", typeof name);
        this.name(module as string, name as string);
        return;
      }
      case "Q":
        this.push(this.persistent(this.pop()));
        return;
      case "R": {
        const [args, callee] = [this.pop(), this.pop()];
        this.push(this.call(callee, args));
        return;
      }
      case "\x81": {
        const [args, callee] = [this.pop(), this.pop()];
        this.push(this.call(callee, args));
        return;
      }
      case "b": {
        // State of an OrderedDict (its `_metadata`): of no use.
        this.pop();
        this.top();
        return;
      }
      default:
        this.fail("an instruction that weights have no use for", "those of plain values and tensors", `0x${code.toString(16).padStart(2, "0")}`);
    }
  }

  private raw(length: number): Uint8Array {
    const start = this.take(length);
    return this.bytes.slice(start, start + length);
  }
  private long(length: number): number | bigint {
    if (length > 16) this.fail("absurd number", "at most 16 bytes", length);
    const start = this.take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.bytes[start + i] as number);
    if (length > 0 && (this.bytes[start + length - 1] as number) > 127) value -= 1n << BigInt(8 * length);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }
  private decimal(line: string): number | boolean {
    if (line === "00" || line === "01") return line === "01";
    const value = Number(line.replace(/L$/, ""));
    return Number.isSafeInteger(value) ? value : this.fail("bad number", "digits", line);
  }
  private map(): Map<Pickled, Pickled> {
    const value = this.top();
    return value instanceof Map ? value : this.fail("broken program", "a dict on the stack", typeof value);
  }
  private filled(map: Map<Pickled, Pickled>, items: readonly Pickled[]): Map<Pickled, Pickled> {
    if (items.length % 2 !== 0) this.fail("broken program", "keys with values", `${items.length} items`);
    this.count(items.length);
    for (let i = 0; i < items.length; i += 2) map.set(items[i] as Pickled, items[i + 1] as Pickled);
    return map;
  }
  private append(items: readonly Pickled[]): void {
    const list = this.top();
    if (!Array.isArray(list)) this.fail("broken program", "a list on the stack", typeof list);
    for (const item of items) (list as Pickled[]).push(item);
  }

  /** `("storage", class, key, place, size)`: a piece of the file. */
  private persistent(id: Pickled): Storage {
    if (!Array.isArray(id) || id[0] !== "storage" || !(id[1] instanceof PickledName)) return this.fail("a reference out of the pickle", "a storage", "another");
    const [, type, key, , size] = id as Pickled[];
    const short = (type as PickledName).name.replace(/^torch\./, "");
    const dtype = STORAGES[short] ?? DTYPES[short] ?? (short === "storage.UntypedStorage" ? "U8" : undefined);
    if (dtype === undefined) return this.fail("a storage of an unknown kind", Object.keys(STORAGES).join(", "), short);
    if (typeof key !== "string" || typeof size !== "number" || !Number.isSafeInteger(size) || size < 0)
      return this.fail("a bad storage", "a key and a number of elements", `${typeof key} and ${typeof size}`);
    return { dtype, key, size };
  }

  private call(callee: Pickled, args: Pickled): Pickled {
    if (!(callee instanceof PickledName) || !Array.isArray(args)) return this.fail("a call of something else", "a name and its arguments", typeof callee);
    const list = args as readonly Pickled[];
    switch (callee.name) {
      case "collections.OrderedDict":
        return this.filled(
          new Map(),
          (Array.isArray(list[0]) ? (list[0] as Pickled[]) : []).flatMap((pair) =>
            Array.isArray(pair) ? [...pair] : this.fail("a bad OrderedDict", "pairs", typeof pair),
          ),
        );
      case "torch._utils._rebuild_tensor":
      case "torch._utils._rebuild_tensor_v2":
        return this.tensor(list);
      case "torch._utils._rebuild_tensor_v3":
        return this.tensor([this.typed(list[0], list[6]), ...list.slice(1)]);
      case "torch._utils._rebuild_parameter":
      case "torch._utils._rebuild_parameter_with_state":
        return list[0] instanceof PickledTensor ? list[0] : this.fail("a bad parameter", "a tensor", typeof list[0]);
      case "torch._tensor._rebuild_from_type_v2":
        if (list[0] instanceof PickledName && list[0].name === callee.name) this.fail("a tensor of a type of a type", "one type", callee.name);
        return this.call(list[0] as Pickled, list[2] as Pickled);
      case "torch.Size":
        return list[0] ?? [];
      case "torch.device":
      case "torch.serialization._get_layout":
        return null;
      default:
        return this.fail("a call that weights have no use for", "one that makes a tensor", JSON.stringify(callee.name));
    }
  }

  /** A storage of bytes as one of elements. */
  private typed(storage: Pickled | undefined, type: Pickled | undefined): Storage {
    const dtype = type instanceof PickledName ? DTYPES[type.name.replace(/^torch\./, "")] : undefined;
    if (dtype === undefined || typeof storage !== "object" || storage === null || !("dtype" in storage))
      return this.fail("a bad tensor", "bytes and a dtype", typeof storage);
    return { dtype, key: storage.key, size: Math.floor((storage.size * SAFETENSORS_DTYPES[storage.dtype].bits) / SAFETENSORS_DTYPES[dtype].bits) };
  }

  private tensor([storage, offset, shape, strides]: readonly Pickled[]): PickledTensor {
    const isCount = (value: unknown): value is number => typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
    const place = storage as Storage;
    if (typeof storage !== "object" || storage === null || !("dtype" in storage) || !isCount(offset))
      return this.fail("a bad tensor", "a storage and an offset", typeof storage);
    if (
      !Array.isArray(shape) ||
      !Array.isArray(strides) ||
      shape.length !== strides.length ||
      shape.length > 8 ||
      !shape.every(isCount) ||
      !strides.every(isCount)
    )
      return this.fail("a bad tensor", "at most 8 sizes, with as many strides", Array.isArray(shape) ? `${shape.length} sizes` : typeof shape);
    const [sizes, steps] = [shape as number[], strides as number[]];
    const empty = sizes.includes(0);
    const last = sizes.reduce((sum, size, i) => sum + (size - 1) * (steps[i] as number), offset);
    const elements = sizes.reduce((n, size) => n * size, 1);
    if (!empty && (last >= place.size || !Number.isSafeInteger(last)))
      return this.fail("a tensor outside its storage", `at most ${place.size} elements`, `one that reaches element ${last}`);
    // Strides of 0 repeat elements: a small file would become a large tensor.
    if (elements > place.size) return this.fail("a tensor larger than its storage", `at most ${place.size} elements`, elements);
    return new PickledTensor(place, offset, sizes, steps);
  }
}

/**
 * Reads Protocol Buffers' wire format field by field: a tag (field number and wire type), then a value. Every length is compared with what is left
 * before anything is taken.
 *
 * Format: https://protobuf.dev/programming-guides/encoding/
 */
import type { Place } from "../files/strict-json.ts";

const TYPE_NAMES = ["a varint", "8 bytes", "bytes with their length", "the start of a group", "the end of a group", "4 bytes", "wire type 6", "wire type 7"];
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];
const LONGEST_VARINT = 10;
const LARGEST_FIELD = 2 ** 29 - 1;
const CUT_OFF = "The file is cut off or damaged: get it again from its source.";

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The fields of one message, in the order of the file: `while (reader.next())`, then one call that takes the field's value. */
export class WireReader {
  /** The number of the field that `next` found. */
  field = 0;
  readonly place: Place;
  private readonly bytes: Uint8Array;
  private at = 0;
  private wireType = VARINT;

  constructor(bytes: Uint8Array, place: Place) {
    this.bytes = bytes;
    this.place = place;
  }

  /** @returns false at the end of the message */
  next(): boolean {
    if (this.at === this.bytes.length) return false;
    const tag = this.takeVarint();
    this.wireType = tag % 8;
    this.field = Math.floor(tag / 8);
    if (this.field === 0 || this.field > LARGEST_FIELD) this.fail("bad field number", `one from 1 to ${LARGEST_FIELD}`, this.field);
    return true;
  }

  /** A whole number from 0 on; past 2^53 only its size is right. */
  varint(): number {
    this.expect(VARINT);
    return this.takeVarint();
  }

  boolean(): boolean {
    return this.varint() !== 0;
  }

  float(): number {
    this.expect(FIXED32);
    const four = this.take(4);
    return new DataView(four.buffer, four.byteOffset, 4).getFloat32(0, true);
  }

  /** A view of the file's own bytes. */
  message(): Uint8Array {
    this.expect(BYTES);
    return this.take(this.takeVarint());
  }

  string(): string {
    const bytes = this.message();
    try {
      return utf8.decode(bytes);
    } catch {
      return this.fail("bad text", "UTF-8", Array.from(bytes.subarray(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join(" "));
    }
  }

  /** Takes a field that the reader has no use for (training settings, self tests): Protocol Buffers has readers ignore what they do not know. */
  ignore(): void {
    if (this.wireType === VARINT) this.takeVarint();
    else if (this.wireType === FIXED64) this.take(8);
    else if (this.wireType === FIXED32) this.take(4);
    else if (this.wireType === BYTES) this.take(this.takeVarint());
    else this.fail(`bad wire type of field ${this.field}`, "a varint, 4 or 8 bytes, or bytes with their length", TYPE_NAMES[this.wireType]);
  }

  private expect(wireType: number): void {
    if (this.wireType !== wireType) this.fail(`wrong type of field ${this.field}`, TYPE_NAMES[wireType], TYPE_NAMES[this.wireType]);
  }

  private take(length: number): Uint8Array {
    const left = this.bytes.length - this.at;
    if (length > left) this.fail("cut off", `${length} more bytes`, left, CUT_OFF);
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  private takeVarint(): number {
    let value = 0;
    for (let i = 0; i < LONGEST_VARINT; i++) {
      if (this.at === this.bytes.length) this.fail("cut off", "the rest of a number", "the end", CUT_OFF);
      const byte = this.bytes[this.at++];
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return value;
    }
    return this.fail("bad number", `at most ${LONGEST_VARINT} bytes`, "more");
  }

  private fail(what: string, expected: string, got: unknown, advice?: string): never {
    return this.place.fail(`${what} before byte ${this.at} of ${this.bytes.length}`, expected, got, advice);
  }
}

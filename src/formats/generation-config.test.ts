import { expect, test } from "vitest";
import { ConfigError } from "../errors.ts";
import { FLOAT8_VALUES } from "./float8.ts";
import { readGenerationConfig } from "./generation-config.ts";
import { openSafetensors, type TensorDtype } from "./safetensors.ts";
import { floatsOf } from "./safetensors-values.ts";
import { encodeSafetensors } from "./safetensors-write.ts";
import { bytesSource, memoryFolder } from "./source.ts";

const read = (content: object) => readGenerationConfig(memoryFolder({ "generation_config.json": JSON.stringify(content) }));

test("generation_config.json: what groundup understands, whatever else it holds", async () => {
  const config = {
    eos_token_id: [1, 106],
    do_sample: true,
    top_k: 64,
    top_p: 0.95,
    temperature: null,
    transformers_version: "4.50",
    _from_model_config: true,
    cache_implementation: "hybrid",
  };
  expect(await read(config)).toEqual({ eos_token_id: [1, 106], do_sample: true, top_k: 64, top_p: 0.95 });
  expect(await readGenerationConfig(memoryFolder({}))).toBe(null);
  await expect(read({ top_p: 2, eos_token_id: "x" })).rejects.toThrow(ConfigError);
  await expect(read({ top_p: 2, eos_token_id: "x" })).rejects.toThrow(/2 problems[\s\S]*top_p is too large, expected at most 1, got 2/);
});

test.each<[TensorDtype, number[], number[]]>([
  ["F8_E4M3", [0x00, 0x38, 0xb8, 0x7e, 0x01, 0x08], [0, 1, -1, 448, 2 ** -9, 2 ** -6]],
  ["F8_E5M2", [0x00, 0x3c, 0xbc, 0x7b, 0x01, 0x7c], [0, 1, -1, 57344, 2 ** -16, Number.POSITIVE_INFINITY]],
  ["F8_E8M0", [127, 128, 126, 0, 254, 130], [1, 2, 0.5, 2 ** -127, 2 ** 127, 8]],
  ["F8_E4M3FNUZ", [0x00, 0x40, 0xc0, 0x7f, 0x01, 0x08], [0, 1, -1, 240, 2 ** -10, 2 ** -7]],
  ["F8_E5M2FNUZ", [0x00, 0x40, 0xc0, 0x7f, 0x01, 0x04], [0, 1, -1, 57344, 2 ** -17, 2 ** -15]],
  ["F64", [...new Uint8Array(Float64Array.of(0.1, -2).buffer)], [Math.fround(0.1), -2]],
  ["F16", [...new Uint8Array(Uint16Array.of(0x3e00, 0x0001, 0xfc00).buffer)], [1.5, 2 ** -24, Number.NEGATIVE_INFINITY]],
  ["BF16", [...new Uint8Array(Uint16Array.of(0x3fc0, 0xc000).buffer)], [1.5, -2]],
])("%s weights as float32", async (dtype, bytes, values) => {
  const file = encodeSafetensors([{ name: "w", dtype, shape: [values.length], data: Uint8Array.from(bytes) }]);
  const pieces: Uint8Array[] = [];
  for await (const piece of file.content) pieces.push(piece);
  const reader = await openSafetensors(bytesSource(Buffer.concat(pieces)));
  expect([...floatsOf(await reader.read("w"), "f")]).toEqual(values);
});

test("NaN of the small floats, and integers that are no weights", () => {
  for (const [dtype, code] of [
    ["F8_E4M3", 0x7f],
    ["F8_E4M3", 0xff],
    ["F8_E5M2", 0x7d],
    ["F8_E8M0", 255],
    ["F8_E4M3FNUZ", 128],
    ["F8_E5M2FNUZ", 128],
  ] as const)
    expect(FLOAT8_VALUES[dtype]?.[code]).toBeNaN();
  expect(() => floatsOf({ name: "w", dtype: "I32", shape: [1], data: new Uint8Array(4) }, "f")).toThrow(
    /tensor w has the wrong dtype, expected floats, got I32/,
  );
});

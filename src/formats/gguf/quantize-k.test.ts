/** Layouts with searched scales: how near the numbers stay, beside llama.cpp's own quantiser. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { FormatError } from "../../errors.ts";
import { dequantizeBlocks } from "./dequantize.ts";
import { FILE_TYPES, type GgufFileType, layoutOf } from "./file-types.ts";
import { quantizeBlocks } from "./quantize.ts";
import { K_BLOCKS } from "./quantize-k.ts";
import { GGML_TYPES } from "./types.ts";

const fixture = JSON.parse(readFileSync(new URL("quantize-k.fixture.json", import.meta.url), "utf8")) as { inputs: string; errors: Record<string, number> };
const inputs = Float32Array.from(new Int16Array(Uint8Array.from(Buffer.from(fixture.inputs, "base64")).buffer), (q) => q * 2 ** -15);
type Searched = keyof typeof K_BLOCKS;
const searched = Object.keys(K_BLOCKS) as Searched[];
const again = (type: Searched, x: Float32Array) => dequantizeBlocks(type, quantizeBlocks(type, x, "test"), "test");

describe.each(searched)("%s", (type) => {
  test("the error is no larger than that of llama.cpp's quantiser", () => {
    const made = again(type, inputs);
    const error = inputs.reduce((sum, x, i) => sum + (x - made[i]) ** 2, 0);
    expect(error).toBeLessThan(fixture.errors[type]);
    // And no less than a tenth of it: then the test would be wrong.
    expect(error).toBeGreaterThan(0.1 * fixture.errors[type]);
  });

  test("numbers that a block can hold come back as they were", () => {
    const { elements, bytes } = GGML_TYPES[type];
    // A block whose sub-blocks reach both ends, at sizes that differ: made of pieces of the layout itself.
    const ramp = { Q2_K: 4, Q3_K: 8, Q4_K: 16, Q5_K: 32, Q6_K: 64, IQ4_NL: 16 }[type];
    const width = { Q2_K: 16, Q3_K: 16, Q4_K: 32, Q5_K: 32, Q6_K: 16, IQ4_NL: 32 }[type];
    const symmetric = type === "Q3_K" || type === "Q6_K";
    const most = { Q2_K: 15, Q3_K: -32, Q4_K: 63, Q5_K: 63, Q6_K: -128, IQ4_NL: 1 }[type];
    const values = Array.from({ length: elements }, (_, i) => {
      const [sub, place] = [Math.floor(i / width), i % width];
      // Sub-block 0 has the largest scale, the others smaller ones; each reaches the least and the largest integer.
      const scale = sub === 0 ? most : Math.sign(most) * (1 + ((sub * 5) % Math.abs(most)));
      const q = place < 2 ? (place === 0 ? 0 : ramp - 1) : (place * 7 + sub) % ramp;
      if (type === "IQ4_NL") return [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113][q] * 2 ** -8;
      const offset = symmetric ? 0 : sub === 0 ? Math.abs(most) : (sub * 3) % Math.abs(most);
      return (scale * (symmetric ? q - ramp / 2 : q) - offset) * 2 ** -10;
    });
    const x = Float32Array.from(values);
    expect(again(type, x)).toEqual(x);
    expect(quantizeBlocks(type, x, "test").length).toBe(bytes);
  });

  test("zeros, and numbers that are all the same", () => {
    const { elements } = GGML_TYPES[type];
    expect(again(type, new Float32Array(elements)).every((x) => x === 0)).toBe(true);
    for (const value of [0.25, -0.25])
      for (const made of again(type, new Float32Array(elements).fill(value))) expect(Math.abs(made - value)).toBeLessThan(0.01);
  });

  test("what is not finite is refused by its place", () => {
    const x = new Float32Array(GGML_TYPES[type].elements);
    x[5] = Number.NaN;
    expect(() => quantizeBlocks(type, x, "tensor a")).toThrow(FormatError);
    expect(() => quantizeBlocks(type, x, "tensor a")).toThrow(`tensor a: can't be ${type}, expected finite numbers, got NaN at place 5`);
  });
});

describe("file types", () => {
  const model = { layers: 16, group: 4, tied: false };
  const layouts = (type: GgufFileType, name: string, row = 512) =>
    Array.from({ length: 16 }, (_, i) => layoutOf(type, `blk.${i}.${name}.weight`, [512, row], model));

  test("vectors, positions and routers are never quantised", () => {
    for (const type of Object.keys(FILE_TYPES) as GgufFileType[]) {
      expect(layoutOf(type, "output_norm.weight", [512], model)).toBe("F32");
      expect(layoutOf(type, "blk.0.attn_q.bias", [512], model)).toBe("F32");
      expect(layoutOf(type, "position_embd.weight", [32, 512], model)).toBe("F32");
      expect(layoutOf(type, "blk.0.ffn_gate_inp.weight", [8, 512], model)).toBe("F32");
    }
  });

  test("the head is kept better, and so is an embedding that serves as one", () => {
    expect(layoutOf("Q4_K_M", "output.weight", [1000, 512], model)).toBe("Q6_K");
    expect(layoutOf("Q4_K_M", "token_embd.weight", [1000, 512], model)).toBe("Q4_K");
    expect(layoutOf("Q4_K_M", "token_embd.weight", [1000, 512], { ...model, tied: true })).toBe("Q6_K");
    expect(layoutOf("Q8_0", "output.weight", [1000, 512], model)).toBe("Q8_0");
    expect(layoutOf("F16", "output.weight", [1000, 512], model)).toBe("F16");
  });

  test("Q4_K_M: the first and last eighth of the layers and each third one between", () => {
    const better = [0, 1, 4, 7, 10, 13, 14, 15];
    for (const name of ["attn_v", "ffn_down"]) expect(layouts("Q4_K_M", name).flatMap((layout, i) => (layout === "Q6_K" ? [i] : []))).toEqual(better);
    expect(new Set(layouts("Q4_K_M", "attn_q"))).toEqual(new Set(["Q4_K"]));
    expect(new Set(layouts("Q4_K_M", "attn_qkv"))).toEqual(new Set(["Q5_K"]));
    expect(layouts("Q4_K_S", "attn_v").slice(0, 5)).toEqual(["Q5_K", "Q5_K", "Q5_K", "Q5_K", "Q4_K"]);
    expect(layouts("Q4_K_S", "ffn_down").slice(0, 3)).toEqual(["Q5_K", "Q5_K", "Q4_K"]);
    expect(layouts("IQ4_NL", "attn_v")[15]).toBe("Q5_K");
    expect(layouts("Q2_K", "attn_v")[3]).toBe("Q4_K");
    expect(layouts("Q3_K_M", "ffn_down").slice(0, 2)).toEqual(["Q5_K", "Q4_K"]);
    expect(layouts("Q3_K_L", "attn_output")[0]).toBe("Q5_K");
  });

  test("rows that are no whole blocks take the nearest layout that fits", () => {
    expect(layouts("Q4_K_M", "attn_q", 576)[0]).toBe("Q5_0");
    expect(layouts("Q6_K", "attn_q", 576)[0]).toBe("Q8_0");
    expect(layouts("Q2_K", "attn_q", 576)[0]).toBe("Q4_0");
    expect(layouts("Q4_0", "attn_q", 40)[0]).toBe("F16");
  });
});

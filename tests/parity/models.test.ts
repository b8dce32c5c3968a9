/** Every model against transformers in float64 (make_models.py): logits, loss, every gradient. Our error may be 4 × that of PyTorch's own float32, plus 1e-6 of the largest value. */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { openFile, openSafetensors } from "../../src/formats/index.ts";
import { type Tensor, tensorFrom } from "../../src/index.ts";
import { fromPretrained } from "../../src/models/index.ts";

const root = fileURLToPath(new URL("../fixtures/models/", import.meta.url));

async function reference(name: string) {
  const reader = await openSafetensors(await openFile(`${root}${name}/reference.safetensors`));
  const arrays = new Map<string, Float64Array | Int32Array>();
  const shapes = new Map<string, readonly number[]>();
  for (const [key, info] of reader.tensors) {
    const { data } = await reader.read(key);
    arrays.set(key, info.dtype === "I32" ? new Int32Array(data.buffer) : new Float64Array(data.buffer));
    shapes.set(key, info.shape);
  }
  await reader.close();
  const errors = JSON.parse(reader.metadata.float32_errors as string) as Record<string, number>;
  const ids = (key: string): Tensor => tensorFrom(arrays.get(key) as Int32Array, shapes.get(key) as number[]);
  return { arrays, errors, ids };
}

function largest(xs: ArrayLike<number>): number {
  let m = 0;
  for (let i = 0; i < xs.length; i++) m = Math.max(m, Math.abs(xs[i] as number));
  return m;
}

function expectWithin(actual: ArrayLike<number>, exact: ArrayLike<number>, allowed: number, what: string): void {
  expect(actual.length, what).toBe(exact.length);
  let worst = 0;
  for (let i = 0; i < exact.length; i++) worst = Math.max(worst, Math.abs((actual[i] as number) - (exact[i] as number)));
  expect(worst, `${what}: largest error, allowed ${allowed}`).toBeLessThanOrEqual(allowed);
}

describe.each(readdirSync(root))("%s", (name) => {
  test("logits, loss and every gradient", async () => {
    const { arrays, errors, ids } = await reference(name);
    const model = await fromPretrained(root + name);
    const { logits, loss } = model.forward({ inputIds: ids("input_ids"), labels: ids("labels") });
    (loss as Tensor).backward();
    const check = (key: string, actual: ArrayLike<number>, scale: number) =>
      expectWithin(actual, arrays.get(key) as Float64Array, 4 * (errors[key] as number) + 1e-6 * scale, key);
    check("logits", await logits.data(), largest(arrays.get("logits") as Float64Array));
    check("loss", [await (loss as Tensor).item()], (arrays.get("loss") as Float64Array)[0] as number);
    const gradients = [...arrays.keys()].filter((k) => k.startsWith("grad."));
    const scale = Math.max(...gradients.map((k) => largest(arrays.get(k) as Float64Array)));
    expect([...model.namedParameters()].map(([n]) => `grad.${n}`).sort()).toEqual(gradients.sort());
    for (const [n, p] of model.namedParameters()) check(`grad.${n}`, await (p.grad as Tensor).data(), scale);
    model.dispose();
  });
});

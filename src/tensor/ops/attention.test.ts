/** Attention's gradients lie where the gradient of their common origin wants them. */
import { expect, test, vi } from "vitest";
import { attention, backend, randn, split, type Tensor } from "../index.ts";

const [B, T, H, KV, D] = [2, 70, 4, 2, 8];
const heads = (x: Tensor, n: number) => x.reshape([B, T, n, D]);

test("parts of one row get one gradient, without a copy and with the bytes of separate ones", async () => {
  const sizes = [H * D, KV * D, KV * D];
  const row = randn([B, T, (H + 2 * KV) * D]);
  const weight = randn([B, T, H, D]);
  const joint = row.clone();
  joint.requiresGrad = true;
  const copies = vi.spyOn(backend(), "copy");
  const [q, k, v] = split(joint, sizes, -1) as [Tensor, Tensor, Tensor];
  attention(heads(q, H), heads(k, KV), heads(v, KV)).mul(weight).sum().backward();
  expect(copies).toHaveBeenCalledTimes(0);
  copies.mockRestore();

  const parts = split(row, sizes, -1).map((part) => part.clone());
  for (const part of parts) part.requiresGrad = true;
  const [a, b, c] = parts as [Tensor, Tensor, Tensor];
  attention(heads(a, H), heads(b, KV), heads(c, KV)).mul(weight).sum().backward();
  const together = split(joint.grad as Tensor, sizes, -1);
  for (const [i, part] of parts.entries()) expect(await (together[i] as Tensor).data()).toEqual(await (part.grad as Tensor).data());
});

test("parts that also go elsewhere, or come in another order, keep their own gradients", async () => {
  const row = randn([B, T, 3 * H * D]);
  const gradient = async (use: (q: Tensor, k: Tensor, v: Tensor) => Tensor) => {
    const leaf = row.clone();
    leaf.requiresGrad = true;
    const [q, k, v] = split(leaf, [H * D, H * D, H * D], -1).map((x) => heads(x, H)) as [Tensor, Tensor, Tensor];
    use(q, k, v).sum().backward();
    return (leaf.grad as Tensor).data();
  };
  // Swapped: the gradient of k stands where q's would.
  const straight = await gradient((q, k, v) => attention(k, q, v));
  const copied = await gradient((q, k, v) => attention(k.clone(), q.clone(), v.clone()));
  expect(straight).toEqual(copied);
  const twice = await gradient((q, k, v) => attention(q, k, v).add(q));
  const once = await gradient((q, k, v) => attention(q.clone(), k.clone(), v.clone()).add(q));
  expect(twice).toEqual(once);
});

"""F.linear and attention under PyTorch's CPU autocast to bfloat16, with their gradients. Writes autocast.fixture.json beside itself.
Inputs come from an integer formula that both sides compute exactly, so only results are stored: bfloat16 numbers.
  python src/tensor/autocast.fixture.py        (torch)"""
import json, os
import torch
from torch.nn import functional as F

M, N, K = 24, 20, 96
T, HEADS, DIM = 70, 2, 16

def fill(rows, columns, seed):
    """In [-0.5, 0.5), exact in both languages."""
    items = [((i * i * 48271 + i * 7919 + seed * 104729) % 100003) / 100003 - 0.5 for i in range(rows * columns)]
    return torch.tensor(items, dtype=torch.float64).float().reshape(rows, columns)

x, w = fill(M, K, 1).requires_grad_(), fill(N, K, 2).requires_grad_()
with torch.autocast("cpu", dtype=torch.bfloat16):
    y = F.linear(x, w)
assert y.dtype == torch.bfloat16 and x.grad is None
y.backward(fill(M, N, 3).bfloat16())
# (B, T, heads, dim), causal
q, k, v = [(4 * fill(T, HEADS * DIM, seed)).reshape(1, T, HEADS, DIM).requires_grad_() for seed in (4, 5, 6)]
with torch.autocast("cpu", dtype=torch.bfloat16):
    o = F.scaled_dot_product_attention(*[x.transpose(1, 2) for x in (q, k, v)], is_causal=True).transpose(1, 2)
assert o.dtype == torch.bfloat16
o.backward(fill(T, HEADS * DIM, 7).reshape(o.shape).bfloat16())
numbers = lambda t: [float(f"{v:.9g}") for v in t.detach().float().flatten().tolist()]
with open(os.path.join(os.path.dirname(__file__), "autocast.fixture.json"), "w") as f:
    json.dump({"torch": torch.__version__, "y": numbers(y), "gx": numbers(x.grad), "gw": numbers(w.grad),
               "o": numbers(o), "gq": numbers(q.grad), "gk": numbers(k.grad), "gv": numbers(v.grad)}, f)
    f.write("\n")

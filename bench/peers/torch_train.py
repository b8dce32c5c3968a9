"""One GPT training step in PyTorch on the CPU, the job of `npm run bench -- train`: python torch_train.py a|b|c [--compile] [--bf16] [--precision medium] [--steps N]

(a) 6 layers, 384 wide, 6 heads, T 256, V 65, B 12   (b) 12, 768, 12, T 64, V 50257, B 4   (c) 4, 128, 4, T 64, V 65, B 12
GPT-2 blocks, exact GELU, tied head, no dropout, causal scaled_dot_product_attention, fused AdamW, random tokens. Ends with one JSON line.
"""
import argparse, json, os, resource, time

ap = argparse.ArgumentParser()
ap.add_argument("setting", choices="abc")
ap.add_argument("--compile", action="store_true")
ap.add_argument("--bf16", action="store_true")
ap.add_argument("--precision", default="highest")
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--steps", type=int, default=0)
args = ap.parse_args()
os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))

import torch
from torch.nn import functional as F

from torch_gpt import GPT

torch.set_num_threads(args.threads)
torch.set_float32_matmul_precision(args.precision)
LAYERS, WIDTH, HEADS, T, V, B, POSITIONS = {"a": (6, 384, 6, 256, 65, 12, 256), "b": (12, 768, 12, 64, 50257, 4, 1024), "c": (4, 128, 4, 64, 65, 12, 64)}[args.setting]

torch.manual_seed(0)
model = GPT(LAYERS, WIDTH, HEADS, vocabulary=V, positions=POSITIONS)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1, fused=True)


def forward(ids, targets):
    return F.cross_entropy(model(ids).flatten(0, 1).float(), targets.flatten())


step = torch.compile(forward) if args.compile else forward
ids, targets = torch.randint(V, (B, T)), torch.randint(V, (B, T))
times = []
warm = 3
for i in range((args.steps or {"a": 5, "b": 5, "c": 60}[args.setting]) + warm):
    start = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
        loss = step(ids, targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if i >= warm:
        times.append((time.perf_counter() - start) * 1e3)
times.sort()
print(json.dumps({"name": "train", "setting": args.setting, "median": times[len(times) // 2], "best": times[0], "unit": "ms/step", "peakRssBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "loss": loss.item(), "torch": torch.__version__}))

"""recipes/characters.yaml in PyTorch: python torch_characters.py TEXT [--seed 1337] [--threads 2]. Trains a GPT-2 of characters (4 layers, 4 heads, 128 wide,
64 characters of context, 12 rows, 2,000 steps, no dropout) on the first nine tenths of the text and ends with one JSON line: the mean loss over the whole
last tenth, in windows of 64, and the seconds of the training.
"""
import argparse, json, math, time

import torch
from torch.nn import functional as F

from torch_gpt import GPT

ap = argparse.ArgumentParser()
ap.add_argument("text")
ap.add_argument("--seed", type=int, default=1337)
ap.add_argument("--threads", type=int, default=2)
args = ap.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(args.seed)

LAYERS, WIDTH, HEADS, T, B, STEPS, WARMUP, LR = 4, 128, 4, 64, 12, 2000, 100, 1e-3
text = open(args.text, encoding="utf-8", newline="").read()
alphabet = sorted(set(text))
place = {c: i for i, c in enumerate(alphabet)}
ids = torch.tensor([place[c] for c in text])
cut = int(len(ids) * 0.9)
train, held_out = ids[:cut], ids[cut:]

model = GPT(LAYERS, WIDTH, HEADS, vocabulary=len(alphabet), positions=T)
groups = [
    {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
    {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.99), fused=True)
start = time.perf_counter()
for step in range(STEPS):
    through = (step - WARMUP) / (STEPS - WARMUP)
    lr = LR * (step + 1) / (WARMUP + 1) if step < WARMUP else LR * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * through)))
    for group in optimizer.param_groups:
        group["lr"] = lr
    at = torch.randint(len(train) - T - 1, (B,))
    x = torch.stack([train[i : i + T] for i in at])
    y = torch.stack([train[i + 1 : i + 1 + T] for i in at])
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
seconds = time.perf_counter() - start
total, count = 0.0, 0
with torch.no_grad():
    for i in range(0, len(held_out) - 1, T):
        x, y = held_out[i : i + T], held_out[i + 1 : i + 1 + T]
        x = x[: len(y)]
        total += F.cross_entropy(model(x[None])[0], y, reduction="sum").item()
        count += len(y)
print(json.dumps({"name": "characters", "seed": args.seed, "loss": total / count, "tokens": count, "seconds": seconds, "torch": torch.__version__}))

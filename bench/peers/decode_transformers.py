"""Greedy decoding with Hugging Face transformers, GPT-2 124M shape, random weights, float32: the peer of bench/decode.mjs.
python bench/peers/decode_transformers.py --setting gpt2@512 [--threads 2] [--rounds 5] [--compile]
Ends with one JSON line: 64 tokens after a prompt of 1 (gpt2@0) or 512 tokens."""
import argparse
import json
import os
import resource
import time

parser = argparse.ArgumentParser()
parser.add_argument("--setting", default="gpt2@0", choices=["gpt2@0", "gpt2@512"])
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--compile", action="store_true", help="torch.compile with a static cache")
args = parser.parse_args()
os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
os.environ["TRANSFORMERS_OFFLINE"] = "1"
import torch
import transformers

torch.set_num_threads(args.threads)
torch.manual_seed(0)
model = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
model.generation_config.eos_token_id = None
model.generation_config.pad_token_id = 0
options = {}
if args.compile:
    model.generation_config.cache_implementation = "static"
    model.forward = torch.compile(model.forward)
depth = {"gpt2@0": 1, "gpt2@512": 512}[args.setting]
ids = (torch.arange(depth) * 7919 % 40000 + 50)[None]


def seconds(tokens):
    start = time.perf_counter()
    model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
    return time.perf_counter() - start


rates = []
with torch.inference_mode():
    for i in range(args.rounds + 1):
        first = seconds(1)
        rates.append(64 / (seconds(65) - first))
rates = sorted(rates[1:])
print(json.dumps({
    "name": "decode", "setting": args.setting, "median": rates[len(rates) // 2], "best": rates[-1], "unit": "tokens/s",
    "peakRssBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "peer": f"transformers {transformers.__version__}, torch {torch.__version__}", "threads": args.threads, "compile": args.compile,
}))

"""The job of bench/quantised-quality.mjs in llama.cpp: python llama_cpp_perplexity.py MODEL.gguf < windows.json, which has a list of lists of token ids.
Each window is evaluated alone, and every id but its first scored. Ends with one JSON line: perplexity and tokens."""
import json, sys

import llama_cpp
import numpy as np

windows = json.load(sys.stdin)
longest = max(map(len, windows))
model = llama_cpp.Llama(
    sys.argv[1], n_ctx=longest, n_batch=longest, n_ubatch=longest, n_threads=2, n_threads_batch=2, logits_all=True, verbose=False
)
total, tokens = 0.0, 0
for ids in windows:
    model.reset()
    model.eval(ids)
    logits = np.asarray(model.scores[: len(ids) - 1], dtype=np.float64)
    best = logits.max(axis=1, keepdims=True)
    norms = best[:, 0] + np.log(np.exp(logits - best).sum(axis=1))
    total += float((norms - logits[np.arange(len(ids) - 1), ids[1:]]).sum())
    tokens += len(ids) - 1
print(json.dumps({"perplexity": float(np.exp(total / tokens)), "tokens": tokens}))

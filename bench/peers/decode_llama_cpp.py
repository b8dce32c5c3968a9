"""The job of `npm run bench -- decode --setting FILE.gguf` in llama.cpp, through the C interface of llama-cpp-python, flash attention on:
python decode_llama_cpp.py FILE.gguf [--threads 2] [--rounds 5]. Tokens are the largest logit's; what they say does not matter. Ends with one JSON line."""
import argparse, ctypes, json, resource, statistics, time

import llama_cpp as llama
import numpy as np

ap = argparse.ArgumentParser()
ap.add_argument("model")
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--rounds", type=int, default=5)
args = ap.parse_args()
TOKENS, SEQUENCES = 64, 8

quiet = llama.llama_log_callback(lambda *_: None)
llama.llama_log_set(quiet, ctypes.c_void_p(0))
llama.llama_backend_init()


class Context:
    """A context for some sequences, as a program would make one."""

    def __init__(self, sequences):
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = 1024 * sequences, 512, 512, sequences
        params.n_threads = params.n_threads_batch = args.threads
        params.flash_attn_type = 1
        self.context = llama.llama_init_from_model(model, params)
        self.memory = llama.llama_get_memory(self.context)
        self.batch = llama.llama_batch_init(512, 0, sequences)

    def step(self, rows):
        """Rows of (token, position, sequence); logits of each sequence's last row."""
        b = self.batch
        b.n_tokens = len(rows)
        last = {sequence: i for i, (_, _, sequence) in enumerate(rows)}
        for i, (token, position, sequence) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i] = token, position, 1
            b.seq_id[i][0], b.logits[i] = sequence, last[sequence] == i
        if llama.llama_decode(self.context, b) != 0:
            raise RuntimeError("llama_decode failed")
        return {s: int(np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, i), (vocabulary,)).argmax()) for s, i in last.items()}

    def clear(self):
        llama.llama_memory_clear(self.memory, True)

    def decode(self, depth, sequences=1):
        """(seconds of the prompts, tokens a second afterwards)"""
        self.clear()
        start = time.perf_counter()
        tokens = {}
        for s in range(sequences):
            tokens |= self.step([(prompt(i + 31 * s), i, s) for i in range(depth)])
        first = time.perf_counter()
        for position in range(depth, depth + TOKENS):
            tokens = self.step([(token, position, s) for s, token in tokens.items()])
        return first - start, sequences * TOKENS / (time.perf_counter() - first)


def prompt(i):
    return (i * 7919) % (vocabulary - 100) + 50


start = time.perf_counter()
params = llama.llama_model_default_params()
params.n_gpu_layers = 0
model = llama.llama_model_load_from_file(args.model.encode(), params)
vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
one = Context(1)
load = time.perf_counter() - start
one.decode(64)
short = [one.decode(1)[1] for _ in range(args.rounds)]
long = [one.decode(512) for _ in range(args.rounds)]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
many = Context(SEQUENCES)
many.decode(1, SEQUENCES)
batched = [[many.decode(depth, SEQUENCES)[1] for _ in range(3)] for depth in (1, 512)]
median = statistics.median
print(json.dumps({
    "name": "decode", "setting": args.model, "prefill512": 512 / median(seconds for seconds, _ in long), "decode0": median(short),
    "decode512": median(rate for _, rate in long), "batched8": median(batched[0]), "batched8At512": median(batched[1]),
    "median": median(short), "best": max(short), "unit": "tokens/s", "loadMs": 1000 * load, "peakRssBytes": peak, "library": llama.__version__,
}))

"""How well llama.cpp's own quantiser does: the sum of squares of its error on a few rows, for each layout whose scales are searched.

    python src/formats/gguf/quantize-k.fixture.py     # llama-cpp-python 0.3.36, gguf 0.19.0, numpy; writes quantize-k.fixture.json beside it (then: npm run format)

The rows are int16 multiples of 2^-15: normal numbers, some of heavy tails, some beside zero, some even.
"""
import base64
import ctypes
import glob
import json
import os

import gguf
import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

HERE = os.path.dirname(__file__)
random = np.random.default_rng(3)
base = ctypes.CDLL(glob.glob(os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so*"))[0], mode=ctypes.RTLD_GLOBAL)
base.ggml_quantize_chunk.restype = ctypes.c_size_t
base.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]

rows = np.concatenate([random.normal(0, 0.05, (8, 256)), random.standard_t(4, (4, 256)) * 0.05, random.normal(0.1, 0.05, (2, 256)), random.uniform(-0.9, 0.9, (2, 256))])
whole = np.clip(np.round(rows * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
x = (whole.astype(np.float32) * np.float32(2**-15)).astype(np.float32)

errors = {}
for name in ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"]:
    elements, size = gguf.GGML_QUANT_SIZES[T[name]]
    blocks = np.zeros((len(x), 256 // elements * size), np.uint8)
    base.ggml_quantize_chunk(int(T[name]), x.ctypes.data, blocks.ctypes.data, 0, len(x), 256, None)
    errors[name] = float(((quants.dequantize(blocks, T[name]).astype(np.float64) - x) ** 2).sum())

with open(os.path.join(HERE, "quantize-k.fixture.json"), "w") as f:
    json.dump({"made by": "src/formats/gguf/quantize-k.fixture.py, llama-cpp-python 0.3.36", "inputs": base64.b64encode(whole.tobytes()).decode(), "errors": errors}, f, indent=2)
    f.write("\n")

"""Blocks of every layout with their values, and a small file, by the reference implementation.

    python src/formats/gguf/gguf.fixture.py        # gguf 0.19.0, numpy; writes gguf.fixture.json beside it (then: npm run format)

Each layout: random bytes as blocks (with scales that are finite), what `gguf.quants.dequantize` makes of them, and where the package can quantise, its blocks of
random numbers. The file is written by `gguf.GGUFWriter`.
"""
import base64
import json
import os
import tempfile

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

HERE = os.path.dirname(__file__)
random = np.random.default_rng(7)
b64 = lambda a: base64.b64encode(np.ascontiguousarray(a).tobytes()).decode()

# Where a block has its scales as float16 (BF16, F32, F16: none).
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": []}
QUANTISED = ["BF16", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"]


def blocks(name):
    elements, size = gguf.GGML_QUANT_SIZES[T[name]]
    n = 3 if elements == 256 else 8
    raw = random.integers(0, 256, (n, size), dtype=np.uint8)
    for at in SCALES[name]:
        raw[:, at : at + 2] = random.normal(0, 0.02, n).astype(np.float16).view(np.uint8).reshape(n, 2)
    if name == "MXFP4":
        raw[:, 0] = [0, 1, 2, 100, 120, 127, 130, 250]
    return raw


dequantised = {}
for name in SCALES:
    raw = blocks(name)
    dequantised[name] = {"blocks": b64(raw), "values": b64(quants.dequantize(raw, T[name]).astype(np.float32))}

inputs = random.normal(0, 1, (4, 64)).astype(np.float32)
inputs[1] = 0
inputs[2] *= 1e-3
inputs[3, ::2] = np.abs(inputs[3, ::2]) + 5
quantised = {name: b64(quants.quantize(inputs, T[name])) for name in QUANTISED}


def file():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "small.gguf")
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_string("text", "ünï 語")
        for kind, value in [("uint8", 200), ("int8", -3), ("uint16", 60000), ("int16", -3000), ("uint32", 4000000000), ("int32", -2000000000), ("float32", 0.1),
                            ("float64", 0.1), ("uint64", 2**63 + 1), ("int64", -(2**62)), ("bool", True)]:
            getattr(writer, f"add_{kind}")(kind, value)
        writer.add_array("strings", ["a", "", "語"])
        writer.add_array("ints", [1, -2, 3])
        writer.add_array("floats", [0.5, -1.5])
        writer.add_array("bools", [True, False])
        writer.add_tensor("one", np.arange(6, dtype=np.float32).reshape(2, 3))
        writer.add_tensor("two", quants.quantize(inputs, T.Q8_0), raw_dtype=T.Q8_0)
        writer.add_tensor("three", np.arange(5, dtype=np.float16))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with open(path, "rb") as f:
            return base64.b64encode(f.read()).decode()


with open(os.path.join(HERE, "gguf.fixture.json"), "w") as f:
    json.dump({"made by": "src/formats/gguf/gguf.fixture.py, gguf 0.19.0", "dequantised": dequantised, "inputs": b64(inputs), "quantised": quantised, "file": file()}, f, indent=0)
    f.write("\n")

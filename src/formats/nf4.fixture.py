"""What bitsandbytes makes of numbers and of a tiny Llama, and the logits of transformers on its weights.

    python src/formats/nf4.fixture.py    # bitsandbytes 0.50.2, transformers 5.24.0, torch 2.15, on a CPU; writes nf4.fixture.json beside it (then: npm run format)

The numbers are those of `numbers` in nf4.test.ts.
"""
import base64
import hashlib
import json
import os
import tempfile

import bitsandbytes.functional as F
import numpy as np
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

HERE = os.path.dirname(__file__)
IDS = [3, 17, 4, 4, 52, 0, 9, 31, 8, 8, 21, 40]


def numbers(count):
    out, state = np.zeros(count, np.float32), 7
    for i in range(count):
        total = 0
        for _ in range(4):
            state = (state * 1664525 + 1013904223) % 2**32
            total += state >> 12
        out[i] = np.float32((total - 2**21) * (1 + i % 5)) / np.float32(2**25)
    return torch.tensor(out)


text = lambda t: base64.b64encode(t.contiguous().numpy().tobytes()).decode()
hashed = lambda t: hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest()

x = numbers(48 * 352).reshape(48, 352)
codes, state = F.quantize_4bit(x, blocksize=64, compress_statistics=True, quant_type="nf4")
rows, sizes, _ = F.int8_vectorwise_quant(x)
made = {
    "nf4": {"codes": text(codes), "sizes": text(state.absmax), "scales": text(state.state2.absmax), "offset": float(state.offset), "values": text(state.code), "nested values": text(state.state2.code),
            "numbers": hashed(F.dequantize_4bit(codes, state).float())},
    "int8": {"codes": hashed(rows), "sizes": text(sizes)},
}

torch.manual_seed(3)
config = LlamaConfig(vocab_size=53, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, attention_bias=True,
                     bos_token_id=1, eos_token_id=2)
model = LlamaForCausalLM(config)
with torch.no_grad():
    for name, weight in model.named_parameters():
        weight.normal_(std=0.2)
        if "norm" in name:
            weight += 1
model = model.bfloat16()


def folder(place):
    with open(os.path.join(place, "model.safetensors"), "rb") as f, open(os.path.join(place, "config.json")) as g:
        return {"model.safetensors": base64.b64encode(f.read()).decode(), "config.json": g.read()}


packings = {
    "nf4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32),
    "int8": BitsAndBytesConfig(load_in_8bit=True),
}
with tempfile.TemporaryDirectory() as place:
    plain = os.path.join(place, "plain")
    model.save_pretrained(plain)
    made["ids"], made["folders"], made["logits"] = IDS, {"plain": folder(plain)}, {}
    for name, packing in packings.items():
        packed = AutoModelForCausalLM.from_pretrained(plain, quantization_config=packing, device_map="cpu", dtype=torch.bfloat16)
        out = os.path.join(place, name)
        packed.save_pretrained(out)
        made["folders"][name] = folder(out)
        again = AutoModelForCausalLM.from_pretrained(out, device_map="cpu")
        floats = LlamaForCausalLM(config).double()
        with torch.no_grad():
            for path, module in again.named_modules():
                if not hasattr(module, "weight"):
                    continue
                weight = module.weight
                if hasattr(weight, "quant_state"):
                    weight.quant_state.dtype = torch.float32
                    weight = F.dequantize_4bit(weight.data, weight.quant_state)
                elif hasattr(weight, "SCB"):
                    weight = F.int8_vectorwise_dequant(weight.data, module.state.SCB if weight.SCB is None else weight.SCB)
                floats.get_submodule(path).weight.copy_(weight.reshape(floats.get_submodule(path).weight.shape))
                if getattr(module, "bias", None) is not None:
                    floats.get_submodule(path).bias.copy_(module.bias)
            logits = floats.eval()(torch.tensor([IDS])).logits[0]
        made["logits"][name] = [round(v, 6) for v in logits.flatten().tolist()]

with open(os.path.join(HERE, "nf4.fixture.json"), "w") as f:
    json.dump({"made by": "src/formats/nf4.fixture.py, bitsandbytes 0.50.2, transformers 5.24.0", **made}, f, indent=0)
    f.write("\n")

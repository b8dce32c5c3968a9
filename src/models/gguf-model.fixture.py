"""Tiny random models as GGUF files with the logits that transformers computes from the same (quantised) weights.

    python src/models/gguf-model.fixture.py     # transformers 5.24.0, accelerate, gguf 0.19.0, torch 2.15; writes gguf-model.fixture.json beside it (then: npm run format)

The files are written as llama.cpp's converter does it: rows of Llama's q and k shuffled in each head, GPT-2's matrices turned.
"""
import base64
import json
import os
import tempfile

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from gguf import quants
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

HERE = os.path.dirname(__file__)
IDS = [[3, 17, 4, 4, 52, 0, 9, 31]]


def shuffled(weight, heads):
    """Row d/2 + i of each head behind its row i."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def common(writer, name, config, heads, layers, hidden, inner, context):
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def llama(writer, layout):
    config = LlamaConfig(vocab_size=53, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=32, rms_norm_eps=1e-5, rope_theta=5000.0, tie_word_embeddings=False)
    model = LlamaForCausalLM(config)
    common(writer, "llama", config, 4, 2, 64, 96, 32)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(5000.0)
    writer.add_rope_dimension_count(16)
    parts = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate",
             "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        name = name.removeprefix("model.").removesuffix(".weight")
        if name.startswith("layers."):
            _, layer, part = name.split(".", 2)
            if part.endswith(("q_proj", "k_proj")):
                values = shuffled(values, 4 if part.endswith("q_proj") else 2)
            name = f"blk.{layer}.{parts[part]}"
        else:
            name = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[name]
        values = add(writer, f"{name}.weight", values, layout)
        if name.endswith(("attn_q", "attn_k")):
            heads = 4 if name.endswith("attn_q") else 2
            values = values.reshape(heads, -1, 2, 64).swapaxes(1, 2).reshape(values.shape)
        weight.copy_(torch.tensor(values))
    return model


def gpt2(writer, layout):
    config = GPT2Config(vocab_size=53, n_positions=32, n_embd=32, n_layer=2, n_head=4)
    model = GPT2LMHeadModel(config)
    common(writer, "gpt2", config, 4, 2, 32, 128, 32)
    writer.add_layer_norm_eps(1e-5)
    parts = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        values = weight.numpy()
        name, kind = name.removeprefix("transformer.").rsplit(".", 1)
        turned = kind == "weight" and ".c_" in f".{name}"
        if turned:
            values = values.T
        if name.startswith("h."):
            _, layer, part = name.split(".", 2)
            name = f"blk.{layer}.{parts[part]}"
        else:
            name = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}[name]
        values = add(writer, f"{name}.{kind}", values, layout)
        weight.copy_(torch.tensor(values.T if turned else values))
    return model


def add(writer, name, values, layout):
    values = np.ascontiguousarray(values, np.float32)
    if values.ndim == 2 and "position" not in name:
        blocks = quants.quantize(values, layout)
        writer.add_tensor(name, blocks, raw_dtype=layout)
        return quants.dequantize(blocks, layout)
    writer.add_tensor(name, values)
    return values


def case(architecture, build, layout):
    torch.manual_seed(11)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        writer = gguf.GGUFWriter(path, architecture)
        with torch.no_grad():
            model = build(writer, layout).double().eval()
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with torch.no_grad():
            logits = model(torch.tensor(IDS)).logits
            # transformers' own reader knows the rows' order in Llama's files (GPT-2's it reads with the default sizes only).
            if architecture == "llama":
                again = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float64).eval()
                assert torch.allclose(again(torch.tensor(IDS)).logits, logits, atol=1e-6)
        with open(path, "rb") as f:
            return {"file": base64.b64encode(f.read()).decode(), "logits": [round(x, 7) for x in logits[0].flatten().tolist()]}


made = {"llama Q8_0": case("llama", llama, T.Q8_0), "gpt2 Q5_1": case("gpt2", gpt2, T.Q5_1)}
with open(os.path.join(HERE, "gguf-model.fixture.json"), "w") as f:
    json.dump({"made by": "src/models/gguf-model.fixture.py, transformers 5.24.0, gguf 0.19.0", "ids": IDS[0], "models": made}, f, indent=0)
    f.write("\n")

"""Tiny random models of Llama's descendants as GGUF files, with the logits that transformers computes from the same (quantised) weights.

    python src/models/llama-family.gguf.fixture.py     # transformers 5.24.0, gguf 0.19.0, torch 2.15; writes llama-family.gguf.fixture.json beside it (then: npm run format)

The files are written as llama.cpp's converter does it: SmolLM3's rows of q and k shuffled in each head, Gemma's norms as 1 + weight. With a folder as argument it writes
there what llama.cpp itself can open: the same files with a vocabulary that means nothing, and logits.json.
"""
import base64
import json
import os
import sys
import tempfile

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from gguf import quants
from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GemmaConfig, GemmaForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM, SmolLM3Config, SmolLM3ForCausalLM

HERE = os.path.dirname(__file__)
VOCABULARY = 37
IDS = [[3, 17, 4, 4, 36, 0, 9, 31, 8]]
SIZES = dict(vocab_size=VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
             max_position_embeddings=32, rms_norm_eps=1e-5, pad_token_id=None)

# Architecture, model class, config, and what the metadata say besides the sizes.
CASES = {
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**{k: v for k, v in SIZES.items() if k != "head_dim"}, rope_theta=5000.0, tie_word_embeddings=True), lambda w: None),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES, rope_theta=5000.0), lambda w: None),
    "gemma": (GemmaForCausalLM, GemmaConfig(**SIZES), lambda w: None),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**SIZES, query_pre_attn_scalar=8, sliding_window=5, attn_logit_softcapping=1.5, final_logit_softcapping=2.0),
               lambda w: (w.add_attn_logit_softcapping(1.5), w.add_final_logit_softcapping(2.0), w.add_sliding_window(5))),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**{**SIZES, "num_hidden_layers": 6}, query_pre_attn_scalar=8, sliding_window=5), lambda w: w.add_sliding_window(5)),
    "smollm3": (SmolLM3ForCausalLM, SmolLM3Config(**{**SIZES, "num_hidden_layers": 4}, tie_word_embeddings=False), lambda w: None),
}
PARTS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}
POST_NORMS = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}


def theta(config):
    rope = config.rope_parameters
    return rope.get("full_attention", rope)["rope_theta"]


def write(path, architecture, model, config, more, layout, vocabulary):
    """Writes the file; the model gets the weights as they are in it."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(8)
    writer.add_value_length(8)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(theta(config))
    writer.add_rope_dimension_count(8)
    more(writer)
    if vocabulary:
        writer.add_tokenizer_model("llama")
        writer.add_token_list([f"<t{i}>" for i in range(VOCABULARY)])
        writer.add_token_scores([-float(i) for i in range(VOCABULARY)])
        writer.add_token_types([1] * VOCABULARY)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    gemma = architecture.startswith("gemma")
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        torch.nn.init.normal_(weight, std=0.25)
        if weight.ndim == 1 and name.endswith("norm.weight") and not gemma:
            weight += 1
        values = weight.numpy()
        stem, kind = name.removeprefix("model.").rsplit(".", 1)
        if stem.startswith("layers."):
            _, layer, part = stem.split(".", 2)
            parts = {**PARTS, **POST_NORMS} if architecture in ("gemma2", "gemma3") else PARTS
            stem = f"blk.{layer}.{parts[part]}"
        else:
            stem = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}[stem]
        heads = {"attn_q": 4, "attn_k": 2}.get(stem.split(".")[-1]) if architecture == "smollm3" else None
        if heads is not None:
            # Row d/2 + i of each head behind its row i.
            values = values.reshape(heads, 2, 4, 32).swapaxes(1, 2).reshape(values.shape)
        added = 1 if gemma and stem.endswith("norm") else 0
        values = np.ascontiguousarray(values, np.float32) + np.float32(added)
        if values.ndim == 2:
            blocks = quants.quantize(values, layout)
            writer.add_tensor(f"{stem}.{kind}", blocks, raw_dtype=layout)
            values = quants.dequantize(blocks, layout)
        else:
            writer.add_tensor(f"{stem}.{kind}", values)
        if heads is not None:
            values = values.reshape(heads, 4, 2, 32).swapaxes(1, 2).reshape(values.shape)
        weight.copy_(torch.tensor(values - np.float32(added)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def case(path, architecture, vocabulary=False):
    cls, config, more = CASES[architecture]
    torch.manual_seed(11)
    config._attn_implementation = "eager"
    model = cls(config)
    with torch.no_grad():
        # llama.cpp rounds what it multiplies with blocks: its logits are compared in float32.
        write(path, architecture, model, config, more, T.F32 if vocabulary else T.Q8_0, vocabulary)
        logits = model.double().eval()(torch.tensor(IDS)).logits
    return [round(x, 7) for x in logits[0].flatten().tolist()]


if len(sys.argv) > 1:
    made = {name: case(os.path.join(sys.argv[1], f"{name}.gguf"), name, vocabulary=True) for name in CASES}
    with open(os.path.join(sys.argv[1], "logits.json"), "w") as f:
        json.dump({"ids": IDS[0], "logits": made}, f)
    sys.exit()
made = {}
with tempfile.TemporaryDirectory() as folder:
    for name in CASES:
        path = os.path.join(folder, "model.gguf")
        logits = case(path, name)
        with open(path, "rb") as f:
            made[name] = {"file": base64.b64encode(f.read()).decode(), "logits": logits}
with open(os.path.join(HERE, "llama-family.gguf.fixture.json"), "w") as f:
    json.dump({"made by": "src/models/llama-family.gguf.fixture.py, transformers 5.24.0, gguf 0.19.0", "ids": IDS[0], "models": made}, f, indent=0)
    f.write("\n")

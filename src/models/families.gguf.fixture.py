"""Tiny random models of other families as GGUF files, with the logits that transformers computes from the same (quantised) weights.

    python src/models/families.gguf.fixture.py [FOLDER]    # transformers 5.24.0, gguf 0.19.0, torch 2.15; writes families.gguf.fixture.json beside it (then: npm run format)

The files are written as llama.cpp's converter does it: fused queries, keys and values taken apart from their groups, Granite's rows of q and k shuffled in each head. With a
FOLDER it writes there what llama.cpp itself can open: the same files with a vocabulary that means nothing, and logits.json.
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
from transformers import BloomConfig, BloomForCausalLM, FalconConfig, FalconForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM
from transformers import GraniteConfig, GraniteForCausalLM, Olmo2Config, Olmo2ForCausalLM, Phi3Config, Phi3ForCausalLM

HERE = os.path.dirname(__file__)
VOCABULARY = 53
CONTEXT = 32
IDS = [[3, 17, 4, 4, 52, 0, 9, 31, 8, 8, 21, 40]]
SIZES = dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, max_position_embeddings=CONTEXT)
RMS = dict(**SIZES, intermediate_size=32, num_key_value_heads=2, rms_norm_eps=1e-4, pad_token_id=None)

# Of each: GGUF's architecture, the model, what its metadata say besides the sizes, the number of key heads where q, k and v are fused in groups.
CASES = {
    "phi3": ("phi3", Phi3ForCausalLM(Phi3Config(**RMS, original_max_position_embeddings=CONTEXT, partial_rotary_factor=0.75, rope_theta=5000.0)),
             lambda w: (w.add_layer_norm_rms_eps(1e-4), w.add_rope_dimension_count(6), w.add_rope_freq_base(5000.0), w.add_rope_scaling_orig_ctx_len(CONTEXT), w.add_sliding_window(0)), None),
    "gpt_neox": ("gptneox", GPTNeoXForCausalLM(GPTNeoXConfig(**{**SIZES, "num_hidden_layers": 2}, intermediate_size=64, layer_norm_eps=1e-4, rotary_pct=0.5)),
                 lambda w: (w.add_layer_norm_eps(1e-4), w.add_rope_dimension_count(4), w.add_parallel_residual(True)), 4),
    "gpt_neox in turn": ("gptneox", GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, intermediate_size=64, layer_norm_eps=1e-4, use_parallel_residual=False, rotary_pct=1.0)),
                         lambda w: (w.add_layer_norm_eps(1e-4), w.add_rope_dimension_count(8), w.add_parallel_residual(False)), 4),
    "olmo2": ("olmo2", Olmo2ForCausalLM(Olmo2Config(**RMS, rope_theta=5000.0)), lambda w: (w.add_layer_norm_rms_eps(1e-4), w.add_rope_freq_base(5000.0)), None),
    "granite": ("granite", GraniteForCausalLM(GraniteConfig(**RMS, tie_word_embeddings=True, embedding_multiplier=3.0, attention_multiplier=0.3, residual_multiplier=0.4, logits_scaling=1.5)),
                lambda w: (w.add_layer_norm_rms_eps(1e-4), w.add_rope_freq_base(10000.0), w.add_rope_dimension_count(8), w.add_attention_scale(0.3), w.add_embedding_scale(3.0),
                           w.add_residual_scale(0.4), w.add_logit_scale(1.5)), None),
    "bloom": ("bloom", BloomForCausalLM(BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=1, n_head=4, layer_norm_epsilon=1e-4)), lambda w: w.add_layer_norm_eps(1e-4), 4),
    "falcon 7B": ("falcon", FalconForCausalLM(FalconConfig(**SIZES, layer_norm_epsilon=1e-4)), lambda w: (w.add_layer_norm_eps(1e-4), w.add_tensor_data_layout("jploski")), 1),
    "falcon 40B": ("falcon", FalconForCausalLM(FalconConfig(**SIZES, layer_norm_epsilon=1e-4, new_decoder_architecture=True, num_kv_heads=2, tie_word_embeddings=False)),
                   lambda w: (w.add_layer_norm_eps(1e-4), w.add_tensor_data_layout("jploski")), 2),
}


def parts_of_groups(values, heads, kv_heads):
    """Queries of all heads, then all keys, then all values."""
    dim = values.shape[0] // (heads + 2 * kv_heads)
    groups = values.reshape(kv_heads, heads // kv_heads + 2, dim, *values.shape[1:])
    return np.concatenate([part.reshape(-1, *values.shape[1:]) for part in (groups[:, :-2], groups[:, -2], groups[:, -1])])


def groups_of_parts(values, heads, kv_heads):
    dim = values.shape[0] // (heads + 2 * kv_heads)
    q, k, v = np.split(values, [heads * dim, (heads + kv_heads) * dim])
    q = q.reshape(kv_heads, heads // kv_heads, dim, *values.shape[1:])
    k, v = (part.reshape(kv_heads, 1, dim, *values.shape[1:]) for part in (k, v))
    return np.concatenate([q, k, v], axis=1).reshape(values.shape)


def shuffled(values, heads, back=False):
    """Row d/2 + i of each head behind its row i."""
    rows = values.shape[0]
    shape = (heads, rows // heads // 2, 2) if back else (heads, 2, rows // heads // 2)
    return values.reshape(*shape, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def write(path, architecture, model, more, groups, vocabulary):
    """Writes the file; the model gets the weights as they are in it."""
    config = model.config
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    names = gguf.get_tensor_name_map(next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == architecture), layers)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", 4 * config.hidden_size))
    writer.add_head_count(heads)
    kv_heads = groups or getattr(config, "num_key_value_heads", heads)
    if architecture != "gptneox":
        writer.add_head_count_kv(kv_heads)
    more(writer)
    if vocabulary:
        writer.add_tokenizer_model("llama")
        writer.add_token_list([f"<t{i}>" for i in range(VOCABULARY)])
        writer.add_token_scores([-float(i) for i in range(VOCABULARY)])
        writer.add_token_types([1] * VOCABULARY)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        torch.nn.init.normal_(weight, std=0.25)
        if weight.ndim == 1 and name.endswith("weight"):
            weight += 1
        values = weight.numpy()
        shuffle = heads if ".q_proj." in name else kv_heads if ".k_proj." in name else None
        if "query_key_value" in name:
            values = parts_of_groups(values, heads, groups)
        elif shuffle and architecture == "granite":
            values = shuffled(values, shuffle)
        values = np.ascontiguousarray(values, np.float32)
        # BLOOM's converter leaves out what stands before every name.
        file = names.get_name(name.removeprefix("transformer.") if architecture == "bloom" else name, try_suffixes=(".weight", ".bias"))
        assert file is not None, name
        if values.ndim == 2:
            blocks = quants.quantize(values, T.Q8_0)
            writer.add_tensor(file, blocks, raw_dtype=T.Q8_0)
            values = quants.dequantize(blocks, T.Q8_0)
        else:
            writer.add_tensor(file, values)
        if "query_key_value" in name:
            values = groups_of_parts(values, heads, groups)
        elif shuffle and architecture == "granite":
            values = shuffled(values, shuffle, back=True)
        weight.copy_(torch.tensor(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


made = {}
for case, (architecture, model, more, groups) in CASES.items():
    torch.manual_seed(11)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = os.path.join(sys.argv[1], f"{case}.gguf") if len(sys.argv) > 1 else os.path.join(folder, "model.gguf")
        write(path, architecture, model, more, groups, len(sys.argv) > 1)
        model.tie_weights()
        logits = model.double().eval()(torch.tensor(IDS)).logits
        with open(path, "rb") as f:
            made[case] = {"file": base64.b64encode(f.read()).decode(), "logits": [round(x, 7) for x in logits[0].flatten().tolist()]}

if len(sys.argv) > 1:
    with open(os.path.join(sys.argv[1], "logits.json"), "w") as f:
        json.dump({"ids": IDS[0], "logits": {case: one["logits"] for case, one in made.items()}}, f)
else:
    with open(os.path.join(HERE, "families.gguf.fixture.json"), "w") as f:
        json.dump({"made by": "src/models/families.gguf.fixture.py, transformers 5.24.0, gguf 0.19.0", "ids": IDS[0], "models": made}, f, indent=0)
        f.write("\n")

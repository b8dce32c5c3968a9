"""A tiny random gpt-oss with experts in MXFP4: as transformers' folder, as llama.cpp's converter lays it out, and the logits of both programs.

    python src/models/gpt_oss.fixture.py    # transformers 5.24.0, gguf 0.19.0, torch 2.15, llama-cpp-python 0.3.36; writes gpt_oss.fixture.json beside it (then: npm run format)

llama.cpp rounds the ramp of yarn to whole dimensions, the model does not: the base is chosen so that both are the same. It computes on float32 weights here, of a file that only
says the numbers of the blocks, with a state in float32.
"""
import base64
import json
import math
import os
import tempfile

import gguf
import llama_cpp
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from gguf import quants
from safetensors.torch import save
from transformers import GptOssConfig, GptOssForCausalLM
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

HERE = os.path.dirname(__file__)
VOCABULARY, HIDDEN, INNER, EXPERTS, LAYERS, HEADS, KEYS, HEAD, CONTEXT, ORIGINAL = 53, 32, 32, 3, 2, 4, 2, 8, 256, 64
IDS = [3, 17, 4, 4, 52, 0, 9, 31, 8, 8, 21, 40]
# The ramp ends a hair below dimension 2 (and begins below 0).
THETA = float(np.nextafter(np.float32(math.exp(HEAD * math.log(ORIGINAL / (2 * math.pi)) / 4)), np.float32(1e9)))

torch.manual_seed(5)
config = GptOssConfig(
    vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KEYS, head_dim=HEAD,
    max_position_embeddings=CONTEXT, num_local_experts=EXPERTS, num_experts_per_tok=2, sliding_window=5, pad_token_id=None, eos_token_id=2, bos_token_id=1, tie_word_embeddings=False,
    rope_parameters=dict(rope_type="yarn", rope_theta=THETA, factor=4.0, beta_fast=32.0, beta_slow=1.0, truncate=False, original_max_position_embeddings=ORIGINAL),
)
config._attn_implementation = config._experts_implementation = "eager"
model = GptOssForCausalLM(config).eval()
folder, state = {}, model.state_dict()
with torch.no_grad():
    for name, weight in state.items():
        if name.endswith(("gate_up_proj", "down_proj")):
            rows, columns = weight.shape[2], weight.shape[1]
            blocks = torch.randint(0, 256, (EXPERTS, rows, columns // 32, 16), dtype=torch.uint8)
            scales = torch.randint(121, 125, (EXPERTS, rows, columns // 32), dtype=torch.uint8)
            folder[f"{name}_blocks"], folder[f"{name}_scales"] = blocks, scales
            weight.copy_(convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))
        else:
            weight.copy_(torch.empty_like(weight).normal_(std=0.3) + (1 if name.endswith("norm.weight") else 0))
            weight.copy_(weight.bfloat16())
            folder[name] = weight.bfloat16()
    model.double()
    logits = model(torch.tensor([IDS])).logits[0]

written = config.to_dict() | {"quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"], "quant_method": "mxfp4"}}

NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.sinks": "attn_sinks.weight",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm", "mlp.router": "ffn_gate_inp"}


def mxfp4(blocks, scales):
    """The exponent before its codes; in a byte what stands 16 numbers apart, not what stands side by side."""
    codes = torch.stack([blocks & 15, blocks >> 4], -1).flatten(-2)
    return torch.cat([scales.unsqueeze(-1), codes[..., :16] | (codes[..., 16:] << 4)], -1).flatten(-2).numpy()


def write(path, packed):
    writer = gguf.GGUFWriter(path, "gpt-oss")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_expert_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(2)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(THETA)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(ORIGINAL)
    writer.add_sliding_window(5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<t{i}>" for i in range(VOCABULARY)])
    writer.add_token_scores([-float(i) for i in range(VOCABULARY)])
    writer.add_token_types([1] * VOCABULARY)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)

    def add(name, values):
        plain = values.ndim < 2 or name.endswith(".bias") or "ffn_gate_inp" in name or not packed
        values = np.ascontiguousarray(values.float().numpy())
        writer.add_tensor(name, values if plain else quants.quantize(values, T.BF16), raw_dtype=None if plain else T.BF16)

    def add_experts(name, key, rows):
        if packed:
            writer.add_tensor(name, np.ascontiguousarray(mxfp4(folder[f"{key}_blocks"][:, rows], folder[f"{key}_scales"][:, rows])), raw_dtype=T.MXFP4)
        else:
            writer.add_tensor(name, np.ascontiguousarray(state[key].transpose(1, 2)[:, rows].float().numpy()))

    add("token_embd.weight", state["model.embed_tokens.weight"])
    add("output_norm.weight", state["model.norm.weight"])
    add("output.weight", state["lm_head.weight"])
    for i in range(LAYERS):
        for ours, file in NAMES.items():
            for end in ("", ".weight", ".bias"):
                if f"model.layers.{i}.{ours}{end}" in state:
                    add(f"blk.{i}.{file}{end}", state[f"model.layers.{i}.{ours}{end}"])
        experts = f"model.layers.{i}.mlp.experts"
        for file, name, rows in (("gate", "gate_up_proj", slice(0, None, 2)), ("up", "gate_up_proj", slice(1, None, 2)), ("down", "down_proj", slice(None))):
            add_experts(f"blk.{i}.ffn_{file}_exps.weight", f"{experts}.{name}", rows)
            add(f"blk.{i}.ffn_{file}_exps.bias", state[f"{experts}.{name}_bias"][:, rows])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_logits(path):
    llama = llama_cpp.Llama(path, n_ctx=CONTEXT, logits_all=True, verbose=False, type_k=0, type_v=0, flash_attn=False)
    llama.eval(IDS)
    return np.array(llama.scores[: len(IDS)])


rounded = lambda values: [round(float(x), 6) for x in values.flatten().tolist()]
with tempfile.TemporaryDirectory() as place:
    packed, plain = os.path.join(place, "packed.gguf"), os.path.join(place, "plain.gguf")
    write(packed, True)
    write(plain, False)
    files = {"config.json": json.dumps(written), "model.safetensors": base64.b64encode(save(folder)).decode()}
    with open(packed, "rb") as f:
        packed_file = base64.b64encode(f.read()).decode()
    made = {"ids": IDS, "folder": files, "gguf": packed_file, "transformers": rounded(logits), "llama.cpp": rounded(llama_logits(plain)), "llama.cpp on blocks": rounded(llama_logits(packed))}

scale = max(abs(x) for x in made["transformers"])
for key in ("llama.cpp", "llama.cpp on blocks"):
    print(key, max(abs(a - b) for a, b in zip(made[key], made["transformers"])) / scale)
with open(os.path.join(HERE, "gpt_oss.fixture.json"), "w") as f:
    json.dump({"made by": "src/models/gpt_oss.fixture.py, transformers 5.24.0, gguf 0.19.0, llama-cpp-python 0.3.36", **made}, f, indent=0)
    f.write("\n")

"""Makes the parity fixtures of the decoder models: python tests/parity/make_models.py [NAME …], all of them without names

For each variant: a Hugging Face folder (config.json, model.safetensors) with random weights, and reference.safetensors with ids, labels, and from
transformers in float64: logits, loss and every gradient; the metadata holds the largest error of PyTorch's own float32 for each of them, and the versions.
Weights have std >= 0.2 and gains and biases are random, so that a wrong epsilon, activation, rotary base or scale shows.
"""
import json, os, sys, torch, transformers
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import BloomConfig, BloomForCausalLM, FalconConfig, FalconForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, GraniteConfig, GraniteForCausalLM
from transformers import Olmo2Config, Olmo2ForCausalLM, OPTConfig, OPTForCausalLM, Phi3Config, Phi3ForCausalLM

HERE = os.path.join(os.path.dirname(__file__), "..", "fixtures", "models")
g = dict(vocab_size=37, n_positions=24, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0)
l = dict(vocab_size=37, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=24, rms_norm_eps=1e-3, bos_token_id=0, eos_token_id=0, pad_token_id=None)
x = dict(vocab_size=37, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=24, layer_norm_eps=1e-2, bos_token_id=0, eos_token_id=0)
o = dict(vocab_size=37, hidden_size=16, ffn_dim=40, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=24, dropout=0, bos_token_id=0, eos_token_id=0, pad_token_id=None)
b = dict(vocab_size=37, hidden_size=16, n_layer=2, n_head=2, layer_norm_epsilon=1e-2, bos_token_id=0, eos_token_id=0)
f = dict(vocab_size=37, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=24, layer_norm_epsilon=1e-2, ffn_hidden_size=24, bos_token_id=0, eos_token_id=0)
VARIANTS = {
    "gpt2": (GPT2LMHeadModel, GPT2Config(**g, layer_norm_epsilon=1e-2), 11),
    "gpt2-gelu-untied": (GPT2LMHeadModel, GPT2Config(**g, activation_function="gelu", n_inner=24, tie_word_embeddings=False, scale_attn_by_inverse_layer_idx=True), 7),
    "llama": (LlamaForCausalLM, LlamaConfig(**l), 11),
    "llama-gqa-tied-biases": (LlamaForCausalLM, LlamaConfig(**l, num_key_value_heads=2, head_dim=6, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, rope_theta=500.0), 11),
    "llama-gelu": (LlamaForCausalLM, LlamaConfig(**l, num_key_value_heads=1, hidden_act="gelu_pytorch_tanh"), 7),
    "llama-rope-linear": (LlamaForCausalLM, LlamaConfig(**l, rope_scaling=dict(rope_type="linear", factor=2.0)), 20),
    "llama-rope-dynamic": (LlamaForCausalLM, LlamaConfig(**{**l, "max_position_embeddings": 16, "hidden_size": 32}, rope_scaling=dict(rope_type="dynamic", factor=2.0)), 24),
    "llama-rope-yarn": (LlamaForCausalLM, LlamaConfig(**{**l, "hidden_size": 32}, rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=6, beta_fast=4.0, beta_slow=0.1)), 20),
    "llama-rope-llama3": (LlamaForCausalLM, LlamaConfig(**{**l, "hidden_size": 32}, rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=12)), 20),
    "llama-rope-longrope": (LlamaForCausalLM, LlamaConfig(**{**l, "hidden_size": 32}, rope_scaling=dict(rope_type="longrope", short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=[1.0, 2.0, 3.0, 4.0], original_max_position_embeddings=12, factor=2.0)), 20),
    "phi3": (Phi3ForCausalLM, Phi3Config(**l), 11),
    "phi3-partial-window-longrope": (Phi3ForCausalLM, Phi3Config(**{**l, "hidden_size": 32}, num_key_value_heads=2, hidden_act="gelu_pytorch_tanh", tie_word_embeddings=True, sliding_window=5, original_max_position_embeddings=12, partial_rotary_factor=0.5, rope_scaling=dict(type="longrope", factor=3.0, short_factor=[1.0, 1.1], long_factor=[1.5, 3.0])), 20),
    "gpt_neox": (GPTNeoXForCausalLM, GPTNeoXConfig(**x), 11),
    "gpt_neox-in-turn-tied": (GPTNeoXForCausalLM, GPTNeoXConfig(**x, use_parallel_residual=False, rotary_pct=0.75, rotary_emb_base=500.0, hidden_act="gelu_new", tie_word_embeddings=True, attention_bias=False, rope_scaling=dict(rope_type="linear", factor=2.0)), 20),
    "olmo2": (Olmo2ForCausalLM, Olmo2Config(**l), 11),
    "olmo2-gqa-tied-biases": (Olmo2ForCausalLM, Olmo2Config(**l, num_key_value_heads=2, tie_word_embeddings=True, attention_bias=True, hidden_act="gelu_pytorch_tanh", rope_theta=500.0), 11),
    "granite": (GraniteForCausalLM, GraniteConfig(**l, attention_multiplier=0.5), 11),
    "granite-multipliers": (GraniteForCausalLM, GraniteConfig(**l, num_key_value_heads=2, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, embedding_multiplier=3.0, attention_multiplier=0.3, residual_multiplier=0.4, logits_scaling=1.7), 11),
    "opt": (OPTForCausalLM, OPTConfig(**o), 11),
    "opt-post-projected": (OPTForCausalLM, OPTConfig(**o, do_layer_norm_before=False, word_embed_proj_dim=12, activation_function="gelu"), 11),
    "opt-bare-untied": (OPTForCausalLM, OPTConfig(**o, _remove_final_layer_norm=True, enable_bias=False, layer_norm_elementwise_affine=False, tie_word_embeddings=False), 11),
    "bloom": (BloomForCausalLM, BloomConfig(**b), 11),
    "bloom-post-untied": (BloomForCausalLM, BloomConfig(**{**b, "hidden_size": 12, "n_head": 6}, apply_residual_connection_post_layernorm=True, tie_word_embeddings=False), 11),
    "falcon": (FalconForCausalLM, FalconConfig(**f), 11),
    "falcon-grouped-untied": (FalconForCausalLM, FalconConfig(**f, new_decoder_architecture=True, num_kv_heads=2, activation="gelu_new", tie_word_embeddings=False), 11),
    "falcon-grouped-one-norm": (FalconForCausalLM, FalconConfig(**f, new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1, bias=True, rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=500.0)), 11),
    "falcon-alibi-in-turn": (FalconForCausalLM, FalconConfig(**f, alibi=True, parallel_attn=False, multi_query=False, bias=True), 11),
}


def run(cls, config, state, ids, labels, dtype):
    model = cls(config).to(dtype)
    model.load_state_dict({k: v.to(dtype) for k, v in state.items()}, strict=True)
    model.eval()
    out = model(input_ids=ids, labels=labels)
    out.loss.backward()
    result = {"logits": out.logits, "loss": out.loss.reshape(1)}
    result.update({f"grad.{n}": p.grad for n, p in model.named_parameters()})
    return {k: v.detach().double() for k, v in result.items()}


for name in sys.argv[1:] or VARIANTS:
    cls, config, length = VARIANTS[name]
    torch.manual_seed(len(name))
    # transformers' eager Falcon adds the penalties of ALiBi twice.
    config._attn_implementation = "sdpa" if getattr(config, "alibi", False) else "eager"
    model = cls(config)
    with torch.no_grad():
        for n, p in model.named_parameters():
            gain = ("ln_" in n or "norm" in n) and n.endswith("weight")
            p.copy_(torch.randn_like(p) * (0.3 if gain else 0.25) + (1.0 if gain else 0.0))
    ids = torch.randint(0, config.vocab_size, (2, length))
    labels = ids.clone()
    labels[0, 3] = -100
    state = model.state_dict()
    exact = run(cls, config, state, ids, labels, torch.float64)
    single = run(cls, config, state, ids, labels, torch.float32)
    folder = os.path.join(HERE, name)
    model.save_pretrained(folder)
    for extra in ("generation_config.json",):
        if os.path.exists(os.path.join(folder, extra)):
            os.remove(os.path.join(folder, extra))
    errors = {k: (single[k] - exact[k]).abs().max().item() for k in exact}
    meta = {"torch": torch.__version__, "transformers": transformers.__version__, "float32_errors": json.dumps(errors)}
    save_file({"input_ids": ids.int(), "labels": labels.int(), **{k: v.contiguous() for k, v in exact.items()}}, os.path.join(folder, "reference.safetensors"), meta)
    print(name, "loss", exact["loss"].item(), "float32 error of logits", errors["logits"])

"""Makes the parity fixtures of the decoder models: python tests/parity/make_models.py [NAME …], all of them without names

For each variant: a Hugging Face folder (config.json, model.safetensors) with random weights, and reference.safetensors with ids, labels, and from
transformers in float64: logits, loss and every gradient; the metadata holds the largest error of PyTorch's own float32 for each of them, and the versions.
Weights have std >= 0.2 and gains and biases are random, so that a wrong epsilon, activation, rotary base or scale shows.
"""
import json, os, sys, torch, transformers
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, GptOssConfig, GptOssForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM, MistralConfig, MistralForCausalLM, SmolLM3Config, SmolLM3ForCausalLM
from transformers import GemmaConfig, GemmaForCausalLM, Gemma2Config, Gemma2ForCausalLM, Gemma3TextConfig, Gemma3ForCausalLM
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import BloomConfig, BloomForCausalLM, FalconConfig, FalconForCausalLM, GPTNeoXConfig, GPTNeoXForCausalLM, GraniteConfig, GraniteForCausalLM
from transformers import Olmo2Config, Olmo2ForCausalLM, OPTConfig, OPTForCausalLM, Phi3Config, Phi3ForCausalLM

HERE = os.path.join(os.path.dirname(__file__), "..", "fixtures", "models")
g = dict(vocab_size=37, n_positions=24, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0)
l = dict(vocab_size=37, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=24, rms_norm_eps=1e-3, bos_token_id=0, eos_token_id=0, pad_token_id=None)
kv = dict(**l, num_key_value_heads=2)
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
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**kv), 11),
    "qwen2-window-tied": (Qwen2ForCausalLM, Qwen2Config(**l, num_key_value_heads=1, use_sliding_window=True, sliding_window=5, max_window_layers=1, tie_word_embeddings=True, rope_theta=500.0), 20),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**kv, head_dim=6), 11),
    "qwen3-window-biases": (Qwen3ForCausalLM, Qwen3Config(**kv, head_dim=4, attention_bias=True, use_sliding_window=True, sliding_window=5, max_window_layers=1, tie_word_embeddings=True, rope_theta=500.0), 20),
    "mistral": (MistralForCausalLM, MistralConfig(**kv, head_dim=6, sliding_window=5), 20),
    "mistral-full-tied": (MistralForCausalLM, MistralConfig(**kv, sliding_window=None, tie_word_embeddings=True), 11),
    "gemma3_text": (Gemma3ForCausalLM, Gemma3TextConfig(**kv, head_dim=6, query_pre_attn_scalar=9, sliding_window=5, layer_types=["sliding_attention", "full_attention"]), 20),
    "gemma3_text-capped-scaled": (Gemma3ForCausalLM, Gemma3TextConfig(**kv, head_dim=4, query_pre_attn_scalar=4, sliding_window=4, sliding_window_pattern=2, attention_bias=True, final_logit_softcapping=2.0, tie_word_embeddings=False, rope_theta=5000.0, rope_local_base_freq=50.0, rope_scaling=dict(rope_type="linear", factor=3.0)), 20),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**kv, head_dim=6, query_pre_attn_scalar=9, sliding_window=5, attn_logit_softcapping=1.5, final_logit_softcapping=2.0), 20),
    "gemma2-uncapped-biases": (Gemma2ForCausalLM, Gemma2Config(**kv, head_dim=4, query_pre_attn_scalar=4, attention_bias=True, attn_logit_softcapping=None, final_logit_softcapping=None, tie_word_embeddings=False, layer_types=["full_attention", "sliding_attention"], sliding_window=4), 11),
    "gemma": (GemmaForCausalLM, GemmaConfig(**{**l, "num_key_value_heads": 1}, head_dim=6), 11),
    "gemma-biases-untied": (GemmaForCausalLM, GemmaConfig(**kv, head_dim=4, attention_bias=True, tie_word_embeddings=False, hidden_act="silu"), 11),
    "smollm3": (SmolLM3ForCausalLM, SmolLM3Config(**kv, no_rope_layer_interval=2), 11),
    "mixtral": (MixtralForCausalLM, MixtralConfig(**kv, num_local_experts=3, num_experts_per_tok=2, head_dim=6), 11),
    "mixtral-window-balanced": (MixtralForCausalLM, MixtralConfig(**kv, num_local_experts=3, num_experts_per_tok=1, sliding_window=5, output_router_logits=True, router_aux_loss_coef=0.5, tie_word_embeddings=True, hidden_act="gelu_pytorch_tanh"), 20),
    "qwen3_moe": (Qwen3MoeForCausalLM, Qwen3MoeConfig(**kv, head_dim=6, num_experts=3, num_experts_per_tok=2, moe_intermediate_size=6), 11),
    "qwen3_moe-balanced-plain-layer": (Qwen3MoeForCausalLM, Qwen3MoeConfig(**kv, head_dim=4, num_experts=3, num_experts_per_tok=2, moe_intermediate_size=6, norm_topk_prob=True, decoder_sparse_step=2, attention_bias=True, output_router_logits=True, router_aux_loss_coef=0.5, use_sliding_window=True, sliding_window=5, max_window_layers=0), 20),
    "gpt_oss": (GptOssForCausalLM, GptOssConfig(**kv, head_dim=8, num_local_experts=3, num_experts_per_tok=2, sliding_window=5), 20),
    "gpt_oss-plain-positions": (GptOssForCausalLM, GptOssConfig(**kv, head_dim=4, num_local_experts=3, num_experts_per_tok=1, sliding_window=4, layer_types=["full_attention", "sliding_attention"], rope_parameters=dict(rope_type="default", rope_theta=500.0), swiglu_limit=0.3, swiglu_alpha=1.2, attention_bias=False, output_router_logits=True, router_aux_loss_coef=0.5), 20),
    "smollm3-window-biases": (SmolLM3ForCausalLM, SmolLM3Config(**kv, no_rope_layers=[0, 1], attention_bias=True, mlp_bias=True, use_sliding_window=True, sliding_window=5, tie_word_embeddings=False, rope_theta=500.0), 20),
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
    config._experts_implementation = "eager"
    model = cls(config)
    with torch.no_grad():
        for n, p in model.named_parameters():
            gain = ("ln_" in n or "norm" in n) and n.endswith("weight")
            # Gemma's norms multiply by 1 + weight.
            centre = 1.0 if gain and not cls.__name__.startswith("Gemma") else 0.0
            p.copy_(torch.randn_like(p) * (0.3 if gain else 0.25) + centre)
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

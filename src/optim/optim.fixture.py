"""Traces of PyTorch's optimisers and 200-step loss curves of tiny models. Writes optim.fixture.json beside itself.
Weights, gradients and token ids come from integer formulas that both sides compute exactly, so only results are stored.
  python src/optim/optim.fixture.py        (torch, transformers)"""
import json, os
import torch, transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

torch.set_num_threads(1)
SHAPES = [(5, 7), (7,), (3, 4)]
STEPS, KEEP = 100, (1, 2, 10, 50, 100)

def number(a, b, c):
    """In [-0.5, 0.5), exact in both languages."""
    return ((a * 7919 + b * 104729 + c * 15485863 + 12345) % 1009) / 1009 - 0.5

def fill(shape, a, b, scale):
    n = 1
    for s in shape: n *= s
    return torch.tensor([number(a, b, i) * scale for i in range(n)], dtype=torch.float64).reshape(shape)

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99), eps=1e-7, weight_decay=0.05),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.95, eps=1e-8, weight_decay=0.02),
}

def trace(make, clip):
    params = [torch.nn.Parameter(fill(s, 1000 + k, 0, 2.0)) for k, s in enumerate(SHAPES)]
    optimizer = make(params)
    kept = {}
    for t in range(1, STEPS + 1):
        for k, p in enumerate(params): p.grad = fill(SHAPES[k], k, t, 1.0) + 0.3 * p.detach()
        if clip: torch.nn.utils.clip_grad_norm_(params, clip)
        optimizer.step()
        if t in KEEP: kept[t] = [x for p in params for x in p.detach().flatten().tolist()]
    return kept

def curve(model, vocabulary, batch, length):
    for k, (name, p) in enumerate(model.named_parameters()):
        with torch.no_grad():
            if "norm" in name or "ln_" in name: p.fill_(0.0 if name.endswith("bias") else 1.0)
            elif p.dim() < 2: p.fill_(0.0)
            else: p.copy_(fill(p.shape, k, 77, 0.3).float())
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    losses = []
    for step in range(200):
        ids = torch.tensor([[int((number(step, b, 5) + 0.5) * vocabulary + t * (1 + b % 3)) % vocabulary if (t + step) % 5 else (step * 7 + b * 3 + t) % vocabulary for t in range(length)] for b in range(batch)])
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(round(loss.item(), 7))
    return losses

gpt2 = dict(vocab_size=48, n_positions=24, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, activation_function="gelu_new")
llama = dict(vocab_size=48, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=24, rms_norm_eps=1e-5, tie_word_embeddings=True)
out = {
    "made_by": f"torch {torch.__version__}, transformers {transformers.__version__}",
    "shapes": SHAPES,
    "traces": {name: trace(make, 0) for name, make in OPTIMIZERS.items()},
    "clipped": trace(OPTIMIZERS["adamw"], 0.5),
    "curves": {
        "gpt2": {"config": gpt2, "losses": curve(GPT2LMHeadModel(GPT2Config(**gpt2, attn_implementation="eager")), 48, 4, 24)},
        "llama": {"config": llama, "losses": curve(LlamaForCausalLM(LlamaConfig(**llama, rope_theta=10000.0, attn_implementation="eager")), 48, 4, 24)},
    },
}
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "optim.fixture.json"), "w") as f: json.dump(out, f)
print(out["made_by"], {k: (v["losses"][0], v["losses"][99], v["losses"][-1]) for k, v in out["curves"].items()})

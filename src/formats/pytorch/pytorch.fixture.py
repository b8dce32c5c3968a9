"""Files of torch.save: tensors of every kind, and a checkpoint as nanoGPT writes it with the logits of the same weights in transformers.

    python src/formats/pytorch/pytorch.fixture.py     # torch 2.15, transformers 5.24.0; writes pytorch.fixture.json beside it (then: npm run format)
"""
import base64
import collections
import io
import json
import os

import torch
from transformers import GPT2Config, GPT2LMHeadModel

HERE = os.path.dirname(__file__)
torch.manual_seed(5)


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return base64.b64encode(buffer.getvalue()).decode()


base = torch.arange(12, dtype=torch.float32)
tensors = collections.OrderedDict(
    f32=base.reshape(3, 4), turned=base.reshape(3, 4).t(), part=base[5:9], half=torch.tensor([1.5, -2]).half(), bf16=torch.tensor([1.5, -3]).bfloat16(),
    f64=torch.tensor([0.1], dtype=torch.float64), whole=torch.tensor([2**40, -1]), flags=torch.tensor([True, False]), scalar=torch.tensor(7.0), none=torch.zeros(0, 3),
    parameter=torch.nn.Parameter(torch.tensor([3.0, 4.0])), float8=torch.tensor([0.5, -448.0]).to(torch.float8_e4m3fn))
tensors._metadata = collections.OrderedDict(version=1)

config = GPT2Config(vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2, activation_function="gelu")
model = GPT2LMHeadModel(config).double().eval()
with torch.no_grad():
    for p in model.parameters():
        p.copy_((torch.randn_like(p) * 0.3).float().double())
    for name, p in model.named_parameters():
        if name.endswith("bias"):
            p.zero_()
    ids = [3, 17, 4, 4, 0, 9]
    logits = model(torch.tensor([ids])).logits[0].flatten().tolist()
state = {}
for name, value in model.state_dict().items():
    turned = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
    if not name.endswith(".bias"):
        state["_orig_mod." + name] = (value.t().contiguous() if turned else value).float()
args = dict(n_layer=2, n_head=2, n_embd=16, block_size=16, bias=False, vocab_size=40, dropout=0.0)
optimizer = {"state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 6e-4, "betas": (0.9, 0.95), "params": [0]}]}
checkpoint = {"model": state, "optimizer": optimizer, "model_args": args, "iter_num": 5, "best_val_loss": torch.tensor(3.0), "config": {"out_dir": "out", "compile": True}}

made = {"made by": "src/formats/pytorch/pytorch.fixture.py, torch 2.15", "tensors": saved(tensors), "old": saved(tensors, _use_new_zipfile_serialization=False),
        "protocol 4": saved(tensors, pickle_protocol=4), "nanogpt": saved(checkpoint), "ids": ids, "logits": [round(x, 7) for x in logits]}
with open(os.path.join(HERE, "pytorch.fixture.json"), "w") as f:
    json.dump(made, f, indent=0)
    f.write("\n")

"""Writes beam-search.fixture.json: texts and scores of Hugging Face's `generate(num_beams=…)` for a small random model, whose weights are in it.
Made with torch 2.15.0 and transformers 5.24.0:  python src/generate/beam-search.fixture.py > src/generate/beam-search.fixture.json"""
import json
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(11)
CONFIG = dict(
    vocab_size=24, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
    max_position_embeddings=64, tie_word_embeddings=False,
)
model = LlamaForCausalLM(LlamaConfig(**CONFIG, bos_token_id=None, eos_token_id=None, pad_token_id=0)).eval()
weights = {}
with torch.no_grad():
    for name, p in model.named_parameters():
        # Multiples of 1/256 are the same in decimal and in binary.
        p.copy_(((torch.randn(p.shape) * (0.9 if p.dim() > 1 else 0.2) + (p.dim() == 1)) * 256).round() / 256)
        weights[name] = {"shape": list(p.shape), "values": p.flatten().tolist()}

PROMPTS = [[3, 17, 5], [9], [1, 2, 3, 4, 5, 6, 7, 8, 2, 2], [20, 11]]
CASES = [
    dict(num_beams=4, max_new_tokens=12),
    dict(num_beams=3, max_new_tokens=16, eos_token_id=[3], num_return_sequences=3),
    dict(num_beams=4, max_new_tokens=20, eos_token_id=[3, 19], num_return_sequences=4, length_penalty=2.0),
    dict(num_beams=4, max_new_tokens=20, eos_token_id=[7, 12, 3], num_return_sequences=2, length_penalty=-1.0),
    dict(num_beams=2, max_new_tokens=24, eos_token_id=[7, 12, 3], num_return_sequences=2, early_stopping=True),
    dict(num_beams=4, max_new_tokens=24, eos_token_id=[7, 12, 3, 19], num_return_sequences=4, early_stopping="never"),
    dict(num_beams=4, max_new_tokens=24, eos_token_id=[7, 12, 3, 19], num_return_sequences=4, early_stopping="never", length_penalty=0.0),
    dict(num_beams=1, max_new_tokens=8),
]

out = []
for case in CASES:
    for prompt in PROMPTS:
        options = {**case}
        # One beam is greedy search there, which has no score.
        scored = case["num_beams"] > 1
        r = model.generate(torch.tensor([prompt]), do_sample=False, return_dict_in_generate=True, output_scores=scored, **options)
        beams = []
        for i, row in enumerate(r.sequences.tolist()):
            ids = row[len(prompt):]
            for at, id in enumerate(ids):
                if id in case.get("eos_token_id", []):
                    ids = ids[: at + 1]
                    break
            beams.append({"ids": ids, "score": r.sequences_scores[i].item() if scored else None})
        out.append({"prompt": prompt, "options": case, "beams": beams})
print(json.dumps({"config": CONFIG, "weights": weights, "cases": out}))

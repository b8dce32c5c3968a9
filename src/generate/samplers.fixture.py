"""Writes samplers.fixture.json: logits before and after Hugging Face's logits processors, in the order of its `generate`.
Made with torch 2.15.0 and transformers 5.24.0:  python src/generate/samplers.fixture.py > src/generate/samplers.fixture.json"""
import json
import torch
from transformers.generation import logits_process as hf

torch.manual_seed(7)
VOCABULARY = 64
PROMPT = [3, 17, 17, 40, 5]
CASES = [
    {"temperature": 0.7},
    {"topK": 5},
    {"topK": 64},
    {"topP": 0.8},
    {"topP": 0.05},
    {"minP": 0.1},
    {"repetitionPenalty": 1.3},
    {"repetitionPenalty": 0.8, "temperature": 1.5},
    {"temperature": 0.6, "topK": 20, "topP": 0.9},
    {"temperature": 2.5, "topK": 30, "topP": 0.95, "minP": 0.2},
    {"repetitionPenalty": 1.7, "temperature": 1.2, "topP": 0.7, "minP": 0.05},
    {"logitBias": {"5": 4.5, "9": -3.0}, "repetitionPenalty": 1.2, "temperature": 0.9, "topK": 12},
    {"typicalP": 0.9},
    {"typicalP": 0.5, "temperature": 0.8},
    {"typicalP": 0.2, "topK": 40},
    {"typicalP": 0.05},
    {"typicalP": 0.7, "temperature": 1.4, "topP": 0.95, "minP": 0.01},
]


def processors(case):
    if "logitBias" in case:
        yield hf.SequenceBiasLogitsProcessor({(int(i),): b for i, b in case["logitBias"].items()})
    if "repetitionPenalty" in case:
        yield hf.RepetitionPenaltyLogitsProcessor(case["repetitionPenalty"])
    if "temperature" in case:
        yield hf.TemperatureLogitsWarper(case["temperature"])
    if "topK" in case:
        yield hf.TopKLogitsWarper(case["topK"])
    if "topP" in case:
        yield hf.TopPLogitsWarper(case["topP"])
    if "minP" in case:
        yield hf.MinPLogitsWarper(case["minP"])
    if "typicalP" in case:
        yield hf.TypicalLogitsWarper(case["typicalP"])


out = []
for case in CASES:
    # Multiples of 1/1024 are the same in decimal and in binary.
    logits = (torch.randn(1, VOCABULARY) * 3 * 1024).round() / 1024
    shaped = logits.clone()
    for process in processors(case):
        shaped = process(torch.tensor([PROMPT]), shaped)
    out.append({"options": case, "logits": logits[0].tolist(), "shaped": [None if x == float("-inf") else x for x in shaped[0].tolist()]})
print(json.dumps({"prompt": PROMPT, "cases": out}))

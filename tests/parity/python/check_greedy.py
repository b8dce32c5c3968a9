"""Greedy tokens of real weights against transformers': scripts/test-parity.mjs runs this.

Both multiply the numbers that the blocks of a GGUF file stand for, in float32, and round differently: a token may be another only where transformers' two likeliest
are closer than 0.01. Logits may differ by 1e-4 of the largest.
"""
import json
import sys

from report import check, finish

MARGIN = 0.01
ALLOWED = 1e-4
with open(sys.argv[1]) as f:
    models = json.load(f)
check("there are weights", len(models) > 0, f"{len(models)} files")
for entry in models:
    print(f"       {entry['file']}: transformers {entry['transformers']} has it as {entry['as']}, prompts of {min(entry['lengths'])} to {max(entry['lengths'])} tokens{', one by the chat template' if entry['talks'] else ''}")
    places = sum(each["places"] for each in entry["found"])
    other = [place for each in entry["found"] for place in each["other"]]
    wrong = [f"prompt {i}, place {p['place']}: {p['ours']} for {p['theirs']}, margin {p['margin']:.3f}" for i, each in enumerate(entry["found"]) for p in each["other"] if p["margin"] > MARGIN]
    close = sum(each["close"] for each in entry["found"])
    detail = f"{places - len(other)} of {places} tokens the same; {close} places closer than {MARGIN}, of which {len(other) - len(wrong)} chosen otherwise"
    check(f"{entry['file']}: greedy tokens", not wrong, f"{detail}; {'; '.join(wrong[:3])}" if wrong else detail)
    worst = max(each["worst"] for each in entry["found"])
    share = max(each["worst"] / each["largest"] for each in entry["found"])
    check(f"{entry['file']}: logits", share <= ALLOWED, f"largest difference {worst:.1e}, {share:.1e} of the largest logit")
finish()

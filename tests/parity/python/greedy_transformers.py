"""transformers' greedy tokens of given prompts, with the logits of each place: scripts/parity/greedy.mjs runs this.

The weights are the numbers that the blocks of the GGUF file stand for, in float32.
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = os.environ["TQDM_DISABLE"] = "1"
import warnings

import torch
import transformers
from transformers import AutoModelForCausalLM

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
# Of `past_key_values`, which newer versions call `cache`.
warnings.filterwarnings("ignore", category=FutureWarning)
torch.set_num_threads(2)
place = sys.argv[1]
with open(f"{place}/given.json") as f:
    given = json.load(f)
model = AutoModelForCausalLM.from_pretrained(given["weights"], gguf_file=given["file"], dtype=torch.float32, attn_implementation="eager").eval()
if any(p.dtype != torch.float32 for p in model.parameters()):
    raise TypeError("expected every weight in float32")
prompts = []
for i, ids in enumerate(given["prompts"]):
    tokens, margins, rows = [], [], []
    new, state = torch.tensor([ids]), None
    with torch.no_grad():
        while len(tokens) < given["tokens"]:
            out = model(input_ids=new, past_key_values=state, use_cache=True)
            row, state = out.logits[0, -1], out.past_key_values
            best = row.topk(2)
            tokens.append(best.indices[0].item())
            margins.append((best.values[0] - best.values[1]).item())
            rows.append(row)
            new = best.indices[:1].reshape(1, 1)
    torch.stack(rows).numpy().tofile(f"{place}/{i}.f32")
    prompts.append({"tokens": tokens, "margins": margins})
versions = {"torch": torch.__version__, "transformers": transformers.__version__}
with open(f"{place}/greedy.json", "w") as f:
    json.dump({"model": {"as": type(model).__name__, **versions}, "prompts": prompts}, f)

"""Folders saved by groundup in transformers: scripts/test-parity.mjs runs this.

The same float32 logits: both sides round differently, each by some 1e-7 of the largest logit for every layer, so 1e-5 of it is allowed.
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from report import check, finish

ALLOWED = 1e-5
transformers.utils.logging.disable_progress_bar()
print(f"       torch {torch.__version__}, transformers {transformers.__version__}")
with open(sys.argv[1]) as f:
    given = json.load(f)
for entry in given["models"]:
    folder, name = entry["folder"], entry["name"]
    # transformers' eager Falcon adds the penalties of ALiBi twice.
    attention = "sdpa" if getattr(AutoConfig.from_pretrained(folder), "alibi", False) else "eager"
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention, experts_implementation="eager", output_loading_info=True)
    ids = torch.from_numpy(np.fromfile(f"{folder}/ids.i32", np.int32).reshape(2, entry["length"])).long()
    with torch.no_grad():
        theirs = model.eval()(input_ids=ids).logits.numpy()
    ours = np.fromfile(f"{folder}/logits.f32", np.float32).reshape(theirs.shape)
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    strays = sum(len(info[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    files = sum(file.endswith(".safetensors") for file in os.listdir(folder))
    right = bool(error <= ALLOWED) and strays == 0 and (files > 1) == entry["sharded"]
    check(f"{name} ({files} file{'s' if files > 1 else ''})", right, f"largest difference of the logits {error:.1e} of the largest logit, {strays} names that do not fit")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    differing = [
        text[:60]
        for text, ids in zip(given["texts"], given["ids"])
        if tokenizer(text, add_special_tokens=False, truncation=False).input_ids != ids or tokenizer.decode(ids, clean_up_tokenization_spaces=False) != text
    ]
    count = sum(map(len, given["ids"]))
    check(f"{name}: its tokenizer ({type(tokenizer).__name__})", not differing, f"differs on {differing}" if differing else f"{count} ids the same, and the text again")
    chat = tokenizer.apply_chat_template(given["messages"], add_generation_prompt=True, tokenize=False)
    batch = tokenizer(given["texts"], truncation=True, padding=True)
    padded = [list(each) for each in zip(batch.input_ids, batch.attention_mask)] == given["padded"]
    names = {"bos": tokenizer.bos_token, "eos": tokenizer.eos_token, "pad": tokenizer.pad_token, "longest": tokenizer.model_max_length}
    right = chat == given["chat"] and padded and names == {"bos": "<|endoftext|>", "eos": "<|end|>", "pad": "<|end|>", "longest": 40}
    check(f"{name}: its tokenizer_config.json", right, f"the conversation the same: {chat == given['chat']}, cut and padded the same: {padded}, {names}")
finish()

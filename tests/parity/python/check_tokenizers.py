"""Ids of published vocabularies against tiktoken and tokenizers: scripts/test-parity.mjs runs this."""
import json
import pathlib
import sys

import numpy as np
import tiktoken
import tokenizers
from tiktoken.load import load_tiktoken_bpe
from tiktoken_ext import openai_public

from report import check, finish

print(f"       tiktoken {tiktoken.__version__}, tokenizers {tokenizers.__version__}")
folder = pathlib.Path(sys.argv[1])
texts = json.loads((folder / "texts.json").read_text())
characters = sum(map(len, texts))


def by_tiktoken(name):
    """tiktoken's own definition of an encoding, with its ranks from a file in place of the network."""
    ranks = load_tiktoken_bpe(str(folder / f"{name}.tiktoken"))
    openai_public.load_tiktoken_bpe = openai_public.data_gym_to_mergeable_bpe_ranks = lambda *_, **__: ranks
    return tiktoken.Encoding(**getattr(openai_public, name)())


for entry in json.loads((folder / "list.json").read_text()):
    name = entry["name"]
    check(f"{name}: golden file", not entry["wrong"], f"{entry['golden']} texts" if not entry["wrong"] else f"differs on {entry['wrong']}")
    ends = np.cumsum(entry["lengths"])[:-1]
    ours = np.split(np.fromfile(folder / f"{name}.i32", np.int32), ends)
    peers = {"tokenizers": lambda t=tokenizers.Tokenizer.from_file(str(folder / f"{name}.json")): [e.ids for e in t.encode_batch(texts, add_special_tokens=False)]}
    if entry["ranks"]:
        peers["tiktoken"] = lambda e=by_tiktoken(name): e.encode_ordinary_batch(texts)
    for peer, encode in peers.items():
        theirs = encode()
        wrong = sum(not np.array_equal(a, np.array(b, np.int32)) for a, b in zip(ours, theirs, strict=True))
        check(f"{name}: {peer}", wrong == 0, f"{characters / 1e6:.1f} million characters, {sum(entry['lengths'])} ids, {wrong} of {len(texts)} pieces differ")
finish()

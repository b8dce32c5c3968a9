"""Merges of a BPE trained by groundup against BpeTrainer of tokenizers: scripts/test-parity.mjs runs this."""
import json
import pathlib
import sys

import tokenizers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from report import check, finish

print(f"       tokenizers {tokenizers.__version__}")
folder = pathlib.Path(sys.argv[1])
texts = json.loads((folder / "texts.json").read_text())
for settings in json.loads((folder / "list.json").read_text()):
    file = folder / f"{settings['pattern']}.json"
    ours = json.loads(file.read_text())["model"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = Tokenizer.from_file(str(file)).pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=settings["vocabSize"],
        min_frequency=settings["minFrequency"],
        special_tokens=settings["specialTokens"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    theirs = json.loads(tokenizer.to_str())["model"]
    pairs = [[tuple(m.split(" ") if isinstance(m, str) else m) for m in side["merges"]] for side in (ours, theirs)]
    first = next((i for i, (a, b) in enumerate(zip(*pairs)) if a != b), min(map(len, pairs)))
    same = pairs[0] == pairs[1] and ours["vocab"] == theirs["vocab"]
    check(f"{settings['pattern']}, {settings['vocabSize']} tokens, minimum {settings['minFrequency']}", same, f"{first} merges the same, of {len(pairs[1])}")
finish()

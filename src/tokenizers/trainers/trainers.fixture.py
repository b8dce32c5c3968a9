"""What Hugging Face's WordPiece trainer and SentencePiece's Unigram trainer make of the bundled text.

    python src/tokenizers/trainers/trainers.fixture.py     # tokenizers 0.23.3, sentencepiece 0.2.3; writes trainers.fixture.json beside it (then: npm run format)

Hugging Face's WordPiece trainer numbers the letters in the order of a hash table, another one in each run. Given as special tokens they keep an order: all
letters by code point, then all of them that stand inside of words.
"""
import gzip
import json
import os
import tempfile

import sentencepiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(__file__)
with gzip.open(os.path.join(HERE, "../../../data/moby-dick.jsonl.gz"), "rt", encoding="utf-8") as f:
    LINES = [line for document in f for line in json.loads(document)["text"].split("\n")][:6000]
TRAIN, HELD = LINES[: len(LINES) * 9 // 10], LINES[len(LINES) * 9 // 10 :]
with gzip.open(os.path.join(HERE, "../../../tests/fixtures/texts/human-rights.txt.gz"), "rt", encoding="utf-8") as f:
    DECLARATION = f.read().splitlines()
TEXTS = {
    "book": (TRAIN, HELD),
    "declaration": ([line for i, line in enumerate(DECLARATION) if i % 10 != 9], DECLARATION[9::10]),
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def wordpiece(size, least, limit):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = [w for line in TRAIN for w, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(line))]
    counts = {}
    for word in words:
        for letter in word:
            counts[letter] = counts.get(letter, 0) + 1
    kept = set(sorted(counts, key=lambda c: (-counts[c], c))[:limit])
    order = sorted(kept) + ["##" + c for c in sorted({c for word in words for c in word[1:]} & kept)]
    trainer = trainers.WordPieceTrainer(vocab_size=size, min_frequency=least, limit_alphabet=limit, special_tokens=SPECIAL + order, show_progress=False)
    tokenizer.train_from_iterator(TRAIN, trainer)
    vocab = tokenizer.get_vocab()
    return {"vocabSize": size, "minFrequency": least, "limitAlphabet": limit, "tokens": sorted(vocab, key=vocab.get)}


def unigram(text, size):
    train, held = TEXTS[text]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "text")
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(train))
        sentencepiece.SentencePieceTrainer.train(input=path, model_prefix=path, vocab_size=size, model_type="unigram", normalization_rule_name="nfkc", minloglevel=2)
        model = sentencepiece.SentencePieceProcessor(model_file=path + ".model")
    return {"text": text, "vocabSize": size, "heldOutTokens": sum(len(ids) for ids in model.encode(held))}


made = {
    "wordpiece": [wordpiece(1000, 0, 1000), wordpiece(1500, 3, 30)],
    "unigram": [unigram("book", n) for n in (500, 2000, 4000)] + [unigram("declaration", n) for n in (1000, 2000, 3000)],
}
with open(os.path.join(HERE, "trainers.fixture.json"), "w", encoding="utf-8") as f:
    json.dump({"made by": "src/tokenizers/trainers/trainers.fixture.py, tokenizers 0.23.3, sentencepiece 0.2.3", **made}, f, ensure_ascii=False)
    f.write("\n")

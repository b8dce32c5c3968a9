"""Writes fixtures/piece-models.json: small models of every type, and what Hugging Face's tokenizers makes of hostile and of plain text with them.
Made with tokenizers 0.23.3, in the folder of the repository:  python src/tokenizers/models/piece-models.fixture.py > src/tokenizers/fixtures/piece-models.json

The trainers give other ids each time (they go by hash order), so what they made once is kept in fixtures/small-models.json; without that file they run again.
Each row is [text, [[id, token, start, end], …]] with places in UTF-16 units, or [text, null] where the package refuses."""
import gzip
import json
from pathlib import Path
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

text = "\n".join(json.loads(line)["text"] for line in gzip.open("data/moby-dick.jsonl.gz", "rt", encoding="utf-8"))[:150_000].lower()

HOSTILE = [
    "", " ", "   ", "a", "\u0301", "e\u0301a", "👩‍👩‍👧‍👦", "👍🏽", "שָׁלוֹם", "مرحبا", "\u1112\u1161\u11ab", "한국어", "日本語", "\u0000", "a\u0000b", "\u200d", "\ufeff", "\ufeffa", "İ", "ß",
    "ΣΟΦΟΣ", "σοφος", "\U00010400\U00010401", "𝒳y𝒵", "a" * 60, "ab" * 20, "\t\n\r", "\u0378", "\U000e0041", "<unk>", "a<unk>b", "[UNK]", "<0x41>", "語a", "a語", "語語a語", "👍a👍👍", "▁", "▁▁the",
    "é", "naïve", "café", "ĠĠ", "##a", "</w>", "a</w>", "x" * 101, "語" * 101,
]
WORDS = sorted(set(text[:6000].split()))[:60]
SENTENCES = ["▁call▁me▁ishmael.", "▁some▁years▁ago—never▁mind▁how▁long▁precisely", "the whale, the white whale!", "▁the▁👍▁whale▁語", "thewhaletheshipthesea"]


def words():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def trained(tokenizer, trainer):
    tokenizer.train_from_iterator([text], trainer)
    return json.loads(tokenizer.to_str())["model"]


def byte_tokens():
    return [f"<0x{byte:02X}>" for byte in range(256)]


def with_bytes(model, tokens):
    """A trained BPE with more tokens behind the others."""
    vocab = dict(model["vocab"])
    for token in tokens:
        vocab.setdefault(token, len(vocab))
    return {**model, "vocab": vocab}


def metaspace():
    tokenizer = words()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def bpe(**options):
    return trained(words(), trainers.BpeTrainer(vocab_size=160, special_tokens=["<unk>"], show_progress=False, **options))


def train_all():
    wordpiece = words()
    wordpiece.model = models.WordPiece(unk_token="[UNK]")
    unigram = metaspace()
    unigram.model = models.Unigram()
    wordlevel = words()
    wordlevel.model = models.WordLevel(unk_token="<unk>")
    return {
        "suffixed": bpe(end_of_word_suffix="</w>"),
        "prefixed": bpe(continuing_subword_prefix="##"),
        "both": bpe(continuing_subword_prefix="@", end_of_word_suffix="</w>"),
        "spaced": trained(metaspace(), trainers.BpeTrainer(vocab_size=160, special_tokens=["<unk>"], show_progress=False)),
        "wordpiece": trained(wordpiece, trainers.WordPieceTrainer(vocab_size=180, special_tokens=["[UNK]"], show_progress=False)),
        "unigram": trained(unigram, trainers.UnigramTrainer(vocab_size=160, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)),
        "wordlevel": trained(wordlevel, trainers.WordLevelTrainer(vocab_size=60, special_tokens=["<unk>"], show_progress=False)),
    }


kept = Path("src/tokenizers/fixtures/small-models.json")
if not kept.exists():
    kept.write_text(json.dumps(train_all(), ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
suffixed, prefixed, both, spaced, wordpiece, unigram, wordlevel = json.loads(kept.read_text(encoding="utf-8")).values()
# Ties, a way that is cheaper through the unknown, a token twice, and the unknown token's own spelling.
TIES = [["<unk>", 0.0], ["a", -1.0], ["b", -1.0], ["ab", -2.0], ["ba", -2.0], ["abab", -4.0], ["aba", -3.0], ["ab", -2.0], ["語語", -1.5], ["👍a", -0.5]]

MODELS = {
    "suffix": {**suffixed, "unk_token": "<unk>"},
    "suffix, unknown fused": {**suffixed, "unk_token": "<unk>", "fuse_unk": True},
    "suffix, nothing for the unknown": suffixed,
    "prefix": {**prefixed, "unk_token": "<unk>"},
    "prefix and suffix": {**both, "unk_token": "<unk>"},
    "byte fallback": {**with_bytes(spaced, byte_tokens()), "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True},
    "some bytes": {**with_bytes(spaced, byte_tokens()[:240]), "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True},
    "whole words": {**with_bytes(spaced, ["whale", "日本語", "thewhaletheshipthesea"]), "ignore_merges": True},
    "merges as lines": {**spaced, "merges": ["#version: 0.2"] + [" ".join(pair) for pair in spaced["merges"]]},
    "unknown token missing": {**spaced, "unk_token": "<missing>"},
    "WordPiece": wordpiece,
    "WordPiece, short words, no prefix": {**wordpiece, "max_input_chars_per_word": 8, "continuing_subword_prefix": ""},
    "WordPiece, unknown token missing": {**wordpiece, "unk_token": "[MISSING]"},
    "Unigram": unigram,
    "Unigram, byte fallback": {**unigram, "vocab": unigram["vocab"] + [[token, -9.0] for token in byte_tokens()], "byte_fallback": True},
    "Unigram, ties": {"type": "Unigram", "unk_id": 0, "vocab": TIES, "byte_fallback": False},
    "Unigram, nothing for the unknown": {"type": "Unigram", "unk_id": None, "vocab": TIES[1:], "byte_fallback": False},
    "WordLevel": wordlevel,
    "WordLevel, unknown token missing": {**wordlevel, "unk_token": "<missing>"},
}


def rows(model, texts):
    parts = {key: None for key in ["truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"]}
    tokenizer = Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], **parts, "model": model}))
    for item in texts:
        units = [len(item[:at].encode("utf-16-le")) // 2 for at in range(len(item) + 1)]
        try:
            found = tokenizer.encode(item)
        except Exception:
            yield [item, None]
            continue
        yield [item, [[i, token, units[a], units[b]] for i, token, (a, b) in zip(found.ids, found.tokens, found.offsets)]]


cases = [
    {"name": name, "model": model, "rows": list(rows(model, HOSTILE + SENTENCES + WORDS[:: 1 if name in ("suffix", "prefix", "WordPiece", "Unigram") else 4]))}
    for name, model in MODELS.items()
]
print(json.dumps(cases, ensure_ascii=False, separators=(",", ":")))

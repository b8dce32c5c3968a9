"""Writes fixtures/decoders.json: the text that decoders of Hugging Face's tokenizers make of lists of tokens.
Made with tokenizers 0.23.3:  python src/tokenizers/decoders/decoders.fixture.py > src/tokenizers/fixtures/decoders.json"""
import json
import random
from tokenizers import Tokenizer

draw = random.Random(4)
TOKENS = [
    "a", "b", "##a", "##", "##ing", "▁", "▁the", "a▁b", "▁▁", "<0xE8>", "<0xAA>", "<0x9E>", "<0x0A>", "<0xFF>", "<0x+a>", "<0xZZ>", "<0xe8>", "<0xé>", "</w>", "a</w>", "Ġ", "Ġthe", "Ã", "©", "è", "ª",
    "ŀ", "語", "👨", "👩‍👩‍👧‍👦", "<pad>", "|", "h|", "", " ", " .", ",", "n't", " n't", "'s", " ' ", ".", "do not", " do not", "?", "  a  ", "\u0301", "ĠĠ", "aa", "aaa", "\ufffd", "\u0000", "\ufeff", "ðŁ", "ĳ", "¨",
    "שלום", "ﷺ", "ß", "\u1112\u1161", "\u0378",
]


def sequence(*decoders):
    return {"type": "Sequence", "decoders": list(decoders)}


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def strip(content, start, stop):
    return {"type": "Strip", "content": content, "start": start, "stop": stop}


BYTES, FUSE, LEVEL = {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
DECODERS = [
    None,
    LEVEL,
    {"type": "WordPiece", "prefix": "##", "cleanup": True},
    {"type": "WordPiece", "prefix": "##", "cleanup": False},
    {"type": "WordPiece", "prefix": "", "cleanup": True},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
    {"type": "Metaspace", "replacement": "👨", "prepend_scheme": "never", "split": True},
    {"type": "BPEDecoder", "suffix": "</w>"},
    {"type": "BPEDecoder", "suffix": ""},
    BYTES,
    FUSE,
    strip(" ", 1, 0),
    strip("a", 0, 1),
    replace("▁", " "),
    replace("aa", "$&"),
    replace("", "-"),
    {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True},
    {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": False},
    sequence(),
    sequence(replace("▁", " "), BYTES, FUSE, strip(" ", 1, 0)),
    sequence(replace("▁", " "), BYTES, FUSE),
    sequence(FUSE, replace("a", "▁▁"), replace("▁b", "👨👨")),
    sequence(FUSE, replace("👨b", "x"), {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True}),
    sequence(LEVEL, strip(" ", 1, 0), replace("  ", "_")),
    sequence(sequence(BYTES, {"type": "WordPiece", "prefix": "##", "cleanup": True}), sequence(LEVEL)),
    sequence(FUSE, strip("a", 1, 0), BYTES),
    sequence(FUSE, {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}, {"type": "BPEDecoder", "suffix": "a"}),
]


def lists():
    yield []
    yield [""]
    yield [" "]
    yield [" ", "a"]
    yield ["<0xE8>", "<0xAA>", "<0x9E>"]
    yield ["<0xE8>", "<0xAA>", "<0x9E>", "<0xFF>", "a"]
    yield ["ðŁ", "ĳ", "¨", "ðŁ", "a"]
    for length in range(2, 27):
        tokens = [draw.choice(TOKENS) for _ in range(length)]
        yield [token for token in tokens for _ in range(draw.choice([1, 1, 1, 2]))] if length % 3 == 0 else tokens


def decode(tokenizer, tokens):
    """None where the package panics: its Strip reaches in front of a token that is shorter than what it strips."""
    try:
        return tokenizer.decode([TOKENS.index(token) for token in tokens])
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return None


cases = []
for decoder in DECODERS:
    parts = {key: None for key in ["truncation", "padding", "normalizer", "pre_tokenizer", "post_processor"]}
    model = {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(TOKENS)}, "unk_token": "a"}
    tokenizer = Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], **parts, "decoder": decoder, "model": model}))
    cases.append({"decoder": decoder, "rows": [[tokens, decode(tokenizer, tokens)] for tokens in lists()]})
print(json.dumps(cases, ensure_ascii=False, separators=(",", ":")))

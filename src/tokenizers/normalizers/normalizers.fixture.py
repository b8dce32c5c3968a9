"""Writes normalizers.fixture.json: hostile texts after each of Hugging Face's normalizers, with the place of every character.
Made with tokenizers 0.23.3 and sentencepiece 0.2.3:  python src/tokenizers/normalizers/normalizers.fixture.py > src/tokenizers/normalizers/normalizers.fixture.json"""
import base64
import io
import json
import random
import tempfile

import sentencepiece
from tokenizers import PreTokenizedString, Regex, Tokenizer

# A charsmap's rules: code points, and what replaces them. Keys of several characters, keys that begin others, nothing as a replacement, a longer one, a shorter one.
RULES = """41\t61
65 301\tE9
1F600\t3A 29
2122\t54 4D
66 69\tFB01
FB03\t66 66 69
1E\t
200B\t
FEFF\t
D\t20
A\t20
AC00\t1100 1161
0915 094D\t0915
2581\t20
30AC\t30AB 3099
FF76 FF9E\t30AC
"""


def fields(message):
    """Numbers and contents of a protobuf message's fields that have a length."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            varint()
            continue
        length = varint() if key & 7 == 2 else {1: 8, 5: 4}[key & 7]
        yield key >> 3, message[at : at + length]
        at += length


def charsmap():
    model = io.BytesIO()
    words = ["the whale and the sea", "call me", "a white whale", "in the ship"] * 20
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write(RULES)
        rules.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(words), model_writer=model, vocab_size=40, hard_vocab_limit=False, minloglevel=2, normalization_rule_tsv=rules.name
        )
    normalizer = dict(fields(model.getvalue()))[3]  # ModelProto.normalizer_spec
    return base64.b64encode(dict(fields(normalizer))[2]).decode()  # precompiled_charsmap


def bert(clean_text, handle_chinese_chars, strip_accents, lowercase):
    return {
        "type": "BertNormalizer", "clean_text": clean_text, "handle_chinese_chars": handle_chinese_chars, "strip_accents": strip_accents, "lowercase": lowercase,
    }  # fmt: skip


def replace(kind, pattern, content):
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def sequence(*normalizers):
    return {"type": "Sequence", "normalizers": list(normalizers)}


def strip(left, right):
    return {"type": "Strip", "strip_left": left, "strip_right": right}


PLAIN = {name: {"type": name} for name in ["NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents", "ByteLevel"]}
PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": charsmap()}
NORMALIZERS = [
    *PLAIN.values(), strip(True, True), strip(True, False), strip(False, True), strip(False, False), PRECOMPILED,
    {"type": "Prepend", "prepend": "▁"}, {"type": "Prepend", "prepend": "😀e\u0301"}, {"type": "Prepend", "prepend": ""},
    replace("String", " ", "▁"), replace("String", "e\u0301", ""), replace("String", "a", "xyz"), replace("String", "", "·"), replace("Regex", " {2,}", " "),
    bert(True, True, None, True), bert(False, True, False, True), bert(True, False, True, False), bert(True, True, None, False),
    sequence(), sequence(strip(True, True), {"type": "Prepend", "prepend": ""}), sequence(sequence(PLAIN["NFKD"], PLAIN["StripAccents"]), PLAIN["Lowercase"]),
    sequence(PLAIN["NFD"], PLAIN["NFC"], replace("String", "ss", "ß"), PLAIN["ByteLevel"], PLAIN["NFKC"]),
    sequence(PLAIN["Nmt"], PLAIN["NFKC"], replace("Regex", " {2,}", " "), {"type": "Prepend", "prepend": " "}, replace("String", " ", "▁")),
    sequence(replace("String", "``", '"'), PLAIN["NFKD"], PLAIN["StripAccents"], PRECOMPILED, PLAIN["Lowercase"]),
]  # fmt: skip

TEXTS = [
    "", " ", "  \t\n ", "a", "\0", "a\0b", "Hello, World!", "  two  blanks  ", "\r\n\r\nx\r", "\x01\x08\x0b\x0c\x1e\x1f\x7f\x80\x85\x8f\x9f\xa0\xad",
    "e\u0301 \u00e9 e\u0323\u0301 e\u0301\u0323 \u1ec7 \u1e69s\u0323\u0307", "\u0301\u0327\u0323 leading marks", "a\u0301\u0301\u0327\u0327\u0345\u0338\u0300",
    "e\u0316\u0323 \u00e9\u0316\u0301 \u01d6\u0328 \u0344 \u0f77\u0f81", "👩\u200d👩\u200d👧 🇩🇪🇩 👍🏽 ❤\ufe0f", "שלום \u05e9\u05bc\u05c1 مرحبا\u064b\u0651", "한국어 \u1112\u1161\u11ab \u1100\u1161 각\u11a8 가\u11a8 가\u11a7",
    "中文㐀豈\U00020000鿿\U0002f800x", "\ufeffBOM\ufeff", "İIıi ßẞ", "ΑΣ ΟΔΥΣΣΕΥΣ σς Σ", "𝐀𝔘𝟘 \U0001d15e\U0001d165 \U00011131\U00011127", "ﬁ ﬃ ĳ ① ½ ™ … ㍿ ẛ̣ \u212b \u2126",
    "ｶﾞ ガ か\u3099 が", "क\u094d ক\u09c7\u09be \u0bca \u0dd9\u0dcf\u0dca \u0958", "\u0378\u0e01\u0e33\u0e49 \U0010ffff \ue000 \U000e0001", "\u2581\u200b\u200f\u2028\u1680\ufffd|",
    "``quoted'' ss ssss", "Ꟍ\U00010d50\U00016ea0\u1c89\ua7dc", "\U00011935\U00011930 \U00011938 \u0897a\U00016d63 \u1ab0\U0001e08f", "™\x1eg", "\x1e\x1eA😀", "fi ﬁ\u0301 e\u0301 Ae\u0301\u0323",
    "a" * 60, "\u0301\u0327" * 20, "🇩" * 9, "A\u030a" * 12, "😀" * 10,
]  # fmt: skip

POOL = list("eaAs Z\u0301\u0300\u0327\u0323\u0345\u0338\u1161\u11a8\u1100가각éệǖ™ﬁ①中\u200d\ufe0f😀\x1e\t\u2581\u3000İΣßか\u3099क\u094d\U0001d15e")
random.seed(7)
TEXTS += ["".join(random.choices(POOL, k=14)) for _ in range(12)]
EACH = Regex(r"[\s\S]")


def normalizer(spec):
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    empty = dict.fromkeys(["truncation", "padding", "pre_tokenizer", "post_processor", "decoder"])
    return Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], "normalizer": spec, "model": model, **empty})).normalizer


def normalized(made, text):
    """The new text, and start and end of each of its characters in UTF-16 units of the old."""
    pieces = PreTokenizedString(text)
    pieces.normalize(made.normalize)
    pieces.split(lambda _, piece: piece.split(EACH, "isolated"))
    units = {0: 0}
    at = 0
    for character in text:
        end = at + len(character.encode())
        units[end] = units[at] + (2 if ord(character) > 0xFFFF else 1)
        at = end
    splits = [split for split in pieces.get_splits("original", "byte") if split[0] != ""]
    assert "".join(split[0] for split in splits) == made.normalize_str(text)
    return ["".join(split[0] for split in splits), [units[place] for split in splits for place in split[1]]]


UNCHANGED = normalizer(sequence())
cases = []
for spec in NORMALIZERS:
    made = normalizer(spec)
    results = [normalized(made, text) for text in TEXTS]
    # A text that stays where it is, is written as null.
    cases.append({"normalizer": spec, "results": [None if result == normalized(UNCHANGED, text) else result for result, text in zip(results, TEXTS)]})
print(json.dumps({"versions": "tokenizers 0.23.3, sentencepiece 0.2.3", "texts": TEXTS, "cases": cases}))

"""Writes pre-tokenizers.fixture.json: pieces and places that Hugging Face tokenizers gives, for hostile texts.
Made with tokenizers 0.23.3:  python src/tokenizers/pre-tokenizers/pre-tokenizers.fixture.py > src/tokenizers/pre-tokenizers/pre-tokenizers.fixture.json
With a seed and a number behind it, it writes so many random cases instead.

Places count code points. A case is [specification, text, pieces, characters]: for each piece its text, start and end; for each character of all pieces
its start and end, as a model of single characters gets them."""
import json
import random
import sys
from tokenizers import Tokenizer, models

TEXTS = [
    "", " ", "   ", "Hello, world!  It's 42.5%\n", " leading and trailing ", "a\tb\r\n\r\nc\x85d\u2028e", "e\u0301a\u0323\u0302 \u0301start",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈", "שלום עולם مرحبا ١٢٣ بك،", "\u1112\u1161\u11ab한글 테스트", "日本語のテキスト、カタカナー。ＡＢＣ１２３", "\x00\x01control\x7f\x9f",
    "\ufeffBOM\ufeff", "İstanbul ıI", "straße ẞ", "ΟΔΟΣ σς", "𝕳𝖊𝖑𝖑𝖔 𐍈 𠀀", "a\x00b", "a" * 60, "!" * 30, " " * 25 + "x", "\u0378\U000e0fff\U0010ffff",
    "▁▁meta▁ space", "x²³½Ⅷ٣𝟘", "don't we'LL I'Ve", "_a_b-c--d_", "\u200b\u200c\u200d\u2060", "foo\u3000bar\u00a0baz", "ﬁne ǆ", "$+<=>^`|~", "ab,cd;ef"]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
SIMPLE = [
    *({"type": "ByteLevel", "add_prefix_space": a, "trim_offsets": True, "use_regex": b} for a in (True, False) for b in (True, False)),
    *({"type": kind} for kind in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "UnicodeScripts")),
    *({"type": "Metaspace", "replacement": "▁", "prepend_scheme": a, "split": b} for a in ("always", "first", "never") for b in (True, False)),
    {"type": "Metaspace", "replacement": "😀", "prepend_scheme": "always", "split": True},
    *({"type": "Digits", "individual_digits": a} for a in (True, False)),
    *({"type": "Punctuation", "behavior": a} for a in BEHAVIORS),
    *({"type": "CharDelimiterSplit", "delimiter": a} for a in ("a", " ", "語")),
    *({"type": "FixedLength", "length": a} for a in (1, 3, 5)),
    *({"type": "Split", "pattern": a, "behavior": b, "invert": c} for a in ({"String": "a"}, {"Regex": "[aeiou]|\\s+"}) for b in BEHAVIORS for c in (True, False)),
    *({"type": "Split", "pattern": a, "behavior": b, "invert": False} for a in ({"String": "--"}, {"String": ""}, {"Regex": "(?=[A-Z])|a*"}) for b in BEHAVIORS),
]


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


DIGITS = {"type": "Digits", "individual_digits": True}
SEQUENCES = [
    sequence(),
    sequence({"type": "Whitespace"}, DIGITS),
    sequence(DIGITS, SIMPLE[0]),
    sequence({"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}),
    sequence({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}, SIMPLE[0], {"type": "FixedLength", "length": 2}),
    sequence({"type": "UnicodeScripts"}, sequence({"type": "Punctuation", "behavior": "Isolated"}, SIMPLE[1])),
]


def tokenizer(spec, texts):
    empty = json.loads(Tokenizer(models.BPE()).to_str())
    empty["pre_tokenizer"] = spec
    made = Tokenizer.from_str(json.dumps(empty))
    seen = {c for text in texts for piece, _ in made.pre_tokenizer.pre_tokenize_str(text) for c in piece}
    made.model = models.BPE({c: i for i, c in enumerate(sorted(seen))}, [])
    return made


def cases(spec, texts):
    made = tokenizer(spec, texts)
    for text in texts:
        pieces = [[piece, *place] for piece, place in made.pre_tokenizer.pre_tokenize_str(text) if piece]
        yield [spec, text, pieces, [n for place in made.encode(text).offsets for n in place]]


def random_part(depth=0):
    if depth < 2 and random.random() < 0.2:
        return sequence(*(random_part(depth + 1) for _ in range(random.randint(0, 3))))
    return random.choice(SIMPLE)


if len(sys.argv) > 1:
    random.seed(int(sys.argv[1]))
    letters = [c for text in TEXTS for c in text] + [chr(c) for c in range(0x20, 0x180)]
    wide = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]

    def letter():
        return chr(random.choice(wide)) if random.random() < 0.1 else random.choice(letters)

    out = []
    while len(out) < int(sys.argv[2]):
        texts = ["".join(letter() for _ in range(random.randint(0, 20))) for _ in range(8)]
        out += cases(random_part(), texts)
else:
    out = [case for i, spec in enumerate(SIMPLE) for case in cases(spec, TEXTS[i % 3 :: 3] if i > 12 else TEXTS)]
    out += [case for spec in SEQUENCES for case in cases(spec, TEXTS)]
    # The texts and specifications are written once.
    specs, texts = [], []
    for case in out:
        for table, at in ((specs, 0), (texts, 1)):
            if case[at] not in table:
                table.append(case[at])
            case[at] = table.index(case[at])
    out = {"specs": specs, "texts": texts, "cases": out}
print(json.dumps(out, ensure_ascii=False, separators=(",", ":")))

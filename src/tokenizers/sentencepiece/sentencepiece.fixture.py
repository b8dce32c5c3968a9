"""Writes sentencepiece.fixture.json: small models trained on our own text, and what the sentencepiece library makes of hostile strings with them.
Made with sentencepiece 0.2.3, from the repository's root:
  python src/tokenizers/sentencepiece/sentencepiece.fixture.py > src/tokenizers/sentencepiece/sentencepiece.fixture.json
  npm run format"""
import base64
import gzip
import io
import json
import os
import random
import tempfile

import sentencepiece

random.seed(5)
LINES = [json.loads(line)["text"] for line in gzip.open("data/moby-dick.jsonl.gz", "rt")]
TEXT = [line for document in LINES for line in document.split("\n") if line][:3000]

# A small part of nmt_nfkc_cf, whose whole table has 240 KB: one to one, one to many, many to one, to a space, to nothing.
RULES = {"ﬁ": "fi", "Ａ": "a", "é": "e", "e\u0301": "é", "㍿": "株式会社", "\u00a0": " ", "\u3000": " ", "\t": " ", "\u200b": "", "ß": "ss", "İ": "i\u0307",
         "ﷺ": "صلى الله عليه وسلم", "…": "...", "\u3000\u3000": " - ", "𝔸": "A"} | {chr(c): chr(c + 32) for c in range(65, 91)}
DENORMAL_RULES = {"株式会社": "㍿", "é": "e\u0301", "--": "—", "w": "vv"}
BYTES = dict(byte_fallback=True, vocab_size=420)
SYMBOLS = ["Ahab", "Ahab's", "<sep>", "🙂", "\u2581\u2581", "é"]
MODELS = {
    "unigram": dict(model_type="unigram", vocab_size=200, rules=RULES),
    "unigram, bytes": dict(model_type="unigram", normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, **BYTES),
    "unigram, symbols": dict(model_type="unigram", vocab_size=260, rules=RULES, user_defined_symbols=SYMBOLS, control_symbols=["<ctl>"], unused=5),
    "unigram, spaces as they are": dict(model_type="unigram", vocab_size=160, normalization_rule_name="identity", added=b"\x1a\x02\x28\x00"),
    "bpe": dict(model_type="bpe", vocab_size=260, normalization_rule_name="identity", denormal_rules=DENORMAL_RULES, unk_surface="<?>"),
    "bpe, unused": dict(model_type="bpe", vocab_size=320, normalization_rule_name="identity", user_defined_symbols=SYMBOLS, pad_id=3, unused=3),
    "bpe, bytes": dict(model_type="bpe", normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False, **BYTES),
    "bpe, bytes, suffix": dict(model_type="bpe", rules=RULES, treat_whitespace_as_suffix=True, unused=7, allow_whitespace_only_pieces=True, **BYTES),
    "unigram, suffix": dict(model_type="unigram", vocab_size=200, rules=RULES, treat_whitespace_as_suffix=True, remove_extra_whitespaces=False),
    "word": dict(model_type="word", vocab_size=150, normalization_rule_name="identity", bos_piece="[B]", eos_id=-1),
    "char": dict(model_type="char", vocab_size=70, normalization_rule_name="identity", user_defined_symbols=SYMBOLS, unused=9),
}
TEXTS = [
    "", " ", "    ", "\u2581", " \u2581 ", "a", " a ", "  Call  me   Ishmael. ", "\tA\n\r\nwhale\u00a0sounds\u3000\u3000deep\u3000",
    "Ahab's Ahab Ahabs  <sep> <ctl> <s></s> <unk> <0x41>", "\u2581\u2581\u2581the \u2581whale", "é e\u0301 e\u0301\u0301 \u0301\u0327e Å Å",
    "👨\u200d👩\u200d👧🙂🙂 𝔸𝔹 \U00010d50", "שלום مرحبا ﷺ हिन्दी", "\u1100\u1161\u11a8 각 한국어 ㍿ 株式会社 語", "\x00\x01\x1b\x7f \x00",
    "\ufeffBOM\ufeff \ufffd \ufffe\U0010ffff", "İstanbul ß ΑΣ ς ﬁre…", "\u0378\u0379 \ue000 \U000e0001", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "." * 41,
    "1234567890 12,345.67", "\u200b\u200b a \u200b", "-- It was -- wow -- the whale's wake w", "e" * 30 + "\u0301", "the the thethe  whalewhale WHALE",
]
PARTS = ["the ", "whale", "Ahab", "'s", " ", "  ", "\u2581", "é", "e\u0301", "ß", "🙂", "語", "\u3000", "ﬁ", "A", "ee", "ss", "...", "<sep>", "\n", "12", "sea", "ing "]
TEXTS += ["".join(random.choice(PARTS) for _ in range(random.randint(3, 14))) for _ in range(14)]


def rule_file(name, rules):
    """In the current folder: the model keeps the file's name, which must be the same each time."""
    with open(name, "w") as file:
        for source, target in sorted(rules.items()):
            file.write("\t".join(" ".join(f"{ord(c):X}" for c in side) for side in (source, target)) + "\n")
    return name


def mark_unused(model, every):
    """Of the model's pieces (field 1, bytes) every so many ones longer than a character get type 5 (field 3)."""
    out, at, seen = b"", 0, 0
    while at < len(model):
        start, tag, at = at, model[at], at + 1
        length = shift = 0
        while True:
            byte = model[at]
            length |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                break
        body, at = model[at:at + length], at + length
        if tag == 0x0A and b"\x18" not in body and len(body[2:2 + body[1]].decode()) > 1:
            seen += 1
            if seen % every == 0:
                body += b"\x18\x05"
                out += bytes([tag, len(body)]) + body
                continue
        out += model[start:at]
    return out


def train(rules=None, denormal_rules=None, unused=0, added=b"", **options):
    files = {"normalization_rule_tsv": rules, "denormalization_rule_tsv": denormal_rules}
    files = {option: rule_file(f"{option}.tsv", value) for option, value in files.items() if value}
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=writer, num_threads=1, hard_vocab_limit=False, character_coverage=0.998, minloglevel=2,
        **options, **files)
    model = writer.getvalue() + added
    return mark_unused(model, unused) if unused else model


def expected(processor, text):
    result = processor.encode(text, out_type="offset_mapping")
    unit = [0]
    for character in text:
        unit.append(unit[-1] + (2 if ord(character) > 0xFFFF else 1))
    places = [unit[end] for place in result["offsets"] for end in place]
    return [result["ids"], result["pieces"], places, processor.decode(result["ids"])]


os.chdir(tempfile.mkdtemp())
models = []
for name, options in MODELS.items():
    model = train(**options)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    size = processor.piece_size()
    some = [[random.randrange(size) for _ in range(random.randint(0, 9))] for _ in range(12)]
    if processor.is_byte(size - 1) or processor.is_byte(5):
        first = processor.piece_to_id("<0x00>")
        some += [[first + byte for byte in group] for group in
                 [[0x41, 0xE2, 0x96, 0x81], [0xE2, 0x96], [0xF0, 0x9F, 0x99, 0x82, 0xF0, 0x9F], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xFF, 0xE9, 0x20]]]
    ids = {key: getattr(processor, f"{key}_id")() for key in ("unk", "bos", "eos", "pad")}
    models.append({"name": name, "model": base64.b64encode(model).decode(), "size": size, **ids,
                   "encoded": [expected(processor, text) for text in TEXTS], "decoded": [[ids, processor.decode(ids)] for ids in some]})
print(json.dumps({"sentencepiece": sentencepiece.__version__, "texts": TEXTS, "models": models}, ensure_ascii=False, separators=(",", ":")))

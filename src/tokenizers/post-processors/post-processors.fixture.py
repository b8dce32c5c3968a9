"""Writes fixtures/post-processors.json: what post-processors, truncation and padding of Hugging Face's tokenizers make of one text or two.
Made with tokenizers 0.23.3:  python src/tokenizers/post-processors/post-processors.fixture.py > src/tokenizers/fixtures/post-processors.json"""
import json
from tokenizers import Tokenizer, models, pre_tokenizers

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [["Ġ", "Ġ"], ["t", "h"], ["th", "e"], ["Ġ", "the"], ["ĠĠ", "Ġ"], ["a", "Ġ"]]
VOCAB = {token: i for i, token in enumerate(ALPHABET + ["".join(pair) for pair in MERGES])}
BERT = {"sep": ["[SEP]", 900], "cls": ["[CLS]", 901]}


def level(blank, trim=True):
    return {"type": "ByteLevel", "add_prefix_space": blank, "trim_offsets": trim, "use_regex": True}


def roberta(blank, trim):
    return {"type": "RobertaProcessing", **BERT, "trim_offsets": trim, "add_prefix_space": blank}


def special(name, kind=0):
    return {"SpecialToken": {"id": name, "type_id": kind}}


def text(name, kind=0):
    return {"Sequence": {"id": name, "type_id": kind}}


def template(single, pair):
    tokens = {"<s>": {"id": "<s>", "ids": [800], "tokens": ["<s>"]}, "many": {"id": "many", "ids": [801, 802], "tokens": ["<a>", "<b>"]}, "none": {"id": "none", "ids": [], "tokens": []}}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens}


LIKE_BERT = template([special("<s>"), text("A"), special("many")], [special("<s>"), text("A"), special("many"), text("B", 1), special("<s>", 1)])
LIKE_XLNET = template([text("A"), special("<s>"), special("many", 2)], [text("B", 3), special("none"), special("<s>", 1), text("A", 1), special("many", 2)])
PROCESSORS = [None, level(True), level(False), {"type": "BertProcessing", **BERT}, roberta(True, True), roberta(False, True), roberta(False, False), LIKE_BERT, LIKE_XLNET]
PROCESSORS += [{"type": "Sequence", "processors": inner} for inner in ([], [level(True), LIKE_BERT], [roberta(True, True), LIKE_XLNET])]
TEXTS = ["", " ", "the the", " the  語a ", "a  the   the thea ", "  the ÿ"]


def cut(most, strategy="LongestFirst", stride=0, direction="Right"):
    return {"direction": direction, "max_length": most, "strategy": strategy, "stride": stride}


def pad(strategy, direction="Right", multiple=None):
    return {"strategy": strategy, "direction": direction, "pad_to_multiple_of": multiple, "pad_id": 7, "pad_type_id": 2, "pad_token": "[PAD]"}


# Truncation and padding, with and without special tokens.
SETTINGS = [(None, None, True), (None, None, False), (cut(8), None, True), (cut(11, stride=2, direction="Left"), pad({"Fixed": 12}, "Left"), True), (cut(7, "OnlyFirst", 1), pad("BatchLongest", multiple=4), False), (cut(9, "OnlySecond"), None, False)]


def columns(encoding, named):
    sequences = encoding.sequence_ids if named else [None] * len(encoding)
    rows = [encoding.ids, encoding.tokens, encoding.offsets, encoding.type_ids, encoding.word_ids, encoding.special_tokens_mask, encoding.attention_mask, sequences]
    return [*rows, [columns(part, named) for part in encoding.overflowing]]


def tokenizer_of(processor, truncation, padding, blank=True):
    parts = {"normalizer": None, "pre_tokenizer": level(blank), "decoder": None, "post_processor": processor, "truncation": truncation, "padding": padding}
    model = {"type": "BPE", "vocab": VOCAB, "merges": MERGES}
    return Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], **parts, "model": model}))


# All texts are in the Basic Multilingual Plane, where the package's code points are UTF-16 units.
plain = tokenizer_of(None, None, None)
texts = [columns(plain.encode(content), False) for content in TEXTS]
cases = []
for p, processor in enumerate(PROCESSORS):
    for s, (truncation, padding, specials) in enumerate(SETTINGS):
        tokenizer = tokenizer_of(processor, truncation, padding)
        rows = []
        for first in range(len(TEXTS)):
            # Not every pair, to keep the file small.
            for second in [None, (first + p) % len(TEXTS)] if (first + p + s) % 3 == 0 else [None]:
                pair = None if second is None else plain.encode(TEXTS[second])
                try:
                    found = columns(tokenizer.post_process(plain.encode(TEXTS[first]), pair, specials), processor is not None)
                except BaseException as error:
                    found = "stride" if "stride" in str(error) else "Second" if "Second" in str(error) else "short"
                rows.append([first, second, found])
        cases.append({"processor": processor, "truncation": truncation, "padding": padding, "special": specials, "rows": rows})
print(json.dumps({"texts": texts, "cases": cases}, ensure_ascii=False, separators=(",", ":")))

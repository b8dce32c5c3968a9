"""What Hugging Face makes of batches that are cut and padded, with the small tokenizers of the fixtures beside this one.

    python src/tokenizers/fit.fixture.py     # tokenizers 0.23.3, transformers 5.24.0; writes fit.fixture.json beside it

`asked`: tokenizers, told by its own calls. `inFile`: the same wishes in the tokenizer.json's blocks. `folders`: transformers with a tokenizer_config.json.
Texts are in the Basic Multilingual Plane, where code points are UTF-16 units.
"""
import json
import os

import tokenizers
import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
FILES = {name: each["file"] for name, each in json.load(open(os.path.join(HERE, "pipeline-tokenizer.fixture.json")))["tokenizers"].items() if name in ("bert", "roberta", "llama", "t5")}


def special(name, kind=0):
    return {"SpecialToken": {"id": name, "type_id": kind}}


def text(name, kind=0):
    return {"Sequence": {"id": name, "type_id": kind}}


# Byte-level BPE of a published pattern, which has a way of its own in groundup.
plain = json.loads(json.load(open(os.path.join(HERE, "fixtures", "reference.json")))["trained"][1]["file"])
first, last = [(token["content"], token["id"]) for token in plain["added_tokens"]]
template = {
    "type": "TemplateProcessing",
    "single": [special(first[0]), text("A"), special(last[0])],
    "pair": [special(first[0]), text("A"), special(last[0]), text("B", 1), special(last[0], 1)],
    "special_tokens": {token: {"id": token, "ids": [i], "tokens": [token]} for token, i in (first, last)},
}
level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PROCESSORS = {"gpt": {"type": "Sequence", "processors": [level, template]}, "bare": {**level, "trim_offsets": False}}
FILES.update({name: json.dumps({**plain, "post_processor": processor}) for name, processor in PROCESSORS.items()})

TEXTS = ["Call me Ishmael.", "", "the  whale and the sea", "naïve"]
PAIRS = ["and the ship", "never mind how", "", "with little or no money in my purse"]
PADS = {"bert": ("[PAD]", 0), "roberta": ("<pad>", 1), "llama": ("</s>", 2), "t5": ("<pad>", 0), "gpt": last, "bare": first}

CUTS = [
    {},
    {"max_length": 9},
    {"max_length": 7, "stride": 2},
    {"max_length": 8, "stride": 1, "direction": "left"},
    {"max_length": 10, "strategy": "only_first"},
    {"max_length": 40},
    {"max_length": 4},
]
PADDINGS = [{}, {"length": 12}, {"direction": "left"}, {"pad_to_multiple_of": 8, "pad_type_id": 3}, {"length": 5, "direction": "left"}]
# Pairs of the two lists above, and whether special tokens are put around.
WISHES = [(0, 0, True), (1, 1, True), (2, 2, True), (3, 3, True), (4, 0, True), (5, 4, True), (6, 2, True), (0, 2, False), (2, 3, False), (1, 4, False)]


def columns(encoding):
    rows = [encoding.ids, encoding.offsets, encoding.type_ids, encoding.attention_mask, encoding.special_tokens_mask]
    # Parts of parts are not looked at, and of parts not all columns: the file is large enough.
    return [*rows, [[part.ids, part.offsets, part.attention_mask] for part in encoding.overflowing]]


def batch(tokenizer, pairs, specials):
    try:
        return [columns(each) for each in tokenizer.encode_batch(list(zip(TEXTS, PAIRS)) if pairs else TEXTS, add_special_tokens=specials)]
    except BaseException as error:
        return "stride" if "stride" in str(error) else "short" if "too short" in str(error) else str(error)


asked, in_file = [], []
for n, (name, file) in enumerate(FILES.items()):
    token, i = PADS[name]
    for w, (cut, padding, specials) in enumerate(WISHES):
        for pairs in (False, True):
            # Every wish, for a part of the tokenizers.
            if (n + w + pairs) % 2 == 1 and cut not in (2, 3):
                continue
            tokenizer = Tokenizer.from_str(file)
            if CUTS[cut]:
                tokenizer.enable_truncation(**CUTS[cut])
            if PADDINGS[padding]:
                tokenizer.enable_padding(pad_token=token, pad_id=i, **PADDINGS[padding])
            found = batch(tokenizer, pairs, specials)
            asked.append({"tokenizer": name, "truncation": CUTS[cut], "padding": PADDINGS[padding], "special": specials, "pairs": pairs, "found": found})
            if cut == 2 and specials:
                again = json.loads(tokenizer.to_str())
                in_file.append({"tokenizer": name, "truncation": again["truncation"], "padding": again["padding"], "pairs": pairs, "found": batch(Tokenizer.from_str(json.dumps(again)), pairs, True)})

BLOCK = {"truncation": {"direction": "Left", "max_length": 6, "strategy": "LongestFirst", "stride": 0}, "padding": {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 3, "pad_type_id": 1, "pad_token": "[SEP]"}}
CONFIGS = [
    {"pad_token": "[PAD]", "model_max_length": 8},
    {"pad_token": "[PAD]", "model_max_length": 8, "padding_side": "left", "truncation_side": "left"},
]
CALLS = [{"padding": True}, {"padding": "max_length"}, {"truncation": True}, {"truncation": True, "padding": "max_length", "max_length": 6}, {"max_length": 5}, {"padding": "max_length", "max_length": 20}, {"truncation": True, "padding": True, "pad_to_multiple_of": 4}]
folders = []
for config in CONFIGS + [{}]:
    for call in CALLS:
        # Without a configuration, what the tokenizer.json has serves for its side, token and type.
        file = {**json.loads(FILES["bert"]), **({} if config else BLOCK)}
        if not config and "max_length" not in call and call not in ({"padding": True},):
            continue
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(file)), **config)
        found = tokenizer(TEXTS, return_token_type_ids=True, **call)
        folders.append({"blocks": None if config else BLOCK, "config": config, "call": call, "found": [found["input_ids"], found["token_type_ids"], found["attention_mask"]]})

made = {"made by": f"tokenizers {tokenizers.__version__}, transformers {transformers.__version__}", "processors": PROCESSORS, "texts": TEXTS, "seconds": PAIRS, "pads": PADS, "asked": asked, "inFile": in_file, "folders": folders}
with open(os.path.join(HERE, "fit.fixture.json"), "w") as out:
    json.dump(made, out, ensure_ascii=False, separators=(",", ":"))
    out.write("\n")

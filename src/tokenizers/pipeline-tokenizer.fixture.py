"""Small tokenizers of the kinds that models use, with what Hugging Face tokenizers makes of texts with them.

    python src/tokenizers/pipeline-tokenizer.fixture.py     # tokenizers 0.23.3; writes pipeline-tokenizer.fixture.json beside it (then: npm run format)

Each is trained on a part of the bundled book. Places are counted in code points.
"""
import gzip
import json
import os

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.dirname(__file__)
BOOK = os.path.join(HERE, "..", "..", "data", "moby-dick.jsonl.gz")
TEXT = [json.loads(line)["text"][:2000] for line in gzip.open(BOOK, "rt")][:40]

TEXTS = [
    "", " ", "  \n", "Call me Ishmael.", "  two  blanks,\tand a tab\n", "UPPER and ÀÉÎõü, e\u0301 ﬁ Ⅳ", "don't; it's 1234567.89 % of $5", "naïve 日本語 テスト 한국어",
    "👩‍👩‍👧 💥 \U0001d54f", "\u200b\ufeff\u00ad zero", "a\u0000b\u0001c\u007f", "<s> </s> [CLS] [MASK] <pad>", "supercalifragilisticexpialidocious" * 4, "İstanbul ß ΣΑΣ",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea", "... --- !!! ???", "x" * 130, "new<mask>word <mask> end", "tab\tnewline\r\nend  ",
]
PAIRS = [("Call me", "Ishmael."), ("", "b"), ("a", ""), ("two  words", "日本")]


def bert():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False))
    t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    t.decoder = decoders.WordPiece()
    return t


def roberta():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    t.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=500, special_tokens=["<s>", "<pad>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    t.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    t.decoder = decoders.ByteLevel()
    return t


def llama():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)], show_progress=False, max_token_length=8))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return t


def t5():
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.train_from_iterator(TEXT, trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False))
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    t.decoder = decoders.Metaspace()
    return t


def clip():
    t = Tokenizer(models.BPE(unk_token="<|end|>", end_of_word_suffix="</w>", continuing_subword_prefix=""))
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=700, special_tokens=["<|start|>", "<|end|>"], end_of_word_suffix="</w>", initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.post_processor = processors.TemplateProcessing(single="<|start|> $A <|end|>", pair="<|start|> $A <|end|> $B <|end|>", special_tokens=[("<|start|>", 0), ("<|end|>", 1)])
    t.decoder = decoders.ByteLevel()
    return t


def smollm():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=500, special_tokens=["<|endoftext|>", "<|im_start|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.decoder = decoders.ByteLevel()
    return t


def encoding(t, *texts, special=True):
    e = t.encode(*texts, add_special_tokens=special)
    return {"ids": e.ids, "offsets": [list(o) for o in e.offsets], "typeIds": e.type_ids, "specialTokensMask": e.special_tokens_mask}


made = {}
for build in [bert, roberta, llama, t5, clip, smollm]:
    t = build()
    made[build.__name__] = {
        "file": t.to_str(),
        "texts": [{**encoding(t, text), "tokens": t.encode(text).tokens, "decoded": t.decode(t.encode(text).ids)} for text in TEXTS],
        "bare": [t.encode(text, add_special_tokens=False).ids for text in TEXTS],
        "pairs": [encoding(t, a, b) for a, b in PAIRS],
    }
with open(os.path.join(HERE, "pipeline-tokenizer.fixture.json"), "w") as f:
    json.dump({"made by": "src/tokenizers/pipeline-tokenizer.fixture.py, tokenizers 0.23.3", "texts": TEXTS, "pairs": PAIRS, "tokenizers": made}, f, ensure_ascii=True)
    f.write("\n")

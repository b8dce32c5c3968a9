"""Ids, places and decoded text of published tokenizers against tokenizers, tiktoken and sentencepiece: tests/parity/tokenizers.mjs runs this.

tests/parity/tokenizers.mjs wrote for each tokenizer a folder with its file, its fuzzed strings and what groundup made of them and of the text.
"""
import json
import pathlib
import sys
import time

import gguf
import numpy as np
import sentencepiece
import tiktoken
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tiktoken.load import load_tiktoken_bpe
from tiktoken_ext import openai_public

from report import check, finish

own, texts = pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())


def units(text):
    """For each character of a text, and its end, how many UTF-16 units stand before it: the places that groundup counts."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return np.concatenate([[0], np.cumsum(1 + (points > 0xFFFF))]).astype(np.int32)


def units_of_bytes(text):
    """The same for each byte of the text's UTF-8, where a character begins."""
    first = np.frombuffer(text.encode(), np.uint8)
    return np.concatenate([[0], np.cumsum(np.where((first & 0xC0) == 0x80, 0, 1 + (first >= 0xF0)))]).astype(np.int32)


class ByTokenizers:
    name = f"tokenizers {tokenizers.__version__}"
    sets = ("text", "fuzz", "special")

    def __init__(self, tokenizer, hiding=None):
        """`hiding`: the same one whose model can't spell special tokens."""
        self.whole = tokenizer
        self.hiding = hiding

    def encode(self, batch, set):
        t = self.whole if self.hiding is None or set == "special" else self.hiding
        t.encode_special_tokens = set != "special"
        if set == "special":
            found = [e for at in range(0, len(batch), 1000) for e in t.encode_batch(batch[at : at + 1000])]
        else:
            kept = t.truncation, t.padding
            t.no_truncation()
            t.no_padding()
            found = t.encode_batch(batch, add_special_tokens=False)
            if kept[0]:
                t.enable_truncation(**kept[0])
            if kept[1]:
                t.enable_padding(**kept[1])
        for text, e in zip(batch, found, strict=True):
            yield np.array(e.ids, np.int32), units(text)[np.array(e.offsets, np.int64).reshape(-1, 2)]

    def decode(self, ids):
        return self.whole.decode(ids.tolist(), skip_special_tokens=False)


def tokenizer_json(path):
    """A tokenizer.json as tokenizers reads it, and where its model is Unigram also with special tokens that no text is cut into.

    Unigram has special tokens among its pieces, and so tokenizers cuts text into them even where it is told that their spelling is text
    (`encode_special_tokens`); in sentencepiece and in groundup it stays text.
    """
    whole = tokenizers.Tokenizer.from_file(str(path))
    spec = json.loads(path.read_text())
    if not isinstance(whole.model, tokenizers.models.Unigram):
        return ByTokenizers(whole)
    unknown = spec["model"]["vocab"][spec["model"]["unk_id"]][0]
    special = {token["content"] for token in spec["added_tokens"] if token["special"] and token["content"] != unknown}
    spec["added_tokens"] = []
    spec["post_processor"] = None
    for piece in spec["model"]["vocab"]:
        if piece[0] in special:
            piece[0] = f"\0{piece[0]}\0"
    return ByTokenizers(whole, tokenizers.Tokenizer.from_str(json.dumps(spec)))


class ByTiktoken:
    """Says where tokens begin, not where they end."""
    name = f"tiktoken {tiktoken.__version__}"
    sets = ("text", "fuzz", "special")

    def __init__(self, encoding, ranks):
        openai_public.load_tiktoken_bpe = openai_public.data_gym_to_mergeable_bpe_ranks = lambda *_, **__: load_tiktoken_bpe(str(ranks))
        self.encoding = tiktoken.Encoding(**getattr(openai_public, encoding)())

    def encode(self, batch, set):
        for text in batch:
            ids = self.encoding.encode(text, allowed_special="all") if set == "special" else self.encoding.encode_ordinary(text)
            starts = self.encoding.decode_with_offsets(ids)[1]
            yield np.array(ids, np.int32), units(text)[np.array(starts, np.int64)].reshape(-1, 1)

    def decode(self, ids):
        return self.encoding.decode(ids.tolist())


class BySentencePiece:
    name = f"sentencepiece {sentencepiece.__version__}"
    sets = ("text", "fuzz")

    def __init__(self, proto):
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=proto)

    def encode(self, batch, set):
        for text in batch:
            pieces = self.processor.encode(text, return_type="proto").pieces
            ids = np.array([p.id for p in pieces], np.int32)
            places = units_of_bytes(text)[np.array([(p.begin, p.end) for p in pieces], np.int64).reshape(-1, 2)]
            # The first bytes of a character, and a blank that stands for none, have no place there; with us they have that of the character that comes.
            empty = places[:, 0] == places[:, 1]
            ends = units(text)[1:]
            places[empty, 1] = np.append(ends, ends[-1:])[np.searchsorted(ends, places[empty, 0], side="right")]
            yield ids, places

    def decode(self, ids):
        return self.processor.decode(ids.tolist())


def by_gguf(path):
    """The peer that the metadata of a GGUF describes, read by llama.cpp's own reader and built here anew."""
    fields = {key.removeprefix("tokenizer.ggml."): field.contents() for key, field in gguf.GGUFReader(path).fields.items() if key.startswith("tokenizer.ggml.")}
    tokens, kind = fields["tokens"], fields["model"]
    types = fields.get("token_type", [1] * len(tokens))
    if kind == "llama":
        proto = sentencepiece_model_pb2.ModelProto()
        proto.trainer_spec.model_type = 2
        proto.trainer_spec.byte_fallback = True
        proto.normalizer_spec.add_dummy_prefix = True
        proto.normalizer_spec.remove_extra_whitespaces = False
        for id, (token, score, type) in enumerate(zip(tokens, fields["scores"], types, strict=True)):
            # Files of llama.cpp name the unknown piece by its id, and call places without a piece unknown.
            type = 2 if id == fields["unknown_token_id"] else 3 if type == 2 else type
            proto.pieces.add(piece=token, score=score, type=type)
        return BySentencePiece(proto.SerializeToString())
    if kind == "gpt2":
        merges = [tuple(merge.split(" ")) for merge in fields["merges"]]
        t = tokenizers.Tokenizer(tokenizers.models.BPE({token: i for i, token in enumerate(tokens)}, merges))
        t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        t.decoder = tokenizers.decoders.ByteLevel()
    else:
        spelled = [token if types[i] == 3 else token[1:] if token.startswith("\u2581") else f"##{token}" for i, token in enumerate(tokens)]
        unknown = spelled[fields["unknown_token_id"]]
        t = tokenizers.Tokenizer(tokenizers.models.WordPiece({token: i for i, token in enumerate(spelled)}, unk_token=unknown))
        t.normalizer = tokenizers.normalizers.BertNormalizer(strip_accents=True)
        t.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        t.decoder = tokenizers.decoders.WordPiece()
        first, last = (spelled[fields[f"{key}_token_id"]] for key in ("cls", "seperator"))
        t.post_processor = tokenizers.processors.BertProcessing((last, spelled.index(last)), (first, spelled.index(first)))
    t.add_special_tokens([token for token, type in zip(tokens, types, strict=True) if type == 3])
    return ByTokenizers(t)


def peers(entry):
    for by in entry["by"]:
        if by == "tokenizers":
            yield tokenizer_json(own / "tokenizer.json")
        elif by == "tiktoken":
            yield ByTiktoken(entry["name"].split("/")[-1], own / "source")
        elif by == "sentencepiece":
            yield BySentencePiece((own / "source").read_bytes())
        else:
            yield by_gguf(own / "source")


def ours(set):
    kept = json.loads((own / f"{set}.json").read_text())
    ends = np.cumsum(kept["lengths"])[:-1]
    ids = np.split(np.fromfile(own / f"{set}.ids", np.int32), ends)
    places = np.split(np.fromfile(own / f"{set}.places", np.int32).reshape(-1, 2), ends)
    return zip(ids, places, kept["decoded"], strict=True)


def compare(entry, peer, set, batch):
    wrong = {"ids": [], "places": [], "decoded": []}
    count = 0
    for text, (ids, places, decoded), (their_ids, their_places) in zip(batch, ours(set), peer.encode(batch, set), strict=True):
        count += len(ids)
        if not np.array_equal(ids, their_ids):
            wrong["ids"].append(text)
        elif not np.array_equal(places[:, : their_places.shape[1]], their_places):
            wrong["places"].append(text)
        if decoded != peer.decode(ids):
            wrong["decoded"].append(text)
    size = sum(len(text.encode()) for text in batch)
    what = {"text": "text", "fuzz": "strings", "special": "strings with special tokens"}[set]
    said = ", ".join(f"{len(v)} differ in {k}" + (f" ({[t[:60] for t in v[:4]]!r})" if v else "") for k, v in wrong.items())
    policy(entry, peer, set, batch)
    check(f"{entry['name']}: {peer.name}, {what}", not any(wrong.values()), f"{len(batch)} of {size / 1e6:.1f} MB, {count} ids: {said}")


def policy(entry, peer, set, batch):
    """How many texts tokenizers itself cuts in another way than its twin without special pieces: only some that hold the spelling of one may."""
    if set == "special" or getattr(peer, "hiding", None) is None:
        return
    peer.whole.encode_special_tokens = True
    special = [token.content for token in peer.whole.get_added_tokens_decoder().values()]
    other = [text for text, a, b in zip(batch, *(t.encode_batch(batch, add_special_tokens=False) for t in (peer.whole, peer.hiding))) if a.ids != b.ids]
    without = [text for text in other if not any(token in peer.whole.normalizer.normalize_str(text) for token in special)]
    said = f"in {len(other)} of {len(batch)} texts tokenizers takes the spelling of a special token for it although told not to; compared without that"
    check(f"{entry['name']}: {peer.name}, policy in {set}", not without, said + (f"; for another reason in {without[:4]!r}" if without else ""))


entry = json.loads((own / "entry.json").read_text())
fuzz = json.loads((own / "strings.json").read_text())
for one in entry["checks"]:
    wrong = [text[:60] for text in one["wrong"][:4]]
    check(f"{entry['name']}: {one['what']}", not one["wrong"], f"{one['lines']} texts, {len(one['wrong'])} differ{f' ({wrong!r})' if wrong else ''}")
began = time.time()
for peer in peers(entry):
    for set in peer.sets:
        compare(entry, peer, set, texts if set == "text" else fuzz)
print(f"       {entry['name']}: {entry['seconds']:.0f} s here, {time.time() - began:.0f} s there")
finish()

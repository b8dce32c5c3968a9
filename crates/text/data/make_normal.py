"""Writes normal.txt: what normalizers of Hugging Face tokenizers know about characters, for Rust. The ranges are those of
src/tokenizers/normalizers/normalizer-tables.ts, which this script reads, so that both sides change the same characters; what they change into is
the Unicode standard's and never changes any more (https://www.unicode.org/policies/stability_policy.html).

  python make_normal.py     (made with Python 3.11)

One line a table, numbers in base 36:
  Classes, Marks, BertAccents, BertRemoved   as in normalizer-tables.ts
  d POINT PARTS    canonical decomposition        k POINT PARTS    compatible decomposition, where it is another one
  p FIRST SECOND COMPOSITE                        c POINT          not itself in NFC        C POINT    not itself in NFKC
Hangul syllables are left out: arithmetic takes them apart.
"""
import pathlib
import re
import unicodedata
from make_unicode16 import base36

here = pathlib.Path(__file__).parent
source = (here / "../../../src/tokenizers/normalizers/normalizer-tables.ts").read_text()
tables = dict(re.findall(r'export const (\w+) =\s*"([^"]*)"', source))


def points(packed):
    numbers = [int(word, 36) for word in packed.split()]
    at = 0
    for gap, length in zip(numbers[::2], numbers[1::2]):
        yield from range(at + gap, at + gap + length)
        at += gap + length


def normal(form, text):
    return unicodedata.normalize(form, text)


names = {"Classes": "COMBINING_CLASSES", "Marks": "MARKS", "BertAccents": "BERT_ACCENTS", "BertRemoved": "BERT_REMOVED"}
lines = [f"{name} {tables[constant]}" for name, constant in names.items()]


def line(kind, *numbers):
    lines.append(" ".join([kind, *map(base36, numbers)]))


hangul = range(0xAC00, 0xD7A4)
canonical = [point for point in points(tables["CANONICAL"]) if point not in hangul]
for point in canonical:
    character = chr(point)
    parts = normal("NFD", character)
    line("d", point, *map(ord, parts))
    if normal("NFKD", character) != parts:
        line("k", point, *map(ord, normal("NFKD", character)))
    if normal("NFC", character) == character:
        first = normal("NFC", parts[:-1])
        assert len(first) == 1
        line("p", ord(first), ord(parts[-1]), point)
    else:
        line("c", point)
    if normal("NFKC", character) != character:
        line("C", point)
for point in points(tables["COMPATIBILITY"]):
    line("k", point, *map(ord, normal("NFKD", chr(point))))
    if normal("NFKC", chr(point)) != chr(point):
        line("C", point)
(here / "normal.txt").write_text("\n".join(lines) + "\n")

"""Writes regex.fixture.json: what Oniguruma finds, as Hugging Face tokenizers uses it, and which characters its classes hold.
Made with tokenizers 0.23.3:  python src/tokenizers/regex/regex.fixture.py > src/tokenizers/regex/regex.fixture.json
With a seed and a number behind it, it writes so many random expressions instead.

Places count code points. A case is [expression, [text, pieces, matches]…]: `pieces` are the text cut at every match (an empty one cuts too), `matches` those
that are not empty, both as a flat list of starts and ends. A class is [name, number of characters, checksum]."""
import json
import random
import sys
from tokenizers import Regex, pre_tokenizers

TEXTS = [
    "", "Hello, world! I'll say don't  (3.14) 12345\n\n  indented\tTAB\r\n", "  \n \t x", "naïve café — “quotes” …", "日本語のテキストとカタカナー。한국어 글, ไทย",
    "e\u0301 a\u0323\u0302 👩‍👩‍👧 🏳️‍🌈 𝕳𝖊𝖑𝖑𝖔", "مرحبا ١٢٣ שלום", "CamelCaseHTTPServer2024 snake_case_v1", "\ufeffΟΔΟΣ ſtraſſe 'S 'ſ İı \u0378\U000e0fff\x00\x7f", "aaaa bbb ab aab abcabc\na",
    "\r\n\r\n\u2028\u0085 end\n"]
GPT4_CASES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# Of tokenizer.json files as they are published.
PUBLISHED = [
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    GPT4_CASES + "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    GPT4_CASES + "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}+| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++$|\\s*[\\r\\n]|\\s+(?!\\S)|\\s",
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" + GPT4_CASES + "?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" + GPT4_CASES + "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "[^\\r\\n\\p{L}\\p{N}]?((?=[\\p{L}])([^a-z]))*((?=[\\p{L}])([^A-Z]))+|[^\\r\\n\\p{L}\\p{N}]?((?=[\\p{L}])([^a-z]))+((?=[\\p{L}])([^A-Z]))*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "[一-龥\u3040-ゟ゠-ヿ]+", "\\s?\\p{L}+", "\\s?\\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+".replace("\ud7ff", "\ud7fb"), "\\p{N}{1,3}", "\\p{N}", "[\\r\\n]",
    " ?[^(\\s|[.,!?…。，、।۔،])]+", "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+", "[0-9][0-9][0-9]", "(?:\\r?\\n)+(?!\\r?\\n)",
    "(?<=[^\\s])(?=\\d)|\\d{1,3}(?=(?:\\d{3})*\\b)", "\\d{1,3}(?=(?:\\d{3})*$)|[\\p{Han}\\p{Hiragana}]+|\\w+|[^\\w\\s]+",
]
SYNTAX = [
    "x*", "(?=a)", "^a", "a$", "^", "$", "\\A.", ".\\z", "\\Z", "\\ba", "a\\B", "\\h+", "\\H+", "[[:punct:]]+", "[[:^alpha:]]+", "[\\w&&[^\\d_]]+", "[^]a]", "[]a]+", "[a-]+", "[a-c-e]", "[^&&a]", "[a&&&&b]", "a{2}?", "a{1,2}+b",
    "a{3,1}", "a{,2}", "a{,}", "a{}", "a{x", "a{0}", "(?i)k|ſ", "(?i:[h-l])+", "(?i)[^a]", "a(?i)b|C", "(?m).+", ".+", "(?x) a  b # ab", "(?#text)a", "a++b", "a*+a", "(?>a|ab)c", "(?:a|ab)c", "(?<=a|bc)b", "(?<!a|b)b",
    "(?<name>a)b", "\\u0041|\\x41|\\x{43}|\\101|\\e|\\a".replace("\\101|", ""), "\\p{^L}+", "\\P{^L}+", "\\p{Lowercase_Letter}+", "\\p{greek}+|\\p{Arabic}+|\\p{Hangul}+|\\p{Thai}+", "(?:a*)*b", "(?:a|b*)*c", "(?:a??)*?b", "(a|)+b", "(?:|a)+", "(?:a?){2,}",
    "\\p{Sm}|\\p{Sc}|\\p{Pd}|\\p{Po}", "\\p{Cn}|\\p{Co}|\\p{Cc}|\\p{Cf}", "[\\p{Z}]+", "", "|a", "a||b", "a(?-i:B)", "\\-\\[\\!", "[\\b]", "(?:(?=(a+))a)*", "\\s+(?=\\S)|\\S+?(?=\\s|\\z)",
]
CLASSES = [
    *(f"\\p{{{name}}}" for name in
      "C Cc Cf Cn Co L LC Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs Word Any Assigned Han Hiragana Katakana Hangul Latin Arabic "
      "Cyrillic Thai Greek Hebrew Devanagari Common Inherited".split()),
    *(f"[[:{name}:]]" for name in "ascii blank cntrl digit graph print punct space word xdigit".split()),
    "\\w", "[\\w]", "\\s", "\\d", "\\h",
]


def find(expression, text):
    pieces = pre_tokenizers.Split(Regex(expression), "isolated").pre_tokenize_str(text)
    matches = pre_tokenizers.Split(Regex(expression), "removed", invert=True).pre_tokenize_str(text)
    return [text, [n for _, place in pieces for n in place], [n for _, place in matches for n in place]]


def held(name, text):
    points = [ord(c) for piece, _ in pre_tokenizers.Split(Regex(name), "removed", invert=True).pre_tokenize_str(text) for c in piece]
    checksum = 0
    for point in points:
        checksum = (checksum * 31 + point) % 1000003
    return [name, len(points), checksum]


ATOMS = (
    "a b c ab [ab] [^a] . \\s \\S \\d \\w \\W \\p{L} \\p{N} [^\\s\\p{L}\\p{N}] \\n [\\r\\n] é \\p{Lu} [a-c&&[^b]] (?i:b) (?i:a[bc]) \\p{Han} 😀 [[:punct:]] \\h [\\w] [^\\w] \\p{M} 1 _"
).split() + [" "]
ASSERTIONS = "^ $ \\b \\B \\A \\z \\Z (?=a) (?!a) (?<=a) (?<!a) (?<=a|bc) (?<!ab|c) (?=a*b) (?!\\S) (?=(?:ab|a)*c) (?<=\\b) (?<!^)".split()
REPEATS = "* + ? *? +? ?? *+ ++ ?+ {1,2} {2} {,2} {1,} {1,3}? {2}? {1,2}+ {0} {2,1}".split()


def expression(depth):
    r = random.random()
    if depth == 0 or r < 0.25:
        return random.choice(ATOMS)
    inner = lambda: expression(depth - 1)
    if r < 0.32:
        return random.choice(ASSERTIONS)
    if r < 0.62:
        return "".join(inner() for _ in range(random.randint(1, 3)))
    if r < 0.74:
        return "(?:" + "|".join(inner() if random.random() < 0.93 else "" for _ in range(random.randint(1, 3))) + ")"
    if r < 0.85:
        return random.choice(["(?>%s|%s)", "(?=%s%s)", "(?!%s|%s)", "(%s%s)*"]) % (inner(), inner())
    return "(?:" + inner() + ")" + random.choice(REPEATS)


def random_cases(count, texts):
    letters = list("aaaabbbbccc  \n\r\t1_AB.é漢😀\u0301²\u200d\u3000ſ")
    while count > 0:
        source = "|".join(expression(3) for _ in range(random.randint(1, 3)))
        try:
            Regex(source)
        except Exception:
            # Oniguruma refuses some: a repeated assertion, a look-behind it does not take.
            continue
        if len(source) < 120:
            yield [source, *(find(source, "".join(random.choices(letters, k=random.randint(1, 14)))) for _ in range(texts))]
            count -= 1


if len(sys.argv) > 1:
    random.seed(int(sys.argv[1]))
    out = list(random_cases(int(sys.argv[2]), 3))
else:
    random.seed(16)
    everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    cases = [[source, *(find(source, text) for text in TEXTS)] for source in PUBLISHED]
    cases += [[source, *(find(source, text) for text in (TEXTS[1], TEXTS[9], TEXTS[i % len(TEXTS)]))] for i, source in enumerate(SYNTAX)]
    out = {"cases": cases + list(random_cases(400, 2)), "classes": [held(name, everything) for name in CLASSES]}
print(json.dumps(out, ensure_ascii=False, separators=(",", ":")))

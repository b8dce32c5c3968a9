"""The job of `npm run bench -- encode` in tiktoken or Hugging Face tokenizers, on the same text and rank file:
python encode_tokenizers.py tiktoken|hf --text FILE --ranks FILE.tiktoken[.gz] [--setting gpt2|cl100k] [--threads 2]. Ends with one JSON line."""
import argparse, base64, gzip, json, os, resource, time

ap = argparse.ArgumentParser()
ap.add_argument("library", choices=["tiktoken", "hf"])
ap.add_argument("--text", required=True)
ap.add_argument("--ranks", required=True)
ap.add_argument("--setting", default="gpt2", choices=["gpt2", "cl100k"])
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--rounds", type=int, default=7)
args = ap.parse_args()
os.environ["RAYON_NUM_THREADS"] = str(args.threads)
os.environ["TOKENIZERS_PARALLELISM"] = "true"

# As OpenAI publishes them (tiktoken_ext/openai_public.py).
PATTERNS = {
    "gpt2": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    "cl100k": r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
}
pattern = PATTERNS[args.setting]
with open(args.text, encoding="utf8", newline="") as file:
    text = file.read()
documents = [text[at : at + 10_000] for at in range(0, len(text), 10_000)]
megabytes = len(text.encode()) / 1e6
with (gzip.open if args.ranks.endswith(".gz") else open)(args.ranks, "rb") as file:
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in file if line.strip())}


def halves(token, rank):
    """The two tokens that the merge of this rank joins: what is left of the bytes once all merges of lower rank are done."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        lowest, at = min((ranks.get(parts[i] + parts[i + 1], rank), i) for i in range(len(parts) - 1))
        if lowest >= rank:
            return None
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def hugging_face():
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    # GPT-2's alphabet: a byte that prints stands for itself, the others for the characters from 256 on.
    printed = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    letter = [chr(byte) if byte in printed else chr(next(others)) for byte in range(256)]
    spell = lambda token: "".join(letter[byte] for byte in token)
    joined = [halves(token, rank) for token, rank in sorted(ranks.items(), key=lambda item: item[1]) if len(token) > 1]
    merges = [(spell(pair[0]), spell(pair[1])) for pair in joined if pair]
    tokenizer = Tokenizer(models.BPE(vocab={spell(token): rank for token, rank in ranks.items()}, merges=merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])
    return tokenizer


if args.library == "tiktoken":
    import tiktoken as library

    encoding = library.Encoding(args.setting, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    jobs = {
        "documents": lambda: sum(len(encoding.encode_ordinary(document)) for document in documents),
        "batch": lambda: sum(map(len, encoding.encode_ordinary_batch(documents, num_threads=args.threads))),
    }
else:
    import tokenizers as library

    tokenizer = hugging_face()
    jobs = {
        "documents": lambda: sum(len(tokenizer.encode(document).ids) for document in documents),
        "batch": lambda: sum(len(encoded.ids) for encoded in tokenizer.encode_batch_fast(documents)),
    }

medians, bests, ids = {}, {}, 0
for name, job in jobs.items():
    ids = job()
    rates = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        job()
        rates.append(megabytes / (time.perf_counter() - start))
    rates.sort()
    medians[name], bests[name] = round(rates[len(rates) // 2], 2), round(rates[-1], 2)
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"name": "encode", "setting": args.setting, "median": medians["documents"], "best": bests["documents"], "unit": "MB/s", "peakRssBytes": rss, "ids": ids, "medians": medians, "bests": bests, args.library: library.__version__}))

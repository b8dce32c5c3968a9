// Texts that are hard to cut, the same for the same seed: mixed scripts, marks, emoji that belong together, controls, blanks of all kinds, line ends, characters outside of the
// first plane, long repeats, numbers, code, and spellings of special tokens, whole and nearly so. No lone surrogates: those can't be written as UTF-8.

const LETTERS = [
  "abcdefghijklmnopqrstuvwxyz",
  "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
  "éèüßñçøåœæİıſǅŉﬁＡｂ①½²",
  "αβγδεςΑΣάΐжзийклмнЖЩёїў",
  "日本語中文字符简体漢ひらがなカタカナーｶﾞ、。「」",
  "한국어각각",
  "ไทยภาษาเกี่ยวกำ",
  "हिन्दीक्षत्रिकनुक़",
  "עבריתשׁלוֹם",
  "العربيةلامٌَّـ٪",
  "தமிழ்বাংলাქართულიհայ",
  "0123456789٠١٢٣४५६७٤Ⅷ",
  "'’\"“”!?.,;:-–—_()[]{}<>|/\\#$%&*+=@^`~¿¡…·",
  "𝒜𝔅𝕔𠀀𐍈𝟘𝟙🄰𞤀",
];
const BLANKS = [
  " ",
  "  ",
  "   ",
  "\t",
  "\n",
  "\r\n",
  "\r",
  "\n\n",
  " \n",
  "\u3000",
  "\u00a0",
  "\u2009",
  "\u2028",
  "\u2029",
  "\u0085",
  "\u000b",
  "\u000c",
  "\u1680",
  "\u202f",
  "\u180e",
];
const MARKS = [
  "\u0301",
  "\u0308",
  "\u0327",
  "\u0345",
  "\u093c",
  "\u3099",
  "\u064e",
  "\u05b8",
  "\u20dd",
  "\u0e34",
  "\ufe0f",
  "\ufe0e",
  "\u{1f3fd}",
  "\u{e0067}",
];
const CONTROLS = [
  "\0",
  "\u0001",
  "\u0007",
  "\u001b",
  "\u001f",
  "\u007f",
  "\u009f",
  "\u00ad",
  "\u200b",
  "\u200c",
  "\u200d",
  "\u200e",
  "\u202e",
  "\u2060",
  "\ufeff",
  "\ufffd",
  "\ufffe",
  "\ue000",
  "\u0378",
  "\u{10ffff}",
];
const EMOJI = ["😀", "👩‍👩‍👧‍👦", "👩🏽‍🚀", "🇩🇪", "🇩🇪🇫🇷🇯", "❤️", "❤", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣", "😶‍🌫️", "👍🏿"];
const WORDS = [
  "the",
  "Hello",
  " world",
  "ing",
  "don't",
  "I'VE",
  "'s",
  "'T",
  "'Ll",
  "'re",
  "ſ's",
  "’s",
  "naïve",
  "Straße",
  "ΣΊΣΥΦΟΣ",
  "İstanbul",
  "doesn't",
  "I'm",
  "''",
  "``",
  "(''",
  "e\u0301",
  "Å",
  "ﷺ",
  "ẛ̣",
  "1234567",
  "3.14159",
  "1,000,000",
  "0x1F",
  "2024-01-31",
  "١٢٣٤",
  "http://x.y/z?a=1&b=2",
  "a@b.example",
  "C:\\dir\\file.txt",
  "▁",
  "▁▁the",
  "Ġthe",
  "Ċ",
  "##ing",
  "<0x0A>",
  "<0xE2>",
  " ⁇ ",
  "\u2581a",
  "def f(x):\n    return x\n",
  "if (a != b) { c += 1; }",
  "\t\tfor i in range(10):\n",
  '<div class="a">',
  "/* comment */",
  "x = y ** 2 # z",
  "```js\n",
  "¯\\_(ツ)_/¯",
  "====",
  "----------",
  "!!!???",
];
const SPECIAL = [
  "<s>",
  "</s>",
  "<unk>",
  "<pad>",
  "<mask>",
  "<cls>",
  "<sep>",
  "[CLS]",
  "[SEP]",
  "[MASK]",
  "[UNK]",
  "[PAD]",
  "<|endoftext|>",
  "<|startoftext|>",
  "<|im_start|>",
  "<|im_end|>",
  "<|fim_prefix|>",
  "<|endofprompt|>",
  "<|user|>",
  "<|end|>",
  "<|eot_id|>",
  "<think>",
  "</think>",
  "<eop>",
  "<eod>",
];

/** Numbers from 0 up to 1 (Tommy Ettinger's mulberry32). */
function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * So many different texts.
 * @param special spellings of special tokens that stand among the others
 */
export function fuzzTexts(seed, count, special = []) {
  const next = random(seed);
  const below = (n) => Math.floor(next() * n);
  const pick = (list) => list[below(list.length)];
  const letters = LETTERS.map((set) => [...set]);
  const specials = [...SPECIAL, ...special];
  const several = (most, part) => Array.from({ length: 1 + below(most) }, part).join("");
  const parts = [
    () => pick(WORDS),
    () => pick(WORDS),
    () => {
      const set = pick(letters);
      return several(8, () => pick(set));
    },
    () => {
      const set = pick(letters);
      return several(8, () => pick(set));
    },
    () => pick(BLANKS),
    () => several(4, () => pick(BLANKS)),
    () => pick(letters[below(letters.length)]) + several(3, () => pick(MARKS)),
    () => several(3, () => pick(EMOJI)),
    () => pick(CONTROLS),
    () => pick(specials),
    // A special token with a bit missing, another case, or a blank inside.
    () => {
      const token = pick(specials);
      const at = below(token.length + 1);
      return pick([token.slice(0, at), token.slice(at), token.toUpperCase(), `${token.slice(0, at)} ${token.slice(at)}`, token + token]).replace(
        /\p{Surrogate}/gu,
        "",
      );
    },
    // Any character at all, assigned or not.
    () => {
      const point = below(next() < 0.5 ? 0x3000 : 0x110000);
      return point >= 0xd800 && point < 0xe000 ? "\ue000" : String.fromCodePoint(point);
    },
    () => String(below(10 ** (1 + below(12)))),
    () => " ",
  ];
  const texts = new Set();
  while (texts.size < count) {
    // Long repeats are rare: they would be most of the text.
    if (next() < 0.005) texts.add(pick([...WORDS, ...EMOJI, ...BLANKS, ...letters.flat()]).repeat(50 + below(150)));
    else texts.add(several(12, () => pick(parts)()));
  }
  return [...texts];
}

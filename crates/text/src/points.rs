//! What normalizers and pre-tokenizers of Hugging Face tokenizers ask about a character: bits in a two-level table, built on first use.

use std::collections::HashMap;
use std::sync::OnceLock;

pub const SPACE: u16 = 1;
/// What its Punctuation pre-tokenizer takes for punctuation.
pub const PUNCTUATION: u16 = 1 << 1;
/// What its Digits pre-tokenizer takes for a digit.
pub const NUMERIC: u16 = 1 << 2;
/// `\w` of Rust's regex crate.
pub const WORD: u16 = 1 << 3;
/// What StripAccents removes.
pub const MARK: u16 = 1 << 4;
/// What BertNormalizer removes as accents, and when it cleans.
pub const BERT_ACCENT: u16 = 1 << 5;
pub const BERT_REMOVED: u16 = 1 << 6;
/// What lower case changes.
pub const UPPER: u16 = 1 << 7;
/// A text without such a character is in the form.
pub const AFFECTS_NFC: u16 = 1 << 8;
pub const AFFECTS_NFD: u16 = 1 << 9;
pub const AFFECTS_NFKC: u16 = 1 << 10;
pub const AFFECTS_NFKD: u16 = 1 << 11;

const ALL_FORMS: u16 = AFFECTS_NFC | AFFECTS_NFD | AFFECTS_NFKC | AFFECTS_NFKD;
const BLOCK: usize = 128;
pub const HANGUL: std::ops::Range<u32> = 0xac00..0xd7a4;

/// Lower case since Unicode 15: how many upper-case letters from which point on, and the lower-case letter of the first (as NEW_LOWERCASE of
/// normalizer-tables.ts).
const NEW_LOWERCASE: [(u32, u32, u32); 10] = [
    (0x1c89, 1, 0x1c8a),
    (0xa7cb, 1, 0x264),
    (0xa7cc, 1, 0xa7cd),
    (0xa7ce, 1, 0xa7cf),
    (0xa7d2, 1, 0xa7d3),
    (0xa7d4, 1, 0xa7d5),
    (0xa7da, 1, 0xa7db),
    (0xa7dc, 1, 0x19b),
    (0x10d50, 22, 0x10d70),
    (0x16ea0, 25, 0x16ebb),
];

pub struct Points {
    block_of: Vec<u16>,
    blocks: Vec<u16>,
    classes: HashMap<u32, u8>,
    /// Decompositions of points that come apart; Hangul's are arithmetic.
    canonical: HashMap<u32, Vec<char>>,
    compatible: HashMap<u32, Vec<char>>,
    pairs: HashMap<(u32, u32), u32>,
}

fn numbers<'a>(words: impl Iterator<Item = &'a str>) -> Vec<u32> {
    words.map(|word| u32::from_str_radix(word, 36).unwrap_or(0)).collect()
}

/// The points of ranges "gap length".
fn ranges(numbers: &[u32]) -> impl Iterator<Item = u32> {
    let mut at = 0;
    let ranges: Vec<_> = numbers
        .chunks_exact(2)
        .map(|pair| {
            let start = at + pair[0];
            at = start + pair[1];
            start..at
        })
        .collect();
    ranges.into_iter().flatten()
}

fn characters(points: &[u32]) -> Vec<char> {
    points.iter().filter_map(|&point| char::from_u32(point)).collect()
}

fn newer_lowercase(point: u32) -> Option<char> {
    let &(upper, _, lower) = NEW_LOWERCASE.iter().find(|(upper, count, _)| (*upper..upper + count).contains(&point))?;
    char::from_u32(lower + point - upper)
}

/// Calls `each` with every character of `c` in lower case.
pub fn lowercase(c: char, mut each: impl FnMut(char)) {
    match newer_lowercase(c as u32) {
        Some(lower) => each(lower),
        None => c.to_lowercase().for_each(each),
    }
}

impl Points {
    pub fn get() -> &'static Self {
        static TABLE: OnceLock<Points> = OnceLock::new();
        TABLE.get_or_init(build)
    }

    #[inline(always)]
    pub fn of(&self, point: char) -> u16 {
        let point = point as usize;
        self.blocks[usize::from(self.block_of[point / BLOCK]) * BLOCK + point % BLOCK]
    }

    /// The canonical combining class.
    pub fn class(&self, point: char) -> u8 {
        if (point as u32) < 0x300 { 0 } else { self.classes.get(&(point as u32)).copied().unwrap_or(0) }
    }

    /// What a character comes apart into; `None` where it stays.
    pub fn parts(&self, point: char, compatible: bool) -> Option<&[char]> {
        let point = point as u32;
        let found = if compatible { self.compatible.get(&point) } else { None };
        found.or_else(|| self.canonical.get(&point)).map(Vec::as_slice)
    }

    /// The character that two make, Hangul aside.
    pub fn pair(&self, first: char, second: char) -> Option<char> {
        self.pairs.get(&(first as u32, second as u32)).and_then(|&point| char::from_u32(point))
    }
}

fn build() -> Points {
    let mut flat = vec![0u16; 0x11_0000];
    let mut points = Points {
        block_of: Vec::new(),
        blocks: Vec::new(),
        classes: HashMap::new(),
        canonical: HashMap::new(),
        compatible: HashMap::new(),
        pairs: HashMap::new(),
    };
    for line in include_str!("../data/unicode16.txt").lines() {
        let mut words = line.split(' ');
        let bits = match words.next().unwrap_or("") {
            "HfPunctuation" => PUNCTUATION,
            "N" | "HfNumericMore" => NUMERIC,
            "Lu" | "Ll" | "Lt" | "Lm" | "Lo" | "M" | "Nd" | "Pc" | "WordMore" => WORD,
            _ => continue,
        };
        for point in ranges(&numbers(words)) {
            flat[point as usize] |= bits;
        }
    }
    for joiner in [0x200c, 0x200d] {
        flat[joiner] |= WORD;
    }
    for line in include_str!("../data/normal.txt").lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or("");
        let list = numbers(words);
        let first = list.first().copied().unwrap_or(0);
        match name {
            "Classes" => {
                let mut at = 0;
                for triple in list.chunks_exact(3) {
                    at += triple[0];
                    for point in at..at + triple[1] {
                        points.classes.insert(point, triple[2] as u8);
                        flat[point as usize] |= ALL_FORMS;
                    }
                    at += triple[1];
                }
            }
            "Marks" => ranges(&list).for_each(|point| flat[point as usize] |= MARK),
            "BertAccents" => ranges(&list).for_each(|point| flat[point as usize] |= BERT_ACCENT),
            "BertRemoved" => ranges(&list).for_each(|point| flat[point as usize] |= BERT_REMOVED),
            "d" => {
                points.canonical.insert(first, characters(&list[1..]));
                flat[first as usize] |= AFFECTS_NFD | AFFECTS_NFKD;
            }
            "k" => {
                points.compatible.insert(first, characters(&list[1..]));
                flat[first as usize] |= AFFECTS_NFKD;
            }
            "p" => {
                points.pairs.insert((list[0], list[1]), list[2]);
                flat[list[1] as usize] |= AFFECTS_NFC | AFFECTS_NFKC;
            }
            "c" => flat[first as usize] |= AFFECTS_NFC,
            "C" => flat[first as usize] |= AFFECTS_NFKC,
            _ => {}
        }
    }
    for point in HANGUL {
        flat[point as usize] |= AFFECTS_NFD | AFFECTS_NFKD;
    }
    for jamo in (0x1161..0x1176).chain(0x11a8..0x11c3) {
        flat[jamo] |= AFFECTS_NFC | AFFECTS_NFKC;
    }
    // White space lies below U+3001, letters of two cases below U+20000.
    for c in (0..0x2_0000u32).filter_map(char::from_u32) {
        if c.is_whitespace() {
            flat[c as usize] |= SPACE;
        }
        if changes_in_lower_case(c) {
            flat[c as usize] |= UPPER;
        }
    }
    let mut known = HashMap::new();
    for block in flat.chunks_exact(BLOCK) {
        let index = *known.entry(block).or_insert_with(|| {
            points.blocks.extend_from_slice(block);
            (points.blocks.len() / BLOCK - 1) as u16
        });
        points.block_of.push(index);
    }
    points
}

fn changes_in_lower_case(c: char) -> bool {
    let mut same = true;
    let mut count = 0;
    lowercase(c, |lower| {
        same &= lower == c;
        count += 1;
    });
    !same || count != 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_characters_have_their_bits() {
        let points = Points::get();
        assert_eq!(points.of('a'), WORD);
        assert_eq!(points.of('A'), WORD | UPPER);
        assert_eq!(points.of('~') & (PUNCTUATION | WORD), PUNCTUATION);
        assert_eq!(points.of('7') & (NUMERIC | WORD), NUMERIC | WORD);
        assert_eq!(points.of('\u{301}'), WORD | MARK | BERT_ACCENT | ALL_FORMS);
        assert_eq!(points.of('é') & ALL_FORMS, AFFECTS_NFD | AFFECTS_NFKD);
        assert_eq!(points.of('ﬁ') & ALL_FORMS, AFFECTS_NFKC | AFFECTS_NFKD);
        assert_eq!(points.of('가') & ALL_FORMS, AFFECTS_NFD | AFFECTS_NFKD);
        assert_eq!(points.of('\u{3000}') & SPACE, SPACE);
        assert_eq!((points.class('\u{301}'), points.class('\u{323}'), points.class('a')), (230, 220, 0));
        assert_eq!(points.pair('e', '\u{301}'), Some('é'));
    }
}

//! Character classes of the split patterns: Unicode 16.0 general categories in a two-level table.

use std::sync::OnceLock;

/// `\p{L}`
pub const LETTER: u8 = 1;
/// `\p{N}`
pub const NUMBER: u8 = 2;
/// `\s`, which is Unicode's White_Space
pub const SPACE: u8 = 4;
/// `[\r\n]`
pub const NEWLINE: u8 = 8;
/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
pub const UPPERISH: u8 = 16;
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
pub const LOWERISH: u8 = 32;

const BLOCK: usize = 128;

struct Table {
    ascii: [u8; 128],
    block_of: Vec<u16>,
    blocks: Vec<u8>,
}

fn bits(name: &str) -> u8 {
    match name {
        "Lu" | "Lt" => LETTER | UPPERISH,
        "Ll" => LETTER | LOWERISH,
        "Lm" | "Lo" => LETTER | UPPERISH | LOWERISH,
        "M" => UPPERISH | LOWERISH,
        "N" => NUMBER,
        _ => 0,
    }
}

fn build() -> Table {
    let mut flat = vec![0u8; 0x11_0000];
    for line in include_str!("../data/unicode16.txt").lines() {
        let mut words = line.split(' ');
        let class = bits(words.next().unwrap_or(""));
        let mut at = 0usize;
        let mut numbers = words.map(|w| usize::from_str_radix(w, 36).unwrap_or(0));
        while let (Some(gap), Some(length)) = (numbers.next(), numbers.next()) {
            at += gap;
            for slot in &mut flat[at..at + length] {
                *slot |= class;
            }
            at += length;
        }
    }
    // White_Space lies below U+3001; the standard library has the property itself.
    for c in (0..0x3001u32).filter_map(char::from_u32).filter(|c| c.is_whitespace()) {
        flat[c as usize] |= SPACE;
    }
    flat[usize::from(b'\r')] |= NEWLINE;
    flat[usize::from(b'\n')] |= NEWLINE;

    let mut ascii = [0u8; 128];
    ascii.copy_from_slice(&flat[..128]);
    let mut block_of = Vec::with_capacity(flat.len() / BLOCK);
    let mut blocks: Vec<u8> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for block in flat.chunks_exact(BLOCK) {
        let index = *known.entry(block.to_vec()).or_insert_with(|| {
            blocks.extend_from_slice(block);
            (blocks.len() / BLOCK - 1) as u16
        });
        block_of.push(index);
    }
    Table { ascii, block_of, blocks }
}

/// The class table, built on first use (about 3 ms) and then shared.
#[derive(Clone, Copy)]
pub struct Classes(&'static Table);

impl Classes {
    pub fn get() -> Self {
        static TABLE: OnceLock<Table> = OnceLock::new();
        Self(TABLE.get_or_init(build))
    }

    #[inline(always)]
    pub fn ascii(self, byte: u8) -> u8 {
        self.0.ascii[usize::from(byte & 127)]
    }

    #[inline]
    pub fn of(self, code_point: u32) -> u8 {
        let block = self.0.block_of.get(code_point as usize / BLOCK).copied().unwrap_or(0);
        self.0.blocks[usize::from(block) * BLOCK + code_point as usize % BLOCK]
    }

    /// Class and byte length of the character that starts at `at`. `text` is UTF-8 and `at < text.len()` a character's start.
    #[inline(always)]
    pub fn at(self, text: &[u8], at: usize) -> (u8, usize) {
        let byte = text[at];
        if byte < 128 { (self.ascii(byte), 1) } else { self.at_wide(text, at) }
    }

    fn at_wide(self, text: &[u8], at: usize) -> (u8, usize) {
        let tail = |i: usize| u32::from(text.get(at + i).copied().unwrap_or(0) & 63);
        let lead = u32::from(text[at]);
        let (code_point, length) = match lead {
            0..=0xdf => ((lead & 31) << 6 | tail(1), 2),
            0xe0..=0xef => ((lead & 15) << 12 | tail(1) << 6 | tail(2), 3),
            _ => ((lead & 7) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4),
        };
        // `length` may not step over the end, even for text that is not UTF-8.
        (self.of(code_point), length.min(text.len() - at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_characters_have_their_classes() {
        let c = Classes::get();
        let of = |ch: char| c.of(ch as u32);
        assert_eq!(of('a'), LETTER | LOWERISH);
        assert_eq!(of('A'), LETTER | UPPERISH);
        assert_eq!(of('語'), LETTER | UPPERISH | LOWERISH);
        assert_eq!(of('\u{301}'), UPPERISH | LOWERISH);
        assert_eq!(of('½'), NUMBER);
        assert_eq!(of('\n'), SPACE | NEWLINE);
        assert_eq!(of('\u{a0}'), SPACE);
        assert_eq!(of('\u{85}'), SPACE);
        assert_eq!(of('\u{feff}'), 0);
        assert_eq!(of('_'), 0);
        // Assigned in Unicode 16.0 (Garay capital letter A) and 17.0 (not yet a letter here).
        assert_eq!(of('\u{10d50}'), LETTER | UPPERISH);
        assert_eq!(of('\u{16ea0}'), 0);
    }

    #[test]
    fn counts_are_those_of_unicode_16() {
        let c = Classes::get();
        let count = |bit: u8| (0..0x11_0000).filter(|&p| c.of(p) & bit != 0).count();
        assert_eq!(count(LETTER), 141_028);
        assert_eq!(count(NUMBER), 1_911);
        assert_eq!(count(SPACE), 25);
    }
}

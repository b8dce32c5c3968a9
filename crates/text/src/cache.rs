//! The ids of recent short words, one direct-mapped table for each thread.

use crate::hash;

/// Longest word the cache takes, in bytes: with its length it fills sixteen.
pub const LONGEST: usize = 15;
/// Most ids a cached word has.
pub const MOST: usize = 4;
const SLOTS: usize = 1 << 15;
const COUNT_SHIFT: u32 = 29;

#[derive(Clone, Copy)]
struct Slot {
    lo: u64,
    hi: u64,
    /// The count stands in the top three bits of the first.
    ids: [u32; MOST],
}

/// A word packed into two integers: its bytes, zeros, and its length in the top byte.
#[derive(Clone, Copy)]
pub struct Packed {
    lo: u64,
    hi: u64,
}

impl Packed {
    /// Packs `text[start..start + length]`; `length` is 1 to `LONGEST`.
    #[inline(always)]
    pub fn new(text: &[u8], start: usize, length: usize) -> Self {
        let mut sixteen = [0u8; 16];
        if let Some(bytes) = text.get(start..start + 16) {
            sixteen.copy_from_slice(bytes);
        } else {
            sixteen[..length].copy_from_slice(&text[start..start + length]);
        }
        let all = u128::from_le_bytes(sixteen) & ((1u128 << (8 * length as u32)) - 1) | (length as u128) << 120;
        Self { lo: all as u64, hi: (all >> 64) as u64 }
    }

    #[inline(always)]
    pub fn hash(self) -> u64 {
        hash::mix(self.lo, self.hi)
    }

    #[inline(always)]
    pub fn halves(self) -> (u64, u64) {
        (self.lo, self.hi)
    }
}

pub struct WordCache {
    slots: Vec<Slot>,
}

impl WordCache {
    pub fn new() -> Self {
        // No word packs to zero: its length is at least one.
        Self { slots: vec![Slot { lo: 0, hi: 0, ids: [0; MOST] }; SLOTS] }
    }

    /// The ids of a word and how many they are, if it was seen lately.
    #[inline(always)]
    pub fn get(&self, word: Packed) -> Option<([u32; MOST], usize)> {
        let slot = &self.slots[word.hash() as usize & (SLOTS - 1)];
        if slot.lo != word.lo || slot.hi != word.hi {
            return None;
        }
        let mut ids = slot.ids;
        let count = (ids[0] >> COUNT_SHIFT) as usize;
        ids[0] &= (1 << COUNT_SHIFT) - 1;
        Some((ids, count))
    }

    /// Keeps the 1 to `MOST` ids of a word.
    pub fn put(&mut self, word: Packed, ids: &[u32]) {
        let mut kept = [0; MOST];
        kept[..ids.len()].copy_from_slice(ids);
        kept[0] |= (ids.len() as u32) << COUNT_SHIFT;
        self.slots[word.hash() as usize & (SLOTS - 1)] = Slot { lo: word.lo, hi: word.hi, ids: kept };
    }
}

/// Longest word that the second table takes, in bytes, and most ids of one.
const LONGEST_KEPT: usize = 96;
const MOST_KEPT: usize = 64;
const LONG_SLOTS: usize = 1 << 13;

#[derive(Clone, Default)]
struct LongSlot {
    word: Vec<u8>,
    ids: Vec<u32>,
}

/// What the tables know of a word.
pub enum Found<'a> {
    Few([u32; MOST], usize),
    Many(&'a [u32]),
    Nothing,
}

/// The ids of recent words: short ones packed, longer ones in a table of their own. At most some megabytes a thread.
pub struct Words {
    short: WordCache,
    long: Vec<LongSlot>,
}

impl Words {
    pub fn new() -> Self {
        Self { short: WordCache::new(), long: vec![LongSlot::default(); LONG_SLOTS] }
    }

    /// The ids of `text[start..end]` (not empty), if it was seen lately.
    #[inline(always)]
    pub fn find(&self, text: &[u8], start: usize, end: usize) -> Found<'_> {
        if end - start <= LONGEST {
            return self.short.get(Packed::new(text, start, end - start)).map_or(Found::Nothing, |(ids, count)| Found::Few(ids, count));
        }
        self.find_long(&text[start..end])
    }

    fn find_long(&self, word: &[u8]) -> Found<'_> {
        if word.len() > LONGEST_KEPT {
            return Found::Nothing;
        }
        let slot = &self.long[hash::bytes(word) as usize & (LONG_SLOTS - 1)];
        if slot.word == word { Found::Many(&slot.ids) } else { Found::Nothing }
    }

    pub fn keep(&mut self, word: &[u8], ids: &[u32]) {
        if word.len() <= LONGEST {
            if ids.len() <= MOST {
                self.short.put(Packed::new(word, 0, word.len()), ids);
            }
        } else if word.len() <= LONGEST_KEPT && ids.len() <= MOST_KEPT {
            let slot = &mut self.long[hash::bytes(word) as usize & (LONG_SLOTS - 1)];
            slot.word.clear();
            slot.word.extend_from_slice(word);
            slot.ids.clear();
            slot.ids.extend_from_slice(ids);
        }
    }
}

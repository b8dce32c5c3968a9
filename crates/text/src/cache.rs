//! The ids of words that were seen, a table for each thread: most words of any text stand in it many times.

use crate::hash;

/// Longest word the cache takes, in bytes: with its length it fills sixteen.
pub const LONGEST: usize = 15;
/// Most ids a cached word has.
pub const MOST: usize = 4;
/// Slots of a table at first, and once it has grown as far as it may: four megabytes.
const FEWEST_SLOTS: usize = 1 << 12;
const MOST_SLOTS: usize = 1 << 17;
/// Slots that a word may stand in: two lines of the processor's cache, which come together.
const WAYS: usize = 4;
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

struct WordCache {
    slots: Vec<Slot>,
    filled: usize,
}

/// No word packs to zero: its length is at least one.
const FREE: Slot = Slot { lo: 0, hi: 0, ids: [0; MOST] };

impl Default for WordCache {
    fn default() -> Self {
        Self { slots: vec![FREE; FEWEST_SLOTS], filled: 0 }
    }
}

impl WordCache {
    /// The first of the slots that a word may stand in.
    #[inline(always)]
    fn first(&self, word: Packed) -> usize {
        word.hash() as usize & (self.slots.len() - WAYS)
    }

    /// The ids of a word and how many they are, if it was seen lately.
    #[inline(always)]
    fn get(&self, word: Packed) -> Option<([u32; MOST], usize)> {
        let first = self.first(word);
        let slot = self.slots[first..first + WAYS].iter().find(|slot| slot.lo == word.lo && slot.hi == word.hi)?;
        let mut ids = slot.ids;
        let count = (ids[0] >> COUNT_SHIFT) as usize;
        ids[0] &= (1 << COUNT_SHIFT) - 1;
        Some((ids, count))
    }

    /// Keeps the ids (at most `MOST`) of a word that is not in the table.
    fn put(&mut self, word: Packed, ids: &[u32]) {
        let mut kept = [0; MOST];
        kept[..ids.len()].copy_from_slice(ids);
        kept[0] |= (ids.len() as u32) << COUNT_SHIFT;
        self.place(Slot { lo: word.lo, hi: word.hi, ids: kept });
    }

    fn place(&mut self, slot: Slot) {
        let word = Packed { lo: slot.lo, hi: slot.hi };
        loop {
            let (first, size) = (self.first(word), self.slots.len());
            let ways = &mut self.slots[first..first + WAYS];
            if let Some(free) = ways.iter_mut().find(|slot| slot.hi == 0) {
                *free = slot;
                self.filled += 1;
                return;
            }
            // A table that is not half full yet has words that stand unluckily; larger, fewer do.
            if size == MOST_SLOTS || self.filled * 4 < size {
                ways[(word.hash() >> 62) as usize] = slot;
                return;
            }
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![FREE; self.slots.len() * 2];
        self.filled = 0;
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot.hi != 0 {
                self.place(slot);
            }
        }
    }
}

/// Longest word that the second table takes, in bytes, and most ids of one.
const LONGEST_KEPT: usize = 96;
const MOST_KEPT: usize = 64;
/// Slots of it at first; it is emptied when its words fill so many bytes.
const FEWEST_LONG: usize = 1 << 10;
const MOST_BYTES: usize = 1 << 21;

#[derive(Clone, Copy)]
struct LongSlot {
    /// A part of the hash; a length of 0 is a free slot.
    tag: u32,
    word: u32,
    ids: u32,
    length: u8,
    count: u8,
}

const FREE_LONG: LongSlot = LongSlot { tag: 0, word: 0, ids: 0, length: 0, count: 0 };

/// Words with their bytes and ids one after the other, at most half of the slots taken.
#[derive(Default)]
struct LongWords {
    slots: Vec<LongSlot>,
    bytes: Vec<u8>,
    ids: Vec<u32>,
    filled: usize,
}

impl LongWords {
    /// The ids of a word, or the free slot for it.
    fn find(&self, word: &[u8], hash: u64) -> Result<&[u32], usize> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.length == 0 {
                return Err(at);
            }
            let start = slot.word as usize;
            if slot.tag == (hash >> 32) as u32 && self.bytes[start..start + usize::from(slot.length)] == *word {
                let start = slot.ids as usize;
                return Ok(&self.ids[start..start + usize::from(slot.count)]);
            }
            at = (at + 1) & mask;
        }
    }

    fn keep(&mut self, word: &[u8], ids: &[u32]) {
        if self.bytes.len() + word.len() > MOST_BYTES || self.slots.is_empty() {
            *self = Self { slots: vec![FREE_LONG; FEWEST_LONG], ..Self::default() };
        } else if self.filled * 2 >= self.slots.len() {
            let larger = vec![FREE_LONG; self.slots.len() * 2];
            for slot in std::mem::replace(&mut self.slots, larger) {
                let word = &self.bytes[slot.word as usize..slot.word as usize + usize::from(slot.length)];
                if let Err(at) = self.find(word, hash::bytes(word)) {
                    self.slots[at] = slot;
                }
            }
        }
        let hash = hash::bytes(word);
        if let Err(at) = self.find(word, hash) {
            let (start, length) = (self.bytes.len() as u32, word.len() as u8);
            self.slots[at] = LongSlot { tag: (hash >> 32) as u32, word: start, ids: self.ids.len() as u32, length, count: ids.len() as u8 };
            self.bytes.extend_from_slice(word);
            self.ids.extend_from_slice(ids);
            self.filled += 1;
        }
    }
}

/// What the tables know of a word.
pub enum Found<'a> {
    Few([u32; MOST], usize),
    Many(&'a [u32]),
    Nothing,
}

/// The ids of recent words: short ones of few ids packed, others in a table of their own. At most some megabytes a thread.
#[derive(Default)]
pub struct Words {
    short: WordCache,
    long: LongWords,
}

impl Words {
    /// The ids of `text[start..end]` (not empty), if it was seen lately.
    #[inline(always)]
    pub fn find(&self, text: &[u8], start: usize, end: usize) -> Found<'_> {
        if end - start <= LONGEST
            && let Some((ids, count)) = self.short.get(Packed::new(text, start, end - start))
        {
            return Found::Few(ids, count);
        }
        self.find_long(&text[start..end])
    }

    #[inline(never)]
    fn find_long(&self, word: &[u8]) -> Found<'_> {
        if word.len() > LONGEST_KEPT || self.long.slots.is_empty() {
            return Found::Nothing;
        }
        self.long.find(word, hash::bytes(word)).map_or(Found::Nothing, Found::Many)
    }

    /// Keeps the ids of a word that was not found.
    pub fn keep(&mut self, word: &[u8], ids: &[u32]) {
        if word.len() <= LONGEST && ids.len() <= MOST {
            self.short.put(Packed::new(word, 0, word.len()), ids);
        } else if word.len() <= LONGEST_KEPT && ids.len() <= MOST_KEPT {
            self.long.keep(word, ids);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_kept_and_nothing_else() {
        let mut words = Words::default();
        let mut state = 5u64;
        let mut next = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let ids_of = |word: &[u8]| -> Vec<u32> {
            let hash = hash::bytes(word);
            (0..hash % 9).map(|i| (hash >> (8 + i)) as u32 & 0xfffff).collect()
        };
        let (mut found, mut looked) = (0, 0);
        // More than both tables hold: they grow, replace words and are emptied.
        for round in 0..600_000u64 {
            let longest = if round % 3 == 0 { 40 } else { 12 };
            let word: Vec<u8> = (0..1 + next(longest)).map(|_| b'a' + next(if round < 2000 { 2 } else { 9 }) as u8).collect();
            let expected = ids_of(&word);
            looked += 1;
            match words.find(&word, 0, word.len()) {
                Found::Few(ids, count) => assert_eq!(ids[..count], expected),
                Found::Many(ids) => assert_eq!(ids, expected),
                Found::Nothing => {
                    words.keep(&word, &expected);
                    continue;
                }
            }
            found += 1;
        }
        assert!(found > 20_000 && found < looked / 2, "{found} of {looked}");
        let word = [b'x'; LONGEST_KEPT + 1];
        words.keep(&word, &[1]);
        assert!(matches!(words.find(&word, 0, word.len()), Found::Nothing));
    }
}

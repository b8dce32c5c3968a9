//! Counting the different words of a text: an open-addressing table over an arena of word bytes.

use crate::cache::{LONGEST, Packed};
use crate::hash;

#[derive(Clone, Copy)]
struct Slot {
    /// For words of up to `LONGEST` bytes the word itself; otherwise hash and place in the arena.
    lo: u64,
    hi: u64,
    count: u64,
}

/// Marks a long word in the top byte of `hi` (short words have their length, at most 15, there).
const LONG_MARK: u64 = 0xff << 56;

/// Words and how often each was seen.
pub struct WordCounts {
    slots: Vec<Slot>,
    used: usize,
    /// Bytes of long words.
    arena: Vec<u8>,
    /// Start and length of each long word in `arena`.
    spans: Vec<(u64, u32)>,
}

impl Default for WordCounts {
    fn default() -> Self {
        Self { slots: vec![Slot { lo: 0, hi: 0, count: 0 }; 1 << 14], used: 0, arena: Vec::new(), spans: Vec::new() }
    }
}

impl WordCounts {
    /// Counts the word `text[start..end]` (not empty) `times` times.
    #[inline(always)]
    pub fn add(&mut self, text: &[u8], start: usize, end: usize, times: u64) {
        let length = end - start;
        if length > LONGEST {
            return self.add_long(&text[start..end], times);
        }
        let word = Packed::new(text, start, length);
        let (lo, hi) = word.halves();
        let mask = self.slots.len() - 1;
        let mut at = word.hash() as usize & mask;
        loop {
            let slot = &mut self.slots[at];
            if slot.lo == lo && slot.hi == hi {
                slot.count += times;
                return;
            }
            if slot.hi == 0 {
                *slot = Slot { lo, hi, count: times };
                return self.inserted();
            }
            at = (at + 1) & mask;
        }
    }

    #[inline(never)]
    fn add_long(&mut self, word: &[u8], times: u64) {
        let lo = hash::bytes(word);
        let mask = self.slots.len() - 1;
        let mut at = hash::mix(lo, LONG_MARK) as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.hi == 0 {
                self.slots[at] = Slot { lo, hi: LONG_MARK | self.spans.len() as u64, count: times };
                self.spans.push((self.arena.len() as u64, word.len() as u32));
                self.arena.extend_from_slice(word);
                return self.inserted();
            }
            if slot.lo == lo && slot.hi >= LONG_MARK && self.long_word(slot.hi) == word {
                self.slots[at].count += times;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn long_word(&self, hi: u64) -> &[u8] {
        let (start, length) = self.spans[(hi & !LONG_MARK) as usize];
        &self.arena[start as usize..start as usize + length as usize]
    }

    #[inline]
    fn inserted(&mut self) {
        self.used += 1;
        if self.used * 2 > self.slots.len() {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let size = self.slots.len() * 4;
        let old = std::mem::replace(&mut self.slots, vec![Slot { lo: 0, hi: 0, count: 0 }; size]);
        for slot in old.into_iter().filter(|s| s.hi != 0) {
            let key = if slot.hi >= LONG_MARK { LONG_MARK } else { slot.hi };
            let mut at = hash::mix(slot.lo, key) as usize & (size - 1);
            while self.slots[at].hi != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = slot;
        }
    }

    /// Number of different words.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Calls `each(word, count)` for every word, in an order that depends on what was counted and how it was spread over threads.
    pub fn for_each(&self, mut each: impl FnMut(&[u8], u64)) {
        for slot in self.slots.iter().filter(|s| s.hi != 0) {
            if slot.hi >= LONG_MARK {
                each(self.long_word(slot.hi), slot.count);
            } else {
                let bytes = (u128::from(slot.hi) << 64 | u128::from(slot.lo)).to_le_bytes();
                each(&bytes[..(slot.hi >> 56) as usize], slot.count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn counts_like_a_hash_map() {
        let mut counts = WordCounts::default();
        let mut expected: HashMap<Vec<u8>, u64> = HashMap::new();
        let mut state = 5u64;
        for _ in 0..60_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let length = 1 + (state >> 33) as usize % 30;
            let word: Vec<u8> = (0..length).map(|i| (state >> 40) as u8 % 7 * (i as u8 % 3)).collect();
            counts.add(&word, 0, word.len(), 2);
            *expected.entry(word).or_default() += 2;
        }
        for i in 0..20_000u32 {
            let word = format!("w{i}");
            counts.add(word.as_bytes(), 0, word.len(), 1);
            expected.insert(word.into_bytes(), 1);
        }
        assert_eq!(counts.len(), expected.len());
        counts.for_each(|word, count| assert_eq!(expected.get(word), Some(&count)));
    }
}

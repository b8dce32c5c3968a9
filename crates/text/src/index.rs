//! Tokens by their bytes: ids in an open table, each with as much of its token's hash as there is room for. It stays small, since every look-up reads it anywhere.

use crate::hash;

const FREE: u32 = u32::MAX;

#[derive(Clone, Default)]
pub struct Index {
    slots: Vec<u32>,
    id_bits: u32,
}

impl Index {
    /// For `count` tokens (at least one) with ids below `size` (below 2^29).
    pub fn new(count: usize, size: usize) -> Self {
        // All ones is no id, so that no slot in use looks free.
        let id_bits = usize::BITS - size.leading_zeros();
        Self { slots: vec![FREE; (count + count / 2).next_power_of_two().max(16)], id_bits }
    }

    /// The id of the token with this hash for which `is_it` says so, or the slot that it would take.
    #[inline(always)]
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let tag = ((hash >> 32) as u32) << self.id_bits;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == FREE {
                return Err(at);
            }
            let id = slot & !(u32::MAX << self.id_bits);
            if slot ^ id == tag && is_it(id) {
                return Ok(id);
            }
            at = (at + 1) & mask;
        }
    }

    /// Puts a token into the slot that `find` gave for it.
    pub fn put(&mut self, at: usize, hash: u64, id: u32) {
        self.slots[at] = ((hash >> 32) as u32) << self.id_bits | id;
    }

    /// The id that stands first where a token with this hash is looked for, or any number: reading it early brings the place near.
    #[inline(always)]
    pub fn peek(&self, hash: u64) -> u32 {
        self.slots[hash as usize & (self.slots.len() - 1)] & !(u32::MAX << self.id_bits)
    }
}

/// Tokens by id, one after the other, with their index.
#[derive(Clone, Default)]
pub struct TokenTable {
    pub bytes: Vec<u8>,
    /// Where each begins; one more than there are ids.
    pub starts: Vec<u32>,
    pub index: Index,
}

impl TokenTable {
    /// Number of ids, holes included.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The bytes of a token; empty for a hole, `None` outside the table.
    #[inline]
    pub fn token(&self, id: u32) -> Option<&[u8]> {
        let start = *self.starts.get(id as usize)? as usize;
        let end = *self.starts.get(id as usize + 1)? as usize;
        self.bytes.get(start..end)
    }

    #[inline]
    pub fn find(&self, word: &[u8]) -> Option<u32> {
        self.find_hashed(word, hash::bytes(word))
    }

    #[inline(always)]
    pub fn find_hashed(&self, word: &[u8], hash: u64) -> Option<u32> {
        self.index.find(hash, |id| self.token(id) == Some(word)).ok()
    }

    /// Indexes the tokens that are `wanted` and no holes.
    ///
    /// # Errors
    /// Two ids with the same bytes.
    pub fn make_index(&mut self, wanted: impl Fn(u32) -> bool) -> Result<(), (u32, u32)> {
        let ids = 0..self.len() as u32;
        let spelled = |id: u32| self.token(id).filter(|token| !token.is_empty() && wanted(id));
        let count = ids.clone().filter(|&id| spelled(id).is_some()).count();
        let mut index = Index::new(count, self.len());
        // Some at a time: their slots are asked for together.
        const TOGETHER: usize = 64;
        let mut hashes = Vec::with_capacity(TOGETHER);
        let mut from = 0;
        while from < ids.end {
            let to = ids.end.min(from + TOGETHER as u32);
            hashes.clear();
            hashes.extend((from..to).filter_map(|id| spelled(id).map(|token| (id, token, hash::bytes(token)))));
            std::hint::black_box(hashes.iter().fold(0, |all, &(_, _, hash)| all ^ index.peek(hash)));
            for &(id, token, hash) in &hashes {
                match index.find(hash, |other| self.token(other) == Some(token)) {
                    Ok(other) => return Err((other, id)),
                    Err(at) => index.put(at, hash, id),
                }
            }
            from = to;
        }
        self.index = index;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_each_token_and_no_other() {
        let tokens: Vec<Vec<u8>> = (0..5000u32).map(|n| if n % 7 == 0 { Vec::new() } else { n.to_string().into_bytes() }).collect();
        let mut table = TokenTable { bytes: tokens.concat(), starts: vec![0], index: Index::default() };
        for token in &tokens {
            table.starts.push(table.starts.last().unwrap() + token.len() as u32);
        }
        table.make_index(|id| id % 3 != 0).unwrap();
        for n in 0..10_000u32 {
            let expected = (n < 5000 && n % 7 != 0 && n % 3 != 0).then_some(n);
            assert_eq!(table.find(n.to_string().as_bytes()), expected, "{n}");
        }
        assert_eq!(table.find(b""), None);
        table.bytes[..2].copy_from_slice(b"22");
        assert_eq!(table.token(1), Some(b"2".as_slice()));
        assert_eq!(table.make_index(|_| true), Err((1, 2)));
    }
}

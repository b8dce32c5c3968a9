//! BPE over characters, with all that tokenizer.json's model can say: unknown tokens, byte fallback, marks for what continues or ends a word.
//! Always the possible merge of smallest rank, the leftmost of equals (Sennrich, Haddow and Birch 2016, arXiv:1508.07909).

use crate::error::TextError;
use crate::hash;
use crate::joints::{Units, has_mark_inside};
use crate::models::Outside;
use crate::trie::{NONE, Trie};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

/// Options of the model, with tokens as ids.
pub struct CharOptions {
    pub prefix: String,
    pub suffix: String,
    /// The model names a token for the unknown, and whether the vocabulary has it.
    pub names_unknown: bool,
    pub unknown: Option<u32>,
    pub fuse_unknown: bool,
    pub bytes: Option<Box<[u32; 256]>>,
    /// A piece that is a token is that token, whether or not merges lead to it.
    pub whole_pieces: bool,
}

#[derive(Clone, Copy)]
struct Slot {
    key: u64,
    rank: u32,
}

pub struct CharBpe {
    tokens: Trie,
    options: CharOptions,
    pairs: Vec<Slot>,
    /// By rank the token that the merge makes.
    results: Vec<u32>,
}

const EMPTY: u64 = u64::MAX;

#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    prev: u32,
    next: u32,
    /// False once it was merged away.
    live: bool,
}

/// Room for merging, kept between pieces.
#[derive(Default)]
pub struct CharRoom {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<u64>>,
    spelled: String,
}

impl CharBpe {
    /// `merges` are `left, right, result` by rank. Of a pair that is there twice the later counts.
    ///
    /// # Errors
    /// Numbers that are no ids.
    pub fn new(tokens: Trie, size: usize, merges: &[i32], options: CharOptions) -> Result<Self, TextError> {
        let wrong =
            |rank: usize| TextError(format!("merge {rank} names an id outside the vocabulary, expected 0 to {}", size.saturating_sub(1)));
        let mut bpe = Self {
            tokens,
            options,
            pairs: vec![Slot { key: EMPTY, rank: NONE }; (merges.len()).next_power_of_two().max(16)],
            results: Vec::new(),
        };
        for (rank, merge) in merges.chunks_exact(3).enumerate() {
            if merge.iter().any(|&id| usize::try_from(id).map_or(true, |id| id >= size)) {
                return Err(wrong(rank));
            }
            bpe.results.push(merge[2] as u32);
            let slot = bpe.slot(merge[0] as u32, merge[1] as u32);
            bpe.pairs[slot] = Slot { key: key(merge[0] as u32, merge[1] as u32), rank: rank as u32 };
        }
        Ok(bpe)
    }

    fn slot(&self, left: u32, right: u32) -> usize {
        let key = key(left, right);
        let mask = self.pairs.len() - 1;
        let mut slot = hash::mix(key, 0) as usize & mask;
        while self.pairs[slot].key != key && self.pairs[slot].key != EMPTY {
            slot = (slot + 1) & mask;
        }
        slot
    }

    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        self.pairs[self.slot(left, right)].rank
    }

    pub fn tokenize(&self, piece: &str, room: &mut CharRoom, out: &mut Vec<u32>) -> Result<(), Outside> {
        if self.options.whole_pieces
            && let Some(id) = self.tokens.get(piece.as_bytes())
        {
            out.push(id);
            return Ok(());
        }
        self.spell(piece, room)?;
        self.merge(room);
        out.extend(room.symbols.iter().filter(|symbol| symbol.live).map(|symbol| symbol.id));
        if room.symbols.capacity() > 1 << 20 {
            *room = CharRoom::default();
        }
        Ok(())
    }

    /// Each character's token, before any merge. A character without one is unknown, bytes, or, where the model has no word for the unknown, gone.
    fn spell(&self, piece: &str, room: &mut CharRoom) -> Result<(), Outside> {
        let CharOptions { prefix, suffix, .. } = &self.options;
        let symbols = &mut room.symbols;
        symbols.clear();
        let mut add = |id: u32| {
            let at = symbols.len() as u32;
            symbols.push(Symbol { id, prev: at.wrapping_sub(1), next: at + 1, live: true });
        };
        // Unknown characters wait here, so that neighbours can become one.
        let mut waiting = false;
        for (at, c) in piece.char_indices() {
            let end = at + c.len_utf8();
            let mut spelled = &piece[at..end];
            if (at > 0 && !prefix.is_empty()) || (end == piece.len() && !suffix.is_empty()) {
                room.spelled.clear();
                room.spelled.push_str(if at > 0 { prefix } else { "" });
                room.spelled.push(c);
                room.spelled.push_str(if end == piece.len() { suffix } else { "" });
                spelled = &room.spelled;
            }
            if let Some(id) = self.tokens.get(spelled.as_bytes()) {
                if waiting {
                    add(self.options.unknown.ok_or(Outside)?);
                    waiting = false;
                }
                add(id);
                continue;
            }
            if let Some(bytes) = &self.options.bytes
                && spelled.bytes().all(|byte| bytes[usize::from(byte)] != NONE)
            {
                // What waits goes on waiting: an unknown character before these bytes comes after them.
                spelled.bytes().for_each(|byte| add(bytes[usize::from(byte)]));
                continue;
            }
            if !self.options.names_unknown {
                continue;
            }
            if waiting && !self.options.fuse_unknown {
                add(self.options.unknown.ok_or(Outside)?);
            }
            waiting = true;
        }
        if waiting {
            add(self.options.unknown.ok_or(Outside)?);
        }
        Ok(())
    }

    fn merge(&self, room: &mut CharRoom) {
        let CharRoom { symbols, heap, .. } = room;
        let count = symbols.len() as u32;
        heap.clear();
        let offer = |heap: &mut BinaryHeap<Reverse<u64>>, symbols: &[Symbol], left: u32, right: u32| {
            let rank = self.rank(symbols[left as usize].id, symbols[right as usize].id);
            if rank != NONE {
                heap.push(Reverse(u64::from(rank) << 32 | u64::from(left)));
            }
        };
        for left in 1..count {
            offer(heap, symbols, left - 1, left);
        }
        while let Some(Reverse(top)) = heap.pop() {
            let (rank, at) = ((top >> 32) as usize, top as u32);
            let left = symbols[at as usize];
            if !left.live || left.next == count {
                continue;
            }
            let right = symbols[left.next as usize];
            // The pair may have changed since it was offered; what counts is that it still makes the same token.
            let now = self.rank(left.id, right.id);
            if now == NONE || self.results[now as usize] != self.results[rank] {
                continue;
            }
            symbols[left.next as usize].live = false;
            symbols[at as usize] = Symbol { id: self.results[rank], next: right.next, ..left };
            if right.next < count {
                symbols[right.next as usize].prev = at;
                offer(heap, symbols, at, right.next);
            }
            if left.prev != NONE {
                offer(heap, symbols, left.prev, at);
            }
        }
    }

    /// Where what is merged on both sides never depends on the other; `None` where that is nowhere.
    pub fn units(&self, mark: char, tokens: &[(&[u8], u32)], merges: &[i32]) -> Option<Units> {
        let mut bytes = [0; 4];
        let spelled = mark.encode_utf8(&mut bytes).as_bytes();
        let options = &self.options;
        if !options.prefix.is_empty() || !options.suffix.is_empty() || options.whole_pieces {
            return None;
        }
        let afresh = self.tokens.get(spelled).is_some() && tokens.iter().all(|(token, _)| !has_mark_inside(token, spelled));
        let mark = Some(mark).filter(|_| afresh);
        // Between any two characters only where each is spelled by itself, and by tokens that merge as they are written.
        let written: HashSet<u32> = tokens.iter().map(|(_, id)| *id).collect();
        let spells = |id: &i32| u32::try_from(*id).is_ok_and(|id| written.contains(&id));
        let all = options.bytes.as_ref().filter(|bytes| !bytes.contains(&NONE));
        if let Some(bytes) = all
            && merges.iter().all(|id| spells(id) && !bytes.contains(&(*id as u32)))
        {
            return Some(Units::of_tokens(tokens.iter().map(|(token, _)| *token), mark));
        }
        mark.map(|mark| Units::at_marks(Some(mark)))
    }
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

//! Merging the bytes of one word: always the possible merge of smallest rank, the leftmost first.
//!
//! Three ways with one result: a scanned array for short words, a heap for longer ones, and, for words of many thousand
//! bytes (which only hostile or odd text has), one sweep over the ranks, so that ten megabytes of one letter stay linear.

use crate::vocab::{NONE, Vocab};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const SHORT: usize = 32;
const LONG: usize = 1 << 14;

#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    prev: u32,
    next: u32,
    /// Rank of the merge with `next`; `NONE` if there is none, or if this symbol was merged away.
    rank: u32,
}

/// Room for merging, kept between words.
#[derive(Default)]
pub struct MergeRoom {
    symbols: Vec<Symbol>,
    heap: BinaryHeap<Reverse<u64>>,
}

/// Appends the ids of `word` (shorter than 4 GiB) to `out`. A byte that the vocabulary lacks is skipped, as in Hugging Face.
pub fn merge_word(vocab: &Vocab, word: &[u8], room: &mut MergeRoom, out: &mut Vec<u32>) {
    if !vocab.has_merges() {
        out.extend(word.iter().map(|&b| vocab.byte(b)).filter(|&id| id != NONE));
    } else if word.len() <= SHORT {
        merge_short(vocab, word, out);
    } else {
        chain(vocab, word, &mut room.symbols);
        if room.symbols.len() >= LONG {
            sweep(vocab, &mut room.symbols);
        } else {
            heap_merge(vocab, &mut room.symbols, &mut room.heap);
        }
        let mut at = if room.symbols.is_empty() { NONE } else { 0 };
        while at != NONE {
            let symbol = room.symbols[at as usize];
            out.push(symbol.id);
            at = symbol.next;
        }
        if room.symbols.capacity() > 1 << 20 {
            *room = MergeRoom::default();
        }
    }
}

fn merge_short(vocab: &Vocab, word: &[u8], out: &mut Vec<u32>) {
    let mut ids = [0u32; SHORT];
    let mut ranks = [NONE; SHORT];
    let mut merged = [NONE; SHORT];
    let mut count = 0;
    let mut last = 0u8;
    for &byte in word {
        let id = vocab.byte(byte);
        if id == NONE {
            continue;
        }
        if count > 0 {
            let merge = vocab.byte_pair(last, byte);
            (ranks[count - 1], merged[count - 1]) = (merge.rank, merge.id);
        }
        ids[count] = id;
        last = byte;
        count += 1;
    }
    while count > 1 {
        let (mut best, mut at) = (NONE, 0);
        for (i, &rank) in ranks[..count - 1].iter().enumerate() {
            if rank < best {
                (best, at) = (rank, i);
            }
        }
        if best == NONE {
            break;
        }
        ids[at] = merged[at];
        ids.copy_within(at + 2..count, at + 1);
        ranks.copy_within(at + 1..count - 1, at);
        merged.copy_within(at + 1..count - 1, at);
        count -= 1;
        if at + 1 < count {
            let merge = vocab.pair(ids[at], ids[at + 1]);
            (ranks[at], merged[at]) = (merge.rank, merge.id);
        }
        if at > 0 {
            let merge = vocab.pair(ids[at - 1], ids[at]);
            (ranks[at - 1], merged[at - 1]) = (merge.rank, merge.id);
        }
    }
    out.extend_from_slice(&ids[..count]);
}

/// The bytes of `word` as a doubly linked chain of symbols with the ranks of their merges.
fn chain(vocab: &Vocab, word: &[u8], symbols: &mut Vec<Symbol>) {
    symbols.clear();
    symbols.reserve(word.len());
    let mut last = 0u8;
    for &byte in word {
        let id = vocab.byte(byte);
        if id == NONE {
            continue;
        }
        let at = symbols.len() as u32;
        if let Some(previous) = symbols.last_mut() {
            previous.rank = vocab.byte_pair(last, byte).rank;
            previous.next = at;
        }
        symbols.push(Symbol { id, prev: at.wrapping_sub(1), next: NONE, rank: NONE });
        last = byte;
    }
}

/// Merges the symbol at `at` with its right neighbour and tells `changed` each symbol whose merge is now another one.
#[inline(always)]
fn merge_at(vocab: &Vocab, symbols: &mut [Symbol], at: u32, mut changed: impl FnMut(u32, u32)) {
    let here = symbols[at as usize];
    let right = symbols[here.next as usize];
    let id = vocab.pair(here.id, right.id).id;
    symbols[here.next as usize].rank = NONE;
    let mut rank = NONE;
    if right.next != NONE {
        let after = &mut symbols[right.next as usize];
        after.prev = at;
        rank = vocab.pair(id, after.id).rank;
    }
    symbols[at as usize] = Symbol { id, prev: here.prev, next: right.next, rank };
    if here.prev != NONE {
        let before = &mut symbols[here.prev as usize];
        before.rank = vocab.pair(before.id, id).rank;
        if before.rank != NONE {
            changed(before.rank, here.prev);
        }
    }
    if rank != NONE {
        changed(rank, at);
    }
}

fn heap_merge(vocab: &Vocab, symbols: &mut [Symbol], heap: &mut BinaryHeap<Reverse<u64>>) {
    let entry = |rank: u32, at: u32| Reverse(u64::from(rank) << 32 | u64::from(at));
    heap.clear();
    heap.extend(symbols.iter().enumerate().filter(|(_, s)| s.rank != NONE).map(|(i, s)| entry(s.rank, i as u32)));
    while let Some(Reverse(top)) = heap.pop() {
        let (rank, at) = ((top >> 32) as u32, top as u32);
        // An entry is stale when its symbol has since got another merge.
        if symbols[at as usize].rank == rank {
            merge_at(vocab, symbols, at, |rank, at| heap.push(entry(rank, at)));
        }
    }
}

/// As `heap_merge`, with the positions gathered by rank: each rank is worked off once, from left to right. A merge can
/// make one of no larger rank possible (a tiktoken vocabulary allows every spelling of a token); that one lies at or before
/// the present place and goes first.
fn sweep(vocab: &Vocab, symbols: &mut [Symbol]) {
    let mut positions: Vec<Vec<u32>> = vec![Vec::new(); vocab.rank_limit()];
    let mut open = BinaryHeap::new();
    let mut urgent = BinaryHeap::new();
    let add = |positions: &mut Vec<Vec<u32>>, open: &mut BinaryHeap<Reverse<u32>>, rank: u32, at: u32| {
        let list = &mut positions[rank as usize];
        if list.is_empty() {
            open.push(Reverse(rank));
        }
        list.push(at);
    };
    for (at, symbol) in symbols.iter().enumerate() {
        if symbol.rank != NONE {
            add(&mut positions, &mut open, symbol.rank, at as u32);
        }
    }
    while let Some(Reverse(rank)) = open.pop() {
        let mut list = std::mem::take(&mut positions[rank as usize]);
        // Positions of one rank can come from several earlier ones.
        list.sort_unstable();
        for at in list {
            urgent.push(Reverse((rank, at)));
            while let Some(Reverse((now, at))) = urgent.pop() {
                if symbols[at as usize].rank != now {
                    continue;
                }
                merge_at(vocab, symbols, at, |new, at| {
                    if new <= rank {
                        urgent.push(Reverse((new, at)));
                    } else {
                        add(&mut positions, &mut open, new, at);
                    }
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::{MergeRule, Spec};

    /// A vocabulary of bytes and random merges over a small alphabet.
    fn random_vocab(seed: u64, merges: usize, letters: u8, by_rank: bool) -> Vocab {
        let mut state = seed;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
        let mut pairs = Vec::new();
        while pairs.len() < merges * 2 {
            let pick = |n: usize, len: usize| {
                if n < usize::from(letters) { usize::from(b'a') + n } else { 256 + (n - usize::from(letters)) % (len - 256).max(1) }
            };
            let (n, m) = (next(usize::from(letters) * 3), next(usize::from(letters) * 3));
            let (left, right) = (pick(n, tokens.len()).min(tokens.len() - 1), pick(m, tokens.len()).min(tokens.len() - 1));
            let spelled = [tokens[left].clone(), tokens[right].clone()].concat();
            if spelled.len() > 40 || tokens.contains(&spelled) {
                continue;
            }
            tokens.push(spelled);
            pairs.extend([left as i32, right as i32]);
        }
        let lengths: Vec<i32> = tokens.iter().map(|t| t.len() as i32).collect();
        Vocab::new(Spec {
            bytes: &tokens.concat(),
            lengths: &lengths,
            merges: if by_rank { MergeRule::Ranks } else { MergeRule::Listed(&pairs) },
            hidden: &[],
            whole_words: by_rank,
        })
        .unwrap()
    }

    /// The rule, word by word: find the smallest rank, leftmost; merge; again.
    fn plain(vocab: &Vocab, word: &[u8]) -> Vec<u32> {
        let mut ids: Vec<u32> = word.iter().map(|&b| vocab.byte(b)).collect();
        loop {
            let best = (1..ids.len()).map(|i| (vocab.pair(ids[i - 1], ids[i]).rank, i - 1)).min();
            match best {
                Some((rank, at)) if rank != NONE => {
                    ids[at] = vocab.pair(ids[at], ids[at + 1]).id;
                    ids.remove(at + 1);
                }
                _ => return ids,
            }
        }
    }

    #[test]
    fn array_heap_and_sweep_agree_with_the_rule() {
        for seed in 0..60 {
            let vocab = random_vocab(seed, 40, 3, seed % 2 == 0);
            let mut state = seed ^ 77;
            for length in [1, 2, 3, 7, 15, 31, 32, 33, 64, 200, 333] {
                let word: Vec<u8> = (0..length)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        b'a' + (state >> 40) as u8 % 3
                    })
                    .collect();
                let expected = plain(&vocab, &word);
                let mut got = Vec::new();
                merge_word(&vocab, &word, &mut MergeRoom::default(), &mut got);
                assert_eq!(got, expected, "seed {seed} length {length}");
                let mut symbols = Vec::new();
                chain(&vocab, &word, &mut symbols);
                sweep(&vocab, &mut symbols);
                let (mut swept, mut at) = (Vec::new(), 0);
                while at != NONE {
                    swept.push(symbols[at as usize].id);
                    at = symbols[at as usize].next;
                }
                assert_eq!(swept, expected, "sweep, seed {seed} length {length}");
            }
        }
    }
}

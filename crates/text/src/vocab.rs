//! The immutable tables of a byte-level BPE: tokens by id, whole words to ids, pairs of ids to merges.

use crate::error::TextError;
use crate::hash;
use crate::index::{Index, TokenTable};
use crate::vocab_file::VocabFile;
use std::sync::atomic::{AtomicU8, Ordering};

/// "No such token", "no such merge".
pub const NONE: u32 = u32::MAX;

/// How pairs of tokens merge.
#[derive(Debug, Clone, Copy)]
pub enum MergeRule<'a> {
    /// A list of pairs `left, right, left, right …` in order of rank (Hugging Face). The merged token is the one that spells both.
    Listed(&'a [i32]),
    /// Any two neighbours that spell a token may merge, the smallest id first; a word that is a token is that token (tiktoken).
    Ranks,
}

/// What a vocabulary is made from.
#[derive(Debug, Clone, Copy)]
pub struct Spec<'a> {
    /// The bytes of all tokens, one after the other in the order of their ids.
    pub bytes: &'a [u8],
    /// The number of bytes of each id; 0 for an id that has no token here.
    pub lengths: &'a [i32],
    pub merges: MergeRule<'a>,
    /// Ids that are only ever decoded (special tokens): no text becomes one of them.
    pub hidden: &'a [i32],
    /// A word that is a token becomes that token even if no merges lead to it (`ignore_merges` of Hugging Face).
    pub whole_words: bool,
}

/// An added token: its text in UTF-8, and the bytes that this text stands for as a token of a file, none where it stands for none.
#[derive(Debug, Clone, Copy)]
pub struct AddedBytes<'a> {
    pub id: u32,
    pub content: &'a [u8],
    pub spelled: &'a [u8],
}

/// A possible merge: smaller ranks go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    pub rank: u32,
    pub id: u32,
}

pub const NO_MERGE: Merge = Merge { rank: NONE, id: NONE };

#[derive(Clone, Copy)]
struct PairSlot {
    key: u64,
    merge: Merge,
}

/// The tables of one tokenizer. Shared by all threads.
pub struct Vocab {
    tokens: TokenTable,
    byte_ids: [u32; 256],
    byte_pairs: Vec<Merge>,
    pairs: Vec<PairSlot>,
    pair_count: usize,
    rank_limit: u32,
    /// For each token whether its own merges lead to it: 0 not known yet, 1 yes, 2 no. Empty when words are taken whole.
    reachable: Vec<AtomicU8>,
}

const EMPTY_KEY: u64 = u64::MAX;

fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Vocab {
    /// Builds the tables.
    ///
    /// # Errors
    /// Lengths that do not add up, two ids with the same bytes, or a merge whose parts or result are not tokens.
    pub fn new(spec: Spec<'_>) -> Result<Self, TextError> {
        let tokens = token_spans(spec.bytes, spec.lengths)?;
        let count = spec.lengths.len();
        let mut hidden = vec![false; count];
        for &id in spec.hidden {
            let place = usize::try_from(id).ok().and_then(|id| hidden.get_mut(id));
            *place.ok_or_else(|| TextError(format!("special token has id {id}, expected 0 to {}", count.saturating_sub(1))))? = true;
        }
        let mut vocab = Self::of(tokens, spec.whole_words);
        vocab.make_index(&hidden)?;
        let merges = match spec.merges {
            MergeRule::Listed(pairs) => vocab.listed(pairs)?,
            MergeRule::Ranks => vocab.all_splits(),
        };
        vocab.index_merges(merges.into_iter());
        Ok(vocab)
    }

    /// Builds the tables from those of a file and its added tokens, which no text becomes: merges that make one, or need one, are left out. `None` where an
    /// added token is not what stands at its id in the file, or is spelled at another.
    ///
    /// # Errors
    /// A vocabulary that is too large.
    pub fn of_file(file: &VocabFile, added: &[AddedBytes<'_>], whole_words: bool) -> Result<Option<Self>, TextError> {
        let old = &file.tokens;
        let size = added.iter().map(|token| token.id as usize + 1).fold(old.len(), usize::max);
        check_size(size, old.bytes.len())?;
        let mut instead = vec![None; size];
        let mut inside = false;
        for &AddedBytes { id, content, spelled } in added {
            let there = old.token(id).filter(|token| !token.is_empty());
            if there.is_some_and(|token| token != spelled) || old.find(spelled).is_some_and(|other| other != id) {
                return Ok(None);
            }
            inside |= there.is_some();
            instead[id as usize] = Some(content);
        }
        let mut tokens =
            TokenTable { bytes: Vec::with_capacity(old.bytes.len()), starts: Vec::with_capacity(size + 1), index: Index::default() };
        for (id, content) in instead.iter().enumerate() {
            tokens.starts.push(tokens.bytes.len() as u32);
            tokens.bytes.extend_from_slice(content.or(old.token(id as u32)).unwrap_or(&[]));
        }
        tokens.starts.push(tokens.bytes.len() as u32);
        check_size(size, tokens.bytes.len())?;
        let hidden: Vec<bool> = instead.iter().map(Option::is_some).collect();
        let mut vocab = Self::of(tokens, whole_words);
        if inside {
            vocab.make_index(&hidden)?;
        } else {
            vocab.tokens.index = old.index.clone();
            vocab.find_bytes();
        }
        let kept = file.merges.iter().filter(|merge| !merge.iter().any(|&id| hidden[id as usize]));
        vocab.index_merges(kept.zip(0..).map(|(&[left, right, id], rank)| (left, right, Merge { rank, id })));
        Ok(Some(vocab))
    }

    fn of(tokens: TokenTable, whole_words: bool) -> Self {
        let mut reachable = Vec::new();
        reachable.resize_with(if whole_words { 0 } else { tokens.len() }, AtomicU8::default);
        Self { tokens, byte_ids: [NONE; 256], byte_pairs: Vec::new(), pairs: Vec::new(), pair_count: 0, rank_limit: 0, reachable }
    }

    fn make_index(&mut self, hidden: &[bool]) -> Result<(), TextError> {
        self.tokens.make_index(|id| !hidden[id as usize]).map_err(|(first, second)| {
            let text = String::from_utf8_lossy(self.token(first).unwrap_or(&[])).into_owned();
            TextError(format!("tokens {first} and {second} have the same bytes {text:?}, expected each once"))
        })?;
        self.find_bytes();
        Ok(())
    }

    fn find_bytes(&mut self) {
        for byte in 0..=255u8 {
            self.byte_ids[usize::from(byte)] = self.find(&[byte]).unwrap_or(NONE);
        }
    }

    /// Number of ids, holes included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of token `id`; empty for a hole, `None` outside the vocabulary.
    pub fn token(&self, id: u32) -> Option<&[u8]> {
        self.tokens.token(id)
    }

    /// The id of the token spelled `word`, whether or not merges lead to it.
    #[inline]
    pub fn find(&self, word: &[u8]) -> Option<u32> {
        self.tokens.find(word)
    }

    /// The token of one byte, `NONE` if the vocabulary lacks it.
    #[inline(always)]
    pub fn byte(&self, byte: u8) -> u32 {
        self.byte_ids[usize::from(byte)]
    }

    /// The merge of two single bytes.
    #[inline(always)]
    pub fn byte_pair(&self, left: u8, right: u8) -> Merge {
        self.byte_pairs[usize::from(left) << 8 | usize::from(right)]
    }

    /// The merge of two tokens.
    #[inline]
    pub fn pair(&self, left: u32, right: u32) -> Merge {
        let key = pair_key(left, right);
        let mask = self.pairs.len() - 1;
        let mut slot = hash::mix(key, 0) as usize & mask;
        loop {
            let entry = self.pairs[slot];
            if entry.key == key {
                return entry.merge;
            }
            if entry.key == EMPTY_KEY {
                return NO_MERGE;
            }
            slot = (slot + 1) & mask;
        }
    }

    pub fn has_merges(&self) -> bool {
        self.pair_count > 0
    }

    /// One more than the largest rank.
    pub fn rank_limit(&self) -> usize {
        self.rank_limit as usize
    }

    /// Whether a word that spells `id` is `id`: `None` when that must be found out by merging (then `set_reachable`).
    #[inline]
    pub fn is_whole(&self, id: u32) -> Option<bool> {
        match self.reachable.get(id as usize) {
            None => Some(true),
            Some(state) => match state.load(Ordering::Relaxed) {
                0 => None,
                known => Some(known == 1),
            },
        }
    }

    pub fn set_whole(&self, id: u32, whole: bool) {
        if let Some(state) = self.reachable.get(id as usize) {
            state.store(if whole { 1 } else { 2 }, Ordering::Relaxed);
        }
    }

    fn listed(&self, pairs: &[i32]) -> Result<Vec<(u32, u32, Merge)>, TextError> {
        if !pairs.len().is_multiple_of(2) {
            return Err(TextError(format!("merges come as pairs of ids, expected an even count, got {}", pairs.len())));
        }
        let mut spelled = Vec::new();
        let mut merges = Vec::with_capacity(pairs.len() / 2);
        for (rank, pair) in pairs.chunks_exact(2).enumerate() {
            spelled.clear();
            for &part in pair {
                let token = u32::try_from(part).ok().and_then(|id| self.token(id)).filter(|t| !t.is_empty());
                let token = token.ok_or_else(|| {
                    TextError(format!("merge {rank} names id {part}, expected the id of a token (0 to {})", self.len().saturating_sub(1)))
                })?;
                spelled.extend_from_slice(token);
            }
            let id = self.find(&spelled).ok_or_else(|| {
                let text = String::from_utf8_lossy(&spelled).into_owned();
                TextError(format!("merge {rank} makes {text:?}, expected a token of the vocabulary"))
            })?;
            merges.push((pair[0] as u32, pair[1] as u32, Merge { rank: rank as u32, id }));
        }
        Ok(merges)
    }

    fn all_splits(&self) -> Vec<(u32, u32, Merge)> {
        let mut merges = Vec::new();
        for id in 0..self.len() as u32 {
            let word = self.token(id).unwrap_or(&[]);
            if self.find(word) != Some(id) {
                continue; // a hole, or hidden
            }
            // A hostile token of a megabyte must not cost a megabyte squared; real ones are below 300 bytes.
            for cut in 1..word.len().min(1 << 12) {
                if let (Some(left), Some(right)) = (self.find(&word[..cut]), self.find(&word[cut..])) {
                    merges.push((left, right, Merge { rank: id, id }));
                }
            }
        }
        merges
    }

    fn index_merges(&mut self, merges: impl Iterator<Item = (u32, u32, Merge)>) {
        let most = merges.size_hint().1.unwrap_or(0);
        self.pairs = vec![PairSlot { key: EMPTY_KEY, merge: NO_MERGE }; (most * 2).next_power_of_two().max(16)];
        for (left, right, merge) in merges {
            self.pair_count += 1;
            // A later entry for the same pair replaces the earlier one, as in Hugging Face.
            let key = pair_key(left, right);
            let mask = self.pairs.len() - 1;
            let mut slot = hash::mix(key, 0) as usize & mask;
            while self.pairs[slot].key != EMPTY_KEY && self.pairs[slot].key != key {
                slot = (slot + 1) & mask;
            }
            self.pairs[slot] = PairSlot { key, merge };
            self.rank_limit = self.rank_limit.max(merge.rank + 1);
        }
        self.byte_pairs = vec![NO_MERGE; 1 << 16];
        for left in 0..=255u8 {
            for right in 0..=255u8 {
                let (a, b) = (self.byte(left), self.byte(right));
                if a != NONE && b != NONE {
                    self.byte_pairs[usize::from(left) << 8 | usize::from(right)] = self.pair(a, b);
                }
            }
        }
    }
}

/// Ids stay below 2^29: the word cache keeps a count in the top bits.
fn check_size(ids: usize, bytes: usize) -> Result<(), TextError> {
    if ids < 1 << 29 && bytes < u32::MAX as usize {
        return Ok(());
    }
    Err(TextError(format!("a vocabulary of {ids} ids and {bytes} bytes is too large, expected fewer than 2^29 ids and 4 GiB")))
}

fn token_spans(bytes: &[u8], lengths: &[i32]) -> Result<TokenTable, TextError> {
    check_size(lengths.len(), bytes.len())?;
    let mut starts = Vec::with_capacity(lengths.len() + 1);
    let mut at = 0usize;
    starts.push(0);
    for (id, &length) in lengths.iter().enumerate() {
        at = usize::try_from(length).ok().and_then(|n| at.checked_add(n)).filter(|&end| end <= bytes.len()).ok_or_else(|| {
            TextError(format!("token {id} has length {length}, expected 0 to the {} bytes that are left", bytes.len() - at))
        })?;
        starts.push(at as u32);
    }
    if at != bytes.len() {
        return Err(TextError(format!("token lengths add up to {at}, expected {} bytes", bytes.len())));
    }
    Ok(TokenTable { bytes: bytes.to_vec(), starts, index: Index::default() })
}

//! Training a byte-level BPE: count words, then merge the commonest pair of neighbours until the vocabulary is full.
//!
//! Sennrich, Haddow and Birch 2016, algorithm 1, with the incremental counts of its section 3.2. The result equals that of
//! the `BpeTrainer` of Hugging Face tokenizers: among pairs of equal count the one with the smaller (left, right) ids goes
//! first; special tokens have the first ids, then the 256 bytes in the order of their printable stand-ins.

use crate::count::WordCounts;
use crate::encode::{check_ends, tasks};
use crate::error::TextError;
use crate::hash;
use crate::pattern::Pattern;
use crate::split::pieces;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

const TASK: usize = 1 << 17;

/// What the vocabulary shall be.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Number of tokens to stop at, special tokens and bytes included.
    pub vocab_size: usize,
    /// A pair seen less often is not merged.
    pub min_frequency: u64,
    /// For each special token the bytes that its text would have as an ordinary token (`None` if it can't be one).
    pub specials: Vec<Option<Vec<u8>>>,
}

/// A trained vocabulary.
#[derive(Debug, Default)]
pub struct Trained {
    /// The bytes of each token by id; a special token's own bytes are not repeated here (empty).
    pub tokens: Vec<Vec<u8>>,
    /// `[left, right]` in order of rank.
    pub merges: Vec<[u32; 2]>,
}

/// Counts words of texts as they come, then trains.
pub struct Trainer {
    pattern: Pattern,
    counts: Vec<WordCounts>,
}

impl Trainer {
    pub fn new(pattern: Pattern) -> Self {
        Self { pattern, counts: Vec::new() }
    }

    /// Counts the words of documents: document `i` ends at byte `ends[i]` of `text`.
    ///
    /// # Errors
    /// Text of 4 GiB or more, or ends that do not rise to the text's length.
    pub fn feed(&mut self, text: &[u8], ends: &[usize], threads: usize) -> Result<(), TextError> {
        check_ends(text, ends)?;
        let pattern = self.pattern;
        let pieces = pieces(pattern, text, ends, TASK);
        let tasks = tasks(&pieces);
        let threads = threads.clamp(1, tasks.len().max(1));
        while self.counts.len() < threads {
            self.counts.push(WordCounts::default());
        }
        let next = AtomicUsize::new(0);
        let work = |counts: &mut WordCounts| {
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                for piece in &pieces[task.clone()] {
                    let words = &text[piece.bytes.clone()];
                    pattern.for_each_word(words, |start, end| counts.add(words, start, end, 1));
                }
            }
        };
        let (mine, others) = self.counts[..threads].split_at_mut(1);
        std::thread::scope(|scope| {
            for counts in others {
                scope.spawn(|| work(counts));
            }
            work(&mut mine[0]);
        });
        Ok(())
    }

    /// Merges until the vocabulary has `vocab_size` tokens, or no pair is left that was seen `min_frequency` times.
    ///
    /// # Errors
    /// A vocabulary smaller than the special tokens and the 256 bytes.
    pub fn finish(self, options: &TrainOptions) -> Result<Trained, TextError> {
        let least = options.specials.len() + 256;
        if options.vocab_size < least || options.vocab_size >= 1 << 29 {
            return Err(TextError(format!(
                "vocabulary size {}, expected at least {least} (special tokens and the 256 bytes) and less than 2^29",
                options.vocab_size
            )));
        }
        let mut counts = self.counts.into_iter();
        let mut all = counts.next().unwrap_or_default();
        for more in counts {
            more.for_each(|word, times| all.add(word, 0, word.len(), times));
        }
        let mut merger = Merger::new(options, &all);
        drop(all);
        merger.run(options);
        Ok(merger.result())
    }
}

/// The bytes in the order of the printable characters that stand for them in files (GPT-2's byte table).
pub fn byte_order() -> impl Iterator<Item = u8> {
    let printable = |b: &u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    (0..=255u8).filter(printable).chain((0..=255u8).filter(move |b| !printable(b)))
}

/// A pair in the queue, with the words in which it stood when it was pushed.
struct Candidate {
    count: i64,
    pair: u64,
    /// Tells apart two entries of one pair, so that the order never depends on the order of words.
    step: u32,
    words: Vec<u32>,
}

impl Candidate {
    fn key(&self) -> (i64, std::cmp::Reverse<(u64, u32)>) {
        (self.count, std::cmp::Reverse((self.pair, self.step)))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Candidate {}
impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// Counts of pairs, and for the pairs that the current step made, the words they stand in.
struct Pairs {
    keys: Vec<u64>,
    index: Vec<u32>,
    counts: Vec<i64>,
    fresh: Vec<Vec<u32>>,
    pairs: Vec<u64>,
    /// Pairs with words in `fresh`.
    touched: Vec<u32>,
}

const EMPTY: u64 = u64::MAX;

impl Pairs {
    fn new() -> Self {
        let slots = 1 << 16;
        Self {
            keys: vec![EMPTY; slots],
            index: vec![0; slots],
            counts: Vec::new(),
            fresh: Vec::new(),
            pairs: Vec::new(),
            touched: Vec::new(),
        }
    }

    #[inline]
    fn entry(&mut self, pair: u64) -> usize {
        let mask = self.keys.len() - 1;
        let mut at = hash::mix(pair, 0) as usize & mask;
        loop {
            if self.keys[at] == pair {
                return self.index[at] as usize;
            }
            if self.keys[at] == EMPTY {
                break;
            }
            at = (at + 1) & mask;
        }
        let new = self.pairs.len();
        self.keys[at] = pair;
        self.index[at] = new as u32;
        self.pairs.push(pair);
        self.counts.push(0);
        self.fresh.push(Vec::new());
        if new * 2 > self.keys.len() {
            self.grow();
        }
        new
    }

    #[cold]
    fn grow(&mut self) {
        let size = self.keys.len() * 4;
        self.keys = vec![EMPTY; size];
        self.index = vec![0; size];
        for (i, &pair) in self.pairs.iter().enumerate() {
            let mut at = hash::mix(pair, 0) as usize & (size - 1);
            while self.keys[at] != EMPTY {
                at = (at + 1) & (size - 1);
            }
            self.keys[at] = pair;
            self.index[at] = i as u32;
        }
    }

    #[inline]
    fn more(&mut self, pair: u64, times: i64, word: u32) {
        let i = self.entry(pair);
        self.counts[i] += times;
        let fresh = &mut self.fresh[i];
        if fresh.is_empty() {
            self.touched.push(i as u32);
        }
        // A step visits each word once, so a repeat can only be the last one.
        if fresh.last() != Some(&word) {
            fresh.push(word);
        }
    }

    #[inline]
    fn fewer(&mut self, pair: u64, times: i64) {
        let i = self.entry(pair);
        self.counts[i] -= times;
    }
}

struct Merger {
    tokens: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
    symbols: Vec<u32>,
    /// Start and length of each word in `symbols`.
    words: Vec<(u32, u32)>,
    counts: Vec<i64>,
    pairs: Pairs,
    queue: BinaryHeap<Candidate>,
    /// Pair and the token it makes, in order of rank.
    merges: Vec<u64>,
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Merger {
    fn new(options: &TrainOptions, counted: &WordCounts) -> Self {
        let mut merger = Self {
            tokens: Vec::with_capacity(options.vocab_size.min(1 << 20)),
            ids: HashMap::new(),
            symbols: Vec::new(),
            words: Vec::with_capacity(counted.len()),
            counts: Vec::with_capacity(counted.len()),
            pairs: Pairs::new(),
            queue: BinaryHeap::new(),
            merges: Vec::new(),
        };
        for (id, special) in options.specials.iter().enumerate() {
            merger.tokens.push(Vec::new());
            if let Some(bytes) = special {
                merger.ids.entry(bytes.clone()).or_insert(id as u32);
            }
        }
        let mut byte_ids = [0u32; 256];
        for byte in byte_order() {
            byte_ids[usize::from(byte)] = merger.id_of(vec![byte]);
        }
        counted.for_each(|word, count| {
            if word.len() > 1 {
                let start = merger.symbols.len() as u32;
                merger.symbols.extend(word.iter().map(|&b| byte_ids[usize::from(b)]));
                merger.words.push((start, word.len() as u32));
                merger.counts.push(count as i64);
            }
        });
        for (i, &(start, length)) in merger.words.iter().enumerate() {
            let word = &merger.symbols[start as usize..(start + length) as usize];
            for pair in word.windows(2) {
                merger.pairs.more(key(pair[0], pair[1]), merger.counts[i], i as u32);
            }
        }
        merger
    }

    /// The id of the token with these bytes, made if there is none.
    fn id_of(&mut self, bytes: Vec<u8>) -> u32 {
        let next = self.tokens.len() as u32;
        *self.ids.entry(bytes).or_insert_with_key(|bytes| {
            self.tokens.push(bytes.clone());
            next
        })
    }

    /// The bytes of a token; a special token that takes part in merges has them only in `ids`.
    fn spelled(&self, id: u32) -> Vec<u8> {
        let own = &self.tokens[id as usize];
        if !own.is_empty() {
            return own.clone();
        }
        self.ids.iter().find(|(_, other)| **other == id).map(|(bytes, _)| bytes.clone()).unwrap_or_default()
    }

    fn run(&mut self, options: &TrainOptions) {
        self.enqueue(0);
        let mut step = 1;
        while self.tokens.len() < options.vocab_size {
            let Some(mut top) = self.queue.pop() else { break };
            let place = self.pairs.entry(top.pair);
            let count = self.pairs.counts[place];
            // The count has changed while the pair waited: back with its present count.
            if count != top.count {
                top.count = count;
                self.queue.push(top);
                continue;
            }
            if count < 1 || (count as u64) < options.min_frequency {
                break;
            }
            let (left, right) = ((top.pair >> 32) as u32, top.pair as u32);
            let made = self.id_of([self.spelled(left), self.spelled(right)].concat());
            self.merges.push(top.pair);
            for &word in &top.words {
                self.merge_in_word(word, left, right, made);
            }
            self.enqueue(step);
            step += 1;
        }
    }

    /// Replaces `left right` by `made` in one word and books what that does to the pairs around.
    fn merge_in_word(&mut self, word: u32, left: u32, right: u32, made: u32) {
        let (start, length) = self.words[word as usize];
        let symbols = &mut self.symbols[start as usize..(start + length) as usize];
        let times = self.counts[word as usize];
        let (mut from, mut to) = (0, 0);
        while from < symbols.len() {
            if symbols[from] == left && from + 1 < symbols.len() && symbols[from + 1] == right {
                if to > 0 {
                    let before = symbols[to - 1];
                    self.pairs.fewer(key(before, left), times);
                    self.pairs.more(key(before, made), times, word);
                }
                if from + 2 < symbols.len() {
                    let after = symbols[from + 2];
                    self.pairs.fewer(key(right, after), times);
                    self.pairs.more(key(made, after), times, word);
                }
                symbols[to] = made;
                from += 2;
            } else {
                symbols[to] = symbols[from];
                from += 1;
            }
            to += 1;
        }
        self.words[word as usize].1 = to as u32;
    }

    /// Moves the pairs that gained places into the queue.
    fn enqueue(&mut self, step: u32) {
        for place in std::mem::take(&mut self.pairs.touched) {
            let words = std::mem::take(&mut self.pairs.fresh[place as usize]);
            let count = self.pairs.counts[place as usize];
            if count > 0 {
                self.queue.push(Candidate { count, pair: self.pairs.pairs[place as usize], step, words });
            }
        }
    }

    fn result(self) -> Trained {
        // When one string is made in two ways a pair can come up twice; then the later rank counts, as in Hugging Face.
        let last: HashMap<u64, usize> = self.merges.iter().enumerate().map(|(rank, &pair)| (pair, rank)).collect();
        let kept = self.merges.iter().enumerate().filter(|(rank, pair)| last[pair] == *rank);
        Trained { merges: kept.map(|(_, &pair)| [(pair >> 32) as u32, pair as u32]).collect(), tokens: self.tokens }
    }
}

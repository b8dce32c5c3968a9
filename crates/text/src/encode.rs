//! Text to ids, on one or several threads, and back to bytes.

use crate::cache::{Found, MOST, Words};
use crate::error::TextError;
use crate::merge::{MergeRoom, merge_word};
use crate::pattern::Pattern;
use crate::split::{Piece, pieces};
use crate::vocab::Vocab;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes a thread takes at a time: large enough that handing out costs nothing, small enough to share evenly.
const TASK: usize = 1 << 17;

/// The result of a batch: ids of all documents, one after the other, in parts that only need to be joined.
#[derive(Debug, Default)]
pub struct Encoded {
    pub parts: Vec<Vec<u32>>,
    /// Number of ids of each document.
    pub counts: Vec<u32>,
}

impl Encoded {
    /// Number of ids of all documents.
    pub fn total(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }
}

/// What one thread needs, kept between calls: the cache is warm from the last one.
struct Worker {
    words: Words,
    room: MergeRoom,
    word: Vec<u32>,
}

/// A vocabulary with a split pattern. Shared by threads; each takes a worker from the shelf.
pub struct Encoder {
    vocab: Arc<Vocab>,
    pattern: Pattern,
    shelf: Mutex<Vec<Worker>>,
}

/// Where ids go: into a list, or only into a count.
pub(crate) trait Sink {
    fn few(&mut self, ids: [u32; MOST], count: usize);
    fn many(&mut self, ids: &[u32]);
    fn so_far(&self) -> usize;
}

pub(crate) struct List {
    ids: Vec<u32>,
    filled: usize,
}

impl List {
    /// With room for the ids of so many bytes of text, at a guess.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { ids: vec![0; bytes / 3 + 64], filled: 0 }
    }

    pub(crate) fn into_ids(mut self) -> Vec<u32> {
        self.ids.truncate(self.filled);
        self.ids
    }
}

impl Sink for List {
    #[inline(always)]
    fn few(&mut self, ids: [u32; MOST], count: usize) {
        // Always writes MOST ids and keeps `count`: a copy of fixed size needs no branch.
        if self.ids.len() < self.filled + MOST {
            self.ids.resize(self.ids.len() * 2 + 1024, 0);
        }
        self.ids[self.filled..self.filled + MOST].copy_from_slice(&ids);
        self.filled += count;
    }

    fn many(&mut self, ids: &[u32]) {
        let end = self.filled + ids.len();
        if self.ids.len() < end {
            self.ids.resize(end * 2, 0);
        }
        self.ids[self.filled..end].copy_from_slice(ids);
        self.filled = end;
    }

    fn so_far(&self) -> usize {
        self.filled
    }
}

pub(crate) struct Count(pub(crate) usize);

impl Sink for Count {
    #[inline(always)]
    fn few(&mut self, _: [u32; MOST], count: usize) {
        self.0 += count;
    }

    fn many(&mut self, ids: &[u32]) {
        self.0 += ids.len();
    }

    fn so_far(&self) -> usize {
        self.0
    }
}

impl Encoder {
    pub fn new(vocab: Vocab, pattern: Pattern) -> Self {
        Self { vocab: Arc::new(vocab), pattern, shelf: Mutex::new(Vec::new()) }
    }

    pub fn vocab(&self) -> &Arc<Vocab> {
        &self.vocab
    }

    /// Encodes documents of UTF-8 text: document `i` ends at byte `ends[i]` of `text` and starts where the last one ended.
    /// The ids do not depend on `threads`.
    ///
    /// # Errors
    /// Text of 4 GiB or more, or ends that do not rise to the text's length.
    pub fn encode(&self, text: &[u8], ends: &[usize], threads: usize) -> Result<Encoded, TextError> {
        let run = self.run(text, ends, threads, List::new)?;
        let mut encoded = Encoded { parts: Vec::with_capacity(run.sinks.len()), counts: run.counts };
        encoded.parts.extend(run.sinks.into_iter().map(List::into_ids));
        Ok(encoded)
    }

    /// The number of ids of each document, without making them.
    ///
    /// # Errors
    /// As `encode`.
    pub fn count(&self, text: &[u8], ends: &[usize], threads: usize) -> Result<Vec<u32>, TextError> {
        Ok(self.run(text, ends, threads, |_| Count(0))?.counts)
    }

    /// The bytes that `ids` spell.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode(&self, ids: &[i32]) -> Result<Vec<u8>, TextError> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for (place, &id) in ids.iter().enumerate() {
            let token = u32::try_from(id).ok().and_then(|id| self.vocab.token(id));
            bytes.extend_from_slice(token.ok_or_else(|| {
                TextError(format!(
                    "id {id} at place {place} is outside the vocabulary, expected 0 to {}",
                    self.vocab.len().saturating_sub(1)
                ))
            })?);
        }
        Ok(bytes)
    }

    fn run<S: Sink + Send>(
        &self,
        text: &[u8],
        ends: &[usize],
        threads: usize,
        sink: impl Fn(usize) -> S + Sync,
    ) -> Result<Run<S>, TextError> {
        check_ends(text, ends)?;
        let pieces = pieces(self.pattern, text, ends, TASK);
        let tasks = tasks(&pieces);
        let mut counts = vec![0u32; ends.len()];
        let threads = threads.clamp(1, tasks.len().max(1));
        if threads == 1 {
            let mut worker = self.take_worker();
            let mut all = sink(text.len());
            for piece in &pieces {
                counts[piece.document] += self.piece(&text[piece.bytes.clone()], &mut worker, &mut all);
            }
            self.put_back(worker);
            return Ok(Run { sinks: vec![all], counts });
        }
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(tasks.len()));
        let work = || {
            let mut worker = self.take_worker();
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let pieces = &pieces[task.clone()];
                let bytes = pieces.iter().map(|p| p.bytes.len()).sum();
                let mut all = sink(bytes);
                let made: Vec<u32> = pieces.iter().map(|p| self.piece(&text[p.bytes.clone()], &mut worker, &mut all)).collect();
                lock(&done).push((task.start, all, made));
            }
            self.put_back(worker);
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        done.sort_unstable_by_key(|(start, _, _)| *start);
        let mut sinks = Vec::with_capacity(done.len());
        for (start, all, made) in done {
            for (piece, count) in pieces[start..].iter().zip(made) {
                counts[piece.document] += count;
            }
            sinks.push(all);
        }
        Ok(Run { sinks, counts })
    }

    /// Encodes one piece and returns how many ids it made.
    fn piece<S: Sink>(&self, text: &[u8], worker: &mut Worker, sink: &mut S) -> u32 {
        let before = sink.so_far();
        self.pattern.for_each_word(text, |start, end| match worker.words.find(text, start, end) {
            Found::Few(ids, count) => sink.few(ids, count),
            Found::Many(ids) => sink.many(ids),
            Found::Nothing => {
                self.missed(&text[start..end], worker);
                sink.many(&worker.word);
            }
        });
        (sink.so_far() - before) as u32
    }

    #[cold]
    #[inline(never)]
    fn missed(&self, word: &[u8], worker: &mut Worker) {
        worker.word.clear();
        encode_word(&self.vocab, word, &mut worker.room, &mut worker.word);
        worker.words.keep(word, &worker.word);
    }

    fn take_worker(&self) -> Worker {
        lock(&self.shelf).pop().unwrap_or_else(|| Worker { words: Words::default(), room: MergeRoom::default(), word: Vec::new() })
    }

    fn put_back(&self, worker: Worker) {
        lock(&self.shelf).push(worker);
    }
}

/// Appends the ids of one word to `out`, which is empty.
pub(crate) fn encode_word(vocab: &Vocab, word: &[u8], room: &mut MergeRoom, out: &mut Vec<u32>) {
    let id = vocab.find(word);
    match id.and_then(|id| vocab.is_whole(id).map(|whole| (id, whole))) {
        Some((id, true)) => out.push(id),
        known => {
            merge_word(vocab, word, room, out);
            if let (Some(id), None) = (id, known) {
                vocab.set_whole(id, *out == [id]);
            }
        }
    }
}

struct Run<S> {
    sinks: Vec<S>,
    counts: Vec<u32>,
}

/// A panic while the lock was held left only whole workers and results behind, so the data is good.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Groups neighbouring pieces until each group holds `TASK` bytes.
pub(crate) fn tasks(pieces: &[Piece]) -> Vec<std::ops::Range<usize>> {
    let mut tasks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (i, piece) in pieces.iter().enumerate() {
        bytes += piece.bytes.len();
        if bytes >= TASK {
            tasks.push(start..i + 1);
            (start, bytes) = (i + 1, 0);
        }
    }
    if start < pieces.len() {
        tasks.push(start..pieces.len());
    }
    tasks
}

pub(crate) fn check_ends(text: &[u8], ends: &[usize]) -> Result<(), TextError> {
    if text.len() >= u32::MAX as usize {
        return Err(TextError(format!("text of {} bytes, expected less than 4 GiB in one call", text.len())));
    }
    let rises = ends.windows(2).all(|w| w[0] <= w[1]);
    if !rises || ends.last().copied().unwrap_or(0) != text.len() {
        return Err(TextError(format!("document ends must rise to the text's {} bytes", text.len())));
    }
    Ok(())
}

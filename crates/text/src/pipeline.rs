//! A whole tokenizer as steps one after the other, giving ids only: added tokens, normalizers, pre-tokenizers, a model. What stands around a text, and
//! places of tokens, are the caller's. The TypeScript twin is src/tokenizers/pipeline-tokenizer.ts.

use crate::added::{Added, Matcher};
use crate::cache::{Found, Words};
use crate::cuts::Cut;
use crate::encode::{Count, Encoded, List, Sink, check_ends, encode_word, lock};
use crate::error::TextError;
use crate::joints::Units;
use crate::merge::MergeRoom;
use crate::models::{ModelRoom, PieceModel};
use crate::pattern::Pattern;
use crate::sentencepiece::{PieceRoom, SentencePiece};
use crate::steps::{Step, normalize};
use crate::vocab::Vocab;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes that a thread takes at a time, and above which a document is cut for several.
const TASK: usize = 1 << 17;

pub enum Model {
    /// Byte-level BPE.
    Bytes(Arc<Vocab>),
    Pieces(PieceModel),
    SentencePiece(Box<SentencePiece>),
}

/// An added token, with what decides when it is looked for.
#[derive(Debug, Clone)]
pub struct Token {
    pub added: Added,
    /// Looked for in normalised text, as it is spelled there.
    pub normalized: bool,
}

/// Where a text may be cut before all else, so that what lies between is looked up as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunks {
    No,
    /// Before a blank behind a graphic ASCII character.
    Blanks,
    /// Before a blank, tab or end of line behind one.
    Spaces,
    /// Around ASCII punctuation and blanks.
    Ascii,
}

pub struct Pipeline {
    tokens: Vec<Token>,
    steps: Vec<Step>,
    cuts: Vec<Cut>,
    model: Model,
    chunks: Chunks,
    /// How pieces come apart further.
    units: Option<Units>,
    shelf: Mutex<Vec<Worker>>,
    matchers: Mutex<Vec<(Vec<bool>, Arc<Matchers>)>>,
}

/// The added tokens of one choice of them: those looked for in the raw text, and in normalised text.
struct Matchers {
    early: Matcher,
    late: Matcher,
}

/// How many choices of added tokens are kept.
const MOST_MATCHERS: usize = 4;

/// What one thread needs, kept between calls.
struct Worker {
    /// Of pieces as the model sees them.
    words: Words,
    /// Of chunks as they are written.
    chunks: Words,
    rooms: Vec<String>,
    merge: MergeRoom,
    model: ModelRoom,
    pieces: PieceRoom,
    ids: Vec<u32>,
    /// A piece could not be spelled, and there is no unknown token.
    outside: bool,
}

/// A part of a document that is worked on by itself.
struct Job<'a> {
    document: usize,
    text: Cow<'a, str>,
    part: Part,
}

#[derive(Clone, Copy)]
enum Part {
    /// A document as it came.
    Whole,
    /// A stretch without added tokens, not normalised yet.
    Raw {
        first: bool,
    },
    /// Normalised.
    Clean {
        first: bool,
    },
    Token(u32),
}

impl Pipeline {
    pub fn new(tokens: Vec<Token>, steps: Vec<Step>, cuts: Vec<Cut>, model: Model, units: Option<Units>) -> Self {
        let chunks = chunks_of(&steps, &cuts, &model);
        Self { tokens, steps, cuts, model, chunks, units, shelf: Mutex::default(), matchers: Mutex::default() }
    }

    /// Encodes documents (document `i` ends at byte `ends[i]` of `text`) with the added tokens that `allowed` marks.
    ///
    /// # Errors
    /// Text of 4 GiB or more, ends that do not fit, marks that are not one for each added token, or text that the vocabulary can't spell.
    pub fn encode(&self, text: &str, ends: &[usize], allowed: &[bool], threads: usize) -> Result<Encoded, TextError> {
        let (sinks, counts) = self.run(text, ends, allowed, threads, List::new)?;
        Ok(Encoded { parts: sinks.into_iter().map(List::into_ids).collect(), counts })
    }

    /// The number of ids of each document.
    ///
    /// # Errors
    /// As `encode`.
    pub fn count(&self, text: &str, ends: &[usize], allowed: &[bool], threads: usize) -> Result<Vec<u32>, TextError> {
        Ok(self.run(text, ends, allowed, threads, |_| Count(0))?.1)
    }

    fn matchers(&self, allowed: &[bool]) -> Result<Arc<Matchers>, TextError> {
        if allowed.len() != self.tokens.len() {
            return Err(TextError(format!("expected one mark for each of {} added tokens, got {}", self.tokens.len(), allowed.len())));
        }
        let mut kept = lock(&self.matchers);
        if let Some((_, found)) = kept.iter().find(|(marks, _)| marks == allowed) {
            return Ok(found.clone());
        }
        let chosen = || self.tokens.iter().zip(allowed).filter(|(_, allowed)| **allowed).map(|(token, _)| token);
        let is_late = |token: &Token| token.normalized && !self.steps.is_empty();
        let late = chosen().filter(|token| is_late(token)).map(|token| {
            let content = normalize(&self.steps, &token.added.content).unwrap_or_else(|| token.added.content.clone());
            Added { content, ..token.added.clone() }
        });
        let early = chosen().filter(|token| !is_late(token)).map(|token| token.added.clone());
        let made = Arc::new(Matchers { early: Matcher::new(early.collect()), late: Matcher::new(late.collect()) });
        if kept.len() == MOST_MATCHERS {
            kept.remove(0);
        }
        kept.push((allowed.to_vec(), made.clone()));
        Ok(made)
    }

    fn run<S: Sink + Send>(
        &self,
        text: &str,
        ends: &[usize],
        allowed: &[bool],
        threads: usize,
        sink: impl Fn(usize) -> S + Sync,
    ) -> Result<(Vec<S>, Vec<u32>), TextError> {
        check_ends(text.as_bytes(), ends)?;
        let matchers = self.matchers(allowed)?;
        let jobs = self.jobs(text, ends, &matchers, threads)?;
        let tasks = tasks(&jobs);
        let mut counts = vec![0u32; ends.len()];
        let threads = threads.clamp(1, tasks.len().max(1));
        let outside = AtomicBool::new(false);
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(tasks.len()));
        let work = || {
            let mut worker = self.take_worker();
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let jobs = &jobs[task.clone()];
                let mut ids = sink(jobs.iter().map(|job| job.text.len()).sum());
                let found: Vec<usize> = jobs
                    .iter()
                    .map(|job| {
                        let before = ids.so_far();
                        self.job(job, &matchers, &mut worker, &mut ids);
                        ids.so_far() - before
                    })
                    .collect();
                lock(&done).push((task.start, ids, found));
            }
            outside.fetch_or(worker.outside, Ordering::Relaxed);
            worker.outside = false;
            lock(&self.shelf).push(worker);
        };
        if threads == 1 {
            work();
        } else {
            std::thread::scope(|scope| {
                for _ in 1..threads {
                    scope.spawn(work);
                }
                work();
            });
        }
        if outside.into_inner() {
            return Err(TextError("text outside the vocabulary, expected an unknown token in it".into()));
        }
        let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        done.sort_unstable_by_key(|(start, ..)| *start);
        let mut sinks = Vec::with_capacity(done.len());
        for (start, ids, found) in done {
            for (job, found) in jobs[start..].iter().zip(found) {
                counts[job.document] += found as u32;
            }
            sinks.push(ids);
        }
        Ok((sinks, counts))
    }

    fn take_worker(&self) -> Worker {
        lock(&self.shelf).pop().unwrap_or_else(|| Worker {
            words: Words::default(),
            chunks: Words::default(),
            rooms: vec![String::new(); self.cuts.len()],
            merge: MergeRoom::default(),
            model: ModelRoom::default(),
            pieces: PieceRoom::default(),
            ids: Vec::new(),
            outside: false,
        })
    }

    /// Documents as jobs; long ones in parts, where several threads wait.
    fn jobs<'a>(&self, text: &'a str, ends: &[usize], matchers: &Matchers, threads: usize) -> Result<Vec<Job<'a>>, TextError> {
        let mut jobs = Vec::with_capacity(ends.len());
        let mut start = 0;
        for (document, &end) in ends.iter().enumerate() {
            let own = text.get(start..end).ok_or_else(|| TextError(format!("document {document} ends within a character")))?;
            start = end;
            if threads == 1 || own.len() < TASK + TASK / 2 || !self.comes_apart() {
                jobs.push(Job { document, text: Cow::Borrowed(own), part: Part::Whole });
                continue;
            }
            let mut push = |text: Cow<'a, str>, part: Part| jobs.push(Job { document, text, part });
            let mut at = 0;
            matchers.early.cut(own, |part, token| {
                let first = at == 0;
                at += part.len();
                if let Some(id) = token {
                    push(Cow::Borrowed(part), Part::Token(id));
                } else if self.chunks != Chunks::No && matchers.late.is_empty() {
                    parts(part, |part, is_first| push(Cow::Borrowed(part), Part::Raw { first: first && is_first }));
                } else {
                    match normalize(&self.steps, part) {
                        None => matchers.late.cut(part, |part, token| match token {
                            Some(id) => push(Cow::Borrowed(part), Part::Token(id)),
                            None => parts(part, |part, is_first| push(Cow::Borrowed(part), Part::Clean { first: first && is_first })),
                        }),
                        Some(clean) => matchers.late.cut(&clean, |part, token| match token {
                            Some(id) => push(Cow::Owned(part.to_string()), Part::Token(id)),
                            None => {
                                parts(part, |part, is_first| push(Cow::Owned(part.to_string()), Part::Clean { first: first && is_first }));
                            }
                        }),
                    }
                }
            });
        }
        Ok(jobs)
    }

    /// Whether a text may be cut behind an ASCII letter before a blank, both once normalised and, with chunks, before that.
    fn comes_apart(&self) -> bool {
        let at = self.cuts.iter().position(Cut::cuts_after_letter_before_space);
        at.is_some_and(|at| self.cuts[..at].iter().all(Cut::is_by_character))
    }

    fn job<S: Sink>(&self, job: &Job<'_>, matchers: &Matchers, worker: &mut Worker, sink: &mut S) {
        match job.part {
            Part::Token(id) => sink.many(&[id]),
            Part::Clean { first } => self.cut(0, &job.text, first, worker, sink),
            Part::Raw { first } => self.segment(&job.text, first, matchers, worker, sink),
            Part::Whole => {
                let mut at = 0;
                matchers.early.cut(&job.text, |part, token| {
                    let first = at == 0;
                    at += part.len();
                    match token {
                        Some(id) => sink.many(&[id]),
                        None => self.segment(part, first, matchers, worker, sink),
                    }
                });
            }
        }
    }

    /// A stretch of text that holds no early token.
    fn segment<S: Sink>(&self, text: &str, first: bool, matchers: &Matchers, worker: &mut Worker, sink: &mut S) {
        if let Model::SentencePiece(model) = &self.model {
            model.encode(text, &mut worker.words, &mut worker.pieces, |ids| sink.many(ids));
            return;
        }
        if self.chunks != Chunks::No && matchers.late.is_empty() {
            return self.by_chunks(text, first, worker, sink);
        }
        let clean = normalize(&self.steps, text);
        let clean = clean.as_deref().unwrap_or(text);
        let mut at = 0;
        matchers.late.cut(clean, |part, token| {
            let first = first && at == 0;
            at += part.len();
            match token {
                Some(id) => sink.many(&[id]),
                None => self.cut(0, part, first, worker, sink),
            }
        });
    }

    fn by_chunks<S: Sink>(&self, text: &str, first: bool, worker: &mut Worker, sink: &mut S) {
        let bytes = text.as_bytes();
        let mut start = 0;
        while start < bytes.len() {
            let end = match self.chunks {
                // White space alone makes nothing here.
                Chunks::Ascii if KIND[usize::from(bytes[start])] == SPACE => {
                    start += 1;
                    continue;
                }
                Chunks::Ascii => ascii_chunk(bytes, start),
                Chunks::Spaces => space_chunk(bytes, start, |byte| KIND[usize::from(byte)] == SPACE),
                Chunks::Blanks | Chunks::No => space_chunk(bytes, start, |byte| byte == b' '),
            };
            // The very first chunk may be another when it does not stand first.
            let known = if first && start == 0 { Found::Nothing } else { worker.chunks.find(bytes, start, end) };
            match known {
                Found::Few(ids, count) => sink.few(ids, count),
                Found::Many(ids) => sink.many(ids),
                Found::Nothing => {
                    let chunk = &text[start..end];
                    let mut found = Collected(std::mem::take(&mut worker.ids));
                    found.0.clear();
                    let clean = normalize(&self.steps, chunk);
                    self.cut(0, clean.as_deref().unwrap_or(chunk), first && start == 0, worker, &mut found);
                    sink.many(&found.0);
                    if (start > 0 || !first) && !worker.outside {
                        worker.chunks.keep(chunk.as_bytes(), &found.0);
                    }
                    worker.ids = found.0;
                }
            }
            start = end;
        }
    }

    /// Cuts text by the pre-tokenizers from `level` on.
    fn cut<S: Sink>(&self, level: usize, text: &str, first: bool, worker: &mut Worker, sink: &mut S) {
        if text.is_empty() {
            return;
        }
        let Some(cut) = self.cuts.get(level) else { return self.piece(text, worker, sink) };
        if let (Cut::Pattern { pattern, prefix: false }, Model::Bytes(vocab)) = (cut, &self.model)
            && level + 1 == self.cuts.len()
        {
            return words(vocab, *pattern, text.as_bytes(), worker, sink);
        }
        let mut room = std::mem::take(&mut worker.rooms[level]);
        cut.run(text, first, &mut room, |piece| self.cut(level + 1, piece, false, worker, sink));
        if room.capacity() < 1 << 20 {
            worker.rooms[level] = room;
        }
    }

    /// A piece as the model sees it.
    fn piece<S: Sink>(&self, piece: &str, worker: &mut Worker, sink: &mut S) {
        match (&self.model, &self.units) {
            (Model::Bytes(vocab), _) => words(vocab, Pattern::Whole, piece.as_bytes(), worker, sink),
            (Model::Pieces(model), None) => tokenize(model, piece, 0, piece.len(), self.chunks == Chunks::No, worker, sink),
            (Model::Pieces(model), Some(units)) => {
                let mut start = 0;
                while start < piece.len() {
                    let end = units.end(piece.as_bytes(), start);
                    tokenize(model, piece, start, end, true, worker, sink);
                    start = end;
                }
            }
            (Model::SentencePiece(_), _) => {}
        }
    }
}

/// Ids that are looked at before they go on.
struct Collected(Vec<u32>);

impl Sink for Collected {
    fn few(&mut self, ids: [u32; crate::cache::MOST], count: usize) {
        self.0.extend_from_slice(&ids[..count]);
    }

    fn many(&mut self, ids: &[u32]) {
        self.0.extend_from_slice(ids);
    }

    fn so_far(&self) -> usize {
        self.0.len()
    }
}

#[inline(always)]
fn words<S: Sink>(vocab: &Vocab, pattern: Pattern, text: &[u8], worker: &mut Worker, sink: &mut S) {
    pattern.for_each_word(text, |start, end| match worker.words.find(text, start, end) {
        Found::Few(ids, count) => sink.few(ids, count),
        Found::Many(ids) => sink.many(ids),
        Found::Nothing => missed(vocab, &text[start..end], worker, sink),
    });
}

#[cold]
#[inline(never)]
fn missed<S: Sink>(vocab: &Vocab, word: &[u8], worker: &mut Worker, sink: &mut S) {
    // Not `worker.ids`: that may hold what a chunk has so far.
    let mut ids = Vec::new();
    encode_word(vocab, word, &mut worker.merge, &mut ids);
    sink.many(&ids);
    worker.words.keep(word, &ids);
}

fn tokenize<S: Sink>(model: &PieceModel, text: &str, start: usize, end: usize, kept: bool, worker: &mut Worker, sink: &mut S) {
    if kept {
        match worker.words.find(text.as_bytes(), start, end) {
            Found::Few(ids, count) => return sink.few(ids, count),
            Found::Many(ids) => return sink.many(ids),
            Found::Nothing => {}
        }
    }
    let mut ids = Vec::new();
    let piece = &text[start..end];
    match model.tokenize(piece, &mut worker.model, &mut ids) {
        Ok(()) if kept => worker.words.keep(piece.as_bytes(), &ids),
        Ok(()) => {}
        Err(_) => worker.outside = true,
    }
    sink.many(&ids);
    if piece.len() > 1 << 20 {
        worker.model = ModelRoom::default();
    }
}

fn chunks_of(steps: &[Step], cuts: &[Cut], model: &Model) -> Chunks {
    if !matches!(model, Model::Pieces(_)) {
        return Chunks::No;
    }
    match cuts.first() {
        Some(Cut::Bert) if steps.iter().all(Step::is_local_at_ascii) => Chunks::Ascii,
        Some(Cut::Bert | Cut::Whitespace | Cut::WhitespaceSplit) if steps.iter().all(Step::is_local_at_blanks) => Chunks::Spaces,
        // A text that goes on begins with a blank, so that no mark is put before it.
        Some(Cut::Metaspace { split: true, .. }) if steps.iter().all(|step| step.is_local_at_blanks() && step.keeps_blanks()) => {
            Chunks::Blanks
        }
        _ => Chunks::No,
    }
}

const SPACE: u8 = 1;
const MARK: u8 = 2;
const OTHER_GRAPHIC: u8 = 4;

/// What each byte is where a text is cut into chunks.
const KIND: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 128u8 {
        kinds[byte as usize] = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => SPACE,
            _ if byte.is_ascii_punctuation() => MARK,
            _ if byte.is_ascii_graphic() => OTHER_GRAPHIC,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

/// The end of the chunk at `start`: punctuation by itself, or what lies between it and blanks.
fn ascii_chunk(text: &[u8], start: usize) -> usize {
    let ends = |byte: u8| KIND[usize::from(byte)] & (SPACE | MARK) != 0;
    if ends(text[start]) {
        return start + 1;
    }
    text[start + 1..].iter().position(|&byte| ends(byte)).map_or(text.len(), |length| start + 1 + length)
}

/// The end of the chunk at `start`: where one of `spaces` stands behind a graphic ASCII character.
fn space_chunk(text: &[u8], start: usize, is_space: impl Fn(u8) -> bool) -> usize {
    let graphic = |byte: u8| KIND[usize::from(byte)] & (MARK | OTHER_GRAPHIC) != 0;
    text[start..].windows(2).position(|pair| is_space(pair[1]) && graphic(pair[0])).map_or(text.len(), |at| start + at + 1)
}

/// Cuts a long text behind ASCII letters before blanks.
fn parts<'a>(text: &'a str, mut each: impl FnMut(&'a str, bool)) {
    let bytes = text.as_bytes();
    let mut start = 0;
    while bytes.len() - start > TASK + TASK / 2 {
        let from = start + TASK;
        let Some(at) = bytes[from..].windows(2).position(|pair| pair[0].is_ascii_alphabetic() && pair[1] == b' ') else { break };
        each(&text[start..from + at + 1], start == 0);
        start = from + at + 1;
    }
    each(&text[start..], start == 0);
}

/// Groups neighbouring jobs until each group holds `TASK` bytes.
fn tasks(jobs: &[Job<'_>]) -> Vec<std::ops::Range<usize>> {
    let mut tasks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (i, job) in jobs.iter().enumerate() {
        bytes += job.text.len();
        if bytes >= TASK {
            tasks.push(start..i + 1);
            (start, bytes) = (i + 1, 0);
        }
    }
    if start < jobs.len() {
        tasks.push(start..jobs.len());
    }
    tasks
}

//! SentencePiece models: raw text to ids with no pre-tokeniser, by the library's rules (google/sentencepiece). The TypeScript twin
//! (src/tokenizers/sentencepiece) gives the same ids.
//!
//! No piece of an ordinary model has a space symbol behind another character, so that a text comes apart into *units*, each beginning with space
//! symbols, that are cut independently; those seen lately are known.

use crate::cache::{Found, Words};
use crate::charsmap::Charsmap;
use crate::error::TextError;
use crate::joints::{Units, has_mark_inside};
use crate::trie::{NONE, ROOT, Trie};
use crate::unigram::width;
use crate::units::{UnigramRoom, Unigrams};
use std::collections::{BinaryHeap, HashMap};

/// What a piece may be used for, as the file numbers it.
pub mod kind {
    pub const NORMAL: u8 = 1;
    pub const UNKNOWN: u8 = 2;
    pub const USER_DEFINED: u8 = 4;
    pub const UNUSED: u8 = 5;
}

pub struct SentencePieceSpec<'a> {
    /// Pieces that text may be cut into, with their ids.
    pub pieces: Vec<(&'a [u8], u32)>,
    /// By id.
    pub types: &'a [u8],
    pub scores: Vec<f32>,
    pub charsmap: Option<Charsmap>,
    pub bpe: bool,
    pub dummy_prefix: bool,
    pub remove_extra: bool,
    pub escape: bool,
    pub suffix: bool,
    pub bytes: Option<Box<[u32; 256]>>,
}

enum Cutter {
    Unigram(Unigrams),
    Bpe(Merges),
}

pub struct SentencePiece {
    charsmap: Option<Charsmap>,
    dummy_prefix: bool,
    remove_extra: bool,
    suffix: bool,
    space: char,
    /// Strings that no replacement touches.
    untouched: Option<Trie>,
    /// ASCII that stays where ASCII follows, and is no space.
    plain: [bool; 256],
    cutter: Cutter,
    unknown: u32,
    bytes: Option<Box<[u32; 256]>>,
    units: Option<Units>,
}

struct Merges {
    pieces: Trie,
    scores: Vec<f32>,
    types: Vec<u8>,
}

#[derive(Default)]
pub struct PieceRoom {
    normal: String,
    ids: Vec<u32>,
    unigrams: UnigramRoom,
    merges: MergeRoom,
}

impl SentencePiece {
    /// # Errors
    /// Types or scores that are not one for each piece.
    pub fn new(spec: SentencePieceSpec<'_>) -> Result<Self, TextError> {
        let size = spec.types.len();
        if spec.scores.len() != size || spec.pieces.iter().any(|&(_, id)| id as usize >= size) || spec.scores.iter().any(|s| !s.is_finite())
        {
            return Err(TextError(format!(
                "pieces, types and finite scores must be as many, got {size} types and {} scores",
                spec.scores.len()
            )));
        }
        let unknown = spec.types.iter().position(|&kind| kind == kind::UNKNOWN).map_or(NONE, |id| id as u32);
        let type_of = |id: u32| spec.types[id as usize];
        let user: Vec<_> = spec.pieces.iter().copied().filter(|&(_, id)| type_of(id) == kind::USER_DEFINED).collect();
        let space = if spec.escape { '▁' } else { ' ' };
        let mut plain = [false; 256];
        for byte in 0..128u8 {
            let keeps = spec.charsmap.as_ref().is_none_or(|map| map.keeps(byte));
            plain[usize::from(byte)] = keeps && byte != b' ' && !user.iter().any(|(piece, _)| piece[0] == byte);
        }
        let mut mark = [0; 4];
        let mark = space.encode_utf8(&mut mark).as_bytes();
        // The space symbol is a piece that stays, and no piece goes on behind one with another.
        let stays = spec.pieces.iter().any(|&(piece, id)| piece == mark && matches!(type_of(id), kind::NORMAL | kind::USER_DEFINED));
        let afresh = Some(space).filter(|_| stays && spec.pieces.iter().all(|(piece, _)| !has_mark_inside(piece, mark)));
        let units = if spec.types.contains(&kind::UNUSED) {
            // One is taken apart again by what became of it anywhere in the text.
            None
        } else if spec.bpe && spec.bytes.is_none() {
            // Units that are kept must not begin with what is unknown.
            afresh.map(|mark| Units::at_marks(Some(mark)))
        } else {
            Some(Units::of_tokens(spec.pieces.iter().map(|(piece, _)| *piece), afresh))
        };
        let cutter = if spec.bpe {
            Cutter::Bpe(Merges { pieces: Trie::new(spec.pieces.iter().copied()), scores: spec.scores, types: spec.types.to_vec() })
        } else {
            Cutter::Unigram(Unigrams::new(&spec.pieces, spec.types, spec.scores, unknown))
        };
        Ok(Self {
            charsmap: spec.charsmap,
            dummy_prefix: spec.dummy_prefix,
            remove_extra: spec.remove_extra,
            suffix: spec.suffix,
            space,
            untouched: (!user.is_empty()).then(|| Trie::new(user.into_iter())),
            plain,
            cutter,
            unknown,
            bytes: spec.bytes,
            units,
        })
    }

    /// What the text (not empty) begins with is replaced by, and how much of it.
    #[inline]
    fn replace<'a>(&'a self, text: &'a str) -> (usize, &'a str) {
        if let Some(untouched) = &self.untouched {
            let (length, _) = untouched.longest(ROOT, text.as_bytes());
            if length > 0 {
                return (length, text.get(..length).unwrap_or(text));
            }
        }
        if let Some(found) = self.charsmap.as_ref().and_then(|map| map.find(text, true)) {
            return found;
        }
        let length = width(text.as_bytes()[0]).min(text.len());
        (length, &text[..length])
    }

    fn normalize(&self, text: &str, out: &mut String) {
        out.clear();
        let mut at = 0;
        if self.remove_extra {
            while at < text.len() {
                let (length, to) = self.replace(&text[at..]);
                if to != " " {
                    break;
                }
                at += length;
            }
        }
        if at == text.len() {
            return;
        }
        if self.dummy_prefix && !self.suffix {
            out.push(self.space);
        }
        let bytes = text.as_bytes();
        let mut behind_space = self.remove_extra;
        while at < text.len() {
            let mut run = bytes[at..].iter().take_while(|&&byte| self.plain[usize::from(byte)]).count();
            // The last of the run may go on with what is not ASCII.
            if at + run < bytes.len() && bytes[at + run] >= 128 {
                run = run.saturating_sub(1);
            }
            if run > 0 {
                out.push_str(&text[at..at + run]);
                behind_space = false;
                at += run;
                continue;
            }
            let (length, to) = self.replace(&text[at..]);
            let added = if behind_space { to.trim_start_matches(' ') } else { to };
            if !added.is_empty() {
                for (i, part) in added.split(' ').enumerate() {
                    if i > 0 {
                        out.push(self.space);
                    }
                    out.push_str(part);
                }
                behind_space = self.remove_extra && added.ends_with(' ');
            }
            at += length;
        }
        if self.remove_extra {
            // A space symbol that stood in the text goes too.
            out.truncate(out.trim_end_matches(self.space).len());
        }
        if self.dummy_prefix && self.suffix {
            out.push(self.space);
        }
    }

    /// Gives the ids of a text to `sink`.
    pub fn encode(&self, text: &str, words: &mut Words, room: &mut PieceRoom, mut sink: impl FnMut(&[u32])) {
        let mut normal = std::mem::take(&mut room.normal);
        self.normalize(text, &mut normal);
        let mut sum = 0f32;
        let mut behind_unknown = false;
        let mut start = 0;
        while start < normal.len() {
            let end = self.units.as_ref().map_or(normal.len(), |units| units.end(normal.as_bytes(), start));
            match &self.cutter {
                Cutter::Unigram(unigrams) => {
                    sum = unigrams.cut(&normal, start, end, sum, &mut room.unigrams, |ids, lengths| {
                        self.give(&normal[start..end], ids, lengths, &mut behind_unknown, &mut room.ids, &mut sink);
                    });
                }
                Cutter::Bpe(merges) => match words.find(normal.as_bytes(), start, end) {
                    Found::Few(ids, count) => sink(&ids[..count]),
                    Found::Many(ids) => sink(ids),
                    Found::Nothing => {
                        let unit = &normal[start..end];
                        merges.cut(unit, self.unknown, &mut room.merges);
                        room.ids.clear();
                        let (ids, lengths) = (&room.merges.ids, &room.merges.lengths);
                        self.spell(unit, ids, lengths, &mut behind_unknown, &mut room.ids);
                        sink(&room.ids);
                        if self.units.is_some() {
                            words.keep(unit.as_bytes(), &room.ids);
                        }
                    }
                },
            }
            start = end;
        }
        if normal.capacity() > 1 << 20 {
            normal = String::new();
            room.unigrams = UnigramRoom::default();
            room.merges = MergeRoom::default();
        }
        room.normal = normal;
    }

    fn give(&self, unit: &str, ids: &[u32], lengths: &[u32], behind: &mut bool, room: &mut Vec<u32>, sink: &mut impl FnMut(&[u32])) {
        if !ids.contains(&self.unknown) {
            *behind = false;
            return sink(ids);
        }
        room.clear();
        self.spell(unit, ids, lengths, behind, room);
        sink(room);
    }

    /// Appends ids with bytes for what is unknown, or, without such, one id for a run of it.
    fn spell(&self, unit: &str, ids: &[u32], lengths: &[u32], behind_unknown: &mut bool, out: &mut Vec<u32>) {
        let mut at = 0;
        for (&id, &length) in ids.iter().zip(lengths) {
            let unknown = id == self.unknown;
            match &self.bytes {
                Some(bytes) if unknown => {
                    out.extend(unit.as_bytes()[at..at + length as usize].iter().map(|&byte| bytes[usize::from(byte)]))
                }
                None if unknown && *behind_unknown => {}
                _ => out.push(id),
            }
            *behind_unknown = unknown;
            at += length as usize;
        }
    }
}

#[derive(Default)]
struct MergeRoom {
    /// A symbol is named by its first byte. It ends where the next one starts.
    ends: Vec<u32>,
    before: Vec<u32>,
    fixed: Vec<bool>,
    /// For each symbol the piece that it would make with the one behind it.
    merged: Vec<u32>,
    ids: Vec<u32>,
    lengths: Vec<u32>,
}

/// A pair that may merge: the best score goes first, of equals the leftmost.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    score: i64,
    left: std::cmp::Reverse<u32>,
    id: u32,
}

/// Finite numbers in the order of their size.
fn ordered(score: f32) -> i64 {
    let bits = i64::from((score + 0.0).abs().to_bits());
    if score < 0.0 { -bits } else { bits }
}

impl Merges {
    /// Two neighbours merge where both together are a piece. User-defined symbols merge with nothing. A piece that is unused may be merged on the way,
    /// and is taken apart again where it is left at the end.
    fn cut(&self, text: &str, unknown: u32, room: &mut MergeRoom) {
        let bytes = text.as_bytes();
        let size = bytes.len();
        let is = |id: u32, kind: u8| self.types.get(id as usize) == Some(&kind);
        for list in [&mut room.ends, &mut room.before, &mut room.merged] {
            list.clear();
            list.resize(size, NONE);
        }
        room.fixed.clear();
        room.fixed.resize(size, false);
        let mut start = 0;
        while start < size {
            // The longest user-defined symbol, which is a piece like others.
            let whole = self.longest_fixed(&bytes[start..]);
            room.fixed[start] = whole > 0;
            let end = start + if whole > 0 { whole } else { width(bytes[start]).min(size - start) };
            room.ends[start] = end as u32;
            if end < size {
                room.before[end] = start as u32;
            }
            start = end;
        }
        let mut heap = BinaryHeap::new();
        let mut halves: HashMap<&[u8], usize> = HashMap::new();
        let mut consider = |room: &mut MergeRoom, heap: &mut BinaryHeap<Pair>, left: usize| {
            let right = room.ends[left] as usize;
            room.merged[left] = NONE;
            if right == size || room.fixed[left] || room.fixed[right] {
                return;
            }
            let piece = &bytes[left..room.ends[right] as usize];
            let Some(id) = self.pieces.get(piece) else { return };
            room.merged[left] = id;
            heap.push(Pair { score: ordered(self.scores[id as usize]), left: std::cmp::Reverse(left as u32), id });
            if is(id, kind::UNUSED) {
                halves.insert(piece, right - left);
            }
        };
        let mut left = 0;
        while left < size {
            consider(room, &mut heap, left);
            left = room.ends[left] as usize;
        }
        while let Some(Pair { left, id, .. }) = heap.pop() {
            let left = left.0 as usize;
            // Its pair has become another since.
            if room.merged[left] != id {
                continue;
            }
            let right = room.ends[left] as usize;
            room.merged[right] = NONE;
            room.ends[left] = room.ends[right];
            let end = room.ends[left] as usize;
            if end < size {
                room.before[end] = left as u32;
            }
            if room.before[left] != NONE {
                consider(room, &mut heap, room.before[left] as usize);
            }
            consider(room, &mut heap, left);
        }
        room.ids.clear();
        room.lengths.clear();
        let mut parts = Vec::new();
        let mut start = 0;
        while start < size {
            parts.push((start, room.ends[start] as usize));
            while let Some((from, to)) = parts.pop() {
                let piece = &bytes[from..to];
                let id = self.pieces.get(piece).unwrap_or(unknown);
                let unused = is(id, kind::UNUSED);
                match halves.get(piece).filter(|_| unused) {
                    Some(half) => parts.extend([(from + half, to), (from, from + half)]),
                    None => {
                        room.ids.push(if unused { unknown } else { id });
                        room.lengths.push((to - from) as u32);
                    }
                }
            }
            start = room.ends[start] as usize;
        }
    }

    fn longest_fixed(&self, text: &[u8]) -> usize {
        let fixed = |&(_, id): &(usize, u32)| self.types.get(id as usize) == Some(&kind::USER_DEFINED);
        self.pieces.beginnings(ROOT, text).filter(fixed).last().map_or(0, |(length, _)| length)
    }
}

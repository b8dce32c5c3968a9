//! Unigram: of all ways to cut a piece into tokens the one with the largest sum of scores, by Viterbi's algorithm along the text (Kudo 2018,
//! arXiv:1804.10959). Of equal sums the one that was found first stays, so sums are added in the same order as in the TypeScript twin.

use crate::models::Outside;
use crate::trie::{NONE, ROOT, Trie};

/// How much worse than the worst token an unknown character is.
const UNKNOWN_PENALTY: f64 = 10.0;

pub struct Unigram {
    tokens: Trie,
    scores: Vec<f64>,
    unknown: Option<u32>,
    unknown_score: f64,
    /// The tokens `<0x00>` to `<0xFF>`, where all bytes of a character that no token spells become tokens.
    bytes: Option<Box<[u32; 256]>>,
}

/// For each place the best way to it: its sum, and its last token with where that begins.
#[derive(Debug, Clone, Copy)]
pub struct Node<S> {
    pub sum: S,
    pub start: u32,
    pub id: u32,
}

/// Room for a lattice, kept between pieces.
#[derive(Debug, Default)]
pub struct Lattice<S> {
    pub nodes: Vec<Node<S>>,
    pub cuts: Vec<(u32, u32)>,
}

impl Unigram {
    /// `scores` by id; `tokens` holds the ids that text may become.
    pub fn new(tokens: Trie, scores: Vec<f64>, unknown: Option<u32>, bytes: Option<Box<[u32; 256]>>) -> Self {
        let unknown_score = scores.iter().copied().fold(f64::INFINITY, f64::min) - UNKNOWN_PENALTY;
        Self { tokens, scores, unknown, unknown_score, bytes }
    }

    pub fn tokenize(&self, piece: &str, lattice: &mut Lattice<f64>, out: &mut Vec<u32>) -> Result<(), Outside> {
        let bytes = piece.as_bytes();
        let nodes = &mut lattice.nodes;
        nodes.clear();
        nodes.resize(bytes.len() + 1, Node { sum: 0.0, start: NONE, id: NONE });
        let mut start = 0;
        while start < bytes.len() {
            let next = start + width(bytes[start]);
            let before = nodes[start].sum;
            let mut single = false;
            for (length, id) in self.tokens.beginnings(ROOT, &bytes[start..]) {
                offer(&mut nodes[start + length], start, id, self.scores.get(id as usize).copied().unwrap_or(0.0) + before);
                single |= start + length == next;
            }
            if !single {
                let place = &mut nodes[next.min(bytes.len())];
                offer(place, start, self.unknown.unwrap_or(NONE), self.unknown_score + before);
                if place.id == NONE {
                    return Err(Outside);
                }
            }
            start = next;
        }
        self.read_back(piece, lattice, out)
    }

    fn read_back(&self, piece: &str, lattice: &mut Lattice<f64>, out: &mut Vec<u32>) -> Result<(), Outside> {
        let cuts = &mut lattice.cuts;
        cuts.clear();
        let mut end = piece.len();
        while end > 0 {
            let Node { start, id, .. } = lattice.nodes[end];
            match cuts.last_mut() {
                // Unknown neighbours are one.
                Some((from, before)) if Some(id) == self.unknown && *before == id => *from = start,
                _ => cuts.push((start, id)),
            }
            end = start as usize;
        }
        // The last piece came first.
        for (i, &(start, id)) in cuts.iter().enumerate().rev() {
            let end = if i == 0 { piece.len() } else { cuts[i - 1].0 as usize };
            if Some(id) == self.unknown {
                self.unknown(&piece[start as usize..end], out)?;
            } else {
                out.push(id);
            }
        }
        Ok(())
    }

    /// What spells a stretch that was found unknown: several characters together may be a token all the same.
    fn unknown(&self, text: &str, out: &mut Vec<u32>) -> Result<(), Outside> {
        if let Some(id) = self.tokens.get(text.as_bytes()) {
            out.push(id);
            return Ok(());
        }
        if let Some(bytes) = &self.bytes {
            let ids = text.bytes().map(|byte| bytes[usize::from(byte)]);
            if !ids.clone().any(|id| id == NONE) {
                out.extend(ids);
                return Ok(());
            }
        }
        out.push(self.unknown.ok_or(Outside)?);
        Ok(())
    }
}

#[inline(always)]
fn offer(node: &mut Node<f64>, start: usize, id: u32, sum: f64) {
    if node.start == NONE || sum > node.sum {
        *node = Node { sum, start: start as u32, id };
    }
}

/// Bytes of a character by its first.
#[inline(always)]
pub fn width(lead: u8) -> usize {
    match lead {
        0..=0xbf => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    }
}

//! The models of tokenizer.json that are no byte-level BPE: WordLevel, WordPiece, Unigram, and BPE over characters. The TypeScript twins
//! (src/tokenizers/models) say where each comes from and give the same ids.

use crate::chars::CharBpe;
use crate::error::TextError;
use crate::trie::{NONE, ROOT, Trie};
use crate::unigram::{Lattice, Unigram};

/// A token where a piece has no other: what is missing is told to the caller, whose twin has the words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outside;

/// The tokens of a vocabulary, one after the other in the order of their ids; those of no bytes are left out.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    pub bytes: &'a [u8],
    pub lengths: &'a [i32],
}

impl<'a> Tokens<'a> {
    /// # Errors
    /// Lengths that do not add up to the bytes.
    pub fn list(self) -> Result<Vec<(&'a [u8], u32)>, TextError> {
        let wrong = |what: &str| TextError(format!("token lengths {what}, expected them to add up to {} bytes", self.bytes.len()));
        let mut rest = self.bytes;
        let mut tokens = Vec::with_capacity(self.lengths.len());
        for (id, &length) in self.lengths.iter().enumerate() {
            let length = usize::try_from(length).map_err(|_| wrong("are below 0"))?;
            let (token, after) = rest.split_at_checked(length).ok_or_else(|| wrong("are too large"))?;
            if length > 0 {
                tokens.push((token, id as u32));
            }
            rest = after;
        }
        if rest.is_empty() && self.lengths.len() < 1 << 29 { Ok(tokens) } else { Err(wrong("are too small")) }
    }
}

pub enum PieceModel {
    WordLevel { tokens: Trie, unknown: Option<u32> },
    WordPiece { tokens: Trie, inside: Option<u32>, unknown: Option<u32>, most: usize },
    Unigram(Unigram),
    Bpe(CharBpe),
}

/// What a thread keeps for the models.
#[derive(Default)]
pub struct ModelRoom {
    pub lattice: Lattice<f64>,
    pub chars: crate::chars::CharRoom,
}

impl PieceModel {
    /// Appends the ids of a piece (not empty).
    pub fn tokenize(&self, piece: &str, room: &mut ModelRoom, out: &mut Vec<u32>) -> Result<(), Outside> {
        match self {
            Self::WordLevel { tokens, unknown } => {
                out.push(tokens.get(piece.as_bytes()).or(*unknown).ok_or(Outside)?);
                Ok(())
            }
            Self::WordPiece { tokens, inside, unknown, most } => {
                let start = out.len();
                if (piece.len() <= *most || piece.chars().nth(*most).is_none()) && word_pieces(tokens, *inside, piece.as_bytes(), out) {
                    return Ok(());
                }
                out.truncate(start);
                out.push(unknown.ok_or(Outside)?);
                Ok(())
            }
            Self::Unigram(unigram) => unigram.tokenize(piece, &mut room.lattice, out),
            Self::Bpe(bpe) => bpe.tokenize(piece, &mut room.chars, out),
        }
    }
}

/// From the left always the longest token that fits; false where the piece can't be spelled to its end.
fn word_pieces(tokens: &Trie, inside: Option<u32>, piece: &[u8], out: &mut Vec<u32>) -> bool {
    let mut at = 0;
    while at < piece.len() {
        let from = if at == 0 { Some(ROOT) } else { inside };
        let Some(from) = from else { return false };
        let (length, id) = tokens.longest(from, &piece[at..]);
        if id == NONE || length == 0 {
            return false;
        }
        out.push(id);
        at += length;
    }
    true
}

//! Cutting much text into pieces for several threads, only where the pattern ends a word whatever stands around.

use crate::pattern::Pattern;
use std::ops::Range;

/// A piece of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub document: usize,
    pub bytes: Range<usize>,
}

/// Cuts documents (document `i` ends at `ends[i]` of `text`) into pieces of about `target` bytes.
pub fn pieces(pattern: Pattern, text: &[u8], ends: &[usize], target: usize) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(ends.len());
    let mut start = 0;
    for (document, &end) in ends.iter().enumerate() {
        while end - start > target + target / 2 {
            let Some(cut) = safe_cut(pattern, &text[..end], start + target) else { break };
            pieces.push(Piece { document, bytes: start..cut });
            start = cut;
        }
        pieces.push(Piece { document, bytes: start..end });
        start = end;
    }
    pieces
}

/// The first place from `from` on where an ASCII letter is followed by a blank or newline: no known pattern has a match
/// that goes on from a letter to white space, and none looks behind, so both sides split as they do together.
fn safe_cut(pattern: Pattern, text: &[u8], from: usize) -> Option<usize> {
    if !pattern.cuts_after_letter_before_space() {
        return None;
    }
    let tail = text.get(from..)?;
    let at = tail.windows(2).position(|w| w[0].is_ascii_alphabetic() && matches!(w[1], b' ' | b'\n'))?;
    Some(from + at + 1)
}

//! Runs of characters. ASCII goes eight bytes at a time in one integer, the rest through the class table.

use crate::unicode::{Classes, LETTER, NEWLINE, NUMBER, SPACE};

const HIGH: u64 = 0x8080_8080_8080_8080;
const LOW7: u64 = !HIGH;

const fn splat(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

#[inline(always)]
fn load8(text: &[u8], at: usize) -> Option<u64> {
    let eight = text.get(at..at + 8)?;
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(eight);
    Some(u64::from_le_bytes(bytes))
}

/// High bit set in each byte that lies in `from ..= to` (all below 128). Sums stay below 256, so no carry leaves a byte.
#[inline(always)]
fn between(word: u64, from: u8, to: u8) -> u64 {
    let low = word & LOW7;
    let at_least = low + splat(128 - from);
    let above = low + splat(127 - to);
    at_least & !above & !word & HIGH
}

/// End of the run of letters (`\p{L}*`) that starts at `at`.
#[inline(always)]
pub fn letters(classes: Classes, text: &[u8], mut at: usize) -> usize {
    loop {
        while let Some(word) = load8(text, at) {
            let not = !between(word | splat(0x20), b'a', b'z') & HIGH;
            if not != 0 {
                at += (not.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        // Here `at` is at a byte that is no ASCII letter, or within eight bytes of the end.
        loop {
            let Some(&byte) = text.get(at) else { return at };
            let (class, length) = classes.at(text, at);
            if class & LETTER == 0 {
                return at;
            }
            at += length;
            if byte < 128 && text.len() - at >= 8 {
                break;
            }
        }
    }
}

/// End of the run of numbers (`\p{N}{0,most}`) that starts at `at`.
#[inline]
pub fn numbers(classes: Classes, text: &[u8], mut at: usize, most: usize) -> usize {
    for _ in 0..most {
        if at >= text.len() {
            break;
        }
        let (class, length) = classes.at(text, at);
        if class & NUMBER == 0 {
            break;
        }
        at += length;
    }
    at
}

/// End of the run of what is neither space, letter nor number (`[^\s\p{L}\p{N}]*`).
#[inline]
pub fn others(classes: Classes, text: &[u8], mut at: usize) -> usize {
    while at < text.len() {
        let (class, length) = classes.at(text, at);
        if class & (SPACE | LETTER | NUMBER) != 0 {
            break;
        }
        at += length;
    }
    at
}

/// A run of white space, with what the patterns ask about it.
pub struct Spaces {
    /// One past the last white-space byte.
    pub end: usize,
    /// Where the last character of the run starts.
    pub last: usize,
    /// One past the last `\r` or `\n` of the run, if it has one.
    pub after_newline: Option<usize>,
}

#[inline]
pub fn spaces(classes: Classes, text: &[u8], start: usize) -> Spaces {
    let mut run = Spaces { end: start, last: start, after_newline: None };
    while run.end < text.len() {
        // Indentation: eight blanks at once. The last blank of the run is one byte, so `last` is known.
        if load8(text, run.end) == Some(splat(b' ')) {
            run.end += 8;
            run.last = run.end - 1;
            continue;
        }
        let (class, length) = classes.at(text, run.end);
        if class & SPACE == 0 {
            break;
        }
        run.last = run.end;
        run.end += length;
        if class & NEWLINE != 0 {
            run.after_newline = Some(run.end);
        }
    }
    run
}

/// How many bytes at the start of `text` lie below `limit` (above 127).
#[inline]
pub fn bytes_below(text: &[u8], limit: u8) -> usize {
    let mut at = 0;
    while let Some(chunk) = text.get(at..at + 32) {
        if chunk.iter().fold(0, |most, &byte| most.max(byte)) >= limit {
            break;
        }
        at += 32;
    }
    while at < text.len() && text[at] < limit {
        at += 1;
    }
    at
}

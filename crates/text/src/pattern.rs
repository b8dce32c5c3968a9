//! The published split patterns as hand-written scanners. Each gives exactly the matches of its regular expression,
//! taken from left to right (every character of any text belongs to a match, so a match's end is the next one's start).

use crate::scan::{letters, numbers, others, spaces};
use crate::unicode::{Classes, LETTER, LOWERISH, NEWLINE, NUMBER, SPACE, UPPERISH};

/// Which regular expression cuts text into words (pre-tokens).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// GPT-4 as published first, and Llama 3: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
    /// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Cl100k,
    /// GPT-4 as tiktoken ships it since 0.7: as `Cl100k`, but white space at the very end of the text is one word (`\s++$`).
    Cl100kTail,
    /// Qwen 2: as `Cl100k` with numbers cut into single digits (`\p{N}`).
    Qwen2,
    /// GPT-4o: words cut where capitals follow small letters, contractions kept with their word, `/` kept with newlines.
    O200k,
    /// No cutting: the whole text is one word.
    Whole,
}

impl Pattern {
    /// The number under which the pattern crosses to other languages.
    pub fn from_code(code: u32) -> Option<Self> {
        use Pattern::*;
        [Gpt2, Cl100k, Cl100kTail, Qwen2, O200k, Whole].get(code as usize).copied()
    }

    /// Whether an ASCII letter followed by white space always ends a word, whatever stands around it.
    pub fn cuts_after_letter_before_space(self) -> bool {
        !matches!(self, Pattern::Whole)
    }

    /// Calls `each(start, end)` for every word of `text`, which is UTF-8.
    #[inline(always)]
    pub fn for_each_word(self, text: &[u8], each: impl FnMut(usize, usize)) {
        let c = Classes::get();
        match self {
            Pattern::Gpt2 => words(text, |at| gpt2(c, text, at), each),
            Pattern::Cl100k => words(text, |at| cl100k::<3, false>(c, text, at), each),
            Pattern::Cl100kTail => words(text, |at| cl100k::<3, true>(c, text, at), each),
            Pattern::Qwen2 => words(text, |at| cl100k::<1, false>(c, text, at), each),
            Pattern::O200k => words(text, |at| o200k(c, text, at), each),
            Pattern::Whole => words(text, |_| text.len(), each),
        }
    }
}

#[inline(always)]
fn words(text: &[u8], end_of: impl Fn(usize) -> usize, mut each: impl FnMut(usize, usize)) {
    let mut at = 0;
    while at < text.len() {
        let end = end_of(at);
        each(at, end);
        at = end;
    }
}

/// Byte length of a contraction (`'s 't 'm 'd 're 've 'll`) at `at`, 0 if there is none.
#[inline]
fn contraction(text: &[u8], at: usize, any_case: bool) -> usize {
    if text[at] != b'\'' {
        return 0;
    }
    let Some(&first) = text.get(at + 1) else { return 0 };
    let second = text.get(at + 2).copied().unwrap_or(0);
    let fold = |byte: u8| if any_case { byte.to_ascii_lowercase() } else { byte };
    match (fold(first), fold(second)) {
        (b's' | b't' | b'm' | b'd', _) => 2,
        (b'r' | b'v', b'e') | (b'l', b'l') => 3,
        // U+017F, the long s, folds to "s".
        (0xc5, 0xbf) if any_case => 3,
        _ => 0,
    }
}

/// `\s+(?!\S)|\s+` for a run that does not reach the end of the text: all but its last character, unless that is all.
#[inline]
fn spaces_before_word(start: usize, last: usize, end: usize, length: usize) -> usize {
    if end == length || last == start { end } else { last }
}

#[inline(always)]
fn gpt2(c: Classes, text: &[u8], at: usize) -> usize {
    let mut from = at;
    let (mut class, mut length) = c.at(text, at);
    if text[at] == b' ' {
        if at + 1 < text.len() {
            let (next, next_length) = c.at(text, at + 1);
            if next & SPACE == 0 {
                (from, class, length) = (at + 1, next, next_length);
            }
        }
    } else if text[at] == b'\'' {
        let n = contraction(text, at, false);
        if n > 0 {
            return at + n;
        }
    }
    if class & LETTER != 0 {
        letters(c, text, from + length)
    } else if class & NUMBER != 0 {
        numbers(c, text, from + length, usize::MAX)
    } else if class & SPACE != 0 {
        let run = spaces(c, text, at);
        spaces_before_word(at, run.last, run.end, text.len())
    } else {
        others(c, text, from + length)
    }
}

#[inline(always)]
fn cl100k<const DIGITS: usize, const TAIL: bool>(c: Classes, text: &[u8], at: usize) -> usize {
    let (class, length) = c.at(text, at);
    if class & LETTER != 0 {
        return letters(c, text, at + length);
    }
    if class & NUMBER != 0 {
        return numbers(c, text, at + length, DIGITS - 1);
    }
    let n = contraction(text, at, true);
    if n > 0 {
        return at + n;
    }
    let next = if at + length < text.len() { c.at(text, at + length) } else { (SPACE, 0) };
    if next.0 & LETTER != 0 && class & NEWLINE == 0 {
        return letters(c, text, at + length + next.1);
    }
    if class & SPACE == 0 {
        return newlines(text, others(c, text, at + length), false);
    }
    if text[at] == b' ' && next.0 & (SPACE | NUMBER) == 0 {
        return newlines(text, others(c, text, at + length + next.1), false);
    }
    white_space::<TAIL>(c, text, at)
}

/// `[\r\n]*`, or `[\r\n/]*`
#[inline]
fn newlines(text: &[u8], mut at: usize, slash_too: bool) -> usize {
    while let Some(&byte) = text.get(at) {
        if byte != b'\n' && byte != b'\r' && !(slash_too && byte == b'/') {
            break;
        }
        at += 1;
    }
    at
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`, with `\s++$` before it when `TAIL`.
#[inline]
fn white_space<const TAIL: bool>(c: Classes, text: &[u8], at: usize) -> usize {
    let run = spaces(c, text, at);
    if TAIL && run.end == text.len() {
        return run.end;
    }
    match run.after_newline {
        Some(end) => end,
        None => spaces_before_word(at, run.last, run.end, text.len()),
    }
}

/// The two word alternatives of GPT-4o from `at`, without their optional first character: `U*L+` when a
/// character of `L` is needed, else `U+L*`; `U` and `L` are the UPPERISH and LOWERISH sets. 0 if there is no match.
#[inline]
fn cased_word(c: Classes, text: &[u8], at: usize, needs_lower: bool) -> usize {
    let (mut end, mut after_both) = (at, 0);
    while end < text.len() {
        let (class, length) = c.at(text, end);
        if class & UPPERISH == 0 {
            if class & LOWERISH == 0 {
                break;
            }
            // U* took all it could and a small letter follows: L+ (or L*) takes the rest.
            while end < text.len() {
                let (class, length) = c.at(text, end);
                if class & LOWERISH == 0 {
                    break;
                }
                end += length;
            }
            return end;
        }
        end += length;
        if class & LOWERISH != 0 {
            after_both = end;
        }
    }
    // No small letter after the run. `U*L+` backtracks to the last character of both sets; `U+L*` takes the run.
    if needs_lower {
        after_both
    } else if end > at {
        end
    } else {
        0
    }
}

#[inline(always)]
fn o200k(c: Classes, text: &[u8], at: usize) -> usize {
    let (class, length) = c.at(text, at);
    let can_lead = class & (NEWLINE | LETTER | NUMBER) == 0;
    for needs_lower in [true, false] {
        let mut end = 0;
        if can_lead {
            end = cased_word(c, text, at + length, needs_lower);
        }
        if end == 0 {
            end = cased_word(c, text, at, needs_lower);
        }
        if end > 0 {
            return if end < text.len() { end + contraction(text, end, true) } else { end };
        }
    }
    if class & NUMBER != 0 {
        return numbers(c, text, at + length, 2);
    }
    if class & SPACE == 0 {
        return newlines(text, others(c, text, at + length), true);
    }
    if text[at] == b' ' && at + 1 < text.len() {
        let (next, next_length) = c.at(text, at + 1);
        if next & (SPACE | LETTER | NUMBER) == 0 {
            return newlines(text, others(c, text, at + 1 + next_length), true);
        }
    }
    white_space::<false>(c, text, at)
}

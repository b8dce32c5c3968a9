//! The pre-tokenizers of tokenizer.json: what cuts normalised text into the pieces that a model sees. The TypeScript twin
//! (src/tokenizers/pre-tokenizers) cuts alike.

use crate::pattern::Pattern;
use crate::points::{NUMERIC, PUNCTUATION, Points, SPACE, WORD};

/// What becomes of a found delimiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behavior {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

/// When a mark is put before a text that does not begin with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepend {
    Always,
    First,
    Never,
}

#[derive(Debug, Clone)]
pub enum Cut {
    /// A published pattern, each match a piece. A blank is put before a text without one where `prefix` says so.
    Pattern {
        pattern: Pattern,
        prefix: bool,
    },
    Bert,
    Whitespace,
    WhitespaceSplit,
    Punctuation(Behavior),
    Digits {
        each: bool,
    },
    Literal {
        text: String,
        behavior: Behavior,
        invert: bool,
    },
    Metaspace {
        mark: char,
        prepend: Prepend,
        split: bool,
    },
}

impl Cut {
    /// Calls `each` with the pieces of `text` (not empty), in order, none empty. `first` is whether the text stands at the very beginning of the input.
    pub fn run(&self, text: &str, first: bool, room: &mut String, mut each: impl FnMut(&str)) {
        let points = Points::get;
        match self {
            Cut::Pattern { pattern, prefix } => {
                let text = if *prefix && !text.starts_with(' ') { refill(room, [" ", text]) } else { text };
                pattern.for_each_word(text.as_bytes(), |start, end| {
                    // Matches begin and end with characters.
                    if let Some(word) = text.get(start..end) {
                        each(word);
                    }
                });
            }
            Cut::Bert => {
                let class = |c: char| points().of(c);
                let mut start = 0;
                for (at, c) in text.char_indices() {
                    let bits = class(c);
                    if bits & (SPACE | PUNCTUATION) == 0 {
                        continue;
                    }
                    let end = at + c.len_utf8();
                    if at > start {
                        each(&text[start..at]);
                    }
                    if bits & SPACE == 0 {
                        each(&text[at..end]);
                    }
                    start = end;
                }
                if start < text.len() {
                    each(&text[start..]);
                }
            }
            Cut::Whitespace => {
                let kind = |c: char| points().of(c) & (SPACE | WORD);
                let mut start = 0;
                let mut last = SPACE;
                for (at, c) in text.char_indices() {
                    let kind = kind(c);
                    if kind != last {
                        if last != SPACE {
                            each(&text[start..at]);
                        }
                        (start, last) = (at, kind);
                    }
                }
                if last != SPACE {
                    each(&text[start..]);
                }
            }
            Cut::WhitespaceSplit => text.split(char::is_whitespace).filter(|piece| !piece.is_empty()).for_each(each),
            Cut::Punctuation(behavior) => split(text, of_class(text, PUNCTUATION), *behavior, false, each),
            Cut::Digits { each: true } => split(text, of_class(text, NUMERIC), Behavior::Isolated, false, each),
            Cut::Digits { each: false } => split(text, of_class(text, NUMERIC), Behavior::Contiguous, false, each),
            Cut::Literal { text: wanted, behavior, invert } => {
                let found = text.match_indices(wanted.as_str()).map(|(at, found)| (at, at + found.len()));
                split(text, found, *behavior, *invert, each);
            }
            Cut::Metaspace { mark, prepend, split: cuts } => {
                let prepends = match prepend {
                    Prepend::Always => true,
                    Prepend::First => first,
                    Prepend::Never => false,
                };
                room.clear();
                if prepends && !text.starts_with([' ', *mark]) {
                    room.push(*mark);
                }
                let mut parts = text.split(' ');
                room.push_str(parts.next().unwrap_or(""));
                for part in parts {
                    room.push(*mark);
                    room.push_str(part);
                }
                let text = room.as_str();
                if !cuts {
                    return each(text);
                }
                let mut start = 0;
                for (at, _) in text.match_indices(*mark) {
                    if at > start {
                        each(&text[start..at]);
                    }
                    start = at;
                }
                each(&text[start..]);
            }
        }
    }

    /// Whether a place between an ASCII letter and a blank behind it is always one between pieces, and both sides are cut as if they stood alone.
    pub fn cuts_after_letter_before_space(&self) -> bool {
        match self {
            Cut::Pattern { pattern, prefix } => !prefix && pattern.cuts_after_letter_before_space(),
            Cut::Bert | Cut::Whitespace | Cut::WhitespaceSplit => true,
            _ => false,
        }
    }

    /// Whether each character is looked at by itself, so that any place between pieces may be cut at before.
    pub fn is_by_character(&self) -> bool {
        matches!(self, Cut::Digits { .. } | Cut::Bert | Cut::WhitespaceSplit | Cut::Whitespace)
    }
}

fn refill<'a>(room: &'a mut String, parts: [&str; 2]) -> &'a str {
    room.clear();
    parts.iter().for_each(|part| room.push_str(part));
    room
}

fn of_class(text: &str, class: u16) -> impl Iterator<Item = (usize, usize)> {
    let ascii_number = |c: char| c.is_ascii_digit();
    text.char_indices()
        .filter(move |&(_, c)| if c.is_ascii() && class == NUMERIC { ascii_number(c) } else { Points::get().of(c) & class != 0 })
        .map(|(at, c)| (at, at + c.len_utf8()))
}

/// Pieces of `text` cut at the places of `found`, which are in order and do not overlap.
fn split(text: &str, found: impl Iterator<Item = (usize, usize)>, behavior: Behavior, invert: bool, mut each: impl FnMut(&str)) {
    // The piece that may still grow, and whether its last part was a delimiter.
    let mut open: Option<(usize, usize)> = None;
    let mut was_delimiter = false;
    let mut add = |from: usize, to: usize, delimiter: bool| {
        let joins = match behavior {
            Behavior::Contiguous => delimiter == was_delimiter,
            Behavior::MergedWithPrevious => delimiter && !was_delimiter,
            Behavior::MergedWithNext => !delimiter && was_delimiter,
            Behavior::Removed | Behavior::Isolated => false,
        };
        was_delimiter = delimiter;
        if let Some((start, _)) = open.filter(|_| joins) {
            open = Some((start, to));
            return;
        }
        if let Some((start, end)) = open.take() {
            each(&text[start..end]);
        }
        if !(behavior == Behavior::Removed && delimiter) {
            open = Some((from, to));
        }
    };
    let mut at = 0;
    for (from, to) in found {
        if from > at {
            add(at, from, invert);
        }
        add(from, to, !invert);
        at = to;
    }
    if at < text.len() {
        add(at, text.len(), invert);
    }
    if let Some((start, end)) = open {
        each(&text[start..end]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(cut: Cut, text: &str, first: bool) -> String {
        let mut pieces = Vec::new();
        cut.run(text, first, &mut String::new(), |piece| pieces.push(piece.to_string()));
        pieces.join("|")
    }

    #[test]
    fn each_cut_makes_its_pieces() {
        assert_eq!(cut(Cut::Bert, " Hi, you\u{3000}語!", true), "Hi|,|you|語|!");
        assert_eq!(cut(Cut::Whitespace, "a_b, c!? ", true), "a_b|,|c|!?");
        assert_eq!(cut(Cut::WhitespaceSplit, "\na  b\u{a0}c", true), "a|b|c");
        assert_eq!(cut(Cut::Digits { each: true }, "a12½b", true), "a|1|2|½|b");
        assert_eq!(cut(Cut::Digits { each: false }, "a12½b", true), "a|12½|b");
        let by = |behavior, text| cut(Cut::Punctuation(behavior), text, true);
        assert_eq!(by(Behavior::Removed, "a..b"), "a|b");
        assert_eq!(by(Behavior::Isolated, "a..b"), "a|.|.|b");
        assert_eq!(by(Behavior::MergedWithPrevious, "a..b"), "a.|.|b");
        assert_eq!(by(Behavior::MergedWithNext, "a..b"), "a|.|.b");
        assert_eq!(by(Behavior::Contiguous, "a..b"), "a|..|b");
        let literal = |behavior, invert| cut(Cut::Literal { text: "--".into(), behavior, invert }, "a--b---", true);
        assert_eq!(literal(Behavior::Removed, false), "a|b|-");
        assert_eq!(literal(Behavior::Removed, true), "--|--");
        let metaspace = |prepend, split, text, first| cut(Cut::Metaspace { mark: '▁', prepend, split }, text, first);
        assert_eq!(metaspace(Prepend::Always, true, "a  b", false), "▁a|▁|▁b");
        assert_eq!(metaspace(Prepend::First, true, "a b", false), "a|▁b");
        assert_eq!(metaspace(Prepend::First, false, "a b", true), "▁a▁b");
        assert_eq!(metaspace(Prepend::Never, true, "▁a ", true), "▁a|▁");
        assert_eq!(cut(Cut::Pattern { pattern: Pattern::Gpt2, prefix: true }, "a b", true), " a| b");
    }
}

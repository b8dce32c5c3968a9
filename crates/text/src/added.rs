//! Added tokens: found in a text before anything else looks at it. The rules are those of src/tokenizers/added-tokens.ts.

use crate::points::{Points, WORD};
use crate::trie::{NONE, ROOT, Trie};

/// A token that is matched as a whole.
#[derive(Debug, Clone)]
pub struct Added {
    pub id: u32,
    pub content: String,
    /// Matched only where no letter, digit or underscore stands next to it.
    pub single_word: bool,
    /// Takes the white space before it along, and behind it.
    pub left: bool,
    pub right: bool,
}

/// A set of tokens as something to look for.
pub struct Matcher {
    tokens: Vec<Added>,
    trie: Trie,
    starts: [bool; 256],
    /// The one byte with which all tokens start, where that is so.
    one_start: Option<u8>,
}

impl Matcher {
    pub fn new(tokens: Vec<Added>) -> Self {
        let mut starts = [false; 256];
        for token in &tokens {
            if let Some(&first) = token.content.as_bytes().first() {
                starts[usize::from(first)] = true;
            }
        }
        let mut all = (0..=255u8).filter(|&byte| starts[usize::from(byte)]);
        let one_start = all.next().filter(|_| all.next().is_none());
        let trie = Trie::new(tokens.iter().enumerate().map(|(i, token)| (token.content.as_bytes(), i as u32)));
        Self { tokens, trie, starts, one_start }
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    fn next_start(&self, bytes: &[u8], from: usize) -> Option<usize> {
        let rest = bytes.get(from..)?;
        let found = match self.one_start {
            Some(byte) => rest.iter().position(|&other| other == byte),
            None => rest.iter().position(|&byte| self.starts[usize::from(byte)]),
        };
        found.map(|at| from + at)
    }

    /// Cuts `text` at the tokens, the leftmost first and of those the longest: stretches between go to `each` with `None`.
    pub fn cut<'a>(&self, text: &'a str, mut each: impl FnMut(&'a str, Option<u32>)) {
        let bytes = text.as_bytes();
        let mut from = 0;
        let mut at = 0;
        while let Some(found) = self.next_start(bytes, at) {
            let (length, token) = self.trie.longest(ROOT, &bytes[found..]);
            if token == NONE || length == 0 {
                at = found + 1;
                continue;
            }
            // What is looked for next begins behind this, taken or not.
            at = found + length;
            let token = &self.tokens[token as usize];
            let is_word = |c: Option<char>| c.is_some_and(|c| Points::get().of(c) & WORD != 0);
            let inside = token.single_word && (is_word(text[..found].chars().next_back()) || is_word(text[at..].chars().next()));
            if found < from || inside {
                continue;
            }
            let start = if token.left { from + text[from..found].trim_end().len() } else { found };
            let end = if token.right { text.len() - text[at..].trim_start().len() } else { at };
            if start > from {
                each(&text[from..start], None);
            }
            each(&text[start..end], Some(token.id));
            from = end;
        }
        if from < text.len() {
            each(&text[from..], None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftmost_longest_with_blanks_and_words() {
        let token = |id, content: &str, single_word, left, right| Added { id, content: content.into(), single_word, left, right };
        let matcher = Matcher::new(vec![
            token(1, "<a>", false, false, false),
            token(2, "<a><b>", false, false, false),
            token(3, "[M]", false, true, true),
            token(4, "cat", true, false, false),
        ]);
        let cut = |text: &str| {
            let mut out = Vec::new();
            matcher.cut(text, |part, id| out.push(id.map_or(part.to_string(), |id| format!("{part}={id}"))));
            out.join("|")
        };
        assert_eq!(cut("x<a><b>y<a>"), "x|<a><b>=2|y|<a>=1");
        assert_eq!(cut("a \u{3000}[M]\n b"), "a| \u{3000}[M]\n =3|b");
        assert_eq!(cut("cat cats éscat \u{301}cat _cat cat"), "cat=4| cats éscat \u{301}cat _cat |cat=4");
        assert_eq!(cut("<a <"), "<a <");
        assert_eq!(cut(""), "");
    }
}

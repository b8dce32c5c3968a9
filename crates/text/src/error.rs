//! The one error type. Messages read `<what>, expected <…>, got <…>`; the caller puts the file or call in front.

use std::fmt;

/// What a vocabulary, a merge list, an id or an option did wrong, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError(pub String);

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TextError {}

//! Between which bytes tokens of a vocabulary go on. Where none does, a text may be cut whatever stands around: what is made of both sides is what is made of
//! the whole, since no token holds the place. So pieces become small, and the same ones come again and again.

/// Where a text comes apart into units.
pub struct Units {
    /// For each byte the bytes that some token has right behind it.
    behind: Box<[[u64; 4]; 256]>,
    /// Before a mark behind something else a unit ends too.
    mark: Option<Vec<u8>>,
}

impl Units {
    /// Between any two characters that no token has side by side.
    pub fn of_tokens<'a>(tokens: impl Iterator<Item = &'a [u8]>, mark: Option<char>) -> Self {
        let mut units = Self::at_marks(mark);
        // Characters stay whole: a byte within one is always joined to the one before.
        units.behind.iter_mut().for_each(|row| *row = [0, 0, u64::MAX, 0]);
        for pair in tokens.flat_map(|token| token.windows(2)) {
            units.behind[usize::from(pair[0])][usize::from(pair[1] >> 6)] |= 1 << (pair[1] & 63);
        }
        units
    }

    /// Only before marks, which no token has behind anything else.
    pub fn at_marks(mark: Option<char>) -> Self {
        Self { behind: Box::new([[u64::MAX; 4]; 256]), mark: mark.map(|mark| mark.to_string().into_bytes()) }
    }

    #[inline(always)]
    fn joined(&self, left: u8, right: u8) -> bool {
        self.behind[usize::from(left)][usize::from(right >> 6)] >> (right & 63) & 1 != 0
    }

    /// The end of the unit that starts at `start`, which is before the end of `text`.
    #[inline]
    pub fn end(&self, text: &[u8], start: usize) -> usize {
        let mark = self.mark.as_deref().unwrap_or(&[]);
        let lead = mark.first().map_or(u32::MAX, |&byte| u32::from(byte));
        for (at, pair) in (start + 1..).zip(text[start..].windows(2)) {
            let at_mark = u32::from(pair[1]) == lead && text[at..].starts_with(mark) && !text[start..at].ends_with(mark);
            if at_mark || !self.joined(pair[0], pair[1]) {
                return at;
            }
        }
        text.len()
    }
}

/// Whether a mark stands behind something that is no mark.
pub fn has_mark_inside(token: &[u8], mark: &[u8]) -> bool {
    let mut at = 0;
    while token[at..].starts_with(mark) {
        at += mark.len();
    }
    token[at..].windows(mark.len()).any(|window| window == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_end_where_no_token_goes_on_and_before_marks() {
        let bytes = |tokens: &'static [&'static str]| tokens.iter().map(|token| token.as_bytes());
        let cut = |units: &Units, text: &str| {
            let (mut start, mut found) = (0, Vec::new());
            while start < text.len() {
                let end = units.end(text.as_bytes(), start);
                found.push(text[start..end].to_string());
                start = end;
            }
            found.join("|")
        };
        let tokens: &[&str] = &["the", "ab", "▁", "▁the", "é", "éa", "…"];
        assert_eq!(cut(&Units::of_tokens(bytes(tokens), None), "theab éab…▁▁the▁a"), "the|ab| |éab|…|▁|▁the|▁|a");
        assert_eq!(cut(&Units::at_marks(Some('▁')), "the…▁▁the▁a▁"), "the…|▁▁the|▁a|▁");
        assert_eq!(cut(&Units::of_tokens(bytes(&["▁▁", "e…", "e▁a"]), Some('▁')), "e▁▁e▁ae…"), "e|▁▁|e|▁a|e…");
    }

    #[test]
    fn marks_inside_tokens() {
        let inside = |token: &str| has_mark_inside(token.as_bytes(), "▁".as_bytes());
        assert_eq!(["▁", "▁▁a", "a▁", "▁a▁b", "a", ""].map(inside), [false, false, true, true, false, false]);
    }
}

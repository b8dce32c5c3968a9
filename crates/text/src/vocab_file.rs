//! The vocabulary and merges of a byte-level tokenizer.json, straight from the file's bytes: they are nearly all of it.
//!
//! Only what is certain is read here. Whatever is unusual or wrong makes `None`, and the TypeScript reader (src/tokenizers/files/tokenizer-json.ts), which
//! gives the same tables, reads the whole file or says what is wrong with it.

use crate::hash;
use crate::index::{Index, TokenTable};
use crate::vocab::NONE;

/// What a file holds.
pub struct VocabFile {
    /// The file's text with `{}` for its vocabulary and `[]` for its merges.
    pub rest: Vec<u8>,
    /// The bytes of all tokens by id.
    pub tokens: TokenTable,
    /// `left, right` and what both make, by rank.
    pub merges: Vec<[u32; 3]>,
    /// Tokens that are not spelled in the byte alphabet.
    pub others: Vec<(u32, String)>,
}

impl VocabFile {
    /// The number of bytes of each token.
    pub fn lengths(&self) -> Vec<i32> {
        self.tokens.starts.windows(2).map(|pair| (pair[1] - pair[0]) as i32).collect()
    }

    /// `left, right, left, right …` by rank.
    pub fn pairs(&self) -> Vec<i32> {
        self.merges.iter().flat_map(|merge| [merge[0] as i32, merge[1] as i32]).collect()
    }

    /// The id of the token of these bytes.
    pub fn find(&self, token: &[u8]) -> Option<u32> {
        self.tokens.find(token)
    }
}

/// More tokens outside the alphabet than that are no byte-level vocabulary.
const MOST_OTHERS: usize = 1 << 12;
const LARGEST_ID: u32 = (1 << 24) - 1;
/// Code points of the byte alphabet are below this.
const ALPHABET: usize = 0x144;
const OUTSIDE: u16 = u16::MAX;

/// The byte that each character of the alphabet stands for (src/tokenizers/byte-level/byte-alphabet.ts).
const BYTE_OF: [u16; ALPHABET] = {
    let mut table = [OUTSIDE; ALPHABET];
    let (mut byte, mut next) = (0usize, 0x100);
    while byte < 256 {
        let printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        if printable {
            table[byte] = byte as u16;
        } else {
            table[next] = byte as u16;
            next += 1;
        }
        byte += 1;
    }
    table
};

/// Reads the text of a tokenizer.json; `None` where another reader must.
pub fn read_vocab_file(file: &[u8]) -> Option<VocabFile> {
    let mut scan = Scan { text: file, at: 0 };
    let mut model = None;
    scan.object(|scan, key| {
        if key != b"model" {
            return scan.pass();
        }
        let found = Model::read(scan)?;
        model.replace(found).is_none().then_some(())
    })?;
    let Model { tokens, others, vocab, merges: (pairs, merges) } = model?;
    // What stands first is cut out first.
    let mut cuts = [(vocab, "{}"), (merges, "[]")];
    cuts.sort_unstable_by_key(|((start, _), _)| *start);
    let (mut rest, mut done) = (Vec::new(), 0);
    for ((start, end), instead) in cuts {
        rest.extend_from_slice(&file[done..start]);
        rest.extend_from_slice(instead.as_bytes());
        done = end;
    }
    rest.extend_from_slice(&file[done..]);
    Some(VocabFile { rest, tokens, merges: pairs, others })
}

type Span = (usize, usize);

struct Model {
    tokens: TokenTable,
    others: Vec<(u32, String)>,
    vocab: Span,
    merges: (Vec<[u32; 3]>, Span),
}

impl Model {
    fn read(scan: &mut Scan<'_>) -> Option<Self> {
        let (mut vocab, mut merges) = (None, None);
        // Merges before the vocabulary.
        let mut waiting = None;
        scan.object(|scan, key| {
            scan.blanks();
            let start = scan.at;
            match key {
                b"vocab" => {
                    let (tokens, others) = read_tokens(scan)?;
                    vocab.replace((tokens, others, (start, scan.at))).is_none().then_some(())
                }
                b"merges" => {
                    let found = match &vocab {
                        Some((tokens, ..)) => Some(read_merges(tokens, scan)?),
                        None => {
                            scan.pass()?;
                            waiting = Some(start);
                            None
                        }
                    };
                    merges.replace((found, (start, scan.at))).is_none().then_some(())
                }
                _ => scan.pass(),
            }
        })?;
        let ((tokens, others, vocab), (found, span)) = (vocab?, merges?);
        let pairs = match (found, waiting) {
            (Some(pairs), _) => pairs,
            (None, start) => read_merges(&tokens, &mut Scan { text: &scan.text[..span.1], at: start? })?,
        };
        Some(Self { tokens, others, vocab, merges: (pairs, span) })
    }
}

/// JSON text, read from left to right.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

/// What a string was.
enum Spelled<'a> {
    /// Its bytes were appended.
    Bytes,
    Other(&'a [u8]),
}

impl<'a> Scan<'a> {
    fn blanks(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Takes `byte` and the blanks before it, if it comes next.
    #[inline(always)]
    fn takes(&mut self, byte: u8) -> bool {
        self.blanks();
        let found = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn must(&mut self, byte: u8) -> Option<()> {
        self.takes(byte).then_some(())
    }

    /// Whether the list goes on: a comma, or its end.
    #[inline(always)]
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        if self.takes(b',') {
            return Some(true);
        }
        self.takes(end).then_some(false)
    }

    /// An object whose keys have no escapes; `each` takes the value.
    fn object(&mut self, mut each: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.must(b'{')?;
        loop {
            self.must(b'"')?;
            let start = self.at;
            self.string_end()?;
            let key = &self.text[start..self.at - 1];
            if key.contains(&b'\\') {
                return None;
            }
            self.must(b':')?;
            each(self, key)?;
            if !self.goes_on(b'}')? {
                return Some(());
            }
        }
    }

    /// From within a string to behind its end.
    fn string_end(&mut self) -> Option<()> {
        loop {
            match self.text.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    /// Passes over a value. What is cut out is read again, strictly; the rest is parsed as JSON, which finds these brackets where they were found here.
    fn pass(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.text.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    self.string_end()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => return Some(()),
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return Some(());
                    }
                }
                b',' if depth == 0 => return Some(()),
                _ => {}
            }
            self.at += 1;
        }
    }

    /// A string of the byte alphabet, up to its end or, where `cut` says so, a blank, appended to `out` as bytes.
    #[inline(always)]
    fn spelled(&mut self, cut: bool, out: &mut Vec<u8>) -> Option<Spelled<'a>> {
        let (start, before) = (self.at, out.len());
        loop {
            let byte = *self.text.get(self.at)?;
            let point = match byte {
                b'"' => {
                    self.at += 1;
                    return Some(Spelled::Bytes);
                }
                b' ' if cut => {
                    self.at += 1;
                    return Some(Spelled::Bytes);
                }
                b'\\' => self.escape()?,
                0x21..=0x7e => {
                    out.push(byte);
                    self.at += 1;
                    continue;
                }
                0xc2..=0xc5 => {
                    let next = self.text.get(self.at + 1).filter(|next| **next & 0xc0 == 0x80)?;
                    self.at += 2;
                    usize::from(byte & 0x1f) << 6 | usize::from(next & 0x3f)
                }
                _ => ALPHABET,
            };
            match BYTE_OF.get(point) {
                Some(&byte) if byte != OUTSIDE => out.push(byte as u8),
                _ => {
                    out.truncate(before);
                    self.at = start;
                    self.string_end()?;
                    return Some(Spelled::Other(&self.text[start..self.at - 1]));
                }
            }
        }
    }

    /// The code point of an escape.
    fn escape(&mut self) -> Option<usize> {
        let kind = *self.text.get(self.at + 1)?;
        self.at += 2;
        if kind != b'u' {
            return matches!(kind, b'"' | b'\\' | b'/').then_some(usize::from(kind));
        }
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        self.at += 4;
        usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    /// A whole number, written plainly.
    #[inline(always)]
    fn id(&mut self) -> Option<u32> {
        self.blanks();
        let start = self.at;
        let mut id = 0u32;
        while let Some(digit) = self.text.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            if self.at - start == 8 {
                return None;
            }
            id = id * 10 + u32::from(digit - b'0');
            self.at += 1;
        }
        let plain = self.at > start && (self.text[start] != b'0' || self.at == start + 1);
        (plain && id <= LARGEST_ID).then_some(id)
    }
}

type Others = Vec<(u32, String)>;

fn read_tokens(scan: &mut Scan<'_>) -> Option<(TokenTable, Others)> {
    let mut bytes = Vec::with_capacity((scan.text.len() - scan.at) / 4);
    // Where each token begins in the order of the file, and its id.
    let mut entries: Vec<(u32, u32)> = Vec::with_capacity((scan.text.len() - scan.at) / 64);
    let mut others: Others = Vec::new();
    scan.must(b'{')?;
    loop {
        scan.must(b'"')?;
        let start = bytes.len();
        let spelled = scan.spelled(false, &mut bytes)?;
        scan.must(b':')?;
        let id = scan.id()?;
        match spelled {
            Spelled::Bytes if bytes.len() > start => entries.push((u32::try_from(start).ok()?, id)),
            Spelled::Other(text) if others.len() < MOST_OTHERS && text.iter().all(|&byte| byte >= b' ' && byte != b'\\') => {
                others.push((id, std::str::from_utf8(text).ok()?.to_string()));
            }
            _ => return None,
        }
        if !scan.goes_on(b'}')? {
            break;
        }
    }
    let table = by_id(bytes, &entries, &others)?;
    Some((table, others))
}

fn by_id(spelled: Vec<u8>, entries: &[(u32, u32)], others: &[(u32, String)]) -> Option<TokenTable> {
    let limit = (entries.len() + others.len()) * 4 + 65_536;
    let ids = entries.iter().map(|(_, id)| *id).chain(others.iter().map(|(id, _)| *id));
    let size = ids.max()? as usize + 1;
    if size > limit {
        return None;
    }
    let mut seen = vec![NONE; size];
    for (place, &(_, id)) in entries.iter().enumerate() {
        if std::mem::replace(&mut seen[id as usize], place as u32) != NONE {
            return None;
        }
    }
    for (at, (id, text)) in others.iter().enumerate() {
        if std::mem::replace(&mut seen[*id as usize], 0) != NONE || others[..at].iter().any(|(_, other)| other == text) {
            return None;
        }
    }
    for (id, _) in others {
        seen[*id as usize] = NONE;
    }
    let mut table = TokenTable { bytes: Vec::with_capacity(spelled.len()), starts: Vec::with_capacity(size + 1), index: Index::default() };
    for &place in &seen {
        table.starts.push(table.bytes.len() as u32);
        if place != NONE {
            let start = entries[place as usize].0 as usize;
            let end = entries.get(place as usize + 1).map_or(spelled.len(), |next| next.0 as usize);
            table.bytes.extend_from_slice(&spelled[start..end]);
        }
    }
    table.starts.push(table.bytes.len() as u32);
    // A text given twice is for the other reader, where the last one counts.
    table.make_index(|_| true).ok()?;
    Some(table)
}

/// Merges whose tokens are looked up together, so that their places in memory come together.
const TOGETHER: usize = 64;

/// Pairs (`["a", "b"]`), or in the older spelling `"a b"`, of tokens that make a token.
fn read_merges(tokens: &TokenTable, scan: &mut Scan<'_>) -> Option<Vec<[u32; 3]>> {
    let mut merges = Vec::with_capacity((scan.text.len() - scan.at) / 32);
    let (mut spelled, mut bounds) = (Vec::with_capacity(256 * TOGETHER), Vec::with_capacity(TOGETHER));
    scan.must(b'[')?;
    if scan.takes(b']') {
        return Some(merges);
    }
    loop {
        let start = spelled.len();
        let listed = scan.takes(b'[');
        scan.must(b'"')?;
        let half = |scan: &mut Scan<'_>, cut: bool, both: &mut Vec<u8>| match scan.spelled(cut, both)? {
            Spelled::Bytes => Some(both.len()),
            Spelled::Other(_) => None,
        };
        let middle = half(scan, !listed, &mut spelled)?;
        if listed {
            scan.must(b',')?;
            scan.must(b'"')?;
        } else if scan.text[scan.at - 1] != b' ' {
            return None;
        }
        let end = half(scan, false, &mut spelled)?;
        if listed {
            scan.must(b']')?;
        }
        bounds.push([start, middle, end]);
        let goes_on = scan.goes_on(b']')?;
        if bounds.len() == TOGETHER || !goes_on {
            find_merges(tokens, &spelled, &bounds, &mut merges)?;
            spelled.clear();
            bounds.clear();
        }
        if !goes_on {
            return Some(merges);
        }
    }
}

fn find_merges(tokens: &TokenTable, spelled: &[u8], bounds: &[[usize; 3]], merges: &mut Vec<[u32; 3]>) -> Option<()> {
    let mut hashes = [[0u64; 2]; TOGETHER];
    for (hashes, &[start, middle, end]) in hashes.iter_mut().zip(bounds) {
        *hashes = [hash::bytes(&spelled[start..middle]), hash::bytes(&spelled[middle..end])];
    }
    let near = hashes[..bounds.len()].iter().flatten().map(|&hash| tokens.index.peek(hash));
    std::hint::black_box(near.fold(0, |all, id| all ^ tokens.starts.get(id as usize).copied().unwrap_or(0)));
    for ([left, right], &[start, middle, end]) in hashes.into_iter().zip(bounds) {
        let both = &spelled[start..end];
        let left = tokens.find_hashed(&spelled[start..middle], left)?;
        let right = tokens.find_hashed(&spelled[middle..end], right)?;
        // Nearly always what stands behind the merge before.
        let next = merges.last().map_or(0, |merge: &[u32; 3]| merge[2] + 1);
        let made = if tokens.token(next) == Some(both) { next } else { tokens.find(both)? };
        merges.push([left, right, made]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vocab: &str, merges: &str) -> Option<VocabFile> {
        read_vocab_file(
            format!(r#"{{"a": [1, "}}"], "model": {{"type": "BPE", "vocab": {vocab}, "merges": {merges}}}, "z": 1}}"#).as_bytes(),
        )
    }

    #[test]
    fn tables_and_what_is_left_of_the_file() {
        let found = read(r#"{"b": 1, "Ġ": 0, "<é語>": 5, "\"\\": 3, "Ġb" : 2}"#, r#"["Ġ b"]"#).unwrap();
        assert_eq!(found.tokens.bytes, b" b b\"\\");
        assert_eq!(found.tokens.starts, [0, 1, 2, 4, 6, 6, 6]);
        assert_eq!(found.merges, [[0, 1, 2]]);
        assert_eq!(found.others, [(5, "<é語>".to_string())]);
        assert_eq!(found.rest, br#"{"a": [1, "}"], "model": {"type": "BPE", "vocab": {}, "merges": []}, "z": 1}"#);
        assert_eq!(read(r#"{"a": 0, "\u0062": 1, "ab": 2}"#, r#"[["a", "b"]]"#).unwrap().merges, [[0, 1, 2]]);
        // Merges before the vocabulary.
        let turned = read_vocab_file(br#"{"model": {"merges": ["a b"], "vocab": {"a": 0, "b": 1, "ab": 2}}}"#).unwrap();
        assert_eq!(
            (turned.merges.as_slice(), turned.rest.as_slice()),
            ([[0, 1, 2]].as_slice(), br#"{"model": {"merges": [], "vocab": {}}}"#.as_slice())
        );
    }

    #[test]
    fn what_is_unusual_or_wrong_is_left_to_the_other_reader() {
        let fine = r#"{"a": 0, "b": 1, "ab": 2}"#;
        for vocab in [
            "{}",
            r#"{"a": 0, "a": 1}"#,
            r#"{"a": 0, "b": 0}"#,
            r#"{"語": 0, "a": 0}"#,
            r#"{"": 0}"#,
            r#"{"a": 01}"#,
            r#"{"a": 1.0}"#,
            r#"{"a": -1}"#,
            r#"{"a": 1e1}"#,
            r#"{"a": 70000}"#,
            r#"{"a": 99999999}"#,
            r#"{"a": 4294967296}"#,
            r#"{"a": 0,}"#,
            r#"{"a" 0}"#,
            r#"{"\n": 0}"#,
            r#"{"\u12": 0}"#,
            "{\"\n語\": 0}",
            r#"["a"]"#,
            "null",
        ] {
            assert!(read(vocab, "[]").is_none(), "{vocab}");
        }
        for merges in [
            r#"["a"]"#,
            r#"["a c"]"#,
            r#"["b a"]"#,
            r#"["a b c"]"#,
            r#"[["a"]]"#,
            r#"[["a", "b", "c"]]"#,
            r#"["a b",]"#,
            r#"["é b"]"#,
            "{}",
            "[1]",
        ] {
            assert!(read(fine, merges).is_none(), "{merges}");
        }
        let twice = format!(r#"{{"model": {{"vocab": {fine}, "vocab": {fine}, "merges": []}}}}"#);
        let escaped = r#"{"model": {"voc\u0061b": {"a": 0}, "merges": []}}"#;
        for file in
            [twice.as_str(), escaped, "", "{", "[]", r#"{"model": {"vocab": {"a": 0}}}"#, r#"{"model": {"vocab": {"a": 0}, "merges": ["#]
        {
            assert!(read_vocab_file(file.as_bytes()).is_none(), "{file}");
        }
    }

    #[test]
    fn cut_off_files_and_changed_bytes_never_panic() {
        let file = r#"{"model": {"vocab": {"a": 0, "Ġ": 1, "<語>": 3, "aĠ": 2, "\u0062": 4}, "merges": ["a Ġ"]}}"#.as_bytes();
        for end in 0..file.len() {
            let _ = read_vocab_file(&file[..end]);
            for byte in 0..=255 {
                let mut changed = file.to_vec();
                changed[end] = byte;
                let _ = read_vocab_file(&changed);
            }
        }
    }
}

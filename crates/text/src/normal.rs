//! NFC, NFD, NFKC and NFKD as Hugging Face's normalizers have them: with the characters of Unicode 9.0, later ones stay.
//!
//! Unicode Standard Annex 15, and chapters 3.11 and 3.12 of the standard (ordering, composition, Hangul). A character that does not affect the form
//! starts afresh, so only the stretches around those that do are worked on.

use crate::points::{AFFECTS_NFC, AFFECTS_NFD, AFFECTS_NFKC, AFFECTS_NFKD, HANGUL, Points};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
}

impl Form {
    fn bit(self) -> u16 {
        match self {
            Form::Nfc => AFFECTS_NFC,
            Form::Nfd => AFFECTS_NFD,
            Form::Nfkc => AFFECTS_NFKC,
            Form::Nfkd => AFFECTS_NFKD,
        }
    }

    fn compatible(self) -> bool {
        matches!(self, Form::Nfkc | Form::Nfkd)
    }

    fn composes(self) -> bool {
        matches!(self, Form::Nfc | Form::Nfkc)
    }

    /// No character whose UTF-8 begins with a byte below this affects the form.
    fn first_affecting_lead(self) -> u8 {
        // U+0300, or U+00A0.
        if self == Form::Nfc { 0xcc } else { 0xc2 }
    }
}

const LEAD: u32 = 0x1100;
const VOWEL: u32 = 0x1161;
const TAIL: u32 = 0x11a7;
const TAILS: u32 = 28;
const VOWELS: u32 = 21;
const LEADS: u32 = 19;

/// The place of the first character that may change, or change others; `None` where the text is in the form for certain.
fn first_affecting(text: &str, form: Form, from: usize) -> Option<usize> {
    let (bytes, bit, lead) = (text.as_bytes(), form.bit(), form.first_affecting_lead());
    let mut at = from;
    loop {
        // Continuation bytes lie below every lead byte of two and more.
        at += crate::scan::bytes_below(&bytes[at..], lead);
        let c = text.get(at..)?.chars().next()?;
        if Points::get().of(c) & bit != 0 {
            return Some(at);
        }
        at += c.len_utf8();
    }
}

/// Appends `text` in the form to `out`; says whether the form is another text. Where it says no, nothing was appended.
pub fn normal_form(text: &str, form: Form, out: &mut String) -> bool {
    let Some(mut found) = first_affecting(text, form, 0) else { return false };
    let points = Points::get();
    let mut room = Room::default();
    let mut done = 0;
    loop {
        // The unaffected character before is what marks may compose with.
        let start = text[done..found].char_indices().next_back().map_or(found, |(at, _)| done + at);
        out.push_str(&text[done..start]);
        let mut end = found;
        for c in text[found..].chars() {
            if points.of(c) & form.bit() == 0 {
                break;
            }
            end += c.len_utf8();
        }
        room.stretch(points, &text[start..end], form, out);
        done = end;
        match first_affecting(text, form, done) {
            Some(next) => found = next,
            None => break,
        }
    }
    out.push_str(&text[done..]);
    true
}

/// A stretch on its way: characters with their combining classes.
#[derive(Default)]
struct Room {
    characters: Vec<(u8, char)>,
    between: Vec<char>,
}

impl Room {
    fn stretch(&mut self, points: &Points, text: &str, form: Form, out: &mut String) {
        self.characters.clear();
        for c in text.chars() {
            self.decompose(points, c, form.compatible());
        }
        for marks in self.characters.split_mut(|(class, _)| *class == 0) {
            marks.sort_by_key(|(class, _)| *class);
        }
        if form.composes() {
            self.compose(points, out);
        } else {
            out.extend(self.characters.iter().map(|(_, c)| c));
        }
    }

    fn decompose(&mut self, points: &Points, c: char, compatible: bool) {
        let mut add = |c: char| self.characters.push((points.class(c), c));
        if HANGUL.contains(&(c as u32)) {
            let place = c as u32 - HANGUL.start;
            let (lead, vowel, tail) = (place / (VOWELS * TAILS), place / TAILS % VOWELS, place % TAILS);
            for part in [LEAD + lead, VOWEL + vowel, TAIL + tail].into_iter().take(if tail == 0 { 2 } else { 3 }) {
                char::from_u32(part).into_iter().for_each(&mut add);
            }
        } else if let Some(parts) = points.parts(c, compatible) {
            parts.iter().copied().for_each(add);
        } else {
            add(c);
        }
    }

    /// A mark is kept from the character of class 0 before it by an uncomposed one between them of its own class or a higher.
    fn compose(&mut self, points: &Points, out: &mut String) {
        let mut base: Option<char> = None;
        let mut highest: Option<u8> = None;
        for &(class, c) in &self.characters {
            let free = highest.is_none_or(|highest| highest < class);
            if let Some(one) = base.filter(|_| free).and_then(|base| composed(points, base, c)) {
                base = Some(one);
            } else if class != 0 && base.is_some() {
                self.between.push(c);
                highest = Some(class);
            } else if class != 0 {
                out.push(c);
            } else {
                out.extend(base);
                out.extend(self.between.drain(..));
                (base, highest) = (Some(c), None);
            }
        }
        out.extend(base);
        out.extend(self.between.drain(..));
    }
}

fn composed(points: &Points, first: char, second: char) -> Option<char> {
    let (a, b) = (first as u32, second as u32);
    if (LEAD..LEAD + LEADS).contains(&a) && (VOWEL..VOWEL + VOWELS).contains(&b) {
        return char::from_u32(HANGUL.start + ((a - LEAD) * VOWELS + b - VOWEL) * TAILS);
    }
    if HANGUL.contains(&a) && (a - HANGUL.start).is_multiple_of(TAILS) && (TAIL + 1..TAIL + TAILS).contains(&b) {
        return char::from_u32(a + b - TAIL);
    }
    points.pair(first, second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str, form: Form) -> String {
        let mut out = String::new();
        if normal_form(text, form, &mut out) { out } else { text.to_string() }
    }

    #[test]
    fn characters_come_apart_and_together() {
        assert_eq!(form("Ame\u{301}lie e\u{323}\u{302} q\u{307}\u{323}", Form::Nfc), "Amélie \u{1ec7} q\u{323}\u{307}");
        assert_eq!(form("é가각ﬁ", Form::Nfd), "e\u{301}\u{1100}\u{1161}\u{1100}\u{1161}\u{11a8}ﬁ");
        assert_eq!(form("\u{1100}\u{1161}\u{11a8}\u{ac00}\u{11a8}", Form::Nfc), "각각");
        assert_eq!(form("ﬁ½Ⅷ①\u{a0}ｶﾞ", Form::Nfkc), "fi1⁄2VIII1 ガ");
        assert_eq!(form("ﬁé", Form::Nfkd), "fie\u{301}");
        // Excluded from composition; a mark with nothing before it; one that stands in the way.
        assert_eq!(form("\u{958}", Form::Nfc), "\u{915}\u{93c}");
        assert_eq!(form("\u{301}a\u{338}\u{301}", Form::Nfc), "\u{301}\u{e1}\u{338}");
        // Later than Unicode 9.0.
        assert_eq!(form("\u{1133b}\u{11935}\u{11930}", Form::Nfc), "\u{1133b}\u{11935}\u{11930}");
    }
}

//! The normalizers of tokenizer.json. The TypeScript twin (src/tokenizers/normalizers) says where each comes from, and makes the same text.

use crate::charsmap::Charsmap;
use crate::normal::{Form, normal_form};
use crate::points::{BERT_ACCENT, BERT_REMOVED, MARK, Points, SPACE, UPPER, lowercase};
use unicode_segmentation::UnicodeSegmentation;

pub enum Step {
    Form(Form),
    Nmt,
    Lowercase,
    StripAccents,
    Strip {
        left: bool,
        right: bool,
    },
    /// A text (not empty) for another.
    Replace {
        pattern: String,
        content: String,
    },
    /// Runs of at least `least` characters that are `of`, or, without one, white space.
    ReplaceRun {
        of: Option<char>,
        least: usize,
        content: String,
    },
    Prepend(String),
    Charsmap(Charsmap),
    BertClean,
    BertChinese,
    BertAccents,
}

/// Applies the steps; `None` where the text stays as it is.
pub fn normalize(steps: &[Step], text: &str) -> Option<String> {
    let mut now: Option<String> = None;
    let mut spare = String::new();
    for step in steps {
        spare.clear();
        let changed = step.apply(now.as_deref().unwrap_or(text), &mut spare);
        if changed {
            let before = now.replace(std::mem::take(&mut spare));
            spare = before.unwrap_or_default();
        }
    }
    now
}

impl Step {
    /// Appends what `text` becomes to `out`; says whether that is another text. Where it says no, nothing was appended.
    fn apply(&self, text: &str, out: &mut String) -> bool {
        let points = Points::get;
        match self {
            Step::Form(form) => normal_form(text, *form, out),
            Step::Nmt => rewrite(text, out, |c| nmt(c).is_some(), |c, out| out.extend(nmt(c).flatten())),
            Step::Lowercase => {
                let affects = |c: char| if c.is_ascii() { c.is_ascii_uppercase() } else { points().of(c) & UPPER != 0 };
                rewrite(text, out, affects, |c, out| lowercase(c, |lower| out.push(lower)))
            }
            Step::StripAccents => rewrite(text, out, |c| !c.is_ascii() && points().of(c) & MARK != 0, |_, _| {}),
            Step::Strip { left, right } => {
                let kept = if *left { text.trim_start() } else { text };
                let kept = if *right { kept.trim_end() } else { kept };
                out.push_str(kept);
                true
            }
            Step::Replace { pattern, content } => {
                let mut done = 0;
                for (at, _) in text.match_indices(pattern.as_str()) {
                    out.push_str(&text[done..at]);
                    out.push_str(content);
                    done = at + pattern.len();
                }
                if done > 0 {
                    out.push_str(&text[done..]);
                }
                done > 0
            }
            Step::ReplaceRun { of, least, content } => replace_runs(text, out, *of, *least, content),
            Step::Prepend(before) => {
                if !text.is_empty() {
                    out.push_str(before);
                    out.push_str(text);
                }
                !text.is_empty()
            }
            Step::Charsmap(map) => {
                apply_charsmap(map, text, out);
                true
            }
            Step::BertClean => {
                let removed = |c: char| if c.is_ascii() { c.is_ascii_control() } else { points().of(c) & (BERT_REMOVED | SPACE) != 0 };
                rewrite(text, out, removed, |c, out| {
                    if bert_blank(c) {
                        out.push(' ');
                    } else if points().of(c) & BERT_REMOVED == 0 {
                        out.push(c);
                    }
                })
            }
            Step::BertChinese => rewrite(text, out, is_chinese, |c, out| {
                out.push(' ');
                out.push(c);
                out.push(' ');
            }),
            Step::BertAccents => {
                let mut apart = String::new();
                let changed = normal_form(text, Form::Nfd, &mut apart);
                let from = if changed { apart.as_str() } else { text };
                let fewer = rewrite(from, out, |c| !c.is_ascii() && points().of(c) & BERT_ACCENT != 0, |_, _| {});
                if changed && !fewer {
                    out.push_str(from);
                }
                changed || fewer
            }
        }
    }

    /// Whether what this makes of a text is what it makes of its parts, wherever it is cut between a graphic ASCII character and a blank behind it.
    pub fn is_local_at_blanks(&self) -> bool {
        match self {
            Step::Form(_) | Step::Nmt | Step::Lowercase | Step::StripAccents => true,
            Step::BertClean | Step::BertChinese | Step::BertAccents => true,
            Step::Replace { pattern, content } => !pattern.contains(char::is_whitespace) && !content.contains(char::is_whitespace),
            Step::ReplaceRun { of, .. } => *of == Some(' '),
            Step::Charsmap(map) => (0x20..0x7f).all(|byte| map.keeps(byte)),
            Step::Strip { .. } | Step::Prepend(_) => false,
        }
    }

    /// Whether a blank at the start of a text, with one character behind it, is still one afterwards.
    pub fn keeps_blanks(&self) -> bool {
        match self {
            Step::ReplaceRun { content, .. } => content.starts_with(' '),
            Step::Strip { .. } | Step::Prepend(_) => false,
            Step::Charsmap(map) => map.leaves(b' '),
            Step::Replace { pattern, .. } => !pattern.contains(' '),
            _ => true,
        }
    }

    /// As before, at any place beside an ASCII character that is punctuation or one of the blanks that stay blanks.
    pub fn is_local_at_ascii(&self) -> bool {
        matches!(self, Step::Lowercase | Step::StripAccents | Step::BertClean | Step::BertChinese | Step::BertAccents)
            || matches!(self, Step::Form(Form::Nfd))
    }
}

/// Each character that `affected` says becomes what `change` appends.
#[inline(always)]
fn rewrite(text: &str, out: &mut String, affected: impl Fn(char) -> bool, mut change: impl FnMut(char, &mut String)) -> bool {
    let mut done = 0;
    let mut changed = false;
    for (at, c) in text.char_indices() {
        if affected(c) {
            out.push_str(&text[done..at]);
            change(c, out);
            done = at + c.len_utf8();
            changed = true;
        }
    }
    if changed {
        out.push_str(&text[done..]);
    }
    changed
}

/// What becomes of a character by SentencePiece's rules for translation: it stays, is a blank, or is gone.
fn nmt(c: char) -> Option<Option<char>> {
    match c as u32 {
        0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f | 0x8f | 0x9f => Some(None),
        0x9 | 0xa | 0xc | 0xd | 0x1680 | 0x200b..=0x200f | 0x2028 | 0x2029 | 0x2581 | 0xfeff | 0xfffd => Some(Some(' ')),
        _ => None,
    }
}

fn bert_blank(c: char) -> bool {
    matches!(c as u32, 0x9 | 0xa | 0xd | 0xa0 | 0x1680 | 0x2000..=0x200a | 0x2028 | 0x2029 | 0x202f | 0x205f | 0x3000)
}

/// The blocks of CJK ideographs that BERT knew.
fn is_chinese(c: char) -> bool {
    matches!(
        c as u32,
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x2_0000..=0x2_a6df
            | 0x2_a700..=0x2_b73f
            | 0x2_b740..=0x2_b81f
            | 0x2_b920..=0x2_ceaf
            | 0xf900..=0xfaff
            | 0x2_f800..=0x2_fa1f
    )
}

fn replace_runs(text: &str, out: &mut String, of: Option<char>, least: usize, content: &str) -> bool {
    let is_one = |c: char| of.map_or_else(|| c.is_whitespace(), |wanted| c == wanted);
    let mut done = 0;
    let mut changed = false;
    let mut characters = text.char_indices().peekable();
    while let Some((start, c)) = characters.next() {
        if !is_one(c) {
            continue;
        }
        let (mut count, mut end) = (1, start + c.len_utf8());
        while let Some((at, c)) = characters.next_if(|&(_, c)| is_one(c)) {
            (count, end) = (count + 1, at + c.len_utf8());
        }
        if count >= least {
            out.push_str(&text[done..start]);
            out.push_str(content);
            (done, changed) = (end, true);
        }
    }
    if changed {
        out.push_str(&text[done..]);
    }
    changed
}

/// A cluster of so many bytes is looked up by its characters only.
const TOO_LONG: usize = 6;

fn apply_charsmap(map: &Charsmap, text: &str, out: &mut String) {
    let bytes = text.as_bytes();
    let plain_at = |at: usize| text[at..].chars().next().is_none_or(is_plain);
    let mut start = 0;
    while start < text.len() {
        // ASCII that stays, up to what may go on as a cluster.
        let run = bytes[start..].iter().take_while(|&&byte| (b' '..=b'~').contains(&byte) && map.keeps(byte)).count();
        let kept = if start + run == text.len() || plain_at(start + run) { run } else { run.saturating_sub(1) };
        if kept > 0 {
            out.push_str(&text[start..start + kept]);
            start += kept;
            continue;
        }
        // Up to where two characters stand side by side between which no cluster goes on.
        let mut end = start;
        let mut before = false;
        for c in text[start..].chars() {
            let plain = is_plain(c);
            if end > start && plain && before {
                break;
            }
            end += c.len_utf8();
            before = plain;
        }
        let stretch = &text[start..end];
        if stretch.chars().nth(1).is_none() {
            replace_cluster(map, stretch, out);
        } else {
            stretch.graphemes(true).for_each(|cluster| replace_cluster(map, cluster, out));
        }
        start = end;
    }
}

fn replace_cluster(map: &Charsmap, cluster: &str, out: &mut String) {
    let found = |part: &str| if part.len() < TOO_LONG { map.find(part, false).map(|(_, to)| to) } else { None };
    if let Some(whole) = found(cluster) {
        out.push_str(whole);
        return;
    }
    for (at, c) in cluster.char_indices() {
        let part = &cluster[at..at + c.len_utf8()];
        out.push_str(found(part).filter(|_| part.len() < cluster.len()).unwrap_or(part));
    }
}

/// Between two of these no grapheme cluster goes on: ASCII and letters of Latin-1, Cyrillic, kana, CJK ideographs.
fn is_plain(c: char) -> bool {
    matches!(
        c,
        ' '..='~' | '¡'..='¬' | '®'..='ʯ' | 'Ѐ'..='\u{482}' | '\u{48a}'..='ԯ' | '、'..='〩' | 'ぁ'..='ゖ' | 'ァ'..='ヺ' | '一'..='\u{9fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(step: Step, text: &str) -> String {
        normalize(&[step], text).unwrap_or_else(|| text.to_string())
    }

    #[test]
    fn each_step_does_its_part() {
        assert_eq!(by(Step::Lowercase, "ΑΣ İX\u{10d50} straße"), "ασ i\u{307}x\u{10d70} straße");
        assert_eq!(by(Step::StripAccents, "e\u{301}\u{903}é"), "eé");
        assert_eq!(by(Step::Strip { left: true, right: true }, "\u{3000} a b\n"), "a b");
        assert_eq!(by(Step::Replace { pattern: "``".into(), content: "\"".into() }, "a``b```"), "a\"b\"`");
        let runs = |of, least, text| by(Step::ReplaceRun { of, least, content: "_".into() }, text);
        assert_eq!(runs(Some(' '), 2, " a  b   c"), " a_b_c");
        assert_eq!(runs(None, 1, "a \n\u{3000}b"), "a_b");
        assert_eq!(by(Step::Prepend("▁".into()), ""), "");
        assert_eq!(by(Step::Nmt, "a\u{200b}\u{1}b"), "a b");
        assert_eq!(by(Step::BertClean, "a\u{0}\tb\u{200b}\u{3000}\u{fffd}"), "a b ");
        assert_eq!(by(Step::BertChinese, "a語b"), "a 語 b");
        assert_eq!(by(Step::BertAccents, "é\u{301}a"), "ea");
        assert_eq!(by(Step::BertAccents, "가"), "\u{1100}\u{1161}");
    }
}

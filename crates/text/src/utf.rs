//! Text from outside into UTF-8. What is not text is replaced by U+FFFD and counted, as the Encoding standard has it.

use std::borrow::Cow;

/// Appends `units` (UTF-16) to `out` as UTF-8. Returns how many lone surrogates became U+FFFD.
pub fn utf8_from_utf16(units: &[u16], out: &mut Vec<u8>) -> usize {
    let start = out.len();
    // ASCII fills exactly this much; anything wider grows below.
    out.resize(start + units.len(), 0);
    let mut at = ascii_prefix(units, &mut out[start..]);
    if at == units.len() {
        return 0;
    }
    out.truncate(start + at);
    out.reserve((units.len() - at) * 3 / 2);
    let mut replaced = 0;
    while at < units.len() {
        let unit = units[at];
        match unit {
            0..=0x7f => {
                out.push(unit as u8);
                at += 1;
                // A run of ASCII is copied sixteen at a time.
                if units.len() - at >= 16 && units[at] < 0x80 {
                    let filled = out.len();
                    let run = (units.len() - at).min(4096);
                    out.resize(filled + run, 0);
                    let done = ascii_prefix(&units[at..at + run], &mut out[filled..]);
                    out.truncate(filled + done);
                    at += done;
                }
            }
            0x80..=0x7ff => {
                out.extend_from_slice(&[0xc0 | (unit >> 6) as u8, 0x80 | (unit & 63) as u8]);
                at += 1;
            }
            0xd800..=0xdfff => {
                let low = units.get(at + 1).copied().unwrap_or(0);
                if unit < 0xdc00 && (0xdc00..0xe000).contains(&low) {
                    let c = 0x1_0000 + ((u32::from(unit) & 0x3ff) << 10 | u32::from(low) & 0x3ff);
                    let six = |shift: u32| 0x80 | (c >> shift & 63) as u8;
                    out.extend_from_slice(&[0xf0 | (c >> 18) as u8, six(12), six(6), six(0)]);
                    at += 2;
                } else {
                    out.extend_from_slice("\u{fffd}".as_bytes());
                    replaced += 1;
                    at += 1;
                }
            }
            _ => {
                out.extend_from_slice(&[0xe0 | (unit >> 12) as u8, 0x80 | (unit >> 6 & 63) as u8, 0x80 | (unit & 63) as u8]);
                at += 1;
            }
        }
    }
    replaced
}

/// Copies the leading ASCII units; both slices have the same length. Returns how many were copied.
fn ascii_prefix(units: &[u16], out: &mut [u8]) -> usize {
    let mut at = 0;
    for (from, to) in units.chunks_exact(16).zip(out.chunks_exact_mut(16)) {
        let mut all = 0;
        for (unit, byte) in from.iter().zip(to.iter_mut()) {
            all |= *unit;
            *byte = *unit as u8;
        }
        if all >= 0x80 {
            break;
        }
        at += 16;
    }
    while at < units.len() && units[at] < 0x80 {
        out[at] = units[at] as u8;
        at += 1;
    }
    at
}

/// `bytes` as UTF-8, with the number of U+FFFD that stand for malformed parts.
pub fn utf8_from_bytes(bytes: &[u8]) -> (Cow<'_, [u8]>, usize) {
    if std::str::from_utf8(bytes).is_ok() {
        return (Cow::Borrowed(bytes), 0);
    }
    let mut out = Vec::with_capacity(bytes.len() + 16);
    let mut replaced = 0;
    for chunk in bytes.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
            replaced += 1;
        }
    }
    (Cow::Owned(out), replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf16_becomes_what_the_standard_library_makes() {
        let long = "plain ascii that is longer than sixteen units, then ünïcode 語 and 🙂 and again plain ascii to the end of it";
        for text in ["", "a", "é", "🙂", "x🙂y", long] {
            let units: Vec<u16> = text.encode_utf16().collect();
            let mut out = b"kept".to_vec();
            assert_eq!(utf8_from_utf16(&units, &mut out), 0);
            assert_eq!(out, [b"kept", text.as_bytes()].concat());
        }
    }

    #[test]
    fn lone_surrogates_and_broken_bytes_are_replaced_and_counted() {
        let mut out = Vec::new();
        assert_eq!(utf8_from_utf16(&[0xd800, 0x61, 0xdc00, 0xd83d, 0xd83d, 0xde42], &mut out), 3);
        assert_eq!(String::from_utf8(out).unwrap(), "\u{fffd}a\u{fffd}\u{fffd}🙂");
        let (text, replaced) = utf8_from_bytes(b"a\xff\xe8\xaa b");
        assert_eq!((text.as_ref(), replaced), ("a\u{fffd}\u{fffd} b".as_bytes(), 2));
    }
}

//! A normaliser's replacements as SentencePiece compiles them: a trie of UTF-8 in a double array, and the replacements, each ended by NUL.
//! The format stands in src/tokenizers/normalizers/charsmap.ts. Look-ups stay inside whatever the file says.

use crate::error::TextError;

const ENDS_KEY: u32 = 1 << 8;
const LABEL: u32 = 0x8000_00ff;
const VALUE: u32 = 0x7fff_ffff;

pub struct Charsmap {
    units: Vec<u32>,
    replacements: String,
    /// ASCII characters that stay what they are wherever an ASCII character follows.
    same: [bool; 128],
}

impl Charsmap {
    /// # Errors
    /// Sizes that lead outside, replacements that are not UTF-8.
    pub fn new(bytes: &[u8]) -> Result<Self, TextError> {
        let wrong = || TextError(format!("a charsmap of {} bytes is damaged, expected a trie and UTF-8 replacements", bytes.len()));
        let (size, rest) = bytes.split_at_checked(4).ok_or_else(wrong)?;
        let size = u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize;
        let (trie, replacements) = rest.split_at_checked(size).ok_or_else(wrong)?;
        let units: Vec<u32> = trie.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let replacements = String::from_utf8(replacements.to_vec()).map_err(|_| wrong())?;
        let mut map = Self { units, replacements, same: [false; 128] };
        for byte in 0..128u8 {
            map.same[usize::from(byte)] = map.stays(byte);
        }
        Ok(map)
    }

    fn stays(&self, byte: u8) -> bool {
        let Some(unit) = self.child(0, byte) else { return true };
        self.value(unit).is_none() && (0..128u8).all(|next| self.child(unit, next).is_none())
    }

    /// Whether an ASCII byte before an ASCII byte (or the end) is replaced by nothing.
    #[inline(always)]
    pub fn keeps(&self, byte: u8) -> bool {
        byte < 128 && self.same[usize::from(byte)]
    }

    /// Whether no key begins with this byte.
    pub fn leaves(&self, byte: u8) -> bool {
        self.child(0, byte).is_none()
    }

    fn base(&self, at: usize) -> Option<usize> {
        let unit = *self.units.get(at)?;
        Some(at ^ ((unit >> 10) as usize) << ((unit & (1 << 9)) >> 6))
    }

    #[inline]
    fn child(&self, at: usize, byte: u8) -> Option<usize> {
        let next = self.base(at)? ^ usize::from(byte);
        (self.units.get(next)? & LABEL == u32::from(byte)).then_some(next)
    }

    /// The replacement of the key that ends at this unit.
    fn value(&self, at: usize) -> Option<&str> {
        if self.units.get(at)? & ENDS_KEY == 0 {
            return None;
        }
        let start = (self.units.get(self.base(at)?)? & VALUE) as usize;
        self.replacements.get(start..)?.split('\0').next()
    }

    /// The longest (or the shortest) key with which `text` begins: its length and what replaces it.
    #[inline]
    pub fn find(&self, text: &str, longest: bool) -> Option<(usize, &str)> {
        let bytes = text.as_bytes();
        let mut unit = 0;
        let mut found = None;
        for (at, &byte) in bytes.iter().enumerate() {
            let Some(next) = self.child(unit, byte) else { break };
            unit = next;
            if self.units[unit] & ENDS_KEY != 0 && text.is_char_boundary(at + 1) {
                found = Some((at + 1, unit));
                if !longest {
                    break;
                }
            }
        }
        let (length, unit) = found?;
        Some((length, self.value(unit)?))
    }
}

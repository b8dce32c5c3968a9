//! Hashes of words and id pairs. Multiply, fold the high half onto the low half, repeat: every input bit reaches every
//! index bit. Not keyed: all tables are bounded or verified, so a collision costs time for one word, never a wrong result.

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd6e8_feb8_6659_fd93;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// Hash of two 64-bit halves (a packed word, or an id pair).
#[inline(always)]
pub fn mix(lo: u64, hi: u64) -> u64 {
    fold(lo ^ K0, hi ^ K1)
}

/// Hash of a byte string of any length.
#[inline]
pub fn bytes(word: &[u8]) -> u64 {
    let mut state = word.len() as u64 ^ K0;
    let mut chunks = word.chunks_exact(8);
    for chunk in &mut chunks {
        let mut eight = [0u8; 8];
        eight.copy_from_slice(chunk);
        state = fold(state ^ u64::from_le_bytes(eight), K1);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut eight = [0u8; 8];
        eight[..rest.len()].copy_from_slice(rest);
        state = fold(state ^ u64::from_le_bytes(eight), K1);
    }
    fold(state ^ K0, K1)
}

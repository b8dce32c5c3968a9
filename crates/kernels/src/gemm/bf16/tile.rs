//! The register tile of bfloat16 products: `vdpbf16ps` adds two products to each of 16 float32 sums.

use super::pack::{COLUMNS, ROWS};
use std::arch::x86_64::*;

/// Panels of b in the widest tile. 8 x 3 sums are what keeps both pipes busy: each waits several cycles for its last one.
pub const PANELS: usize = 3;

/// One tile over one block of k.
#[derive(Clone, Copy)]
pub struct Block {
    /// `[pair][8]`.
    pub a: *const u32,
    /// `[pair][16]`, the next panel `panel` items further.
    pub b: *const u32,
    pub panel: usize,
    pub pairs: usize,
    /// What the result is added to; null: nothing.
    pub sums: *const f32,
    pub sums_row: usize,
    pub out: *mut f32,
    pub out_row: usize,
}

/// out = sums + the chains, each of which starts at 0 and takes its pairs in ascending order.
///
/// # Safety
/// Packed operands must hold `pairs` steps; rows of `sums` and `out` must have all `16 * V` items. The CPU has AVX512_BF16.
#[inline(always)]
unsafe fn block<const R: usize, const V: usize>(t: &Block) {
    // SAFETY: as promised above.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); V]; R];
        let (mut a, mut b) = (t.a, t.b);
        for i in 0..R {
            for j in 0..V {
                let (place, apart) = if t.sums.is_null() { (t.out.cast_const(), t.out_row) } else { (t.sums, t.sums_row) };
                _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(i * apart + j * COLUMNS).cast());
            }
        }
        // A macro, not a closure: a closure would be compiled without the instruction set's features.
        macro_rules! step {
            ($a:expr, $b:expr) => {
                let (a, b) = ($a, $b);
                let mut v = [_mm512_setzero_si512(); V];
                for j in 0..V {
                    v[j] = _mm512_loadu_si512(b.add(j * t.panel).cast());
                }
                for i in 0..R {
                    let x = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(*a.add(i) as i32));
                    for j in 0..V {
                        acc[i][j] = _mm512_dpbf16_ps(acc[i][j], x, std::mem::transmute::<__m512i, __m512bh>(v[j]));
                    }
                }
            };
        }
        let mut left = t.pairs;
        while left >= 2 {
            step!(a, b);
            step!(a.add(ROWS), b.add(COLUMNS));
            a = a.add(2 * ROWS);
            b = b.add(2 * COLUMNS);
            left -= 2;
        }
        if left > 0 {
            step!(a, b);
        }
        for i in 0..R {
            for j in 0..V {
                let mut x = acc[i][j];
                if !t.sums.is_null() {
                    x = _mm512_add_ps(_mm512_loadu_ps(t.sums.add(i * t.sums_row + j * COLUMNS)), x);
                }
                _mm512_storeu_ps(t.out.add(i * t.out_row + j * COLUMNS), x);
            }
        }
    }
}

/// Runs the tile of `rows` rows and `panels` panels (at most 8 and 3).
///
/// # Safety
/// As [`block`].
#[inline(always)]
pub unsafe fn run(rows: usize, panels: usize, t: &Block) {
    macro_rules! tiles {
        ($($r:literal),*) => {
            match (rows, panels) {
                $(($r, 1) => block::<$r, 1>(t), ($r, 2) => block::<$r, 2>(t), ($r, 3) => block::<$r, 3>(t),)*
                // No other tile is asked for.
                _ => {}
            }
        };
    }
    // SAFETY: the caller keeps `block`'s promises.
    unsafe { tiles!(1, 2, 3, 4, 5, 6, 7, 8) }
}

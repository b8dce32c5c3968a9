//! The register tile of bfloat16 products: `vdpbf16ps` adds two products to each of 16 float32 sums.

use super::ahead::Ahead;
use super::pack::{COLUMNS, ROWS};
use crate::gemm::finish::Touched;
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
    /// Past the caches; out is aligned to whole lines.
    pub past: bool,
    /// What is read or written beside or after the tile, rows `beside_row` apart; null: nothing.
    pub beside: Touched,
    pub beside_row: usize,
}

/// out = sums + the chains, each of which starts at 0 and takes its pairs in ascending order. Memory is asked for row by row in
/// between: all at once would keep the panels waiting.
///
/// # Safety
/// Packed operands must hold `pairs` steps; rows of `sums` and `out` must have all `16 * V` items. The CPU has AVX512_BF16.
#[inline(always)]
unsafe fn block<const R: usize, const V: usize>(t: &Block, ahead: &mut Ahead) {
    // SAFETY: as promised above.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); V]; R];
        let (mut a, mut b) = (t.a, t.b);
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
        let mut done = 0;
        for row in 0..R {
            if !t.sums.is_null() {
                for j in 0..V {
                    _mm_prefetch::<_MM_HINT_T0>(t.sums.wrapping_add(row * t.sums_row + j * COLUMNS).cast());
                }
            }
            for place in t.beside {
                if !place.is_null() {
                    for j in 0..V {
                        _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(row * t.beside_row + j * COLUMNS).cast());
                    }
                }
            }
            ahead.step();
            let until = if row + 1 == R { t.pairs } else { (row + 1) * t.pairs / R / 2 * 2 };
            while done + 2 <= until {
                step!(a, b);
                step!(a.add(ROWS), b.add(COLUMNS));
                a = a.add(2 * ROWS);
                b = b.add(2 * COLUMNS);
                done += 2;
            }
        }
        if done < t.pairs {
            step!(a, b);
        }
        // Three short loops, which are unrolled: the sums would else leave the registers for good.
        if !t.sums.is_null() {
            for i in 0..R {
                for j in 0..V {
                    acc[i][j] = _mm512_add_ps(_mm512_loadu_ps(t.sums.add(i * t.sums_row + j * COLUMNS)), acc[i][j]);
                }
            }
        }
        if t.past {
            for i in 0..R {
                for j in 0..V {
                    _mm512_stream_ps(t.out.add(i * t.out_row + j * COLUMNS), acc[i][j]);
                }
            }
        } else {
            for i in 0..R {
                for j in 0..V {
                    _mm512_storeu_ps(t.out.add(i * t.out_row + j * COLUMNS), acc[i][j]);
                }
            }
        }
    }
}

/// Runs the tile of `rows` rows and `panels` panels (at most 8 and 3).
///
/// # Safety
/// As [`block`].
#[inline(always)]
pub unsafe fn run(rows: usize, panels: usize, t: &Block, ahead: &mut Ahead) {
    macro_rules! tiles {
        ($($r:literal),*) => {
            match (rows, panels) {
                $(($r, 1) => block::<$r, 1>(t, ahead), ($r, 2) => block::<$r, 2>(t, ahead), ($r, 3) => block::<$r, 3>(t, ahead),)*
                // No other tile is asked for.
                _ => {}
            }
        };
    }
    // SAFETY: the caller keeps `block`'s promises.
    unsafe { tiles!(1, 2, 3, 4, 5, 6, 7, 8) }
}

//! Packing to pairs: a 32-bit item holds k = 2p (low half) and 2p + 1 (high half) of one row of a or one column of b.
//!
//! A tile of a is `[pair][8]`, a panel of b `[pair][16]`; absent lines and the odd half of a last pair are zero, which
//! changes no sum.

// SAFETY of every block here: AVX-512 with BF16, which the callers' features promise; the memory touched is the
// caller's promise.
#![allow(clippy::undocumented_unsafe_blocks)]

use crate::gemm::Matrix;
use std::arch::x86_64::*;

/// Rows in a tile of a.
pub const ROWS: usize = 8;
/// Columns in a panel of b.
pub const COLUMNS: usize = 16;
/// Steps along k ahead for which memory is asked where every step is a line of its own.
const AHEAD: usize = 32;

/// The first n lanes.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    if n >= 16 { !0 } else { (1u16 << n) - 1 }
}

/// Rounds two vectors: the 16 halves of `low`, then those of `high`.
#[inline(always)]
unsafe fn rounded(low: __m512, high: __m512) -> __m512i {
    unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) }
}

/// Packs `lines` (at most 8) lines of `k` neighbouring items, `stride` apart, to `[pair][to_stride]`, 8 lanes each.
#[inline(always)]
unsafe fn pack_along(from: *const f32, stride: usize, lines: usize, k: usize, to: *mut u32, to_stride: usize) {
    unsafe {
        let mut p = 0;
        while p < k {
            let some = (k - p).min(32);
            macro_rules! line {
                ($i:literal) => {
                    if $i < lines {
                        let x = from.add($i * stride + p);
                        if some == 32 {
                            rounded(_mm512_loadu_ps(x), _mm512_loadu_ps(x.add(16)))
                        } else {
                            let high = _mm512_maskz_loadu_ps(mask(some.saturating_sub(16)), x.wrapping_add(16));
                            rounded(_mm512_maskz_loadu_ps(mask(some), x), high)
                        }
                    } else {
                        _mm512_setzero_si512()
                    }
                };
            }
            // 16 pairs of each line; a 4 x 4 transpose in each quarter, then the quarters of both halves side by side.
            macro_rules! four {
                ($a:literal, $b:literal, $c:literal, $d:literal) => {{
                    let (a, b, c, d) = (line!($a), line!($b), line!($c), line!($d));
                    let (ab, ba) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
                    let (cd, dc) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
                    [
                        _mm512_unpacklo_epi64(ab, cd),
                        _mm512_unpackhi_epi64(ab, cd),
                        _mm512_unpacklo_epi64(ba, dc),
                        _mm512_unpackhi_epi64(ba, dc),
                    ]
                }};
            }
            let (t, u) = (four!(0, 1, 2, 3), four!(4, 5, 6, 7));
            let pairs = some.div_ceil(2);
            let to = to.add(p / 2 * to_stride);
            for q in 0..4 {
                let first = _mm512_permutex2var_epi64(t[q], _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), u[q]);
                let last = _mm512_permutex2var_epi64(t[q], _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), u[q]);
                let halves = [
                    _mm512_castsi512_si256(first),
                    _mm512_extracti64x4_epi64::<1>(first),
                    _mm512_castsi512_si256(last),
                    _mm512_extracti64x4_epi64::<1>(last),
                ];
                for (quarter, half) in halves.into_iter().enumerate() {
                    if 4 * quarter + q < pairs {
                        _mm256_storeu_si256(to.add((4 * quarter + q) * to_stride).cast(), half);
                    }
                }
            }
            p += 32;
        }
    }
}

/// Interleaves the lower and the upper 16 halves.
#[inline(always)]
unsafe fn interleaved(x: __m512i) -> __m512i {
    unsafe {
        let low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(x));
        let high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(x));
        _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
    }
}

/// Packs `rows` (at most 8) rows of `k` items to `[pair][8]`.
///
/// # Safety
/// The items must be readable and `to` must have room for `8 * ⌈k / 2⌉`.
#[inline(always)]
pub unsafe fn pack_rows(a: Matrix, rows: usize, k: usize, to: *mut u32) {
    unsafe {
        if a.col == 1 {
            pack_along(a.data, a.row, rows, k, to, ROWS);
        } else if a.row == 1 {
            let lanes = mask(rows) as __mmask8;
            macro_rules! load {
                ($p:expr) => {
                    if $p < k { _mm256_maskz_loadu_ps(lanes, a.data.add($p * a.col)) } else { _mm256_setzero_ps() }
                };
            }
            macro_rules! two {
                ($p:expr) => {
                    _mm512_insertf32x8::<1>(_mm512_castps256_ps512(load!($p)), load!($p + 1))
                };
            }
            // Steps p and p + 1 in the lower half, p + 2 and p + 3 in the upper: lanes of a step become every second half.
            let order = order();
            for p in (0..k).step_by(4) {
                for q in 0..4 {
                    _mm_prefetch::<_MM_HINT_T0>(a.data.wrapping_add((p + AHEAD + q) * a.col).cast());
                }
                let pairs = _mm512_permutexvar_epi16(order, rounded(two!(p), two!(p + 2)));
                if p + 2 < k {
                    _mm512_storeu_si512(to.add(p / 2 * ROWS).cast(), pairs);
                } else {
                    _mm256_storeu_si256(to.add(p / 2 * ROWS).cast(), _mm512_castsi512_si256(pairs));
                }
            }
        } else {
            scattered(a, rows, ROWS, k, to);
        }
    }
}

/// Half 2i of each half register is its i-th, half 2i + 1 its (8 + i)-th.
#[inline(always)]
unsafe fn order() -> __m512i {
    const ORDER: [u16; 32] = {
        let mut at = [0; 32];
        let mut i = 0;
        while i < 32 {
            at[i] = (i / 16 * 16 + i % 2 * 8 + i % 16 / 2) as u16;
            i += 1;
        }
        at
    };
    unsafe { _mm512_loadu_si512(ORDER.as_ptr().cast()) }
}

/// Packs `columns` columns of `k` items to panels `panel` items apart.
///
/// # Safety
/// The items must be readable and `to` must have room for the panels.
#[inline(always)]
pub unsafe fn pack_panels(b: Matrix, columns: usize, k: usize, to: *mut u32, panel: usize) {
    let panels = columns.div_ceil(COLUMNS);
    unsafe {
        if b.col == 1 {
            for p in (0..k).step_by(2) {
                let from = b.data.add(p * b.row);
                for v in 0..panels {
                    let lanes = mask(columns - v * COLUMNS);
                    let x = from.add(v * COLUMNS);
                    for q in 0..2 {
                        _mm_prefetch::<_MM_HINT_T0>(x.wrapping_add((AHEAD + q) * b.row).cast());
                    }
                    let odd = if p + 1 < k { _mm512_maskz_loadu_ps(lanes, x.add(b.row)) } else { _mm512_setzero_ps() };
                    let pairs = interleaved(rounded(_mm512_maskz_loadu_ps(lanes, x), odd));
                    _mm512_storeu_si512(to.add(v * panel + p / 2 * COLUMNS).cast(), pairs);
                }
            }
            return;
        }
        for v in 0..panels {
            let (to, b) = (to.add(v * panel), b.at(0, v * COLUMNS));
            let lines = (columns - v * COLUMNS).min(COLUMNS);
            if b.row == 1 {
                pack_along(b.data, b.col, lines.min(8), k, to, COLUMNS);
                pack_along(b.data.wrapping_add(8 * b.col), b.col, lines.saturating_sub(8), k, to.add(8), COLUMNS);
            } else {
                scattered(Matrix { data: b.data, row: b.col, col: b.row }, lines, COLUMNS, k, to);
            }
        }
    }
}

/// Lines of any strides, item by item.
#[inline(always)]
unsafe fn scattered(x: Matrix, lines: usize, lanes: usize, k: usize, to: *mut u32) {
    let half = |i: usize, p: usize| {
        let inside = i < lines && p < k;
        u32::from(if inside { crate::half::f32_to_bf16(unsafe { *x.at(i, p).data }) } else { 0 })
    };
    for p in (0..k).step_by(2) {
        for i in 0..lanes {
            unsafe { *to.add(p / 2 * lanes + i) = half(i, p) | half(i, p + 1) << 16 };
        }
    }
}

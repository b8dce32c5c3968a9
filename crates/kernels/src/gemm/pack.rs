//! Packing: operands of any strides copied into the order in which the tile reads them.
//!
//! A panel of a is `rows` rows side by side, `[k][rows]`; a panel of b is 16 columns side by side, `[k][16]`, absent
//! columns zero. Packing only moves numbers, so it never changes a result.

use crate::simd::{LANES, Simd};

/// A matrix of any strides: item (i, j) lies at `i * row + j * col`.
#[derive(Clone, Copy)]
pub struct Matrix {
    pub data: *const f32,
    pub row: usize,
    pub col: usize,
}

// SAFETY: a plain address; those who read through it answer for the memory.
unsafe impl Send for Matrix {}
// SAFETY: as above.
unsafe impl Sync for Matrix {}

impl Matrix {
    /// The matrix from item (i, j) on.
    #[inline(always)]
    pub fn at(self, i: usize, j: usize) -> Matrix {
        Matrix { data: self.data.wrapping_add(i * self.row + j * self.col), ..self }
    }
}

/// Rows ahead of the one that is copied, for which memory is asked. No power of two: at 16 rows of 512 bytes copying took three times as long.
const AHEAD: usize = 20;

/// Packs up to four tiles of `rows` (at most 8 each) rows of `k` items, each to `[k][rows]`, one behind the other.
///
/// # Safety
/// The items must be readable and `to` must have room for `k` items of each row.
#[inline(always)]
pub unsafe fn pack_rows<S: Simd>(a: Matrix, rows: [usize; 4], k: usize, to: *mut f32) {
    let mut p = 0;
    // SAFETY: as promised above; what a vector writes too much lies inside the tile, where later columns overwrite it, so the
    // last columns go the slow way.
    unsafe {
        if a.col == 1 && rows[1] == 0 {
            while p + 16 <= k {
                S::transpose8(a.data.add(p), a.row, rows[0], to.add(p * rows[0]), rows[0]);
                p += 8;
            }
        } else if a.row == 1 {
            let least = rows.into_iter().filter(|&r| r > 0).min().unwrap_or(0);
            let all: usize = rows.into_iter().sum();
            while (k - p) * least >= 2 * LANES {
                let (mut from, mut to) = (a.data.add(p * a.col), to);
                for line in (0..all).step_by(LANES) {
                    S::prefetch_far(from.wrapping_add(AHEAD * a.col + line));
                    S::prefetch_far(from.wrapping_add((AHEAD + 1) * a.col + line));
                }
                for r in rows {
                    if 2 * r == LANES {
                        S::store(to.add(p * r), S::load_halves(from, from.add(a.col)));
                    } else if r > 0 {
                        S::store(to.add(p * r), S::load_n(from, r));
                        S::store(to.add((p + 1) * r), S::load_n(from.add(a.col), r));
                    }
                    from = from.add(r);
                    to = to.add(k * r);
                }
                p += 2;
            }
        }
        let (mut first, mut to) = (0, to);
        for r in rows {
            for p in p..k {
                for i in 0..r {
                    *to.add(p * r + i) = *a.data.add((first + i) * a.row + p * a.col);
                }
            }
            first += r;
            to = to.add(k * r);
        }
    }
}

/// Packs `columns` columns of `k` items to panels `panel` items apart, the last one filled up with zeros. While it reads
/// columns of neighbouring items, it asks for those from `ahead` on (null: nothing), the panels that will be packed next.
///
/// # Safety
/// The items must be readable and `to` must have room for the panels.
#[inline(always)]
pub unsafe fn pack_panels<S: Simd>(b: Matrix, columns: usize, k: usize, to: *mut f32, panel: usize, ahead: *const f32) {
    let (whole, rest) = (columns / LANES, columns % LANES);
    // SAFETY: as promised above.
    unsafe {
        if b.col == 1 {
            for p in 0..k {
                let (row, to) = (b.data.add(p * b.row), to.add(p * LANES));
                for v in 0..whole {
                    S::prefetch_far(row.wrapping_add(AHEAD * b.row + v * LANES));
                    S::store(to.add(v * panel), S::load(row.add(v * LANES)));
                }
                if rest > 0 {
                    S::store(to.add(whole * panel), S::load_n(row.add(whole * LANES), rest));
                }
            }
            return;
        }
        for v in 0..columns.div_ceil(LANES) {
            let ahead = if ahead.is_null() { ahead } else { ahead.wrapping_add(v * LANES * b.col) };
            pack_columns::<S>(b.at(0, v * LANES), LANES.min(columns - v * LANES), k, to.add(v * panel), ahead);
        }
    }
}

/// One panel of at most 16 columns of any strides.
#[inline(always)]
unsafe fn pack_columns<S: Simd>(b: Matrix, columns: usize, k: usize, to: *mut f32, ahead: *const f32) {
    // SAFETY: as promised above.
    unsafe {
        let mut p = 0;
        if b.row == 1 && columns == LANES {
            while p + 8 <= k {
                if !ahead.is_null() && p % 16 == 0 {
                    for j in 0..LANES {
                        S::prefetch(ahead.wrapping_add(p + j * b.col));
                    }
                }
                S::transpose8(b.data.add(p), b.col, 8, to.add(p * LANES), LANES);
                S::transpose8(b.data.add(p + 8 * b.col), b.col, 8, to.add(p * LANES + 8), LANES);
                p += 8;
            }
        }
        for p in p..k {
            for j in 0..columns {
                *to.add(p * LANES + j) = *b.data.add(p * b.row + j * b.col);
            }
            for j in columns..LANES {
                *to.add(p * LANES + j) = 0.0;
            }
        }
    }
}

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

/// Packs `rows` (at most 8) rows of `k` items to `[k][rows]`.
///
/// # Safety
/// The items must be readable and `to` must have room for `k * rows`.
#[inline(always)]
pub unsafe fn pack_rows<S: Simd>(a: Matrix, rows: usize, k: usize, to: *mut f32) {
    // SAFETY: as promised above; blocks of 8 x 8 write 8 - rows items too many, which the next column or the tail
    // overwrites, so the last block goes the slow way.
    unsafe {
        let mut p = 0;
        if a.col == 1 {
            while p + 16 <= k {
                S::transpose8(a.data.add(p), a.row, rows, to.add(p * rows), rows);
                p += 8;
            }
        } else if a.row == 1 {
            // A whole vector is stored each time; what is too much, the next columns overwrite.
            while (k - p) * rows >= 2 * LANES {
                S::store(to.add(p * rows), S::load_n(a.data.add(p * a.col), rows));
                p += 1;
            }
        }
        for p in p..k {
            for i in 0..rows {
                *to.add(p * rows + i) = *a.data.add(i * a.row + p * a.col);
            }
        }
    }
}

/// Rows of b ahead of the one that is packed, for which memory is asked.
const AHEAD: usize = 12;

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
                    S::prefetch(row.wrapping_add(AHEAD * b.row + v * LANES));
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

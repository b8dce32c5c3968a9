//! Rows of activations in 8 bits: blocks of 32, each with a float32 scale of a 127th of its largest size, rounded to the nearest, ties to even.

use super::dots::{Dots, dispatch_dots};
use super::layout::{BLOCK, Form};
use crate::pool::parallel_blocks;
use crate::scratch::Scratch;
use crate::shared::Shared;
use crate::simd::{LANES, Simd};

/// Quantised rows. A row's record: k bytes, then [k / 32] scales, then [k / sub] corrections (int32, −zero · Σ of the sub-block's bytes), then
/// [k / sub] weights of minima (scale · Σ).
pub struct Activations {
    room: Scratch,
    /// Floats from one row to the next.
    row: usize,
    k: usize,
    sub: usize,
}

// SAFETY: tasks write records of their own, and only read them later.
unsafe impl Sync for Activations {}

/// One row's record.
#[derive(Clone, Copy)]
pub struct Row {
    pub bytes: *const u8,
    pub scales: *const f32,
    pub corrections: *const i32,
    pub sums: *const f32,
}

/// Blocks whose largest size is below this become zeros: the inverse of a scale would overflow.
const LEAST: f32 = 1e-36;
/// Rows of one task.
const ROWS: usize = 8;

impl Activations {
    /// Quantises m rows of k items, which lie one behind the other.
    ///
    /// # Safety
    /// `x` holds m · k numbers.
    pub unsafe fn of(x: *const f32, m: usize, k: usize, form: &Form) -> Activations {
        let (sub, zero) = (form.sub, form.zero);
        let row = k / 4 + k / BLOCK + 2 * (k / sub);
        let all = Activations { room: Scratch::new(m * row), row, k, sub };
        let x = Shared::new(x);
        let rows = |from: usize, to: usize| {
            for i in from..to {
                // SAFETY: rows are disjoint records, and `x` holds the row.
                unsafe { quantise(x.at(i * k), all.row(i), k, sub, zero) };
            }
        };
        if m * k >= 1 << 14 {
            parallel_blocks(m, ROWS, rows)
        } else {
            rows(0, m)
        }
        all
    }

    #[inline(always)]
    pub fn row(&self, i: usize) -> Row {
        let at = self.room.pointer().wrapping_add(i * self.row);
        let scales = at.wrapping_add(self.k / 4);
        let corrections = scales.wrapping_add(self.k / BLOCK);
        let sums = corrections.wrapping_add(self.k / self.sub);
        Row { bytes: at.cast(), scales, corrections: corrections.cast(), sums }
    }
}

dispatch_dots! { unsafe fn quantise(x: *const f32, row: Row, k: usize, sub: usize, zero: i32) = quantise_row }

#[inline(always)]
unsafe fn quantise_row<D: Dots>(x: *const f32, row: Row, k: usize, sub: usize, zero: i32) {
    for b in 0..k / BLOCK {
        // SAFETY: the row and its record hold k items.
        unsafe {
            let x = x.add(b * BLOCK);
            let v = [D::S::load(x), D::S::load(x.add(LANES))];
            let size = |v| D::S::max(v, D::S::sub(D::S::splat(0.0), v));
            let largest = D::S::max_lane(D::S::max(size(v[0]), size(v[1])));
            // 0, or NaN where a number is infinite or NaN: it spreads to the row's results, as in float32.
            let [a, b0] = v.map(|v| D::S::mul(v, D::S::splat(0.0)));
            let zeros = D::S::sum(D::S::add(a, b0));
            let some = largest >= LEAST;
            let (scale, inverse) = if some { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) };
            let scale = scale + zeros.abs();
            let q = v.map(|v| D::S::round(D::S::mul(v, D::S::splat(inverse))));
            let bytes = row.bytes.cast_mut().add(b * BLOCK);
            D::store_bytes(bytes, q[0]);
            D::store_bytes(bytes.add(LANES), q[1]);
            *row.scales.cast_mut().add(b) = scale;
            // At most 32 · 127: exact.
            let put = |at: usize, sum: f32| {
                *row.corrections.cast_mut().add(at) = -zero * sum as i32;
                *row.sums.cast_mut().add(at) = scale * sum;
            };
            if sub == BLOCK {
                put(b, D::S::sum(D::S::add(q[0], q[1])));
            } else {
                put(2 * b, D::S::sum(q[0]));
                put(2 * b + 1, D::S::sum(q[1]));
            }
        }
    }
}

//! Rows of activations in 8 bits: blocks of 32, each with a float32 scale of a 127th of its largest size, rounded to the nearest, ties to even.
//!
//! Some channels of a transformer are far larger than the others (Dettmers et al. 2022, "LLM.int8()", section 3), and what shares a block with one would
//! keep few bits. So a block whose largest size stands out of its row has a second part: what the rounding left over, in 8 bits more. Its products are
//! added when those of all first parts have been. A block has one by its own row alone: the row contract holds.

use super::dots::{Dots, dispatch_dots};
use super::layout::{BLOCK, Form};
use crate::pool::parallel_blocks;
use crate::scratch::Scratch;
use crate::shared::Shared;
use crate::simd::{LANES, Simd};

/// Quantised rows.
pub struct Activations {
    room: Scratch,
    k: usize,
    sub: usize,
}

/// One row's record, as it lies in memory; every item has four bytes but those of `bytes` and `fine_bytes`.
#[derive(Clone, Copy)]
pub struct Row {
    /// k bytes, and as many of what they left over.
    pub bytes: *const u8,
    pub fine_bytes: *const u8,
    /// [k / 32] scales, and those of the second part: 0 where there is none.
    pub scales: *const f32,
    pub fine_scales: *const f32,
    /// [k / sub]: −zero · Σ of the sub-block's bytes.
    pub corrections: *const i32,
    pub fine_corrections: *const i32,
    /// [k / sub]: what a minimum is multiplied by, the sum of the sub-block's numbers.
    pub sums: *const f32,
    /// [k / 1024] words: bit b % 32 of word b / 32 where block b has a second part.
    pub marks: *const u32,
}

/// Blocks of one word of marks.
pub const MARKS: usize = 32;
/// Blocks whose largest size is below this become zeros: the inverse of a scale would overflow.
const LEAST: f32 = 1e-36;
/// A block has a second part where its largest size is above so many times the root of its row's mean square.
const OUTLIER: f32 = 6.0;
/// Steps of the second part in one of the first: what is left over is at most half of one.
const FINE: f32 = 254.0;
/// Rows of one task.
const ROWS: usize = 8;

// SAFETY: tasks write records of their own, and only read them later.
unsafe impl Sync for Activations {}

impl Activations {
    /// Quantises m rows of k items, which lie one behind the other.
    ///
    /// # Safety
    /// `x` holds m · k numbers.
    pub unsafe fn of(x: *const f32, m: usize, k: usize, form: &Form) -> Activations {
        let (sub, zero) = (form.sub, form.zero);
        let all = Activations { room: Scratch::new(m * Self::size(k, sub)), k, sub };
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

    /// Floats of a record.
    const fn size(k: usize, sub: usize) -> usize {
        k / 2 + 2 * (k / BLOCK) + 3 * (k / sub) + k.div_ceil(BLOCK * MARKS)
    }

    #[inline(always)]
    pub fn row(&self, i: usize) -> Row {
        let (k, blocks, subs) = (self.k, self.k / BLOCK, self.k / self.sub);
        let at = self.room.pointer().wrapping_add(i * Self::size(k, self.sub));
        let scales = at.wrapping_add(k / 2);
        let corrections = scales.wrapping_add(2 * blocks);
        let sums = corrections.wrapping_add(2 * subs);
        Row {
            bytes: at.cast(),
            fine_bytes: at.wrapping_add(k / 4).cast(),
            scales,
            fine_scales: scales.wrapping_add(blocks),
            corrections: corrections.cast(),
            fine_corrections: corrections.wrapping_add(subs).cast(),
            sums,
            marks: sums.wrapping_add(subs).cast(),
        }
    }
}

dispatch_dots! { unsafe fn quantise(x: *const f32, row: Row, k: usize, sub: usize, zero: i32) = quantise_row }

#[inline(always)]
unsafe fn quantise_row<D: Dots>(x: *const f32, row: Row, k: usize, sub: usize, zero: i32) {
    // SAFETY: the row and its record hold k items.
    unsafe {
        let mut squares = D::S::splat(0.0);
        for i in (0..k).step_by(LANES) {
            let v = D::S::load(x.add(i));
            squares = D::S::fma(v, v, squares);
        }
        let outlier = OUTLIER * (D::S::sum(squares) / k as f32).sqrt();
        let mut mark = 0;
        for b in 0..k / BLOCK {
            let x = x.add(b * BLOCK);
            let v = [D::S::load(x), D::S::load(x.add(LANES))];
            let size = |v| D::S::max(v, D::S::sub(D::S::splat(0.0), v));
            let largest = D::S::max_lane(D::S::max(size(v[0]), size(v[1])));
            // 0, or NaN where a number is infinite or NaN: it spreads to the row's results, as in float32.
            let none = D::S::splat(0.0);
            let zeros = D::S::sum(D::S::add(D::S::mul(v[0], none), D::S::mul(v[1], none)));
            let some = largest >= LEAST;
            let (scale, inverse) = if some { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) };
            let scale = scale + zeros.abs();
            // No `map` over lanes here: its closure would be compiled without the instruction set, and called.
            let q = [D::S::round(D::S::mul(v[0], D::S::splat(inverse))), D::S::round(D::S::mul(v[1], D::S::splat(inverse)))];
            put::<D>(row.bytes, b, q);
            *row.scales.cast_mut().add(b) = scale;
            let fine = some && largest > outlier;
            let (fine_scale, fine_inverse) = if fine { (scale / FINE, inverse * FINE) } else { (0.0, 0.0) };
            let mut rest = [none; 2];
            if fine {
                for i in 0..2 {
                    rest[i] = D::S::round(D::S::mul(D::S::fnma(q[i], D::S::splat(scale), v[i]), D::S::splat(fine_inverse)));
                }
            }
            put::<D>(row.fine_bytes, b, rest);
            *row.fine_scales.cast_mut().add(b) = fine_scale;
            mark |= u32::from(fine) << (b % MARKS);
            *row.marks.cast_mut().add(b / MARKS) = mark;
            if b % MARKS == MARKS - 1 {
                mark = 0;
            }
            // At most 32 · 127: exact.
            let put_sums = |at: usize, sum: f32, rest: f32| {
                *row.corrections.cast_mut().add(at) = -zero * sum as i32;
                *row.fine_corrections.cast_mut().add(at) = -zero * rest as i32;
                *row.sums.cast_mut().add(at) = scale * sum + fine_scale * rest;
            };
            if sub == BLOCK {
                put_sums(b, D::S::sum(D::S::add(q[0], q[1])), D::S::sum(D::S::add(rest[0], rest[1])));
            } else {
                put_sums(2 * b, D::S::sum(q[0]), D::S::sum(rest[0]));
                put_sums(2 * b + 1, D::S::sum(q[1]), D::S::sum(rest[1]));
            }
        }
    }
}

/// Stores the bytes of block b.
#[inline(always)]
unsafe fn put<D: Dots>(bytes: *const u8, b: usize, q: [<D::S as Simd>::F; 2]) {
    // SAFETY: the record has room for the block.
    unsafe {
        let to = bytes.cast_mut().add(b * BLOCK);
        D::store_bytes(to, q[0]);
        D::store_bytes(to.add(LANES), q[1]);
    }
}

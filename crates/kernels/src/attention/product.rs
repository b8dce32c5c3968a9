//! The small matrix products inside attention: register tiles over operands that lie in a task's own memory.
//!
//! Each element is one chain of FMAs in ascending k from 0, whatever tile computes it; what happens to the finished
//! chain is the sink's business.

use super::BLOCK;
use super::ahead::Ahead;
use super::operands::Operands;
use super::pages::Item;
use crate::simd::{LANES, Portable, Simd};

/// How much of a tile an instruction set's registers hold.
pub trait Registers: Simd {
    /// Rows of a tile: 6, or 2 where only correctness counts and code should be small.
    const ROWS: usize;
    /// Six rows of four vectors fit, rather than of one.
    const WIDE: bool;
}

impl Registers for Portable {
    const ROWS: usize = 2;
    const WIDE: bool = false;
}
#[cfg(target_arch = "aarch64")]
impl Registers for crate::simd::Neon {
    const ROWS: usize = 6;
    const WIDE: bool = false;
}
#[cfg(target_arch = "x86_64")]
impl Registers for crate::simd::Avx2 {
    const ROWS: usize = 6;
    const WIDE: bool = false;
}
#[cfg(target_arch = "x86_64")]
impl Registers for crate::simd::Avx512 {
    const ROWS: usize = 6;
    const WIDE: bool = true;
}

/// Σ_k a[row, k]·b[k, column], both as [`Operands`] lays them. The columns of b are neighbours.
#[derive(Clone, Copy)]
pub struct Product<const ACROSS: bool, T = f32> {
    pub a: *const f32,
    /// Distance of the rows or, `ACROSS`, of the terms of a; the others are neighbours.
    pub a_apart: usize,
    pub b: *const T,
    pub b_row: usize,
    pub rows: usize,
}

/// The part of a product that some rows need: columns `columns.0`…`columns.1`, items `terms.0`…`terms.1` of the chains.
#[derive(Clone, Copy)]
pub struct Part {
    pub columns: (usize, usize),
    pub terms: (usize, usize),
}

/// What takes the finished chains.
pub trait Sink {
    /// The part that rows `row`…`row + rows - 1` need.
    fn part(&self, row: usize, rows: usize) -> Part;
    /// One vector of chains, of columns `column`…`column + 15`.
    unsafe fn take<S: Simd>(&self, row: usize, column: usize, chain: S::F);
}

/// Computes the product tile by tile and hands it to the sink; a step ahead for each [`Registers::ROWS`] rows.
///
/// # Safety
/// The operands must hold what the sink's parts ask for, in whole vectors of columns.
#[inline(always)]
pub unsafe fn multiply<S: Registers, O: Operands<S>, T: Item, K: Sink, const ACROSS: bool>(
    p: &Product<ACROSS, T>,
    sink: &K,
    ahead: &mut Ahead,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut row = 0;
        while row < p.rows {
            let rows = (p.rows - row).min(S::ROWS);
            let mut part = sink.part(row, rows);
            // What shares a term with a needed item is 0 in one of the operands.
            part.terms = (part.terms.0 / O::PER, part.terms.1.div_ceil(O::PER));
            ahead.step::<S>();
            if part.columns.0 < part.columns.1 {
                // Few rows take more columns at once, to keep enough chains in flight.
                if S::ROWS == 2 {
                    match rows {
                        1 => sweep::<S, O, T, K, ACROSS, 1, 1, 1>(p, sink, row, part),
                        _ => sweep::<S, O, T, K, ACROSS, 2, 1, 1>(p, sink, row, part),
                    }
                } else if S::WIDE {
                    match rows {
                        1 => sweep::<S, O, T, K, ACROSS, 1, 4, 2>(p, sink, row, part),
                        2 => sweep::<S, O, T, K, ACROSS, 2, 4, 2>(p, sink, row, part),
                        3 => sweep::<S, O, T, K, ACROSS, 3, 4, 2>(p, sink, row, part),
                        4 => sweep::<S, O, T, K, ACROSS, 4, 4, 2>(p, sink, row, part),
                        5 => sweep::<S, O, T, K, ACROSS, 5, 4, 2>(p, sink, row, part),
                        _ => sweep::<S, O, T, K, ACROSS, 6, 4, 2>(p, sink, row, part),
                    }
                } else {
                    match rows {
                        1 => sweep::<S, O, T, K, ACROSS, 1, 4, 2>(p, sink, row, part),
                        2 => sweep::<S, O, T, K, ACROSS, 2, 2, 1>(p, sink, row, part),
                        3 => sweep::<S, O, T, K, ACROSS, 3, 1, 1>(p, sink, row, part),
                        4 => sweep::<S, O, T, K, ACROSS, 4, 1, 1>(p, sink, row, part),
                        5 => sweep::<S, O, T, K, ACROSS, 5, 1, 1>(p, sink, row, part),
                        _ => sweep::<S, O, T, K, ACROSS, 6, 1, 1>(p, sink, row, part),
                    }
                }
            }
            row += rows;
        }
    }
}

/// R rows, V vectors of columns at once; W and then one where fewer are left.
#[inline(always)]
unsafe fn sweep<S: Registers, O: Operands<S>, T: Item, K: Sink, const ACROSS: bool, const R: usize, const V: usize, const W: usize>(
    p: &Product<ACROSS, T>,
    sink: &K,
    row: usize,
    part: Part,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut column = part.columns.0 / LANES * LANES;
        let end = part.columns.1.next_multiple_of(LANES);
        if V > 1 {
            while column + V * LANES <= end {
                tile::<S, O, T, K, ACROSS, R, V>(p, sink, row, column, part.terms);
                column += V * LANES;
            }
        }
        if W > 1 && column + W * LANES <= end {
            tile::<S, O, T, K, ACROSS, R, W>(p, sink, row, column, part.terms);
            column += W * LANES;
        }
        while column < end {
            tile::<S, O, T, K, ACROSS, R, 1>(p, sink, row, column, part.terms);
            column += LANES;
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Registers, O: Operands<S>, T: Item, K: Sink, const ACROSS: bool, const R: usize, const V: usize>(
    p: &Product<ACROSS, T>,
    sink: &K,
    row: usize,
    column: usize,
    terms: (usize, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut chains = [[S::splat(0.0); V]; R];
        let (a_row, a_step) = if ACROSS { (1, p.a_apart) } else { (p.a_apart, 1) };
        let mut a = p.a.add(row * a_row + terms.0 * a_step);
        let mut b = p.b.add(terms.0 * p.b_row + column);
        // A macro, not a closure: a closure would be compiled without the instruction set's features.
        macro_rules! step {
            ($a:expr) => {
                let mut v = [S::splat(0.0); V];
                for j in 0..V {
                    v[j] = T::load::<S>(b.add(j * LANES));
                }
                for i in 0..R {
                    let x = O::splat($a.add(i * a_row));
                    for j in 0..V {
                        chains[i][j] = O::step(x, v[j], chains[i][j]);
                    }
                }
                b = b.add(p.b_row);
            };
        }
        let mut left = terms.1 - terms.0;
        while left >= 4 {
            step!(a);
            step!(a.add(a_step));
            step!(a.add(2 * a_step));
            step!(a.add(3 * a_step));
            a = a.add(4 * a_step);
            left -= 4;
        }
        while left > 0 {
            step!(a);
            a = a.add(a_step);
            left -= 1;
        }
        for i in 0..R {
            for j in 0..V {
                sink.take::<S>(row + i, column + j * LANES, chains[i][j]);
            }
        }
    }
}

/// [`Simd::load_n`] and [`Simd::store_n`] of what is left of a row of `n` items at item `d`: whole vectors need no mask, which
/// costs more than the rest of a copy.
#[inline(always)]
pub unsafe fn load_left<S: Simd>(row: *const f32, d: usize, n: usize) -> S::F {
    // SAFETY: the caller promises the row.
    unsafe { if d + LANES <= n { S::load(row.add(d)) } else { S::load_n(row.add(d), n - d) } }
}

/// See [`load_left`].
#[inline(always)]
pub unsafe fn store_left<S: Simd>(row: *mut f32, d: usize, n: usize, x: S::F) {
    // SAFETY: the caller promises the row.
    unsafe { if d + LANES <= n { S::store(row.add(d), x) } else { S::store_n(row.add(d), x, n - d) } }
}

/// Σ a·b of two rows, in 16 lanes.
#[inline(always)]
pub unsafe fn dot<S: Simd>(a: *const f32, b: *const f32, n: usize) -> f32 {
    // SAFETY: the caller promises n items behind both.
    unsafe {
        let mut sum = S::splat(0.0);
        for d in (0..n).step_by(LANES) {
            sum = S::fma(load_left::<S>(a, d, n), load_left::<S>(b, d, n), sum);
        }
        S::sum(sum)
    }
}

/// Writes the transpose of `rows` (up to 64) rows of `n` items as n rows of 64, the items behind the `rows`-th 0; 8
/// steps ahead.
///
/// # Safety
/// `from` must hold the rows, `to` n × 64 items.
#[inline(always)]
pub unsafe fn transpose_to_64<S: Simd>(from: *const f32, from_row: usize, rows: usize, n: usize, to: *mut f32, ahead: &mut Ahead) {
    // SAFETY: as promised above.
    unsafe {
        let whole = n - n % 8;
        for r in (0..BLOCK).step_by(8) {
            ahead.step::<S>();
            let some = rows.saturating_sub(r).min(8);
            if some > 0 {
                let from = from.add(r * from_row);
                for d in (0..whole).step_by(8) {
                    S::transpose8(from.add(d), from_row, some, to.add(d * BLOCK + r), BLOCK);
                }
                for d in whole..n {
                    for i in 0..some {
                        *to.add(d * BLOCK + r + i) = *from.add(i * from_row + d);
                    }
                }
            }
            if some < 8 {
                for d in 0..n {
                    to.add(d * BLOCK + r + some).write_bytes(0, 8 - some);
                }
            }
        }
    }
}

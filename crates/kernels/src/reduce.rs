//! Reductions along the middle dimension of (outer, n, inner), places of extremes, and running sums.

use crate::dispatch;
use crate::lanes::fill_from;
use crate::pool::{parallel_blocks, parallel_for};
use crate::shared::Shared;
use crate::simd::{LANES, Simd};

/// Items that one parallel task reads.
const BLOCK: usize = 16_384;
/// A long row is reduced in parts of this many items, and the parts in ascending order: a bound on the rounding error,
/// and work for more than one thread that is the same for any number of them.
const PART: usize = 65_536;
/// Columns of one task where inner > 1.
const COLUMNS: usize = 256;

/// The reductions, by the codes of `REDUCTIONS` in `src/tensor/kernels.ts`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    Sum,
    Max,
    Min,
    Prod,
}

impl Reduction {
    pub fn from_code(code: i64) -> Option<Reduction> {
        use Reduction::*;
        [Sum, Max, Min, Prod].get(usize::try_from(code).ok()?).copied()
    }

    /// What a reduction of nothing gives.
    #[inline(always)]
    fn start(self) -> f32 {
        match self {
            Reduction::Sum => 0.0,
            Reduction::Max => f32::NEG_INFINITY,
            Reduction::Min => f32::INFINITY,
            Reduction::Prod => 1.0,
        }
    }

    #[inline(always)]
    fn step(self, a: f32, x: f32) -> f32 {
        match self {
            Reduction::Sum => a + x,
            Reduction::Prod => a * x,
            Reduction::Max => {
                if a.is_nan() || a > x {
                    a
                } else {
                    x
                }
            }
            Reduction::Min => {
                if a.is_nan() || a < x {
                    a
                } else {
                    x
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn step_lanes<S: Simd>(self, a: S::F, x: S::F) -> S::F {
        // SAFETY: no memory is touched.
        unsafe {
            match self {
                Reduction::Sum => S::add(a, x),
                Reduction::Prod => S::mul(a, x),
                // `max` and `min` give x where either is NaN; where that is a, a is the answer.
                Reduction::Max => S::select_eq(a, a, S::max(a, x), a),
                Reduction::Min => S::select_eq(a, a, S::min(a, x), a),
            }
        }
    }
}

/// `out[o, i]` = reduction over j of `x[o, j, i]`.
///
/// # Safety
/// `x` holds outer × n × inner items, `out` outer × inner; they do not overlap.
pub unsafe fn reduce(kind: Reduction, x: *const f32, out: *mut f32, outer: usize, n: usize, inner: usize) {
    let (x, out) = (Shared::new(x), Shared::new(out));
    // SAFETY: tasks write disjoint items; all reads lie inside x.
    unsafe {
        if inner == 1 && n > PART {
            for o in 0..outer {
                let mut parts = vec![0f32; n.div_ceil(PART)];
                let each = Shared::new(parts.as_mut_ptr());
                parallel_for(parts.len(), |p| {
                    let (from, to) = (p * PART, ((p + 1) * PART).min(n));
                    reduce_rows(kind, x.at(o * n + from), each.at(p), 1, to - from);
                });
                *out.at(o) = parts[1..].iter().fold(parts[0], |a, &b| kind.step(a, b));
            }
        } else if inner == 1 {
            parallel_blocks(outer, (BLOCK / n.max(1)).max(1), |from, to| reduce_rows(kind, x.at(from * n), out.at(from), to - from, n));
        } else {
            each_strip(outer, n, inner, |o, column, width| {
                reduce_strip(kind, x.at(o * n * inner + column), out.at(o * inner + column), n, inner, width);
            });
        }
    }
}

/// Runs `task(outer index, first column, columns)` over strips of columns, in parallel, several strips a task where they are small.
fn each_strip(outer: usize, n: usize, inner: usize, task: impl Fn(usize, usize, usize) + Sync) {
    let strips = inner.div_ceil(COLUMNS);
    let each = (BLOCK / (n * inner.min(COLUMNS)).max(1)).max(1);
    parallel_blocks(outer * strips, each, |from, to| {
        for s in from..to {
            let column = s % strips * COLUMNS;
            task(s / strips, column, COLUMNS.min(inner - column));
        }
    });
}

dispatch! { unsafe fn reduce_rows(kind: Reduction, x: *const f32, out: *mut f32, rows: usize, n: usize) = reduce_rows_on }
dispatch! { unsafe fn reduce_strip(kind: Reduction, x: *const f32, out: *mut f32, n: usize, inner: usize, width: usize) = reduce_strip_on }

#[inline(always)]
unsafe fn reduce_rows_on<S: Simd>(kind: Reduction, x: *const f32, out: *mut f32, rows: usize, n: usize) {
    // SAFETY: the caller promises rows × n items.
    unsafe {
        // A constant kind in each arm, so that the loop holds one operation.
        match kind {
            Reduction::Sum => (0..rows).for_each(|r| *out.add(r) = row::<S>(Reduction::Sum, x.add(r * n), n)),
            Reduction::Max => (0..rows).for_each(|r| *out.add(r) = row::<S>(Reduction::Max, x.add(r * n), n)),
            Reduction::Min => (0..rows).for_each(|r| *out.add(r) = row::<S>(Reduction::Min, x.add(r * n), n)),
            Reduction::Prod => (0..rows).for_each(|r| *out.add(r) = row::<S>(Reduction::Prod, x.add(r * n), n)),
        }
    }
}

/// One row in 16 lanes, folded by the tree of [`Simd::sum`].
#[inline(always)]
unsafe fn row<S: Simd>(kind: Reduction, x: *const f32, n: usize) -> f32 {
    // SAFETY: the caller promises n items.
    unsafe {
        let whole = n - n % LANES;
        let mut a = S::splat(kind.start());
        let mut i = 0;
        while i < whole {
            a = kind.step_lanes::<S>(a, S::load(x.add(i)));
            i += LANES;
        }
        if whole < n {
            a = kind.step_lanes::<S>(a, fill_from::<S>(S::load_n(x.add(whole), n - whole), n - whole, kind.start()));
        }
        let mut lanes = [0f32; LANES];
        S::store(lanes.as_mut_ptr(), a);
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] = kind.step(lanes[i], lanes[i + half]);
            }
            half /= 2;
        }
        lanes[0]
    }
}

#[inline(always)]
unsafe fn reduce_strip_on<S: Simd>(kind: Reduction, x: *const f32, out: *mut f32, n: usize, inner: usize, width: usize) {
    // SAFETY: the caller promises n rows of `inner` items and `width` columns of out.
    unsafe {
        match kind {
            Reduction::Sum => strip::<S>(Reduction::Sum, x, out, n, inner, width),
            Reduction::Max => strip::<S>(Reduction::Max, x, out, n, inner, width),
            Reduction::Min => strip::<S>(Reduction::Min, x, out, n, inner, width),
            Reduction::Prod => strip::<S>(Reduction::Prod, x, out, n, inner, width),
        }
    }
}

/// Each column in ascending j; four rows at a time pass over the results, which stay in the first cache.
#[inline(always)]
unsafe fn strip<S: Simd>(kind: Reduction, x: *const f32, out: *mut f32, n: usize, inner: usize, width: usize) {
    // SAFETY: as `reduce_strip`.
    unsafe {
        let mut c = 0;
        while c < width {
            let part = (width - c).min(LANES);
            S::store_n(out.add(c), S::splat(kind.start()), part);
            c += LANES;
        }
        let whole = width - width % LANES;
        let mut j = 0;
        while j < n {
            let rows = (n - j).min(4);
            let x = x.add(j * inner);
            let mut c = 0;
            while c < whole {
                let mut a = S::load(out.add(c));
                if rows == 4 {
                    a = kind.step_lanes::<S>(a, S::load(x.add(c)));
                    a = kind.step_lanes::<S>(a, S::load(x.add(inner + c)));
                    a = kind.step_lanes::<S>(a, S::load(x.add(2 * inner + c)));
                    a = kind.step_lanes::<S>(a, S::load(x.add(3 * inner + c)));
                } else {
                    for r in 0..rows {
                        a = kind.step_lanes::<S>(a, S::load(x.add(r * inner + c)));
                    }
                }
                S::store(out.add(c), a);
                c += LANES;
            }
            if c < width {
                let mut a = S::load_n(out.add(c), width - c);
                for r in 0..rows {
                    a = kind.step_lanes::<S>(a, S::load_n(x.add(r * inner + c), width - c));
                }
                S::store_n(out.add(c), a, width - c);
            }
            j += rows;
        }
    }
}

/// `out[o, i]` = the place of the largest (`least`: smallest) of `x[o, ·, i]`: the first of equals, or the first NaN.
///
/// # Safety
/// As [`reduce`]; n is not 0 unless outer × inner is.
pub unsafe fn arg_reduce(least: bool, x: *const f32, out: *mut i32, outer: usize, n: usize, inner: usize) {
    let (x, out) = (Shared::new(x), Shared::new(out));
    // SAFETY: tasks write disjoint items.
    unsafe {
        if inner == 1 {
            let kind = if least { Reduction::Min } else { Reduction::Max };
            parallel_blocks(outer, (BLOCK / n.max(1)).max(1), |from, to| {
                for o in from..to {
                    let mut extreme = 0f32;
                    reduce_rows(kind, x.at(o * n), &raw mut extreme, 1, n);
                    *out.at(o) = place_of(std::slice::from_raw_parts(x.at(o * n), n), extreme) as i32;
                }
            });
        } else {
            each_strip(outer, n, inner, |o, column, width| {
                arg_strip(least, x.at(o * n * inner + column), out.at(o * inner + column), n, inner, width);
            });
        }
    }
}

/// The first item equal to `value`, or the first NaN if that is NaN.
fn place_of(row: &[f32], value: f32) -> usize {
    const CHUNK: usize = 64;
    let hit = |v: &f32| if value.is_nan() { v.is_nan() } else { *v == value };
    // Whole chunks without a branch inside, so that the search runs in vectors.
    let skipped = row.chunks_exact(CHUNK).take_while(|c| !c.iter().fold(false, |any, v| any | hit(v))).count() * CHUNK;
    skipped + row[skipped..].iter().position(hit).unwrap_or(0)
}

dispatch! { unsafe fn arg_strip(least: bool, x: *const f32, out: *mut i32, n: usize, inner: usize, width: usize) = arg_strip_on }

#[inline(always)]
unsafe fn arg_strip_on<S: Simd>(least: bool, x: *const f32, out: *mut i32, n: usize, inner: usize, width: usize) {
    // SAFETY: the caller promises n rows of `inner` items and `width` columns of out; width is at most COLUMNS.
    unsafe {
        let mut best = [0f32; COLUMNS];
        let places = std::slice::from_raw_parts_mut(out, width);
        let sign = if least { -1.0 } else { 1.0 };
        for j in 0..n {
            let row = std::slice::from_raw_parts(x.add(j * inner), width);
            for ((v, best), place) in row.iter().zip(&mut best).zip(&mut *places) {
                let v = v * sign;
                // Not `v > best`: against a NaN item the first alternative is true, and a NaN that leads stays.
                let better = (j == 0) | (!(v <= *best) & !best.is_nan());
                *best = if better { v } else { *best };
                *place = if better { j as i32 } else { *place };
            }
        }
    }
}

/// Running sums along n, ascending, or from the end with `reverse`.
///
/// # Safety
/// Both hold outer × n × inner items and do not overlap.
pub unsafe fn cumsum(x: *const f32, out: *mut f32, outer: usize, n: usize, inner: usize, reverse: bool) {
    let (x, out) = (Shared::new(x), Shared::new(out));
    if inner == 1 {
        parallel_blocks(outer, (BLOCK / n.max(1)).max(1), |from, to| {
            for start in (from..to).map(|o| o * n) {
                let mut sum = 0.0;
                for step in 0..n {
                    let p = start + if reverse { n - 1 - step } else { step };
                    // SAFETY: rows of this task.
                    unsafe {
                        sum += *x.at(p);
                        *out.at(p) = sum;
                    }
                }
            }
        });
        return;
    }
    each_strip(outer, n, inner, |o, column, width| {
        let start = o * n * inner + column;
        let mut before = None;
        for step in 0..n {
            let row = start + if reverse { n - 1 - step } else { step } * inner;
            // SAFETY: rows of a strip that belongs to this task alone.
            unsafe {
                let from = std::slice::from_raw_parts(x.at(row), width);
                let to = std::slice::from_raw_parts_mut(out.at(row), width);
                match before {
                    None => to.copy_from_slice(from),
                    Some(b) => {
                        let sums = std::slice::from_raw_parts(out.at(b), width);
                        for i in 0..width {
                            to[i] = sums[i] + from[i];
                        }
                    }
                }
            }
            before = Some(row);
        }
    });
}

#[cfg(test)]
mod tests;

//! Rotary position embedding (Su et al. 2021).

use crate::dispatch;
use crate::pool::parallel_blocks;
use crate::simd::{LANES, Simd};

/// Items that one parallel task turns.
const TASK_ITEMS: usize = 16_384;

/// The operands: x seen as (rows, heads, head_dim) with rows `x_row` apart; `out` may be `x`.
pub struct Rope {
    pub x: *const f32,
    pub x_row: usize,
    pub out: *mut f32,
    pub out_row: usize,
    /// Tables of (positions, rotary / 2).
    pub cos: *const f32,
    pub sin: *const f32,
    pub positions: *const i32,
    pub rows: usize,
    pub heads: usize,
    pub head_dim: usize,
    /// Items of a head that are turned: even, at most `head_dim`.
    pub rotary: usize,
    /// Pairs are neighbours instead of halves.
    pub interleaved: bool,
    /// Turns back: the gradient.
    pub inverse: bool,
}

// SAFETY: tasks write disjoint rows.
unsafe impl Sync for Rope {}

/// Turns each head of each row by its position's angles.
///
/// # Safety
/// The pointers must hold what [`Rope`] says, and the tables a row for each position.
pub unsafe fn rope(job: &Rope) {
    let block = (TASK_ITEMS / (job.heads * job.head_dim).max(1)).max(1);
    // SAFETY: blocks are disjoint rows; the rest is the caller's promise.
    parallel_blocks(job.rows, block, |from, to| unsafe { rope_rows(job, from, to) });
}

dispatch! { unsafe fn rope_rows(job: &Rope, from: usize, to: usize) = rope_rows_on }

#[inline(always)]
unsafe fn rope_rows_on<S: Simd>(job: &Rope, from: usize, to: usize) {
    // SAFETY: the caller promises room for every row and table row used here.
    unsafe {
        let half = job.rotary / 2;
        let rest = job.head_dim - job.rotary;
        for r in from..to {
            let at = *job.positions.add(r) as usize * half;
            let (cos, sin) = (job.cos.add(at), job.sin.add(at));
            for h in 0..job.heads {
                let x = job.x.add(r * job.x_row + h * job.head_dim);
                let out = job.out.add(r * job.out_row + h * job.head_dim);
                if job.interleaved {
                    turn_neighbours(x, out, cos, sin, half, job.inverse);
                } else {
                    turn_halves::<S>(x, out, cos, sin, half, job.inverse);
                }
                if rest > 0 && out.cast_const() != x {
                    out.add(job.rotary).copy_from_nonoverlapping(x.add(job.rotary), rest);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn turn_halves<S: Simd>(x: *const f32, out: *mut f32, cos: *const f32, sin: *const f32, half: usize, inverse: bool) {
    // SAFETY: the caller promises 2 · half items behind x and out and `half` behind the tables.
    unsafe {
        let sign = S::splat(if inverse { -1.0 } else { 1.0 });
        let mut i = 0;
        while i < half {
            let some = (half - i).min(LANES);
            let (a, b) = (S::load_n(x.add(i), some), S::load_n(x.add(half + i), some));
            let c = S::load_n(cos.add(i), some);
            let s = S::mul(S::load_n(sin.add(i), some), sign);
            S::store_n(out.add(i), S::fnma(b, s, S::mul(a, c)), some);
            S::store_n(out.add(half + i), S::fma(a, s, S::mul(b, c)), some);
            i += LANES;
        }
    }
}

#[inline(always)]
unsafe fn turn_neighbours(x: *const f32, out: *mut f32, cos: *const f32, sin: *const f32, half: usize, inverse: bool) {
    // SAFETY: as above.
    unsafe {
        for i in 0..half {
            let (a, b) = (*x.add(2 * i), *x.add(2 * i + 1));
            let c = *cos.add(i);
            let s = if inverse { -*sin.add(i) } else { *sin.add(i) };
            *out.add(2 * i) = (-b).mul_add(s, a * c);
            *out.add(2 * i + 1) = a.mul_add(s, b * c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, noise, same_everywhere};

    const POSITIONS: usize = 40;

    struct Shape {
        rows: usize,
        heads: usize,
        head_dim: usize,
        rotary: usize,
        interleaved: bool,
    }

    fn tables(half: usize) -> (Vec<f32>, Vec<f32>) {
        let angle = |i: usize| (i / half) as f64 * 10_000f64.powf(-((i % half) as f64) / half as f64);
        let n = POSITIONS * half;
        ((0..n).map(|i| angle(i).cos() as f32).collect(), (0..n).map(|i| angle(i).sin() as f32).collect())
    }

    fn positions(rows: usize) -> Vec<i32> {
        (0..rows).map(|r| ((r * 13) % POSITIONS) as i32).collect()
    }

    /// Rows lie three items further apart than they are long.
    fn run(s: &Shape, x: &[f32], inverse: bool) -> Vec<f32> {
        let (cos, sin) = tables((s.rotary / 2).max(1));
        let row = s.heads * s.head_dim + 3;
        let at = positions(s.rows);
        let mut out = x.to_vec();
        let job = Rope {
            x: out.as_ptr(),
            x_row: row,
            out: out.as_mut_ptr(),
            out_row: row,
            cos: cos.as_ptr(),
            sin: sin.as_ptr(),
            positions: at.as_ptr(),
            rows: s.rows,
            heads: s.heads,
            head_dim: s.head_dim,
            rotary: s.rotary,
            interleaved: s.interleaved,
            inverse,
        };
        // SAFETY: the vectors have the promised lengths.
        unsafe { rope(&job) };
        out
    }

    fn twin(s: &Shape, x: &[f32]) -> Vec<f64> {
        let half = s.rotary / 2;
        let (cos, sin) = tables(half.max(1));
        let row = s.heads * s.head_dim + 3;
        let mut out: Vec<f64> = x.iter().map(|&v| v.into()).collect();
        for (r, &p) in positions(s.rows).iter().enumerate() {
            for h in 0..s.heads {
                for i in 0..half {
                    let base = r * row + h * s.head_dim;
                    let (i1, i2) = if s.interleaved { (base + 2 * i, base + 2 * i + 1) } else { (base + i, base + half + i) };
                    let (c, n) = (f64::from(cos[p as usize * half + i]), f64::from(sin[p as usize * half + i]));
                    let (a, b) = (f64::from(x[i1]), f64::from(x[i2]));
                    (out[i1], out[i2]) = (a * c - b * n, a * n + b * c);
                }
            }
        }
        out
    }

    #[test]
    fn agrees_with_float64_turns_back_and_is_the_same_everywhere() {
        for (rows, heads, head_dim, rotary) in [(0, 1, 8, 8), (1, 1, 2, 2), (5, 3, 10, 6), (300, 2, 64, 64), (7, 2, 50, 50), (4, 2, 8, 0)] {
            for interleaved in [false, true] {
                let s = Shape { rows, heads, head_dim, rotary, interleaved };
                let x = noise(rows * (heads * head_dim + 3), 9);
                let got = same_everywhere(|| run(&s, &x, false));
                assert_close(&got, &twin(&s, &x), 1e-6, "turned");
                let back = run(&s, &got, true);
                let want: Vec<f64> = x.iter().map(|&v| v.into()).collect();
                assert_close(&back, &want, 2e-6, "turned back");
            }
        }
    }
}

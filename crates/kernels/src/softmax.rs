//! Softmax and log-softmax of rows, forward and backward.

use crate::dispatch;
use crate::lanes::{fill_from, first};
use crate::math;
use crate::pool::parallel_blocks;
use crate::simd::{LANES, Simd};

/// Items that one parallel task works on.
const TASK_ITEMS: usize = 16_384;

fn rows_per_task(n: usize) -> usize {
    (TASK_ITEMS / n.max(1)).max(1)
}

/// `rows` rows of `n` items; `out` may be `x`.
pub struct Softmax {
    pub x: *const f32,
    pub out: *mut f32,
    pub rows: usize,
    pub n: usize,
    pub log: bool,
}

// SAFETY: tasks write disjoint rows.
unsafe impl Sync for Softmax {}

/// `y` is the result of the forward pass; `gx` may be `gy`.
pub struct SoftmaxGrad {
    pub y: *const f32,
    pub gy: *const f32,
    pub gx: *mut f32,
    pub rows: usize,
    pub n: usize,
    pub log: bool,
}

// SAFETY: tasks write disjoint rows.
unsafe impl Sync for SoftmaxGrad {}

/// Softmax of each row, or its logarithm.
///
/// # Safety
/// The pointers must hold `rows × n` items.
pub unsafe fn softmax(job: &Softmax) {
    // SAFETY: blocks are disjoint rows; the rest is the caller's promise.
    parallel_blocks(job.rows, rows_per_task(job.n), |from, to| unsafe { softmax_rows(job, from, to) });
}

/// The gradient of [`softmax`].
///
/// # Safety
/// As [`softmax`].
pub unsafe fn softmax_grad(job: &SoftmaxGrad) {
    // SAFETY: blocks are disjoint rows; the rest is the caller's promise.
    parallel_blocks(job.rows, rows_per_task(job.n), |from, to| unsafe { softmax_grad_rows(job, from, to) });
}

/// The largest item of a row. A NaN may be passed over: the sum of the exponentials finds it.
///
/// # Safety
/// `x` must hold `n` items.
#[inline(always)]
pub(crate) unsafe fn row_max<S: Simd>(x: *const f32, n: usize) -> f32 {
    // SAFETY: reads stay below n.
    unsafe {
        let whole = n - n % LANES;
        let mut most = fill_from::<S>(S::load_n(x.add(whole), n - whole), n - whole, f32::NEG_INFINITY);
        let mut j = 0;
        while j < whole {
            most = S::max(most, S::load(x.add(j)));
            j += LANES;
        }
        S::max_lane(most)
    }
}

/// Σ e^(x − max) in 16 lanes; the exponentials go to `out` where given.
///
/// # Safety
/// `x` and `out` must hold `n` items; they may be the same.
#[inline(always)]
pub(crate) unsafe fn row_exp_sum<S: Simd>(x: *const f32, n: usize, max: f32, out: Option<*mut f32>) -> f32 {
    // SAFETY: reads and writes stay below n.
    unsafe {
        let whole = n - n % LANES;
        let tail = n - whole;
        let centre = S::splat(max);
        let mut sum = S::splat(0.0);
        let mut j = 0;
        while j < whole {
            let e = math::exp_nonpositive::<S>(S::sub(S::load(x.add(j)), centre));
            if let Some(out) = out {
                S::store(out.add(j), e);
            }
            sum = S::add(sum, e);
            j += LANES;
        }
        if tail > 0 {
            let e = math::exp_nonpositive::<S>(S::sub(S::load_n(x.add(whole), tail), centre));
            if let Some(out) = out {
                S::store_n(out.add(whole), e, tail);
            }
            sum = S::add(sum, fill_from::<S>(e, tail, 0.0));
        }
        S::sum(sum)
    }
}

dispatch! { unsafe fn softmax_rows(job: &Softmax, from: usize, to: usize) = softmax_rows_on }

#[inline(always)]
unsafe fn softmax_rows_on<S: Simd>(job: &Softmax, from: usize, to: usize) {
    // SAFETY: the caller promises room for every row read or written here.
    unsafe {
        let n = job.n;
        for r in from..to {
            let x = job.x.add(r * n);
            let out = job.out.add(r * n);
            let max = row_max::<S>(x, n);
            if job.log {
                let sum = row_exp_sum::<S>(x, n, max, None);
                let centre = S::splat(max);
                let log_sum = math::log::<S>(S::splat(sum));
                let mut j = 0;
                while j < n {
                    let some = (n - j).min(LANES);
                    let y = S::sub(S::sub(S::load_n(x.add(j), some), centre), log_sum);
                    S::store_n(out.add(j), y, some);
                    j += LANES;
                }
            } else {
                let sum = S::splat(row_exp_sum::<S>(x, n, max, Some(out)));
                let mut j = 0;
                while j < n {
                    let some = (n - j).min(LANES);
                    S::store_n(out.add(j), S::div(S::load_n(out.add(j), some), sum), some);
                    j += LANES;
                }
            }
        }
    }
}

dispatch! { unsafe fn softmax_grad_rows(job: &SoftmaxGrad, from: usize, to: usize) = softmax_grad_rows_on }

#[inline(always)]
unsafe fn softmax_grad_rows_on<S: Simd>(job: &SoftmaxGrad, from: usize, to: usize) {
    // SAFETY: the caller promises room for every row read or written here.
    unsafe {
        let n = job.n;
        for r in from..to {
            let (y, gy, gx) = (job.y.add(r * n), job.gy.add(r * n), job.gx.add(r * n));
            let mut sum = S::splat(0.0);
            let mut j = 0;
            while j < n {
                let some = (n - j).min(LANES);
                let g = S::load_n(gy.add(j), some);
                sum = if job.log { S::add(sum, g) } else { S::fma(g, S::load_n(y.add(j), some), sum) };
                j += LANES;
            }
            let total = S::splat(S::sum(sum));
            let mut j = 0;
            while j < n {
                let some = (n - j).min(LANES);
                let (g, y) = (S::load_n(gy.add(j), some), S::load_n(y.add(j), some));
                let v = if job.log { S::fnma(math::exp_nonpositive::<S>(y), total, g) } else { S::mul(y, S::sub(g, total)) };
                S::store_n(gx.add(j), v, some);
                j += LANES;
            }
        }
    }
}

/// ln x of one number, by the lanes' polynomial.
///
/// # Safety
/// As every function of [`Simd`].
#[inline(always)]
pub(crate) unsafe fn log_of<S: Simd>(x: f32) -> f32 {
    // SAFETY: no memory is touched.
    unsafe { first::<S>(math::log::<S>(S::splat(x))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, noise, same_everywhere};

    fn run(x: &[f32], gy: &[f32], rows: usize, n: usize, log: bool) -> Vec<f32> {
        let mut out = x.to_vec();
        let mut gx = gy.to_vec();
        // In place, both ways.
        let job = Softmax { x: out.as_ptr(), out: out.as_mut_ptr(), rows, n, log };
        // SAFETY: the vectors hold rows × n items.
        unsafe { softmax(&job) };
        let grad = SoftmaxGrad { y: out.as_ptr(), gy: gx.as_ptr(), gx: gx.as_mut_ptr(), rows, n, log };
        // SAFETY: as above.
        unsafe { softmax_grad(&grad) };
        [out, gx].concat()
    }

    fn twin(x: &[f32], gy: &[f32], rows: usize, n: usize, log: bool) -> Vec<f64> {
        let (mut out, mut gx) = (Vec::new(), Vec::new());
        for r in 0..rows {
            let x: Vec<f64> = x[r * n..(r + 1) * n].iter().map(|&v| v.into()).collect();
            let g: Vec<f64> = gy[r * n..(r + 1) * n].iter().map(|&v| v.into()).collect();
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = x.iter().map(|v| (v - max).exp()).sum();
            let p: Vec<f64> = x.iter().map(|v| (v - max).exp() / sum).collect();
            let dot: f64 = if log { g.iter().sum() } else { g.iter().zip(&p).map(|(a, b)| a * b).sum() };
            for j in 0..n {
                out.push(if log { x[j] - max - sum.ln() } else { p[j] });
                gx.push(if log { g[j] - p[j] * dot } else { p[j] * (g[j] - dot) });
            }
        }
        [out, gx].concat()
    }

    #[test]
    fn agrees_with_float64_and_is_the_same_everywhere() {
        for (rows, n) in [(0, 4), (1, 1), (3, 5), (2, 16), (70, 33), (300, 65), (2, 5000)] {
            let x: Vec<f32> = noise(rows * n, 5).iter().map(|v| v * 6.0).collect();
            let gy = noise(rows * n, 6);
            for log in [false, true] {
                let got = same_everywhere(|| run(&x, &gy, rows, n, log));
                assert_close(&got, &twin(&x, &gy, rows, n, log), 3e-6, &format!("{rows}x{n} log {log}"));
            }
        }
    }

    #[test]
    fn infinities_and_nan_do_as_in_pytorch() {
        let inf = f32::INFINITY;
        for log in [false, true] {
            let mut y = [vec![-inf; 3], vec![0.0, -inf, 0.0], vec![0.0, f32::NAN, 1.0], vec![inf, 0.0, 0.0]].concat();
            // SAFETY: four rows of three.
            unsafe { softmax(&Softmax { x: y.as_ptr(), out: y.as_mut_ptr(), rows: 4, n: 3, log }) };
            assert!(y[..3].iter().all(|v| v.is_nan()));
            let half = if log { -std::f32::consts::LN_2 } else { 0.5 };
            assert_eq!(y[3..6], [half, if log { -inf } else { 0.0 }, half]);
            assert!(y[6..].iter().all(|v| v.is_nan()) || log && y[9..].iter().any(|v| v.is_nan()));
        }
    }
}

//! Cross-entropy of rows of logits with a target each, forward and backward.

use crate::dispatch;
use crate::lanes::first;
use crate::math;
use crate::pool::parallel_blocks;
use crate::simd::{LANES, Simd};
use crate::softmax::{log_of, row_exp_sum, row_max};

/// Items that one parallel task works on.
const TASK_ITEMS: usize = 16_384;

/// `rows` rows of `n` logits; `losses` and `lse` have `rows` items.
pub struct CrossEntropy {
    pub logits: *const f32,
    pub targets: *const i32,
    pub losses: *mut f32,
    pub lse: *mut f32,
    pub rows: usize,
    pub n: usize,
    pub ignore: i32,
    pub smoothing: f32,
}

// SAFETY: tasks write disjoint rows.
unsafe impl Sync for CrossEntropy {}

/// `gx` may be the logits; row r's gradient is multiplied by `scale[r · scale_stride]`.
pub struct CrossEntropyGrad {
    pub logits: *const f32,
    pub targets: *const i32,
    pub lse: *const f32,
    pub scale: *const f32,
    pub scale_stride: usize,
    pub gx: *mut f32,
    pub rows: usize,
    pub n: usize,
    pub ignore: i32,
    pub smoothing: f32,
}

// SAFETY: tasks write disjoint rows.
unsafe impl Sync for CrossEntropyGrad {}

/// The first target that is neither `ignore` nor in 0 … n − 1: its row and value.
///
/// # Safety
/// `targets` must hold `rows` items.
pub unsafe fn bad_target(targets: *const i32, rows: usize, n: usize, ignore: i32) -> Option<(usize, i32)> {
    // SAFETY: r is below `rows`.
    (0..rows).map(|r| (r, unsafe { *targets.add(r) })).find(|&(_, t)| t != ignore && usize::try_from(t).map_or(true, |t| t >= n))
}

/// Each row's loss and logsumexp.
///
/// # Safety
/// The pointers must hold what [`CrossEntropy`] says, and [`bad_target`] must have found none.
pub unsafe fn cross_entropy(job: &CrossEntropy) {
    // SAFETY: blocks are disjoint rows; the rest is the caller's promise.
    parallel_blocks(job.rows, (TASK_ITEMS / job.n.max(1)).max(1), |from, to| unsafe { cross_entropy_rows(job, from, to) });
}

/// The gradient of [`cross_entropy`].
///
/// # Safety
/// As [`cross_entropy`].
pub unsafe fn cross_entropy_grad(job: &CrossEntropyGrad) {
    // SAFETY: blocks are disjoint rows; the rest is the caller's promise.
    parallel_blocks(job.rows, (TASK_ITEMS / job.n.max(1)).max(1), |from, to| unsafe { cross_entropy_grad_rows(job, from, to) });
}

dispatch! { unsafe fn cross_entropy_rows(job: &CrossEntropy, from: usize, to: usize) = cross_entropy_rows_on }

#[inline(always)]
unsafe fn cross_entropy_rows_on<S: Simd>(job: &CrossEntropy, from: usize, to: usize) {
    // SAFETY: the caller promises room for every row, and targets in range.
    unsafe {
        let n = job.n;
        for r in from..to {
            let x = job.logits.add(r * n);
            let max = row_max::<S>(x, n);
            let log_sum = log_of::<S>(row_exp_sum::<S>(x, n, max, None));
            *job.lse.add(r) = max + log_sum;
            let target = *job.targets.add(r);
            let mut loss = 0.0;
            if target != job.ignore {
                // Not lse − x: for large logits that would lose the bits that count.
                loss = log_sum + (max - *x.add(target as usize));
                if job.smoothing != 0.0 {
                    let mut sum = S::splat(0.0);
                    let mut j = 0;
                    while j < n {
                        sum = S::add(sum, S::load_n(x.add(j), (n - j).min(LANES)));
                        j += LANES;
                    }
                    let mean = S::sum(sum) / n as f32;
                    loss = (1.0 - job.smoothing) * loss + job.smoothing * (log_sum + (max - mean));
                }
            }
            *job.losses.add(r) = loss;
        }
    }
}

dispatch! { unsafe fn cross_entropy_grad_rows(job: &CrossEntropyGrad, from: usize, to: usize) = cross_entropy_grad_rows_on }

#[inline(always)]
unsafe fn cross_entropy_grad_rows_on<S: Simd>(job: &CrossEntropyGrad, from: usize, to: usize) {
    // SAFETY: the caller promises room for every row, and targets in range.
    unsafe {
        let n = job.n;
        let share = S::splat(job.smoothing / n as f32);
        for r in from..to {
            let x = job.logits.add(r * n);
            let gx = job.gx.add(r * n);
            let target = *job.targets.add(r);
            if target == job.ignore {
                gx.write_bytes(0, n);
                continue;
            }
            let lse = S::splat(*job.lse.add(r));
            let scale = S::splat(*job.scale.add(r * job.scale_stride));
            // Read before gx, which may be x, is written.
            let at_target = math::exp_nonpositive::<S>(S::sub(S::splat(*x.add(target as usize)), lse));
            let mut j = 0;
            while j < n {
                let some = (n - j).min(LANES);
                let p = math::exp_nonpositive::<S>(S::sub(S::load_n(x.add(j), some), lse));
                S::store_n(gx.add(j), S::mul(scale, S::sub(p, share)), some);
                j += LANES;
            }
            let right = S::sub(S::sub(at_target, S::splat(1.0 - job.smoothing)), share);
            *gx.add(target as usize) = first::<S>(S::mul(scale, right));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, noise, same_everywhere};

    fn targets(rows: usize, n: usize) -> Vec<i32> {
        (0..rows).map(|r| if r % 5 == 3 { -100 } else { ((r * 7919) % n) as i32 }).collect()
    }

    fn run(x: &[f32], rows: usize, n: usize, smoothing: f32) -> Vec<f32> {
        let t = targets(rows, n);
        let (mut losses, mut lse) = (vec![7f32; rows], vec![7f32; rows]);
        let scale: Vec<f32> = (0..rows).map(|r| 0.5 + r as f32).collect();
        let mut gx = x.to_vec();
        let job = CrossEntropy {
            logits: x.as_ptr(),
            targets: t.as_ptr(),
            losses: losses.as_mut_ptr(),
            lse: lse.as_mut_ptr(),
            rows,
            n,
            ignore: -100,
            smoothing,
        };
        // SAFETY: the vectors have the promised lengths, the targets are in range.
        unsafe {
            assert_eq!(bad_target(t.as_ptr(), rows, n, -100), None);
            cross_entropy(&job);
            cross_entropy_grad(&CrossEntropyGrad {
                logits: gx.as_ptr(),
                targets: t.as_ptr(),
                lse: lse.as_ptr(),
                scale: scale.as_ptr(),
                scale_stride: 1,
                gx: gx.as_mut_ptr(),
                rows,
                n,
                ignore: -100,
                smoothing,
            });
        }
        [losses, lse, gx].concat()
    }

    fn twin(x: &[f32], rows: usize, n: usize, s: f64) -> Vec<f64> {
        let (mut losses, mut lses, mut gx) = (Vec::new(), Vec::new(), Vec::new());
        for (r, &t) in targets(rows, n).iter().enumerate() {
            let x: Vec<f64> = x[r * n..(r + 1) * n].iter().map(|&v| v.into()).collect();
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = max + x.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
            let counts = if t == -100 { 0.0 } else { 1.0 };
            let mean = x.iter().sum::<f64>() / n as f64;
            losses.push(if t == -100 { 0.0 } else { (1.0 - s) * (lse - x[t as usize]) + s * (lse - mean) });
            lses.push(lse);
            for (j, v) in x.iter().enumerate() {
                let hit = if j as i32 == t { 1.0 - s } else { 0.0 };
                gx.push(counts * (0.5 + r as f64) * ((v - lse).exp() - hit - s / n as f64));
            }
        }
        [losses, lses, gx].concat()
    }

    #[test]
    fn agrees_with_float64_and_is_the_same_everywhere() {
        for (rows, n) in [(0, 4), (1, 1), (6, 5), (7, 16), (40, 65), (300, 200), (3, 5003)] {
            let x: Vec<f32> = noise(rows * n, 8).iter().map(|v| v * 3.0).collect();
            for s in [0.0, 0.1] {
                let got = same_everywhere(|| run(&x, rows, n, s));
                assert_close(&got, &twin(&x, rows, n, f64::from(s)), 2e-6 * (1.0 + rows as f64), &format!("{rows}x{n} smoothing {s}"));
            }
        }
    }

    #[test]
    fn a_bad_target_is_found() {
        let t = [0, -100, 4, 5, -1];
        // SAFETY: five targets.
        unsafe {
            assert_eq!(bad_target(t.as_ptr(), 5, 5, -100), Some((3, 5)));
            assert_eq!(bad_target(t.as_ptr(), 3, 5, -100), None);
            assert_eq!(bad_target(t[4..].as_ptr(), 1, 5, -100), Some((0, -1)));
        }
    }
}

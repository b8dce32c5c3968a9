//! Layer normalisation and RMS normalisation of rows, forward and backward.

use crate::dispatch;
use crate::lanes::keep;
use crate::pool::parallel_blocks;
use crate::simd::{LANES, Simd};

/// Rows of a block whose share of the weight's gradient is summed before the blocks are added: fixed, so that the sum
/// depends on nothing but the rows.
const GRAD_ROWS: usize = 64;

/// Items that one parallel task normalises.
const TASK_ITEMS: usize = 16_384;

/// The operands of a normalisation of `rows` rows of `n` items. `mean` is `None` for RMS normalisation.
pub struct Norm {
    pub x: *const f32,
    pub weight: Option<*const f32>,
    pub bias: Option<*const f32>,
    pub out: *mut f32,
    pub mean: Option<*mut f32>,
    pub rstd: *mut f32,
    pub rows: usize,
    pub n: usize,
    pub eps: f32,
}

// SAFETY: tasks share the inputs for reading and write disjoint rows.
unsafe impl Sync for Norm {}

/// The operands of its gradient.
pub struct NormGrad {
    pub x: *const f32,
    pub weight: Option<*const f32>,
    pub mean: Option<*const f32>,
    pub rstd: *const f32,
    pub gy: *const f32,
    pub gx: Option<*mut f32>,
    pub gw: Option<*mut f32>,
    pub gb: Option<*mut f32>,
    pub rows: usize,
    pub n: usize,
    /// Whether gx is added to what is there. (gw and gb are stored.)
    pub accumulate: bool,
}

// SAFETY: as above; the sums over rows go to memory of the task's own.
unsafe impl Sync for NormGrad {}

/// Layer normalisation, or RMS normalisation where `mean` is `None`.
///
/// # Safety
/// The pointers must hold `rows × n` items (`n` for weight and bias, `rows` for mean and rstd); `out` overlaps no input.
pub unsafe fn norm(job: &Norm) {
    // SAFETY: blocks are disjoint rows; the rest is the caller's promise.
    parallel_blocks(job.rows, (TASK_ITEMS / job.n.max(1)).max(1), |from, to| unsafe { norm_rows(job, from, to) });
}

dispatch! { unsafe fn norm_rows(job: &Norm, from: usize, to: usize) = norm_rows_on }

#[inline(always)]
unsafe fn norm_rows_on<S: Simd>(job: &Norm, from: usize, to: usize) {
    // SAFETY: the caller promises room for every row and weight read or written here.
    unsafe {
        let mut r = from;
        while r + 4 <= to {
            norm_of::<S, 4>(job, r);
            r += 4;
        }
        while r < to {
            norm_of::<S, 1>(job, r);
            r += 1;
        }
    }
}

/// `R` neighbouring rows: one row's sums are a chain that waits for itself.
#[inline(always)]
unsafe fn norm_of<S: Simd, const R: usize>(job: &Norm, first: usize) {
    // SAFETY: as `norm_rows`.
    unsafe {
        let n = job.n;
        let whole = n - n % LANES;
        let tail = n - whole;
        let zero = S::splat(0.0);
        let (x, out) = (job.x.add(first * n), job.out.add(first * n));
        let (mut centre, mut scale) = ([zero; R], [zero; R]);
        if let Some(means) = job.mean {
            let mut sum = [zero; R];
            for j in (0..whole).step_by(LANES) {
                for r in 0..R {
                    sum[r] = S::add(sum[r], S::load(x.add(r * n + j)));
                }
            }
            for r in 0..R {
                let mean = S::sum(S::add(sum[r], S::load_n(x.add(r * n + whole), tail))) / n as f32;
                *means.add(first + r) = mean;
                centre[r] = S::splat(mean);
            }
        }
        let mut squares = [zero; R];
        for j in (0..whole).step_by(LANES) {
            for r in 0..R {
                let d = S::sub(S::load(x.add(r * n + j)), centre[r]);
                squares[r] = S::fma(d, d, squares[r]);
            }
        }
        for r in 0..R {
            let d = keep::<S>(S::sub(S::load_n(x.add(r * n + whole), tail), centre[r]), tail);
            let rstd = 1.0 / (S::sum(S::fma(d, d, squares[r])) / n as f32 + job.eps).sqrt();
            *job.rstd.add(first + r) = rstd;
            scale[r] = S::splat(rstd);
        }
        macro_rules! scaled {
            ($j:expr, $load:ident, $store:ident $(, $some:expr)?) => {
                for r in 0..R {
                    let mut y = S::mul(S::sub(S::$load(x.add(r * n + $j) $(, $some)?), centre[r]), scale[r]);
                    if let Some(weight) = job.weight {
                        y = S::mul(y, S::$load(weight.add($j) $(, $some)?));
                    }
                    if let Some(bias) = job.bias {
                        y = S::add(y, S::$load(bias.add($j) $(, $some)?));
                    }
                    S::$store(out.add(r * n + $j), y $(, $some)?);
                }
            };
        }
        for j in (0..whole).step_by(LANES) {
            scaled!(j, load, store);
        }
        if tail > 0 {
            scaled!(whole, load_n, store_n, tail);
        }
    }
}

/// The gradient of [`norm`].
///
/// # Safety
/// As [`norm`]; `gx` overlaps no input.
pub unsafe fn norm_grad(job: &NormGrad) {
    let (rows, n) = (job.rows, job.n);
    if rows == 0 || n == 0 {
        for out in [job.gw, job.gb].into_iter().flatten() {
            // SAFETY: the caller promises n items behind gw and gb.
            unsafe { std::ptr::write_bytes(out, 0, n) };
        }
        return;
    }
    let sums = usize::from(job.gw.is_some()) + usize::from(job.gb.is_some());
    let blocks = rows.div_ceil(GRAD_ROWS);
    let mut partial = Partial { data: vec![0f32; blocks * sums * n], stride: sums * n };
    let cells = partial.cells();
    parallel_blocks(rows, GRAD_ROWS, |from, to| {
        // SAFETY: each block has a part of its own of `partial`, and its own rows of gx.
        unsafe { norm_grad_rows(job, from, to, cells.block(from / GRAD_ROWS)) }
    });
    let gb_at = if job.gw.is_some() { n } else { 0 };
    // Columns are summed block after block: the same order for every number of threads.
    let (gw, gb) = (job.gw, job.gb);
    for (out, at) in [(gw, 0), (gb, gb_at)] {
        let Some(out) = out else { continue };
        let (first, rest) = partial.data.split_at_mut(partial.stride);
        let total = &mut first[at..at + n];
        for block in rest.chunks_exact(partial.stride) {
            for (t, p) in total.iter_mut().zip(&block[at..at + n]) {
                *t += p;
            }
        }
        for (j, t) in total.iter().enumerate() {
            // SAFETY: the caller promises n items behind gw and gb.
            unsafe { *out.add(j) = *t };
        }
    }
}

/// The weight's and the bias's sums of each block of rows.
struct Partial {
    data: Vec<f32>,
    stride: usize,
}

#[derive(Clone, Copy)]
struct Cells {
    data: *mut f32,
    stride: usize,
}

// SAFETY: each task takes one block's part.
unsafe impl Sync for Cells {}

impl Partial {
    fn cells(&mut self) -> Cells {
        Cells { data: self.data.as_mut_ptr(), stride: self.stride }
    }
}

impl Cells {
    unsafe fn block(&self, i: usize) -> *mut f32 {
        // SAFETY: `i` is below the number of blocks.
        unsafe { self.data.add(i * self.stride) }
    }
}

dispatch! { unsafe fn norm_grad_rows(job: &NormGrad, from: usize, to: usize, partial: *mut f32) = norm_grad_rows_on }

#[inline(always)]
unsafe fn norm_grad_rows_on<S: Simd>(job: &NormGrad, from: usize, to: usize, partial: *mut f32) {
    // SAFETY: the caller promises room for every row read or written here, and sums × n items behind `partial`.
    unsafe {
        let mut r = from;
        while r + 2 <= to {
            norm_grad_of::<S, 2>(job, r, partial);
            r += 2;
        }
        if r < to {
            norm_grad_of::<S, 1>(job, r, partial);
        }
    }
}

/// `R` neighbouring rows: what they add to the sums of gw and gb is read and written once for all, in ascending order of rows.
#[inline(always)]
unsafe fn norm_grad_of<S: Simd, const R: usize>(job: &NormGrad, first: usize, partial: *mut f32) {
    // SAFETY: as `norm_grad_rows`.
    unsafe {
        let n = job.n;
        let whole = n - n % LANES;
        let tail = n - whole;
        let zero = S::splat(0.0);
        let gw = job.gw.map(|_| partial);
        let gb = job.gb.map(|_| if job.gw.is_some() { partial.add(n) } else { partial });
        let (x, gy) = (job.x.add(first * n), job.gy.add(first * n));
        let (mut centre, mut rstd) = ([zero; R], [zero; R]);
        for r in 0..R {
            centre[r] = S::splat(job.mean.map_or(0.0, |m| *m.add(first + r)));
            rstd[r] = S::splat(*job.rstd.add(first + r));
        }
        let (mut sum_g, mut sum_gx) = ([zero; R], [zero; R]);
        // In the lanes past the end gy is 0, so what x̂ holds there does not count.
        macro_rules! hat {
            ($r:ident, $j:expr, $load:ident $(, $some:expr)?) => {
                S::mul(S::sub(S::$load(x.add($r * n + $j) $(, $some)?), centre[$r]), rstd[$r])
            };
        }
        macro_rules! gathered {
            ($j:expr, $load:ident, $store:ident $(, $some:expr)?) => {
                let (mut w, mut to_w, mut to_b) = (S::splat(1.0), zero, zero);
                if let Some(weight) = job.weight {
                    w = S::$load(weight.add($j) $(, $some)?);
                }
                if let Some(gw) = gw {
                    to_w = S::$load(gw.add($j) $(, $some)?);
                }
                if let Some(gb) = gb {
                    to_b = S::$load(gb.add($j) $(, $some)?);
                }
                for r in 0..R {
                    let g = S::$load(gy.add(r * n + $j) $(, $some)?);
                    let hat = hat!(r, $j, $load $(, $some)?);
                    to_w = S::fma(g, hat, to_w);
                    to_b = S::add(g, to_b);
                    let g = S::mul(g, w);
                    sum_g[r] = S::add(sum_g[r], g);
                    sum_gx[r] = S::fma(g, hat, sum_gx[r]);
                }
                if let Some(gw) = gw {
                    S::$store(gw.add($j), to_w $(, $some)?);
                }
                if let Some(gb) = gb {
                    S::$store(gb.add($j), to_b $(, $some)?);
                }
            };
        }
        let mut j = 0;
        while j < whole {
            gathered!(j, load, store);
            j += LANES;
        }
        if tail > 0 {
            gathered!(whole, load_n, store_n, tail);
        }
        let Some(gx) = job.gx else { return };
        let gx = gx.add(first * n);
        let (mut mean_g, mut mean_gx) = ([zero; R], [zero; R]);
        for r in 0..R {
            mean_g[r] = S::splat(if job.mean.is_some() { S::sum(sum_g[r]) / n as f32 } else { 0.0 });
            mean_gx[r] = S::splat(S::sum(sum_gx[r]) / n as f32);
        }
        macro_rules! passed_on {
            ($r:ident, $j:expr, $load:ident, $store:ident $(, $some:expr)?) => {
                let mut g = S::$load(gy.add($r * n + $j) $(, $some)?);
                if let Some(w) = job.weight {
                    g = S::mul(g, S::$load(w.add($j) $(, $some)?));
                }
                let to = gx.add($r * n + $j);
                let mut y = S::mul(rstd[$r], S::fnma(hat!($r, $j, $load $(, $some)?), mean_gx[$r], S::sub(g, mean_g[$r])));
                if job.accumulate {
                    y = S::add(S::$load(to $(, $some)?), y);
                }
                S::$store(to, y $(, $some)?);
            };
        }
        for r in 0..R {
            let mut j = 0;
            while j < whole {
                passed_on!(r, j, load, store);
                j += LANES;
            }
            if tail > 0 {
                passed_on!(r, whole, load_n, store_n, tail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, noise, same_everywhere};

    struct Case {
        x: Vec<f32>,
        w: Vec<f32>,
        b: Vec<f32>,
        gy: Vec<f32>,
        rows: usize,
        n: usize,
        centred: bool,
    }

    fn case(rows: usize, n: usize, centred: bool) -> Case {
        let x = noise(rows * n, 1).iter().map(|v| v * 2.0 + 3.0).collect();
        Case { x, w: noise(n, 2), b: noise(n, 3), gy: noise(rows * n, 4), rows, n, centred }
    }

    /// out, mean, rstd, gx, gw, gb in one row.
    fn run(c: &Case, affine: bool) -> Vec<f32> {
        let (rows, n) = (c.rows, c.n);
        let mut out = vec![0f32; rows * n];
        let (mut mean, mut rstd) = (vec![0f32; rows], vec![0f32; rows]);
        let mut gx = vec![0f32; rows * n];
        let (mut gw, mut gb) = (vec![0f32; n], vec![0f32; n]);
        let weight = affine.then_some(c.w.as_ptr());
        let job = Norm {
            x: c.x.as_ptr(),
            weight,
            bias: (affine && c.centred).then_some(c.b.as_ptr()),
            out: out.as_mut_ptr(),
            mean: c.centred.then_some(mean.as_mut_ptr()),
            rstd: rstd.as_mut_ptr(),
            rows,
            n,
            eps: 1e-5,
        };
        // SAFETY: all vectors have the promised lengths.
        unsafe { norm(&job) };
        let grad = NormGrad {
            x: c.x.as_ptr(),
            weight,
            mean: c.centred.then_some(mean.as_ptr()),
            rstd: rstd.as_ptr(),
            gy: c.gy.as_ptr(),
            gx: Some(gx.as_mut_ptr()),
            gw: affine.then_some(gw.as_mut_ptr()),
            gb: (affine && c.centred).then_some(gb.as_mut_ptr()),
            rows,
            n,
            accumulate: false,
        };
        // SAFETY: as above.
        unsafe { norm_grad(&grad) };
        let stored = gx.clone();
        // SAFETY: as above.
        unsafe { norm_grad(&NormGrad { accumulate: true, ..grad }) };
        let twice = stored.iter().zip(&gx).all(|(&once, &sum)| sum == once + once || sum.is_nan());
        assert!(twice, "{rows}x{n}: gx is added to what is there");
        gx = stored;
        [out, mean, rstd, gx, gw, gb].concat()
    }

    /// The same in float64, from the definitions.
    fn twin(c: &Case, affine: bool) -> Vec<f64> {
        let (rows, n) = (c.rows, c.n);
        let (mut out, mut gx) = (vec![0f64; rows * n], vec![0f64; rows * n]);
        let (mut means, mut rstds) = (vec![0f64; rows], vec![0f64; rows]);
        let (mut gw, mut gb) = (vec![0f64; n], vec![0f64; n]);
        let nf = n as f64;
        for r in 0..rows {
            let x: Vec<f64> = c.x[r * n..(r + 1) * n].iter().map(|&v| v.into()).collect();
            let mean = if c.centred { x.iter().sum::<f64>() / nf } else { 0.0 };
            let rstd = 1.0 / (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / nf + 1e-5).sqrt();
            (means[r], rstds[r]) = (mean, rstd);
            let hat: Vec<f64> = x.iter().map(|v| (v - mean) * rstd).collect();
            let weight = |j: usize| if affine { f64::from(c.w[j]) } else { 1.0 };
            let gy = |j: usize| f64::from(c.gy[r * n + j]);
            let mean_g = if c.centred { (0..n).map(|j| gy(j) * weight(j)).sum::<f64>() / nf } else { 0.0 };
            let mean_gx = (0..n).map(|j| gy(j) * weight(j) * hat[j]).sum::<f64>() / nf;
            for j in 0..n {
                out[r * n + j] = hat[j] * weight(j) + if affine && c.centred { f64::from(c.b[j]) } else { 0.0 };
                gx[r * n + j] = rstd * (gy(j) * weight(j) - mean_g - hat[j] * mean_gx);
                if affine {
                    gw[j] += gy(j) * hat[j];
                }
                if affine && c.centred {
                    gb[j] += gy(j);
                }
            }
        }
        [out, means, rstds, gx, gw, gb].concat()
    }

    #[test]
    fn agrees_with_float64_and_is_the_same_everywhere() {
        for (rows, n) in [(0, 8), (1, 1), (3, 5), (2, 16), (70, 33), (200, 96), (3, 1000)] {
            for centred in [true, false] {
                for affine in [true, false] {
                    let c = case(rows, n, centred);
                    let got = same_everywhere(|| run(&c, affine));
                    assert_close(&got, &twin(&c, affine), 4e-5, &format!("{rows}x{n} centred {centred} affine {affine}"));
                }
            }
        }
    }

    #[test]
    fn a_row_alone_gives_the_bytes_it_gives_among_others() {
        let many = case(130, 77, true);
        let all = run(&many, true);
        for r in [0, 63, 64, 129] {
            let mut one = case(1, 77, true);
            one.x.copy_from_slice(&many.x[r * 77..(r + 1) * 77]);
            assert_eq!(run(&one, true)[..77], all[r * 77..(r + 1) * 77]);
        }
    }
}

//! Functions of one number, their derivatives, and linear combination.

use crate::dispatch;
use crate::math;
use crate::pool::parallel_blocks;
use crate::shared::Shared;
use crate::simd::{LANES, Simd};

/// Items of one parallel task.
const BLOCK: usize = 16_384;

/// The functions, by the codes of `UNARY` in `src/tensor/kernels.ts`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unary {
    Neg,
    Abs,
    Exp,
    Log,
    Sqrt,
    Rsqrt,
    Square,
    Reciprocal,
    Sin,
    Cos,
    Tanh,
    Sigmoid,
    Relu,
    Gelu,
    GeluTanh,
    Silu,
    Erf,
    Floor,
    Ceil,
    Round,
    Sign,
    Log1p,
    Expm1,
    Softplus,
}

impl Unary {
    pub const ALL: [Unary; 24] = {
        use Unary::*;
        [
            Neg, Abs, Exp, Log, Sqrt, Rsqrt, Square, Reciprocal, Sin, Cos, Tanh, Sigmoid, Relu, Gelu, GeluTanh, Silu, Erf, Floor, Ceil,
            Round, Sign, Log1p, Expm1, Softplus,
        ]
    };

    pub fn from_code(code: i64) -> Option<Unary> {
        Unary::ALL.get(usize::try_from(code).ok()?).copied()
    }
}

/// `out[i] = f(x[i])`; in place is fine.
///
/// # Safety
/// Both hold `n` items.
pub unsafe fn unary(kind: Unary, x: *const f32, out: *mut f32, n: usize) {
    let (x, out) = (Shared::new(x), Shared::new(out));
    // SAFETY: blocks are disjoint parts of the n items.
    parallel_blocks(n, BLOCK, |from, to| unsafe { unary_block(kind, x.at(from), out.at(from), to - from) });
}

/// `gx[i] = f'(x[i]) · gy[i]`, from x or from y = f(x); `gx` may be `gy`.
///
/// # Safety
/// All hold `n` items; of x and y only the one that [`reads_result`] names is read.
pub unsafe fn unary_grad(kind: Unary, x: *const f32, y: *const f32, gy: *const f32, gx: *mut f32, n: usize) {
    let source = Shared::new(if reads_result(kind) { y } else { x });
    let (gy, gx) = (Shared::new(gy), Shared::new(gx));
    // SAFETY: blocks are disjoint parts of the n items.
    parallel_blocks(n, BLOCK, |from, to| unsafe { grad_block(kind, source.at(from), gy.at(from), gx.at(from), to - from) });
}

/// Whether the derivative is computed from f(x) and not from x.
pub fn reads_result(kind: Unary) -> bool {
    use Unary::*;
    matches!(kind, Exp | Sqrt | Rsqrt | Reciprocal | Tanh | Sigmoid | Expm1)
}

/// `out[i] = alpha·x[i] + beta·y[i]`, without the second term where `y` is `None`; in place is fine.
///
/// # Safety
/// All hold `n` items.
pub unsafe fn axpby(alpha: f32, x: *const f32, beta: f32, y: Option<*const f32>, out: *mut f32, n: usize) {
    let (x, y, out) = (Shared::new(x), y.map(Shared::new), Shared::new(out));
    // SAFETY: blocks are disjoint parts of the n items.
    parallel_blocks(n, BLOCK, |from, to| unsafe {
        match y {
            Some(y) => axpby_block(alpha, x.at(from), beta, y.at(from), out.at(from), to - from),
            None => scale_block(alpha, x.at(from), out.at(from), to - from),
        }
    });
}

dispatch! { unsafe fn unary_block(kind: Unary, x: *const f32, out: *mut f32, n: usize) = unary_on }
dispatch! { unsafe fn grad_block(kind: Unary, source: *const f32, gy: *const f32, gx: *mut f32, n: usize) = grad_on }
dispatch! { unsafe fn axpby_block(alpha: f32, x: *const f32, beta: f32, y: *const f32, out: *mut f32, n: usize) = axpby_on }
dispatch! { unsafe fn scale_block(alpha: f32, x: *const f32, out: *mut f32, n: usize) = scale_on }

/// Stores `$value` (of the vectors loaded as `$x`, …) for all n items, the tail by partial loads and stores.
macro_rules! each_vector {
    ($n:ident, $out:ident, [$($x:ident = $from:expr),*], $value:expr) => {{
        let whole = $n - $n % LANES;
        let mut i = 0;
        while i < whole {
            $(let $x = S::load($from.add(i));)*
            S::store($out.add(i), $value);
            i += LANES;
        }
        if whole < $n {
            $(let $x = S::load_n($from.add(whole), $n - whole);)*
            S::store_n($out.add(whole), $value, $n - whole);
        }
    }};
}

#[inline(always)]
unsafe fn unary_on<S: Simd>(kind: Unary, x: *const f32, out: *mut f32, n: usize) {
    // SAFETY: the caller promises n items.
    unsafe {
        let one = S::splat(1.0);
        macro_rules! map {
            (|$v:ident| $value:expr) => {
                each_vector!(n, out, [$v = x], $value)
            };
        }
        match kind {
            Unary::Neg => map!(|v| math::neg::<S>(v)),
            Unary::Abs => map!(|v| math::abs::<S>(v)),
            Unary::Exp => map!(|v| math::exp::<S>(v)),
            Unary::Log => map!(|v| math::log::<S>(v)),
            Unary::Sqrt => map!(|v| S::sqrt(v)),
            Unary::Rsqrt => map!(|v| S::div(one, S::sqrt(v))),
            Unary::Square => map!(|v| S::mul(v, v)),
            Unary::Reciprocal => map!(|v| S::div(one, v)),
            Unary::Sin => map!(|v| math::sin::<S>(v)),
            Unary::Cos => map!(|v| math::cos::<S>(v)),
            Unary::Tanh => map!(|v| math::tanh::<S>(v)),
            Unary::Sigmoid => map!(|v| math::sigmoid::<S>(v)),
            Unary::Relu => map!(|v| math::relu::<S>(v)),
            Unary::Gelu => map!(|v| math::gelu::<S>(v)),
            Unary::GeluTanh => map!(|v| math::gelu_tanh::<S>(v)),
            Unary::Silu => map!(|v| math::silu::<S>(v)),
            Unary::Erf => map!(|v| math::erf::<S>(v)),
            Unary::Floor => map!(|v| S::floor(v)),
            Unary::Ceil => map!(|v| math::neg::<S>(S::floor(math::neg::<S>(v)))),
            Unary::Round => map!(|v| S::round(v)),
            Unary::Sign => map!(|v| sign::<S>(v)),
            Unary::Log1p => map!(|v| math::log1p::<S>(v)),
            Unary::Expm1 => map!(|v| math::expm1::<S>(v)),
            Unary::Softplus => map!(|v| math::softplus::<S>(v)),
        }
    }
}

/// −1, 0 or 1; 0 for NaN, as in PyTorch.
#[inline(always)]
unsafe fn sign<S: Simd>(v: S::F) -> S::F {
    // SAFETY: no memory is touched.
    unsafe {
        let zero = S::splat(0.0);
        S::select_gt(v, zero, S::splat(1.0), S::select_gt(zero, v, S::splat(-1.0), zero))
    }
}

#[inline(always)]
unsafe fn grad_on<S: Simd>(kind: Unary, source: *const f32, gy: *const f32, gx: *mut f32, n: usize) {
    // SAFETY: the caller promises n items.
    unsafe {
        let one = S::splat(1.0);
        // `v` is x, or y where the derivative reads that; `g` is gy.
        macro_rules! map {
            (|$v:ident, $g:ident| $value:expr) => {
                each_vector!(n, gx, [$v = source, $g = gy], $value)
            };
        }
        match kind {
            Unary::Neg => map!(|_v, g| math::neg::<S>(g)),
            Unary::Abs => map!(|v, g| S::mul(sign::<S>(v), g)),
            Unary::Exp => map!(|y, g| S::mul(y, g)),
            Unary::Log => map!(|v, g| S::div(g, v)),
            Unary::Sqrt => map!(|y, g| S::div(S::mul(S::splat(0.5), g), y)),
            Unary::Rsqrt => map!(|y, g| S::mul(S::mul(S::mul(y, y), S::mul(y, S::splat(-0.5))), g)),
            Unary::Square => map!(|v, g| S::mul(S::add(v, v), g)),
            Unary::Reciprocal => map!(|y, g| S::mul(math::neg::<S>(S::mul(y, y)), g)),
            Unary::Sin => map!(|v, g| S::mul(math::cos::<S>(v), g)),
            Unary::Cos => map!(|v, g| S::mul(math::neg::<S>(math::sin::<S>(v)), g)),
            Unary::Tanh => map!(|y, g| S::mul(S::fnma(y, y, one), g)),
            Unary::Sigmoid => map!(|y, g| S::mul(S::mul(y, S::sub(one, y)), g)),
            Unary::Relu => map!(|v, g| S::mul(S::select_gt(v, S::splat(0.0), one, S::splat(0.0)), g)),
            Unary::Gelu => map!(|v, g| S::mul(math::gelu_grad::<S>(v), g)),
            Unary::GeluTanh => map!(|v, g| S::mul(math::gelu_tanh_grad::<S>(v), g)),
            Unary::Silu => map!(|v, g| S::mul(math::silu_grad::<S>(v), g)),
            Unary::Erf => {
                map!(|v, g| S::mul(S::mul(math::exp::<S>(math::neg::<S>(S::mul(v, v))), S::splat(std::f32::consts::FRAC_2_SQRT_PI)), g))
            }
            Unary::Floor | Unary::Ceil | Unary::Round | Unary::Sign => map!(|_v, g| S::mul(S::splat(0.0), g)),
            Unary::Log1p => map!(|v, g| S::div(g, S::add(one, v))),
            Unary::Expm1 => map!(|y, g| S::mul(S::add(y, one), g)),
            Unary::Softplus => map!(|v, g| S::mul(math::sigmoid::<S>(v), g)),
        }
    }
}

#[inline(always)]
unsafe fn axpby_on<S: Simd>(alpha: f32, x: *const f32, beta: f32, y: *const f32, out: *mut f32, n: usize) {
    // SAFETY: the caller promises n items.
    unsafe {
        let (alpha, beta) = (S::splat(alpha), S::splat(beta));
        each_vector!(n, out, [v = x, w = y], S::fma(alpha, v, S::mul(beta, w)));
    }
}

#[inline(always)]
unsafe fn scale_on<S: Simd>(alpha: f32, x: *const f32, out: *mut f32, n: usize) {
    // SAFETY: the caller promises n items.
    unsafe {
        let alpha = S::splat(alpha);
        each_vector!(n, out, [v = x], S::mul(alpha, v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, same_everywhere};

    fn run(kind: Unary, x: &[f32]) -> Vec<f32> {
        let mut out = x.to_vec();
        // SAFETY: in place, n items.
        unsafe { unary(kind, out.as_ptr(), out.as_mut_ptr(), x.len()) };
        out
    }

    fn grad(kind: Unary, x: &[f32], gy: &[f32]) -> Vec<f32> {
        let y = run(kind, x);
        let mut gx = gy.to_vec();
        // SAFETY: gx is gy; all hold n items.
        unsafe { unary_grad(kind, x.as_ptr(), y.as_ptr(), gx.as_ptr(), gx.as_mut_ptr(), x.len()) };
        gx
    }

    #[test]
    fn all_functions_are_the_same_everywhere_at_odd_sizes() {
        for n in [0usize, 1, 15, 16, 17, 40_003] {
            let mut x = noise(n, 5);
            for (i, v) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0].into_iter().enumerate() {
                if n > 20 {
                    x[i * 5] = v;
                }
            }
            let gy = noise(n, 6);
            for kind in Unary::ALL {
                same_everywhere(|| [run(kind, &x), grad(kind, &x, &gy)].concat());
            }
        }
    }

    #[test]
    fn simple_functions_agree_with_their_definitions() {
        let x = [2.5f32, -2.5, 0.0, -0.7, 3.5, f32::NAN, f32::INFINITY, 0.25];
        let same = |kind, f: fn(f32) -> f32| crate::testing::assert_same_bits(&run(kind, &x), &x.map(f), &format!("{kind:?}"));
        same(Unary::Neg, |v| -v);
        same(Unary::Abs, f32::abs);
        same(Unary::Sqrt, f32::sqrt);
        same(Unary::Rsqrt, |v| 1.0 / v.sqrt());
        same(Unary::Square, |v| v * v);
        same(Unary::Reciprocal, |v| 1.0 / v);
        same(Unary::Floor, f32::floor);
        same(Unary::Ceil, f32::ceil);
        same(Unary::Round, f32::round_ties_even);
        same(Unary::Relu, |v| if v.is_nan() || v > 0.0 { v } else { 0.0 });
        same(Unary::Sign, |v| {
            if v > 0.0 {
                1.0
            } else if v < 0.0 {
                -1.0
            } else {
                0.0
            }
        });
        same(Unary::Sin, |v| f64::from(v).sin() as f32);
        same(Unary::Cos, |v| f64::from(v).cos() as f32);
    }

    #[test]
    fn derivatives_agree_with_central_differences() {
        use Unary::*;
        // Away from the kinks and poles; log and the roots get positive numbers.
        let x: Vec<f32> = noise(200, 7).iter().map(|v| v + 0.01 * v.signum()).collect();
        for kind in Unary::ALL {
            let positive = matches!(kind, Log | Sqrt | Rsqrt | Log1p | Reciprocal);
            let x: Vec<f32> = x.iter().map(|v| if positive { v.abs() + 0.3 } else { *v }).collect();
            let step = 1.0 / 256.0;
            let (high, low) =
                (run(kind, &x.iter().map(|v| v + step).collect::<Vec<_>>()), run(kind, &x.iter().map(|v| v - step).collect::<Vec<_>>()));
            let got = grad(kind, &x, &vec![3.0; x.len()]);
            for i in 0..x.len() {
                let kink = matches!(kind, Abs | Relu | Sign | Floor | Ceil | Round) && (high[i] - low[i]).abs() > 2.5 * step
                    || x[i].abs() < step && matches!(kind, Abs | Relu);
                let want = 3.0 * (f64::from(high[i]) - f64::from(low[i])) / (2.0 * f64::from(step));
                assert!(
                    kink || (f64::from(got[i]) - want).abs() < 2e-3 * (1.0 + want.abs()),
                    "{kind:?} at {}: {} expected {want}",
                    x[i],
                    got[i]
                );
            }
        }
    }

    #[test]
    fn linear_combinations() {
        let (x, y) = (noise(33, 1), noise(33, 2));
        let mut out = vec![0.0; 33];
        // SAFETY: 33 items each.
        unsafe { axpby(2.0, x.as_ptr(), -0.5, Some(y.as_ptr()), out.as_mut_ptr(), 33) };
        for i in 0..33 {
            assert_eq!(out[i], 2.0f32.mul_add(x[i], -0.5 * y[i]));
        }
        // SAFETY: in place, 33 items.
        unsafe { axpby(3.0, out.as_ptr(), 0.0, None, out.as_mut_ptr(), 33) };
        assert_eq!(out[32], 3.0 * 2.0f32.mul_add(x[32], -0.5 * y[32]));
    }
}

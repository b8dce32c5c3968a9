//! Gated activations: activation(gate) · up (Shazeer 2020), forward and backward.

use crate::dispatch;
use crate::math;
use crate::pool::parallel_blocks;
use crate::simd::{LANES, Simd};

/// Items of one parallel task.
const TASK_ITEMS: usize = 16_384;

/// What the gate goes through, in the order of the codes that JavaScript uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    None,
    Relu,
    Gelu,
    GeluTanh,
    Silu,
}

impl Activation {
    /// The activation with this code.
    pub fn from_code(code: usize) -> Option<Self> {
        [Activation::None, Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu].get(code).copied()
    }
}

/// `n` items each.
pub struct Gated {
    pub activation: Activation,
    pub gate: *const f32,
    pub up: *const f32,
    pub out: *mut f32,
    pub n: usize,
}

// SAFETY: tasks write disjoint items.
unsafe impl Sync for Gated {}

/// `n` items each.
pub struct GatedGrad {
    pub activation: Activation,
    pub gate: *const f32,
    pub up: *const f32,
    pub gy: *const f32,
    pub ggate: *mut f32,
    pub gup: *mut f32,
    pub n: usize,
}

// SAFETY: tasks write disjoint items.
unsafe impl Sync for GatedGrad {}

/// out = activation(gate) · up.
///
/// # Safety
/// The pointers must hold `n` items.
pub unsafe fn gated(job: &Gated) {
    // SAFETY: blocks are disjoint; the rest is the caller's promise.
    parallel_blocks(job.n, TASK_ITEMS, |from, to| unsafe { gated_items(job, from, to) });
}

/// The gradient of [`gated`] in both operands.
///
/// # Safety
/// As [`gated`].
pub unsafe fn gated_grad(job: &GatedGrad) {
    // SAFETY: blocks are disjoint; the rest is the caller's promise.
    parallel_blocks(job.n, TASK_ITEMS, |from, to| unsafe { gated_grad_items(job, from, to) });
}

/// An activation's value and slope as types, so that loops are compiled for each.
pub(crate) trait Curve {
    unsafe fn value<S: Simd>(x: S::F) -> S::F;
    unsafe fn slope<S: Simd>(x: S::F) -> S::F;
}

macro_rules! curve {
    ($name:ident, $x:ident, $value:expr, $slope:expr) => {
        pub(crate) struct $name;
        impl Curve for $name {
            #[inline(always)]
            #[allow(unused_unsafe)]
            unsafe fn value<S: Simd>($x: S::F) -> S::F {
                // SAFETY: arithmetic on lanes only.
                unsafe { $value }
            }
            #[inline(always)]
            #[allow(unused_variables)]
            unsafe fn slope<S: Simd>($x: S::F) -> S::F {
                // SAFETY: arithmetic on lanes only.
                unsafe { $slope }
            }
        }
    };
}

curve!(Line, x, x, S::splat(1.0));
curve!(Relu, x, math::relu::<S>(x), S::select_gt(x, S::splat(0.0), S::splat(1.0), S::splat(0.0)));
curve!(Gelu, x, math::gelu::<S>(x), math::gelu_grad::<S>(x));
curve!(GeluTanh, x, math::gelu_tanh::<S>(x), math::gelu_tanh_grad::<S>(x));
curve!(Silu, x, math::silu::<S>(x), math::silu_grad::<S>(x));

dispatch! { unsafe fn gated_items(job: &Gated, from: usize, to: usize) = gated_items_on }

#[inline(always)]
unsafe fn gated_items_on<S: Simd>(job: &Gated, from: usize, to: usize) {
    // SAFETY: the caller promises room for these items.
    unsafe {
        match job.activation {
            Activation::None => gated_loop::<S, Line>(job, from, to),
            Activation::Relu => gated_loop::<S, Relu>(job, from, to),
            Activation::Gelu => gated_loop::<S, Gelu>(job, from, to),
            Activation::GeluTanh => gated_loop::<S, GeluTanh>(job, from, to),
            Activation::Silu => gated_loop::<S, Silu>(job, from, to),
        }
    }
}

#[inline(always)]
unsafe fn gated_loop<S: Simd, C: Curve>(job: &Gated, from: usize, to: usize) {
    // SAFETY: the caller promises room for these items.
    unsafe {
        let mut j = from;
        while j < to {
            let some = (to - j).min(LANES);
            let y = S::mul(C::value::<S>(S::load_n(job.gate.add(j), some)), S::load_n(job.up.add(j), some));
            S::store_n(job.out.add(j), y, some);
            j += LANES;
        }
    }
}

dispatch! { unsafe fn gated_grad_items(job: &GatedGrad, from: usize, to: usize) = gated_grad_items_on }

#[inline(always)]
unsafe fn gated_grad_items_on<S: Simd>(job: &GatedGrad, from: usize, to: usize) {
    // SAFETY: the caller promises room for these items.
    unsafe {
        match job.activation {
            Activation::None => gated_grad_loop::<S, Line>(job, from, to),
            Activation::Relu => gated_grad_loop::<S, Relu>(job, from, to),
            Activation::Gelu => gated_grad_loop::<S, Gelu>(job, from, to),
            Activation::GeluTanh => gated_grad_loop::<S, GeluTanh>(job, from, to),
            Activation::Silu => gated_grad_loop::<S, Silu>(job, from, to),
        }
    }
}

#[inline(always)]
unsafe fn gated_grad_loop<S: Simd, C: Curve>(job: &GatedGrad, from: usize, to: usize) {
    // SAFETY: the caller promises room for these items.
    unsafe {
        let mut j = from;
        while j < to {
            let some = (to - j).min(LANES);
            let (gate, up, gy) = (S::load_n(job.gate.add(j), some), S::load_n(job.up.add(j), some), S::load_n(job.gy.add(j), some));
            S::store_n(job.ggate.add(j), S::mul(S::mul(gy, up), C::slope::<S>(gate)), some);
            S::store_n(job.gup.add(j), S::mul(gy, C::value::<S>(gate)), some);
            j += LANES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, noise, same_everywhere};

    fn run(activation: Activation, n: usize) -> Vec<f32> {
        let (gate, up, gy) = (noise(n, 11), noise(n, 12), noise(n, 13));
        let (mut out, mut ggate, mut gup) = (vec![0f32; n], vec![0f32; n], vec![0f32; n]);
        // SAFETY: all vectors hold n items.
        unsafe {
            gated(&Gated { activation, gate: gate.as_ptr(), up: up.as_ptr(), out: out.as_mut_ptr(), n });
            gated_grad(&GatedGrad {
                activation,
                gate: gate.as_ptr(),
                up: up.as_ptr(),
                gy: gy.as_ptr(),
                ggate: ggate.as_mut_ptr(),
                gup: gup.as_mut_ptr(),
                n,
            });
        }
        [out, ggate, gup].concat()
    }

    fn value(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::None => x,
            Activation::Relu => x.max(0.0),
            // Φ by the midpoint rule from far left: slow, but plain.
            Activation::Gelu => {
                x * (0..40_000).map(|i| (-0.5 * (x - (f64::from(i) + 0.5) * 3e-4).powi(2)).exp()).sum::<f64>() * 3e-4
                    / (2.0 * std::f64::consts::PI).sqrt()
            }
            Activation::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
            Activation::Silu => x / (1.0 + (-x).exp()),
        }
    }

    #[test]
    fn agrees_with_float64_and_is_the_same_everywhere() {
        for code in 0..5 {
            let activation = Activation::from_code(code).expect("a code");
            for n in [0usize, 1, 15, 50, 40_003] {
                let got = same_everywhere(|| run(activation, n));
                let m = n.min(50);
                let (gate, up, gy) = (noise(n, 11), noise(n, 12), noise(n, 13));
                for i in 0..m {
                    let x = f64::from(gate[i]);
                    let slope = (value(activation, x + 1e-5) - value(activation, x - 1e-5)) / 2e-5;
                    let (u, g) = (f64::from(up[i]), f64::from(gy[i]));
                    let want = [value(activation, x) * u, g * u * slope, g * value(activation, x)];
                    assert_close(&[got[i], got[n + i], got[2 * n + i]], &want, 2e-6, &format!("{activation:?} at {x}"));
                }
            }
        }
        assert_eq!(Activation::from_code(5), None);
    }
}

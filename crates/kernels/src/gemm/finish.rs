//! What happens to a finished sum before it is stored: scale, bias, activation, residual, or adding it to what is there.

use crate::gated::Activation;
use crate::math;
use crate::simd::Simd;

/// The steps after the last block of k, in this order: `· alpha`, `+ bias[j]`, store to `pre`, activation, `+ residual`,
/// and where `accumulate` is set `+ out`. Null pointers: not wanted. `pre` and `residual` have rows as far apart as out.
#[derive(Clone, Copy)]
pub struct Finish {
    pub alpha: f32,
    pub accumulate: bool,
    pub bias: *const f32,
    pub pre: *mut f32,
    pub activation: Activation,
    pub residual: *const f32,
}

impl Finish {
    /// Stores the sum as it is.
    pub const PLAIN: Finish = Finish {
        alpha: 1.0,
        accumulate: false,
        bias: std::ptr::null(),
        pre: std::ptr::null_mut(),
        activation: Activation::None,
        residual: std::ptr::null(),
    };

    pub fn is_plain(&self) -> bool {
        self.alpha == 1.0
            && !self.accumulate
            && self.bias.is_null()
            && self.pre.is_null()
            && self.activation == Activation::None
            && self.residual.is_null()
    }

    /// Finishes `n` (at most 16) sums whose place in out is `at` and whose column is `j`.
    ///
    /// # Safety
    /// `out + at` and the operands at the same places must hold `n` items.
    #[inline(always)]
    pub unsafe fn store<S: Simd>(&self, sum: S::F, out: *mut f32, at: usize, j: usize, n: usize) {
        // SAFETY: as promised above.
        unsafe {
            let mut x = sum;
            if self.alpha != 1.0 {
                x = S::mul(x, S::splat(self.alpha));
            }
            if !self.bias.is_null() {
                x = S::add(x, S::load_n(self.bias.add(j), n));
            }
            if !self.pre.is_null() {
                S::store_n(self.pre.add(at), x, n);
            }
            x = match self.activation {
                Activation::None => x,
                Activation::Relu => math::relu::<S>(x),
                Activation::Gelu => math::gelu::<S>(x),
                Activation::GeluTanh => math::gelu_tanh::<S>(x),
                Activation::Silu => math::silu::<S>(x),
            };
            if !self.residual.is_null() {
                x = S::add(x, S::load_n(self.residual.add(at), n));
            }
            if self.accumulate {
                x = S::add(S::load_n(out.add(at), n), x);
            }
            S::store_n(out.add(at), x, n);
        }
    }
}

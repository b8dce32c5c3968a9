//! What happens to a finished sum before it is stored: scale, bias, activation and its slope, a factor, residual, or adding it to what is there.

use super::Product;
use crate::gated::{Activation, Curve, Gelu, GeluTanh, Line, Relu, Silu};
use crate::simd::{LANES, Simd};

/// The steps after the last block of k, in this order: `· alpha`, `+ bias[j]`, store the activation's slope there to `slope`, activation,
/// `· factor`, `+ residual`, and where `accumulate` is set `+ out`. Null pointers: not wanted. `slope`, `factor` and `residual` have rows as
/// far apart as out.
#[derive(Clone, Copy)]
pub struct Finish {
    pub alpha: f32,
    pub accumulate: bool,
    pub bias: *const f32,
    pub slope: *mut f32,
    pub activation: Activation,
    pub factor: *const f32,
    pub residual: *const f32,
    /// Not of the product, but cheap beside it: gets the sum of each column of b, in ascending k, taken where b is packed. For a plain b of
    /// float32 products whose sizes are not 0.
    pub column_sums: *mut f32,
}

impl Finish {
    /// Stores the sum as it is.
    pub const PLAIN: Finish = Finish {
        alpha: 1.0,
        accumulate: false,
        bias: std::ptr::null(),
        slope: std::ptr::null_mut(),
        activation: Activation::None,
        factor: std::ptr::null(),
        residual: std::ptr::null(),
        column_sums: std::ptr::null_mut(),
    };

    pub fn is_plain(&self) -> bool {
        self.alpha == 1.0
            && !self.accumulate
            && self.bias.is_null()
            && self.slope.is_null()
            && self.activation == Activation::None
            && self.factor.is_null()
            && self.residual.is_null()
    }
}

/// Where [`tile`] reads or writes what belongs to a place of out; null: nowhere.
pub type Touched = [*const f32; 4];
pub const NOTHING: Touched = [std::ptr::null(); 4];

#[inline(always)]
pub fn touched(p: &Product, at: usize) -> Touched {
    let place = |from: *const f32| if from.is_null() { from } else { from.wrapping_add(at) };
    [p.out.wrapping_add(at), place(p.finish.slope), place(p.finish.factor), place(p.finish.residual)]
}

/// Finishes a tile of sums, `wide` items a row, whose place in out is `at` and whose first column is `j`.
///
/// # Safety
/// Out and the operands must hold the tile's `rows` rows and `columns` columns, `sums` whole vectors of it.
#[inline(always)]
pub unsafe fn tile<S: Simd>(p: &Product, sums: *const f32, wide: usize, at: usize, j: usize, rows: usize, columns: usize) {
    // SAFETY: as promised above.
    unsafe {
        // The choice of the activation stays outside of the loops.
        macro_rules! all {
            ($curve:ty) => {
                for row in 0..rows {
                    let at = at + row * p.out_row;
                    for v in (0..columns).step_by(LANES) {
                        let sum = S::load(sums.add(row * wide + v));
                        if columns - v >= LANES {
                            finish::<S, $curve, true>(p, sum, at + v, j + v, LANES);
                        } else {
                            finish::<S, $curve, false>(p, sum, at + v, j + v, columns - v);
                        }
                    }
                }
            };
        }
        match p.finish.activation {
            Activation::None => all!(Line),
            Activation::Relu => all!(Relu),
            Activation::Gelu => all!(Gelu),
            Activation::GeluTanh => all!(GeluTanh),
            Activation::Silu => all!(Silu),
        }
    }
}

/// Finishes `n` (at most 16) sums whose place in out is `at` and whose column is `j`.
///
/// # Safety
/// `out + at` and the operands at the same places must hold `n` items.
#[inline(always)]
pub unsafe fn store<S: Simd>(p: &Product, sum: S::F, at: usize, j: usize, n: usize) {
    // SAFETY: as promised above; a tile of one row and one vector.
    unsafe {
        let mut sums = [0f32; LANES];
        S::store(sums.as_mut_ptr(), sum);
        tile::<S>(p, sums.as_ptr(), LANES, at, j, 1, n);
    }
}

#[inline(always)]
unsafe fn finish<S: Simd, A: Curve, const WHOLE: bool>(p: &Product, sum: S::F, at: usize, j: usize, n: usize) {
    // Masked access costs more than plain access.
    macro_rules! load {
        ($from:expr) => {
            if WHOLE { S::load($from) } else { S::load_n($from, n) }
        };
    }
    macro_rules! store {
        ($to:expr, $x:expr) => {
            if WHOLE { S::store($to, $x) } else { S::store_n($to, $x, n) }
        };
    }
    let (f, out) = (&p.finish, p.out.wrapping_add(at));
    // SAFETY: as promised by the caller.
    unsafe {
        let mut x = sum;
        if f.alpha != 1.0 {
            x = S::mul(x, S::splat(f.alpha));
        }
        if !f.bias.is_null() {
            x = S::add(x, load!(f.bias.add(j)));
        }
        let sum = x;
        x = A::value::<S>(sum);
        if !f.slope.is_null() {
            // What value and slope have in common, an exponential mostly, is computed once.
            store!(f.slope.add(at), A::slope::<S>(sum));
        }
        if !f.factor.is_null() {
            x = S::mul(x, load!(f.factor.add(at)));
        }
        if !f.residual.is_null() {
            x = S::add(x, load!(f.residual.add(at)));
        }
        if f.accumulate {
            x = S::add(load!(out), x);
        }
        store!(out, x);
    }
}

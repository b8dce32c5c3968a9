//! What happens to a finished sum before it is stored: scale, bias, activation and its slope, a factor, residual, or adding it to what is there.

use super::Product;
use crate::dispatch;
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

    /// Whether the sum is stored as it is.
    pub fn is_plain(&self) -> bool {
        let nothing = self.bias.is_null() && self.factor.is_null() && self.residual.is_null();
        self.is_straight() && nothing && self.alpha == 1.0 && !self.accumulate
    }

    /// Whether the steps are few enough to be done while the sums are still in registers: all but an activation.
    pub fn is_straight(&self) -> bool {
        self.activation == Activation::None && self.slope.is_null()
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

// A function of its own: inlined, the constants of all activations would take the registers of the whole task.
dispatch! {
    /// Finishes a tile of sums, `wide` items a row, whose place in out is `at` and whose first column is `j`.
    ///
    /// # Safety
    /// Out and the operands must hold the tile's `rows` rows and `columns` columns, `sums` whole vectors of it.
    pub unsafe fn tile(p: &Product, sums: *const f32, wide: usize, at: usize, j: usize, rows: usize, columns: usize) = tile_on
}

#[inline(always)]
unsafe fn tile_on<S: Simd>(p: &Product, sums: *const f32, wide: usize, at: usize, j: usize, rows: usize, columns: usize) {
    // SAFETY: as promised to `tile`.
    unsafe {
        match p.finish.activation {
            Activation::None => curve::<S, Line>(p, sums, wide, at, j, rows, columns),
            Activation::Relu => curve::<S, Relu>(p, sums, wide, at, j, rows, columns),
            Activation::Gelu => curve::<S, Gelu>(p, sums, wide, at, j, rows, columns),
            Activation::GeluTanh => curve::<S, GeluTanh>(p, sums, wide, at, j, rows, columns),
            Activation::Silu => curve::<S, Silu>(p, sums, wide, at, j, rows, columns),
        }
    }
}

/// [`tile`] with the activation `A`.
#[inline(always)]
unsafe fn curve<S: Simd, A: Curve>(p: &Product, sums: *const f32, wide: usize, at: usize, j: usize, rows: usize, columns: usize) {
    let f = &p.finish;
    // What the first layer of an MLP has.
    let short = f.alpha == 1.0 && !f.accumulate && f.factor.is_null() && f.residual.is_null();
    for row in 0..rows {
        let at = at + row * p.out_row;
        // SAFETY: as promised to `tile`.
        unsafe {
            let sums = sums.add(row * wide);
            let whole = columns / LANES * LANES;
            if short {
                for v in (0..whole).step_by(LANES) {
                    finish::<S, A, true, false>(p, S::load(sums.add(v)), at + v, j + v, LANES);
                }
            } else {
                for v in (0..whole).step_by(LANES) {
                    finish::<S, A, true, true>(p, S::load(sums.add(v)), at + v, j + v, LANES);
                }
            }
            if whole < columns {
                finish::<S, A, false, true>(p, S::load(sums.add(whole)), at + whole, j + whole, columns - whole);
            }
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
        tile(p, sums.as_ptr(), LANES, at, j, 1, n);
    }
}

/// Finishes and stores one vector of `n` items (`WHOLE`: 16). `MORE`: there may be other steps than a bias and the activation.
#[inline(always)]
unsafe fn finish<S: Simd, A: Curve, const WHOLE: bool, const MORE: bool>(p: &Product, sum: S::F, at: usize, j: usize, n: usize) {
    let mut x = [[sum]];
    // SAFETY: as promised by the caller.
    unsafe {
        before::<S, 1, 1, WHOLE, MORE>(p, &mut x, j, n);
        let [[sum]] = x;
        x = [[A::value::<S>(sum)]];
        if !p.finish.slope.is_null() {
            // What value and slope have in common, a polynomial or an exponential, is computed once.
            let (to, slope) = (p.finish.slope.add(at), A::slope::<S>(sum));
            if WHOLE { S::store(to, slope) } else { S::store_n(to, slope, n) }
        }
        if MORE {
            after::<S, 1, 1, WHOLE>(p, &mut x, at, n);
        }
        let (to, [[x]]) = (p.out.add(at), x);
        if WHOLE { S::store(to, x) } else { S::store_n(to, x, n) }
    }
}

/// The steps for a tile whose sums are still in registers, of a product whose epilogue [`Finish::is_straight`].
///
/// # Safety
/// Out and the operands must hold `16 * V` items at the places of each row.
#[inline(always)]
pub unsafe fn straight<S: Simd, const R: usize, const V: usize>(p: &Product, x: &mut [[S::F; V]; R], at: usize, j: usize) {
    // SAFETY: as promised above.
    unsafe {
        before::<S, R, V, true, true>(p, x, j, LANES);
        after::<S, R, V, true>(p, x, at, LANES);
    }
}

/// Every vector of a tile. A loop for each step: one loop with all of them would not be unrolled, and the sums not stay in registers.
macro_rules! each {
    ($p:expr, $all:expr, |$x:ident, $at:ident| $new:expr) => {
        for row in 0..R {
            for v in 0..V {
                let ($x, $at) = ($all[row][v], row * $p.out_row + v * LANES);
                $all[row][v] = $new;
            }
        }
    };
}

/// Masked access costs more than plain access.
macro_rules! load {
    ($from:expr, $n:expr) => {
        if WHOLE { S::load($from) } else { S::load_n($from, $n) }
    };
}

/// The steps before the activation, of sums whose first column is `j`; each vector has `n` items (`WHOLE`: 16). Without `SCALED`, alpha is 1.
#[inline(always)]
unsafe fn before<S: Simd, const R: usize, const V: usize, const WHOLE: bool, const SCALED: bool>(
    p: &Product,
    all: &mut [[S::F; V]; R],
    j: usize,
    n: usize,
) {
    let f = &p.finish;
    // SAFETY: as promised by the caller.
    unsafe {
        if SCALED && f.alpha != 1.0 {
            each!(p, all, |x, _at| S::mul(x, S::splat(f.alpha)));
        }
        if !f.bias.is_null() {
            let mut bias = [S::splat(0.0); V];
            for (v, bias) in bias.iter_mut().enumerate() {
                *bias = load!(f.bias.add(j + v * LANES), n);
            }
            for row in all {
                for v in 0..V {
                    row[v] = S::add(row[v], bias[v]);
                }
            }
        }
    }
}

/// The steps after the activation, of a tile whose place in out is `at`.
#[inline(always)]
unsafe fn after<S: Simd, const R: usize, const V: usize, const WHOLE: bool>(p: &Product, all: &mut [[S::F; V]; R], at: usize, n: usize) {
    let f = &p.finish;
    // SAFETY: as promised by the caller.
    unsafe {
        if !f.factor.is_null() {
            each!(p, all, |x, place| S::mul(x, load!(f.factor.add(at + place), n)));
        }
        if !f.residual.is_null() {
            each!(p, all, |x, place| S::add(x, load!(f.residual.add(at + place), n)));
        }
        if f.accumulate {
            each!(p, all, |x, place| S::add(load!(p.out.add(at + place), n), x));
        }
    }
}

//! Small helpers on lanes that several kernels share.

use crate::simd::{LANES, Simd};

static ORDINALS: [f32; LANES] = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// 0, 1, …, 15.
///
/// # Safety
/// As every method of [`Simd`].
#[inline(always)]
pub unsafe fn ordinals<S: Simd>() -> S::F {
    // SAFETY: the table holds 16 values.
    unsafe { S::load(ORDINALS.as_ptr()) }
}

/// `v` in lanes below `n`, 0 in the others.
///
/// # Safety
/// As every method of [`Simd`].
#[inline(always)]
pub unsafe fn keep<S: Simd>(v: S::F, n: usize) -> S::F {
    // SAFETY: no memory is touched but the table above.
    unsafe { fill_from::<S>(v, n, 0.0) }
}

/// `v` in lanes below `n`, `value` in the others.
///
/// # Safety
/// As every method of [`Simd`].
#[inline(always)]
pub unsafe fn fill_from<S: Simd>(v: S::F, n: usize, value: f32) -> S::F {
    // SAFETY: no memory is touched but the table above.
    unsafe { S::select_gt(S::splat(n as f32), ordinals::<S>(), v, S::splat(value)) }
}

/// Lane 0.
///
/// # Safety
/// As every method of [`Simd`].
#[inline(always)]
pub unsafe fn first<S: Simd>(v: S::F) -> f32 {
    let mut x = 0.0;
    // SAFETY: one lane is written.
    unsafe { S::store_n(&raw mut x, v, 1) };
    x
}

//! The lanes as plain arrays: what every CPU can run, and the text that says what the others mean.

use super::{LANES, Simd};

#[derive(Clone, Copy)]
pub struct Portable;

type F = [f32; LANES];
type I = [i32; LANES];

#[inline(always)]
fn zip(a: F, b: F, f: impl Fn(f32, f32) -> f32) -> F {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn izip(a: I, b: I, f: impl Fn(i32, i32) -> i32) -> I {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// A call of its own: inlined ten times into Philox's rounds, LLVM 22 makes wrong code of it for plain x86-64 (lanes 12 and
/// 13), or crashes; `random::tests` hold what it should give.
#[inline(never)]
fn multiply_wide(a: &I, b: u32) -> (I, I) {
    let wide = a.map(|x| u64::from(x as u32) * u64::from(b));
    (wide.map(|x| x as i32), wide.map(|x| (x >> 32) as i32))
}

impl Simd for Portable {
    type F = F;
    type I = I;
    const MR: usize = 4;
    const NV: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        // SAFETY: the caller promises 16 readable values.
        unsafe { p.cast::<F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: F) {
        // SAFETY: the caller promises 16 writable values.
        unsafe { p.cast::<F>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> F {
        // SAFETY: only lanes below n are read.
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: F, n: usize) {
        for (i, x) in v.iter().enumerate().take(n) {
            // SAFETY: only lanes below n are written.
            unsafe { *p.add(i) = *x }
        }
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        zip(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        zip(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        zip(a, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn fnma(a: F, b: F, c: F) -> F {
        std::array::from_fn(|i| (-a[i]).mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        zip(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        zip(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn sqrt(a: F) -> F {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn round(a: F) -> F {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn floor(a: F) -> F {
        a.map(f32::floor)
    }
    #[inline(always)]
    unsafe fn select_gt(a: F, b: F, yes: F, no: F) -> F {
        std::array::from_fn(|i| if a[i] > b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    unsafe fn select_eq(a: F, b: F, yes: F, no: F) -> F {
        std::array::from_fn(|i| if a[i] == b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    unsafe fn to_int(a: F) -> I {
        a.map(|x| {
            let r = x.round_ties_even();
            if (-2147483648.0..2147483648.0).contains(&r) { r as i32 } else { i32::MIN }
        })
    }
    #[inline(always)]
    unsafe fn to_float(a: I) -> F {
        a.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn bits(a: F) -> I {
        a.map(|x| x.to_bits() as i32)
    }
    #[inline(always)]
    unsafe fn from_bits(a: I) -> F {
        a.map(|x| f32::from_bits(x as u32))
    }
    #[inline(always)]
    unsafe fn isplat(x: i32) -> I {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn iadd(a: I, b: I) -> I {
        izip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn isub(a: I, b: I) -> I {
        izip(a, b, i32::wrapping_sub)
    }
    #[inline(always)]
    unsafe fn iand(a: I, b: I) -> I {
        izip(a, b, |x, y| x & y)
    }
    #[inline(always)]
    unsafe fn ior(a: I, b: I) -> I {
        izip(a, b, |x, y| x | y)
    }
    #[inline(always)]
    unsafe fn ixor(a: I, b: I) -> I {
        izip(a, b, |x, y| x ^ y)
    }
    #[inline(always)]
    unsafe fn shl<const N: i32>(a: I) -> I {
        a.map(|x| ((x as u32) << N) as i32)
    }
    #[inline(always)]
    unsafe fn shr<const N: i32>(a: I) -> I {
        a.map(|x| ((x as u32) >> N) as i32)
    }
    #[inline(always)]
    unsafe fn multiply_wide(a: I, b: u32) -> (I, I) {
        multiply_wide(&a, b)
    }
}

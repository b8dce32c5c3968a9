//! NEON: four 128-bit registers a vector. Type-checked where the target can be had; not run on the machines that test groundup.

use super::{LANES, Simd};
use std::arch::aarch64::*;

#[derive(Clone, Copy)]
pub struct Neon;

type F = [float32x4_t; 4];
type I = [int32x4_t; 4];

// SAFETY of every block below: NEON is part of the aarch64 baseline; the memory touched is the caller's promise.
impl Simd for Neon {
    type F = F;
    type I = I;
    const MR: usize = 4;
    const NV: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        unsafe { [vdupq_n_f32(x); 4] }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        unsafe { std::array::from_fn(|i| vld1q_f32(p.add(4 * i))) }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: F) {
        unsafe {
            for (i, x) in v.into_iter().enumerate() {
                vst1q_f32(p.add(4 * i), x)
            }
        }
    }

    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> F {
        unsafe {
            let mut a = [0f32; LANES];
            std::ptr::copy_nonoverlapping(p, a.as_mut_ptr(), n.min(LANES));
            Self::load(a.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: F, n: usize) {
        unsafe {
            let mut a = [0f32; LANES];
            Self::store(a.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(a.as_ptr(), p, n.min(LANES));
        }
    }

    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        unsafe { std::array::from_fn(|i| vaddq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        unsafe { std::array::from_fn(|i| vsubq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        unsafe { std::array::from_fn(|i| vmulq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        unsafe { std::array::from_fn(|i| vdivq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        unsafe { std::array::from_fn(|i| vfmaq_f32(c[i], a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn fnma(a: F, b: F, c: F) -> F {
        unsafe { std::array::from_fn(|i| vfmsq_f32(c[i], a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        unsafe { std::array::from_fn(|i| vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        unsafe { std::array::from_fn(|i| vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn sqrt(a: F) -> F {
        unsafe { std::array::from_fn(|i| vsqrtq_f32(a[i])) }
    }

    #[inline(always)]
    unsafe fn round(a: F) -> F {
        unsafe { std::array::from_fn(|i| vrndnq_f32(a[i])) }
    }

    #[inline(always)]
    unsafe fn floor(a: F) -> F {
        unsafe { std::array::from_fn(|i| vrndmq_f32(a[i])) }
    }

    #[inline(always)]
    unsafe fn select_gt(a: F, b: F, yes: F, no: F) -> F {
        unsafe { std::array::from_fn(|i| vbslq_f32(vcgtq_f32(a[i], b[i]), yes[i], no[i])) }
    }

    #[inline(always)]
    unsafe fn select_eq(a: F, b: F, yes: F, no: F) -> F {
        unsafe { std::array::from_fn(|i| vbslq_f32(vceqq_f32(a[i], b[i]), yes[i], no[i])) }
    }

    #[inline(always)]
    unsafe fn to_int(a: F) -> I {
        unsafe {
            let mut f = [0f32; LANES];
            Self::store(f.as_mut_ptr(), a);
            let r: [i32; LANES] = f.map(|x| {
                let r = x.round_ties_even();
                if (-2147483648.0..2147483648.0).contains(&r) { r as i32 } else { i32::MIN }
            });
            std::array::from_fn(|i| vld1q_s32(r.as_ptr().add(4 * i)))
        }
    }

    #[inline(always)]
    unsafe fn to_float(a: I) -> F {
        unsafe { std::array::from_fn(|i| vcvtq_f32_s32(a[i])) }
    }

    #[inline(always)]
    unsafe fn bits(a: F) -> I {
        unsafe { std::array::from_fn(|i| vreinterpretq_s32_f32(a[i])) }
    }

    #[inline(always)]
    unsafe fn from_bits(a: I) -> F {
        unsafe { std::array::from_fn(|i| vreinterpretq_f32_s32(a[i])) }
    }

    #[inline(always)]
    unsafe fn isplat(x: i32) -> I {
        unsafe { [vdupq_n_s32(x); 4] }
    }

    #[inline(always)]
    unsafe fn iadd(a: I, b: I) -> I {
        unsafe { std::array::from_fn(|i| vaddq_s32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn isub(a: I, b: I) -> I {
        unsafe { std::array::from_fn(|i| vsubq_s32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn iand(a: I, b: I) -> I {
        unsafe { std::array::from_fn(|i| vandq_s32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn ior(a: I, b: I) -> I {
        unsafe { std::array::from_fn(|i| vorrq_s32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn ixor(a: I, b: I) -> I {
        unsafe { std::array::from_fn(|i| veorq_s32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn shl<const N: i32>(a: I) -> I {
        unsafe { std::array::from_fn(|i| vshlq_s32(a[i], vdupq_n_s32(N))) }
    }

    #[inline(always)]
    unsafe fn shr<const N: i32>(a: I) -> I {
        unsafe { std::array::from_fn(|i| vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a[i]), vdupq_n_s32(-N)))) }
    }

    #[inline(always)]
    unsafe fn multiply_wide(a: I, b: u32) -> (I, I) {
        unsafe {
            let wide: [(int32x4_t, int32x4_t); 4] = std::array::from_fn(|i| {
                let x = vreinterpretq_u32_s32(a[i]);
                let first = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(x), vdup_n_u32(b)));
                let last = vreinterpretq_u32_u64(vmull_high_u32(x, vdupq_n_u32(b)));
                (vreinterpretq_s32_u32(vuzp1q_u32(first, last)), vreinterpretq_s32_u32(vuzp2q_u32(first, last)))
            });
            (wide.map(|w| w.0), wide.map(|w| w.1))
        }
    }
}

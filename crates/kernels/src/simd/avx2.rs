//! AVX2: two 256-bit registers a vector.

// SAFETY of every block here: intrinsics under the contract of `Simd`, whose caller has checked the CPU and the pointers.
#![allow(clippy::undocumented_unsafe_blocks)]

use super::{LANES, Simd};
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub struct Avx2;

/// Two halves of 8 lanes.
#[derive(Clone, Copy)]
pub struct Pair<T>(pub(crate) T, pub(crate) T);

/// -1 in the lanes below n, from a window into this table.
static TAIL: [i32; 24] = {
    let mut t = [0; 24];
    let mut i = 0;
    while i < 8 {
        t[i] = -1;
        i += 1;
    }
    t
};

#[inline(always)]
unsafe fn tail_mask(n: usize) -> __m256i {
    // SAFETY: n <= 8, so the window of 8 values lies inside the 24.
    unsafe { _mm256_loadu_si256(TAIL.as_ptr().add(8 - n.min(8)).cast()) }
}

/// The lower and the upper halves of the products of 8 lanes and b.
#[inline(always)]
unsafe fn multiply_wide8(a: __m256i, b: __m256i) -> (__m256i, __m256i) {
    // SAFETY: reached only from the AVX2 lanes below.
    unsafe {
        // Products of the even lanes and of the odd ones, each in a 64-bit lane.
        let (even, odd) = (_mm256_mul_epu32(a, b), _mm256_mul_epu32(_mm256_srli_epi64::<32>(a), b));
        let low = _mm256_blend_epi32::<0xaa>(even, _mm256_slli_epi64::<32>(odd));
        (low, _mm256_blend_epi32::<0xaa>(_mm256_srli_epi64::<32>(even), odd))
    }
}

/// [`Simd::lookup`] for 8 lanes.
#[inline(always)]
unsafe fn lookup8(table: &[f32; 24], at: __m256i) -> __m256 {
    // SAFETY: reached only from the AVX2 lanes below.
    unsafe {
        let part = |from: usize| _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr().add(from)), at);
        // Blends go by the sign bit.
        let (eight, sixteen) = (_mm256_slli_epi32::<28>(at), _mm256_slli_epi32::<27>(at));
        let low = _mm256_blendv_ps(part(0), part(8), _mm256_castsi256_ps(eight));
        _mm256_blendv_ps(low, part(16), _mm256_castsi256_ps(sixteen))
    }
}

/// Stores 8 lanes of four vectors, lane by lane.
#[inline(always)]
unsafe fn store_interleaved8(p: *mut i32, a: __m256i, b: __m256i, c: __m256i, d: __m256i) {
    // SAFETY: reached only from the AVX2 lanes below; the caller promises 32 places.
    unsafe {
        let (ab, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (cd, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        // Lanes 0 and 4, 1 and 5, 2 and 6, 3 and 7 of all four.
        let (x0, x1) = (_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
        let (x2, x3) = (_mm256_unpacklo_epi64(ab_high, cd_high), _mm256_unpackhi_epi64(ab_high, cd_high));
        _mm256_storeu_si256(p.cast(), _mm256_permute2x128_si256::<0x20>(x0, x1));
        _mm256_storeu_si256(p.add(8).cast(), _mm256_permute2x128_si256::<0x20>(x2, x3));
        _mm256_storeu_si256(p.add(16).cast(), _mm256_permute2x128_si256::<0x31>(x0, x1));
        _mm256_storeu_si256(p.add(24).cast(), _mm256_permute2x128_si256::<0x31>(x2, x3));
    }
}

/// See [`Simd::transpose8`]; both instruction sets use 256-bit registers here.
#[inline(always)]
pub(super) unsafe fn transpose8_ymm(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller promises 8 readable items in each row and 8 writable ones in each column.
    unsafe {
        // Row i beside row i + 4, in quarters: what remains is a 4 x 4 transpose in each half.
        macro_rules! rows {
            ($i:literal) => {{
                let low = if $i < rows { from.add($i * stride) } else { from };
                let high = if $i + 4 < rows { from.add(($i + 4) * stride) } else { from };
                (
                    _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high)),
                    _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(low.add(4))), _mm_loadu_ps(high.add(4))),
                )
            }};
        }
        macro_rules! half {
            ($a:expr, $b:expr, $c:expr, $d:expr, $at:literal) => {{
                let (ab, ba) = (_mm256_unpacklo_ps($a, $b), _mm256_unpackhi_ps($a, $b));
                let (cd, dc) = (_mm256_unpacklo_ps($c, $d), _mm256_unpackhi_ps($c, $d));
                _mm256_storeu_ps(to.add($at * to_stride), _mm256_shuffle_ps::<0x44>(ab, cd));
                _mm256_storeu_ps(to.add(($at + 1) * to_stride), _mm256_shuffle_ps::<0xee>(ab, cd));
                _mm256_storeu_ps(to.add(($at + 2) * to_stride), _mm256_shuffle_ps::<0x44>(ba, dc));
                _mm256_storeu_ps(to.add(($at + 3) * to_stride), _mm256_shuffle_ps::<0xee>(ba, dc));
            }};
        }
        let (a, b, c, d) = (rows!(0), rows!(1), rows!(2), rows!(3));
        half!(a.0, b.0, c.0, d.0, 0);
        half!(a.1, b.1, c.1, d.1, 4);
    }
}

/// Eight lanes folded i + (i + 4), then 2, 1: what is left of [`Simd::sum`]'s tree.
#[inline(always)]
pub(super) unsafe fn sum8(v: __m256) -> f32 {
    // SAFETY: as below.
    unsafe {
        let x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
    }
}

/// The same tree for [`Simd::max_lane`].
#[inline(always)]
pub(super) unsafe fn max8(v: __m256) -> f32 {
    // SAFETY: as below.
    unsafe {
        let x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
        _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
    }
}

/// Lane by lane the larger one (`MAX`) or the sum.
#[inline(always)]
pub(super) unsafe fn join8<const MAX: bool>(a: __m256, b: __m256) -> __m256 {
    // SAFETY: as below.
    unsafe { if MAX { _mm256_max_ps(a, b) } else { _mm256_add_ps(a, b) } }
}

/// [`Simd::fold4`] of 8 lanes: lanes of all four vectors come to lie side by side, and each step halves what is left of each.
#[inline(always)]
pub(super) unsafe fn fold8x4<const MAX: bool>(v: [__m256; 4]) -> [f32; 4] {
    let mut out = [0f32; 4];
    // SAFETY: as below; `out` holds four items.
    unsafe {
        let low = join8::<MAX>(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
        let high = join8::<MAX>(_mm256_unpacklo_ps(v[2], v[3]), _mm256_unpackhi_ps(v[2], v[3]));
        let (low, high) = (_mm256_castps_pd(low), _mm256_castps_pd(high));
        let all = join8::<MAX>(_mm256_castpd_ps(_mm256_unpacklo_pd(low, high)), _mm256_castpd_ps(_mm256_unpackhi_pd(low, high)));
        let all = join8::<MAX>(all, _mm256_permute2f128_ps::<1>(all, all));
        _mm_storeu_ps(out.as_mut_ptr(), _mm256_castps256_ps128(all));
    }
    out
}

/// Four columns of [`Simd::turn8`] for 8 rows.
#[inline(always)]
unsafe fn turn4_ymm(from: *const f32, stride: usize) -> [__m256; 4] {
    // SAFETY: the caller promises 4 readable items in each row.
    unsafe {
        // Row i beside row i + 4: what remains is a 4 x 4 transpose in each half.
        macro_rules! row {
            ($i:literal) => {
                _mm256_insertf128_ps::<1>(
                    _mm256_castps128_ps256(_mm_loadu_ps(from.add($i * stride))),
                    _mm_loadu_ps(from.add(($i + 4) * stride)),
                )
            };
        }
        let (a, b, c, d) = (row!(0), row!(1), row!(2), row!(3));
        let (ab, ba) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd, dc) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<0x44>(ab, cd),
            _mm256_shuffle_ps::<0xee>(ab, cd),
            _mm256_shuffle_ps::<0x44>(ba, dc),
            _mm256_shuffle_ps::<0xee>(ba, dc),
        ]
    }
}

// SAFETY of every block below: these instructions exist because `dispatch!` checked the CPU before it entered a function
// with these target features; the memory touched is the caller's promise.
impl Simd for Avx2 {
    type F = Pair<__m256>;
    type I = Pair<__m256i>;
    const MR: usize = 6;
    const NV: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        unsafe { Pair(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        unsafe { Pair(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::F) {
        unsafe {
            _mm256_storeu_ps(p, v.0);
            _mm256_storeu_ps(p.add(8), v.1);
        }
    }

    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: Self::F) {
        unsafe {
            _mm256_stream_ps(p, v.0);
            _mm256_stream_ps(p.add(8), v.1);
        }
    }

    #[inline(always)]
    unsafe fn fence() {
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self::F {
        unsafe {
            if n >= LANES {
                Self::load(p)
            } else if n >= 8 {
                Pair(_mm256_loadu_ps(p), _mm256_maskload_ps(p.add(8), tail_mask(n - 8)))
            } else {
                Pair(_mm256_maskload_ps(p, tail_mask(n)), _mm256_setzero_ps())
            }
        }
    }

    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: Self::F, n: usize) {
        unsafe {
            if n >= LANES {
                Self::store(p, v);
            } else if n >= 8 {
                _mm256_storeu_ps(p, v.0);
                _mm256_maskstore_ps(p.add(8), tail_mask(n - 8), v.1);
            } else {
                _mm256_maskstore_ps(p, tail_mask(n), v.0);
            }
        }
    }

    #[inline(always)]
    unsafe fn load_halves(low: *const f32, high: *const f32) -> Self::F {
        unsafe { Pair(_mm256_loadu_ps(low), _mm256_loadu_ps(high)) }
    }

    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        unsafe { Pair(_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { Pair(_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { Pair(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        unsafe { Pair(_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        unsafe { Pair(_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        unsafe { Pair(_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { Pair(_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
    }

    #[inline(always)]
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { Pair(_mm256_fnmadd_ps(a.0, b.0, c.0), _mm256_fnmadd_ps(a.1, b.1, c.1)) }
    }

    #[inline(always)]
    unsafe fn sqrt(a: Self::F) -> Self::F {
        unsafe { Pair(_mm256_sqrt_ps(a.0), _mm256_sqrt_ps(a.1)) }
    }

    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        unsafe {
            const R: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            Pair(_mm256_round_ps::<R>(a.0), _mm256_round_ps::<R>(a.1))
        }
    }

    #[inline(always)]
    unsafe fn floor(a: Self::F) -> Self::F {
        unsafe { Pair(_mm256_floor_ps(a.0), _mm256_floor_ps(a.1)) }
    }

    #[inline(always)]
    unsafe fn select_gt(a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        unsafe {
            Pair(
                _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_GT_OQ>(a.0, b.0)),
                _mm256_blendv_ps(no.1, yes.1, _mm256_cmp_ps::<_CMP_GT_OQ>(a.1, b.1)),
            )
        }
    }

    #[inline(always)]
    unsafe fn select_eq(a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        unsafe {
            Pair(
                _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_EQ_OQ>(a.0, b.0)),
                _mm256_blendv_ps(no.1, yes.1, _mm256_cmp_ps::<_CMP_EQ_OQ>(a.1, b.1)),
            )
        }
    }

    #[inline(always)]
    unsafe fn to_int(a: Self::F) -> Self::I {
        unsafe { Pair(_mm256_cvtps_epi32(a.0), _mm256_cvtps_epi32(a.1)) }
    }

    #[inline(always)]
    unsafe fn to_float(a: Self::I) -> Self::F {
        unsafe { Pair(_mm256_cvtepi32_ps(a.0), _mm256_cvtepi32_ps(a.1)) }
    }

    #[inline(always)]
    unsafe fn bits(a: Self::F) -> Self::I {
        unsafe { Pair(_mm256_castps_si256(a.0), _mm256_castps_si256(a.1)) }
    }

    #[inline(always)]
    unsafe fn from_bits(a: Self::I) -> Self::F {
        unsafe { Pair(_mm256_castsi256_ps(a.0), _mm256_castsi256_ps(a.1)) }
    }

    #[inline(always)]
    unsafe fn isplat(x: i32) -> Self::I {
        unsafe { Pair(_mm256_set1_epi32(x), _mm256_set1_epi32(x)) }
    }

    #[inline(always)]
    unsafe fn iadd(a: Self::I, b: Self::I) -> Self::I {
        unsafe { Pair(_mm256_add_epi32(a.0, b.0), _mm256_add_epi32(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn isub(a: Self::I, b: Self::I) -> Self::I {
        unsafe { Pair(_mm256_sub_epi32(a.0, b.0), _mm256_sub_epi32(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn iand(a: Self::I, b: Self::I) -> Self::I {
        unsafe { Pair(_mm256_and_si256(a.0, b.0), _mm256_and_si256(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn ior(a: Self::I, b: Self::I) -> Self::I {
        unsafe { Pair(_mm256_or_si256(a.0, b.0), _mm256_or_si256(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn ixor(a: Self::I, b: Self::I) -> Self::I {
        unsafe { Pair(_mm256_xor_si256(a.0, b.0), _mm256_xor_si256(a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn shl<const N: i32>(a: Self::I) -> Self::I {
        unsafe { Pair(_mm256_slli_epi32::<N>(a.0), _mm256_slli_epi32::<N>(a.1)) }
    }

    #[inline(always)]
    unsafe fn shr<const N: i32>(a: Self::I) -> Self::I {
        unsafe { Pair(_mm256_srli_epi32::<N>(a.0), _mm256_srli_epi32::<N>(a.1)) }
    }

    #[inline(always)]
    unsafe fn multiply_wide(a: Self::I, b: u32) -> (Self::I, Self::I) {
        unsafe {
            let b = _mm256_set1_epi32(b as i32);
            let (first, last) = (multiply_wide8(a.0, b), multiply_wide8(a.1, b));
            (Pair(first.0, last.0), Pair(first.1, last.1))
        }
    }

    #[inline(always)]
    unsafe fn lookup(table: &[f32; 24], at: Self::I) -> Self::F {
        unsafe { Pair(lookup8(table, at.0), lookup8(table, at.1)) }
    }

    #[inline(always)]
    unsafe fn store_interleaved(p: *mut i32, v: [Self::I; 4]) {
        unsafe {
            store_interleaved8(p, v[0].0, v[1].0, v[2].0, v[3].0);
            store_interleaved8(p.add(32), v[0].1, v[1].1, v[2].1, v[3].1);
        }
    }

    #[inline(always)]
    unsafe fn turn8(from: *const f32, stride: usize) -> [Self::F; 8] {
        unsafe {
            let at = from.add(8 * stride);
            let ([a, b, c, d], [e, f, g, h]) = (turn4_ymm(from, stride), turn4_ymm(from.add(4), stride));
            let ([i, j, k, l], [m, n, o, p]) = (turn4_ymm(at, stride), turn4_ymm(at.add(4), stride));
            [Pair(a, i), Pair(b, j), Pair(c, k), Pair(d, l), Pair(e, m), Pair(f, n), Pair(g, o), Pair(h, p)]
        }
    }

    #[inline(always)]
    unsafe fn transpose8(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
        unsafe { transpose8_ymm(from, stride, rows, to, to_stride) }
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::F {
        unsafe {
            let widen = |h| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(h)));
            Pair(widen(_mm_loadu_si128(p.cast())), widen(_mm_loadu_si128(p.add(8).cast())))
        }
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self::F {
        unsafe { Pair(_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast()))) }
    }

    #[inline(always)]
    unsafe fn sum(v: Self::F) -> f32 {
        unsafe { sum8(_mm256_add_ps(v.0, v.1)) }
    }

    #[inline(always)]
    unsafe fn max_lane(v: Self::F) -> f32 {
        unsafe { max8(_mm256_max_ps(v.0, v.1)) }
    }

    #[inline(always)]
    unsafe fn fold4<const MAX: bool>(v: [Self::F; 4]) -> [f32; 4] {
        unsafe {
            let mut halves = [_mm256_setzero_ps(); 4];
            for i in 0..4 {
                halves[i] = join8::<MAX>(v[i].0, v[i].1);
            }
            fold8x4::<MAX>(halves)
        }
    }
}

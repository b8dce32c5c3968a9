//! AVX-512: one 512-bit register a vector.

// SAFETY of every block here: intrinsics under the contract of `Simd`, whose caller has checked the CPU and the pointers.
#![allow(clippy::undocumented_unsafe_blocks)]

use super::avx2::{fold8x4, join8, max8, sum8, transpose8_ymm};
use super::{LANES, Simd};
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub struct Avx512;

#[inline(always)]
fn mask16(n: usize) -> __mmask16 {
    if n >= LANES { !0 } else { (1u16 << n) - 1 }
}

// SAFETY of every block below: as in avx2.rs.
impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    const MR: usize = 8;
    const NV: usize = 3;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::F {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::F {
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::F) {
        unsafe {
            _mm512_storeu_ps(p, v);
        }
    }

    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: Self::F) {
        unsafe { _mm512_stream_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn fence() {
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self::F {
        unsafe { _mm512_maskz_loadu_ps(mask16(n), p) }
    }

    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: Self::F, n: usize) {
        unsafe {
            _mm512_mask_storeu_ps(p, mask16(n), v);
        }
    }

    #[inline(always)]
    unsafe fn load_halves(low: *const f32, high: *const f32) -> Self::F {
        unsafe { _mm512_insertf32x8::<1>(_mm512_castps256_ps512(_mm256_loadu_ps(low)), _mm256_loadu_ps(high)) }
    }

    #[inline(always)]
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn sqrt(a: Self::F) -> Self::F {
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    unsafe fn round(a: Self::F) -> Self::F {
        unsafe {
            const R: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            _mm512_roundscale_ps::<R>(a)
        }
    }

    #[inline(always)]
    unsafe fn floor(a: Self::F) -> Self::F {
        unsafe {
            const R: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
            _mm512_roundscale_ps::<R>(a)
        }
    }

    #[inline(always)]
    unsafe fn select_gt(a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), no, yes) }
    }

    #[inline(always)]
    unsafe fn select_eq(a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), no, yes) }
    }

    #[inline(always)]
    unsafe fn to_int(a: Self::F) -> Self::I {
        unsafe { _mm512_cvtps_epi32(a) }
    }

    #[inline(always)]
    unsafe fn to_float(a: Self::I) -> Self::F {
        unsafe { _mm512_cvtepi32_ps(a) }
    }

    #[inline(always)]
    unsafe fn bits(a: Self::F) -> Self::I {
        unsafe { _mm512_castps_si512(a) }
    }

    #[inline(always)]
    unsafe fn from_bits(a: Self::I) -> Self::F {
        unsafe { _mm512_castsi512_ps(a) }
    }

    #[inline(always)]
    unsafe fn isplat(x: i32) -> Self::I {
        unsafe { _mm512_set1_epi32(x) }
    }

    #[inline(always)]
    unsafe fn iadd(a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn isub(a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_sub_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn iand(a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_and_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn ior(a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn ixor(a: Self::I, b: Self::I) -> Self::I {
        unsafe { _mm512_xor_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn shl<const N: i32>(a: Self::I) -> Self::I {
        unsafe { _mm512_sll_epi32(a, _mm_cvtsi32_si128(N)) }
    }

    #[inline(always)]
    unsafe fn shr<const N: i32>(a: Self::I) -> Self::I {
        unsafe { _mm512_srl_epi32(a, _mm_cvtsi32_si128(N)) }
    }

    #[inline(always)]
    unsafe fn multiply_wide(a: Self::I, b: u32) -> (Self::I, Self::I) {
        unsafe {
            let b = _mm512_set1_epi32(b as i32);
            let (even, odd) = (_mm512_mul_epu32(a, b), _mm512_mul_epu32(_mm512_srli_epi64::<32>(a), b));
            let low = _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64::<32>(odd));
            (low, _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64::<32>(even), odd))
        }
    }

    #[inline(always)]
    unsafe fn lookup(table: &[f32; 24], at: Self::I) -> Self::F {
        unsafe {
            let last = _mm512_broadcast_f32x8(_mm256_loadu_ps(table.as_ptr().add(16)));
            _mm512_permutex2var_ps(_mm512_loadu_ps(table.as_ptr()), at, last)
        }
    }

    #[inline(always)]
    unsafe fn turn8(from: *const f32, stride: usize) -> [Self::F; 8] {
        unsafe {
            // Otherwise the 16 rows' addresses would be kept in memory for the whole loop around this.
            let stride = Self::hidden(stride);
            // Row i beside row i + 8; then 4 x 4 transposes in each quarter; then the quarters of rows 0 to 3 and 4 to 7 beside each other.
            macro_rules! quarters {
                ($i:literal) => {{
                    let row = |i: usize| Self::load_halves(from.add(i * stride), from.add((i + 8) * stride));
                    let (a, b, c, d) = (row($i), row($i + 1), row($i + 2), row($i + 3));
                    let (ab, ba) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                    let (cd, dc) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                    [
                        _mm512_shuffle_ps::<0x44>(ab, cd),
                        _mm512_shuffle_ps::<0xee>(ab, cd),
                        _mm512_shuffle_ps::<0x44>(ba, dc),
                        _mm512_shuffle_ps::<0xee>(ba, dc),
                    ]
                }};
            }
            let (low, high) = (quarters!(0), quarters!(4));
            let even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
            let odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
            macro_rules! column {
                ($i:literal, $which:ident) => {
                    _mm512_castpd_ps(_mm512_permutex2var_pd(_mm512_castps_pd(low[$i]), $which, _mm512_castps_pd(high[$i])))
                };
            }
            [
                column!(0, even),
                column!(1, even),
                column!(2, even),
                column!(3, even),
                column!(0, odd),
                column!(1, odd),
                column!(2, odd),
                column!(3, odd),
            ]
        }
    }

    #[inline(always)]
    unsafe fn transpose8(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
        unsafe { transpose8_ymm(from, stride, rows, to, to_stride) }
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::F {
        unsafe { _mm512_castsi512_ps(Self::shl::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())))) }
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self::F {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }

    #[inline(always)]
    unsafe fn sum(v: Self::F) -> f32 {
        unsafe { sum8(_mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v))) }
    }

    #[inline(always)]
    unsafe fn max_lane(v: Self::F) -> f32 {
        unsafe { max8(_mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v))) }
    }

    #[inline(always)]
    unsafe fn fold4<const MAX: bool>(v: [Self::F; 4]) -> [f32; 4] {
        unsafe {
            let mut halves = [_mm256_setzero_ps(); 4];
            for i in 0..4 {
                halves[i] = join8::<MAX>(_mm512_castps512_ps256(v[i]), _mm512_extractf32x8_ps::<1>(v[i]));
            }
            fold8x4::<MAX>(halves)
        }
    }
}

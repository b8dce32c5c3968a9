//! AVX-512 with VNNI: one instruction multiplies and adds 64 pairs of bytes.

// SAFETY of every block here: intrinsics under the contract of `Dots`, whose caller has checked the CPU and the pointers.
#![allow(clippy::undocumented_unsafe_blocks)]

use super::{Dots, FourByFour, Shape, block_by_four};
use crate::simd::Avx512;
use std::arch::x86_64::*;

#[derive(Clone, Copy)]
pub struct Vnni;

impl Dots for Vnni {
    type S = Avx512;
    type Int = __m512i;
    const ROWS: usize = 4;
    // Two loads a cycle feed two `vpdpbusd` a cycle only where an activation that was loaded meets several groups.
    const GROUPS: usize = 3;

    #[inline(always)]
    unsafe fn block<H: Shape, const R: usize, const G: usize>(
        codes: &[*const u8; G],
        table: &[u8; 16],
        bytes: *const u8,
        corrections: *const i32,
    ) -> [[[Self::Int; R]; G]; 2] {
        unsafe { block_by_four::<Self, H, R, G>(codes, table, bytes, corrections) }
    }
    #[inline(always)]
    unsafe fn float(sums: Self::Int) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
    #[inline(always)]
    unsafe fn halves(p: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn unsigned(p: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn signed(p: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: __m512) {
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v))) }
    }
}

impl FourByFour for Vnni {
    type Codes = __m512i;

    #[inline(always)]
    unsafe fn zero() -> Self::Codes {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn codes(p: *const u8) -> Self::Codes {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn low(c: Self::Codes) -> Self::Codes {
        unsafe { _mm512_and_si512(c, _mm512_set1_epi8(15)) }
    }
    #[inline(always)]
    unsafe fn high(c: Self::Codes) -> Self::Codes {
        unsafe { Self::low(_mm512_srli_epi16::<4>(c)) }
    }
    #[inline(always)]
    unsafe fn lookup(table: &[u8; 16], c: Self::Codes) -> Self::Codes {
        unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())), c) }
    }
    #[inline(always)]
    unsafe fn begin(correction: i32) -> Self::Int {
        unsafe { _mm512_set1_epi32(correction) }
    }
    #[inline(always)]
    unsafe fn dot(sums: Self::Int, c: Self::Codes, x: i32) -> Self::Int {
        unsafe { _mm512_dpbusd_epi32(sums, c, _mm512_set1_epi32(x)) }
    }
}

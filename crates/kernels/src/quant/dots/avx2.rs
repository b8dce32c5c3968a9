//! AVX2: `vpmaddubsw` multiplies unsigned bytes with signed ones and adds pairs in 16 bits, where a sum beyond 32767 would saturate. How many pairs a lane
//! can take before it must be widened depends on the size of the codes.

// SAFETY of every block here: intrinsics under the contract of `Dots`, whose caller has checked the CPU and the pointers.
#![allow(clippy::undocumented_unsafe_blocks)]

use super::{Dots, Shape};
use crate::quant::layout::{BLOCK, ZERO};
use crate::simd::{Avx2, LANES, Pair};
use std::arch::x86_64::*;

/// 64 codes of 16 rows, or the sums of 16 rows.
type Ints = Pair<__m256i>;

#[inline(always)]
unsafe fn load(p: *const u8) -> Ints {
    unsafe { Pair(_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())) }
}

/// Four activations, in every lane of 32 bits.
#[inline(always)]
unsafe fn four(p: *const u8) -> __m256i {
    unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
}

/// sums + the sums of two neighbours, of 16 bits each.
#[inline(always)]
unsafe fn add_pairs(sums: __m256i, pairs: __m256i) -> __m256i {
    unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))) }
}

/// `count` steps that stay a loop: unrolled, the compiler takes row after row, and the codes that all rows need no longer fit in registers.
#[inline(always)]
fn steps(count: usize) -> std::ops::Range<usize> {
    0..std::hint::black_box(count)
}

/// Codes of four bits, of one half of the block (`HALF` 0 or 1) or of both (2): at most 15 · 127 · 2 · 8 = 30480.
#[inline(always)]
unsafe fn nibbles<H: Shape, const R: usize, const HALF: usize>(codes: *const u8, bytes: *const u8, corrections: *const i32) -> [Ints; R] {
    unsafe {
        let mask = _mm256_set1_epi8(15);
        let mut pairs = [Pair(_mm256_setzero_si256(), _mm256_setzero_si256()); R];
        for v in steps(4) {
            let c = load(codes.add(64 * v));
            if HALF != 1 {
                let low = Pair(_mm256_and_si256(c.0, mask), _mm256_and_si256(c.1, mask));
                for r in 0..R {
                    let x = four(bytes.add(r * BLOCK + 4 * v));
                    pairs[r].0 = _mm256_add_epi16(pairs[r].0, _mm256_maddubs_epi16(low.0, x));
                    pairs[r].1 = _mm256_add_epi16(pairs[r].1, _mm256_maddubs_epi16(low.1, x));
                }
            }
            if HALF != 0 {
                let high = Pair(_mm256_and_si256(_mm256_srli_epi16::<4>(c.0), mask), _mm256_and_si256(_mm256_srli_epi16::<4>(c.1), mask));
                for r in 0..R {
                    let x = four(bytes.add(r * BLOCK + 16 + 4 * v));
                    pairs[r].0 = _mm256_add_epi16(pairs[r].0, _mm256_maddubs_epi16(high.0, x));
                    pairs[r].1 = _mm256_add_epi16(pairs[r].1, _mm256_maddubs_epi16(high.1, x));
                }
            }
        }
        for r in 0..R {
            let correction = if H::CENTRED { _mm256_set1_epi32(*corrections.add(HALF % 2 * R + r)) } else { _mm256_setzero_si256() };
            pairs[r] = Pair(add_pairs(correction, pairs[r].0), add_pairs(correction, pairs[r].1));
        }
        pairs
    }
}

/// Where the items lie that step i takes first (`second` 0) and then (1): four neighbours each.
#[inline(always)]
const fn item<H: Shape>(i: usize, second: usize) -> usize {
    if H::NIBBLES { 4 * i + 16 * second } else { 8 * i + 4 * second }
}

/// Their codes of eight bits: 16 rows of four. Codes of four bits are looked up.
#[inline(always)]
unsafe fn code<H: Shape>(codes: *const u8, table: __m256i, i: usize, second: usize) -> Ints {
    unsafe {
        if !H::NIBBLES {
            return load(codes.add(LANES * item::<H>(i, second)));
        }
        let c = load(codes.add(64 * i));
        let c = if second == 0 { c } else { Pair(_mm256_srli_epi16::<4>(c.0), _mm256_srli_epi16::<4>(c.1)) };
        let mask = _mm256_set1_epi8(15);
        Pair(_mm256_shuffle_epi8(table, _mm256_and_si256(c.0, mask)), _mm256_shuffle_epi8(table, _mm256_and_si256(c.1, mask)))
    }
}

/// Codes of eight bits that stand for less than 32 in size, from step `FROM` on, `STEPS` of them: with 32 in place of [`ZERO`] they are below 64, and two steps add up to 63 · 127 · 4 = 32004
/// at most. A correction is −128 · Σ bytes.
#[inline(always)]
unsafe fn small<H: Shape, const R: usize, const FROM: usize, const STEPS: usize>(
    codes: *const u8,
    table: __m256i,
    bytes: *const u8,
    corrections: *const i32,
) -> [Ints; R] {
    unsafe {
        let mut sums = [Pair(_mm256_setzero_si256(), _mm256_setzero_si256()); R];
        for r in 0..R {
            let correction = _mm256_set1_epi32(*corrections.add(FROM / 2 * R + r) / 4);
            sums[r] = Pair(correction, correction);
        }
        let less = _mm256_set1_epi8((ZERO - 32) as i8);
        for i in steps(STEPS) {
            let (c, d) = (code::<H>(codes, table, FROM + i, 0), code::<H>(codes, table, FROM + i, 1));
            let (c, d) = (
                Pair(_mm256_sub_epi8(c.0, less), _mm256_sub_epi8(c.1, less)),
                Pair(_mm256_sub_epi8(d.0, less), _mm256_sub_epi8(d.1, less)),
            );
            for r in 0..R {
                let row = bytes.add(r * BLOCK);
                let (x, y) = (four(row.add(item::<H>(FROM + i, 0))), four(row.add(item::<H>(FROM + i, 1))));
                sums[r].0 = add_pairs(sums[r].0, _mm256_add_epi16(_mm256_maddubs_epi16(c.0, x), _mm256_maddubs_epi16(d.0, y)));
                sums[r].1 = add_pairs(sums[r].1, _mm256_add_epi16(_mm256_maddubs_epi16(c.1, x), _mm256_maddubs_epi16(d.1, y)));
            }
        }
        sums
    }
}

/// Codes of all eight bits: their size as the unsigned byte, their sign to the activation. One step adds up to 128 · 127 · 2 = 32512 at most.
#[inline(always)]
unsafe fn wide<H: Shape, const R: usize>(codes: *const u8, table: __m256i, bytes: *const u8) -> [Ints; R] {
    unsafe {
        let mut sums = [Pair(_mm256_setzero_si256(), _mm256_setzero_si256()); R];
        let zero = _mm256_set1_epi8(ZERO as i8);
        for i in steps(4) {
            for second in 0..2 {
                let c = code::<H>(codes, table, i, second);
                let c = Pair(_mm256_xor_si256(c.0, zero), _mm256_xor_si256(c.1, zero));
                let size = Pair(_mm256_abs_epi8(c.0), _mm256_abs_epi8(c.1));
                for r in 0..R {
                    let x = four(bytes.add(r * BLOCK + item::<H>(i, second)));
                    sums[r].0 = add_pairs(sums[r].0, _mm256_maddubs_epi16(size.0, _mm256_sign_epi8(x, c.0)));
                    sums[r].1 = add_pairs(sums[r].1, _mm256_maddubs_epi16(size.1, _mm256_sign_epi8(x, c.1)));
                }
            }
        }
        sums
    }
}

/// [`Dots::block`] of one group.
#[inline(always)]
unsafe fn group<H: Shape, const R: usize>(codes: *const u8, table: &[u8; 16], bytes: *const u8, corrections: *const i32) -> [[Ints; R]; 2] {
    unsafe {
        if !H::WIDE {
            return if H::HALF {
                [nibbles::<H, R, 0>(codes, bytes, corrections), nibbles::<H, R, 1>(codes, bytes, corrections)]
            } else {
                [nibbles::<H, R, 2>(codes, bytes, corrections); 2]
            };
        }
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        match (H::SMALL, H::HALF) {
            (true, true) => [small::<H, R, 0, 2>(codes, table, bytes, corrections), small::<H, R, 2, 2>(codes, table, bytes, corrections)],
            (true, false) => [small::<H, R, 0, 4>(codes, table, bytes, corrections); 2],
            // No layout of GGUF has a scale for every 16 codes of all eight bits.
            (false, _) => [wide::<H, R>(codes, table, bytes); 2],
        }
    }
}

impl Dots for Avx2 {
    type S = Avx2;
    type Int = Ints;
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn block<H: Shape, const R: usize, const G: usize>(
        codes: &[*const u8; G],
        table: &[u8; 16],
        bytes: *const u8,
        corrections: *const i32,
    ) -> [[[Self::Int; R]; G]; 2] {
        unsafe {
            let first = group::<H, R>(codes[0], table, bytes, corrections);
            let mut all = [[first[0]; G], [first[1]; G]];
            for g in 1..G {
                [all[0][g], all[1][g]] = group::<H, R>(codes[g], table, bytes, corrections);
            }
            all
        }
    }
    #[inline(always)]
    unsafe fn float(sums: Self::Int) -> Pair<__m256> {
        unsafe { Pair(_mm256_cvtepi32_ps(sums.0), _mm256_cvtepi32_ps(sums.1)) }
    }
    #[inline(always)]
    unsafe fn halves(p: *const u8) -> Pair<__m256> {
        unsafe { Pair(_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(16).cast()))) }
    }
    #[inline(always)]
    unsafe fn unsigned(p: *const u8) -> Pair<__m256> {
        unsafe {
            Self::float(Pair(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())), _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8).cast()))))
        }
    }
    #[inline(always)]
    unsafe fn signed(p: *const u8) -> Pair<__m256> {
        unsafe {
            Self::float(Pair(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())), _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8).cast()))))
        }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: Pair<__m256>) {
        unsafe {
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(v.0), _mm256_cvtps_epi32(v.1));
            // The pack works in halves of 128 bits: put the quarters in order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(p.cast(), bytes);
        }
    }
}

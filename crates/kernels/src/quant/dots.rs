//! Integer dot products of 16 rows by 4 items, one source for every instruction set, as `simd` is for floats.

use super::layout::ZERO;
use crate::half::f16_to_f32;
use crate::simd::{LANES, Simd};

/// Sums of products of unsigned codes and signed activations.
///
/// # Safety
/// As [`Simd`]: reached only through [`dispatch_dots!`], which has checked the CPU; pointers are the caller's promise.
pub trait Dots: Copy + 'static {
    type S: Simd;
    /// Sixteen int32 lanes.
    type Int: Copy;
    /// 64 bytes: 16 rows of 4 codes.
    type Codes: Copy;
    /// Most rows of activations in a tile.
    const ROWS: usize;

    unsafe fn codes(p: *const u8) -> Self::Codes;
    /// The lower and the upper half of each byte.
    unsafe fn low(c: Self::Codes) -> Self::Codes;
    unsafe fn high(c: Self::Codes) -> Self::Codes;
    /// What each byte below 16 stands for.
    unsafe fn lookup(table: &[u8; 16], c: Self::Codes) -> Self::Codes;
    /// The sums before the first dot: `correction` = −zero · Σ activations. `wide`, known when it is compiled: codes may be above 127 and stand for themselves less 128.
    unsafe fn begin(wide: bool, correction: i32) -> Self::Int;
    /// Adds the dot product of each row's four codes and four activations (the bytes of `x`).
    unsafe fn dot(wide: bool, sums: Self::Int, c: Self::Codes, x: i32) -> Self::Int;
    unsafe fn float(sums: Self::Int) -> <Self::S as Simd>::F;

    /// Sixteen float16 numbers.
    unsafe fn halves(p: *const u8) -> <Self::S as Simd>::F;
    /// Sixteen bytes as numbers.
    unsafe fn unsigned(p: *const u8) -> <Self::S as Simd>::F;
    unsafe fn signed(p: *const u8) -> <Self::S as Simd>::F;
    /// Stores 16 whole numbers from −128 to 127 as bytes.
    unsafe fn store_bytes(p: *mut u8, v: <Self::S as Simd>::F);
}

/// Plain loops over arrays beside any set of float lanes.
#[derive(Clone, Copy)]
pub struct Scalar<S>(std::marker::PhantomData<S>);

impl<S: Simd> Scalar<S> {
    #[inline(always)]
    unsafe fn each(f: impl Fn(usize) -> f32) -> S::F {
        let lanes: [f32; LANES] = std::array::from_fn(f);
        // SAFETY: 16 lanes of our own.
        unsafe { S::load(lanes.as_ptr()) }
    }
}

// SAFETY of every block below: the memory touched is the caller's promise.
impl<S: Simd> Dots for Scalar<S> {
    type S = S;
    type Int = [i32; LANES];
    type Codes = [u8; 64];
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn codes(p: *const u8) -> Self::Codes {
        // SAFETY: as above.
        unsafe { p.cast::<[u8; 64]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn low(c: Self::Codes) -> Self::Codes {
        c.map(|x| x & 15)
    }
    #[inline(always)]
    unsafe fn high(c: Self::Codes) -> Self::Codes {
        c.map(|x| x >> 4)
    }
    #[inline(always)]
    unsafe fn lookup(table: &[u8; 16], c: Self::Codes) -> Self::Codes {
        c.map(|x| table[usize::from(x & 15)])
    }
    #[inline(always)]
    unsafe fn begin(_: bool, correction: i32) -> Self::Int {
        [correction; LANES]
    }
    #[inline(always)]
    unsafe fn dot(_: bool, sums: Self::Int, c: Self::Codes, x: i32) -> Self::Int {
        let x = x.to_le_bytes().map(|b| i32::from(b as i8));
        std::array::from_fn(|r| {
            let of = |i: usize| i32::from(c[4 * r + i]) * x[i];
            sums[r] + of(0) + of(1) + of(2) + of(3)
        })
    }
    #[inline(always)]
    unsafe fn float(sums: Self::Int) -> S::F {
        // SAFETY: no memory of others.
        unsafe { Self::each(|i| sums[i] as f32) }
    }
    #[inline(always)]
    unsafe fn halves(p: *const u8) -> S::F {
        // SAFETY: as above.
        unsafe { Self::each(|i| f16_to_f32(p.add(2 * i).cast::<u16>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn unsigned(p: *const u8) -> S::F {
        // SAFETY: as above.
        unsafe { Self::each(|i| f32::from(*p.add(i))) }
    }
    #[inline(always)]
    unsafe fn signed(p: *const u8) -> S::F {
        // SAFETY: as above.
        unsafe { Self::each(|i| f32::from(*p.add(i) as i8)) }
    }
    #[inline(always)]
    unsafe fn store_bytes(p: *mut u8, v: S::F) {
        let mut lanes = [0f32; LANES];
        // SAFETY: as above.
        unsafe {
            S::store(lanes.as_mut_ptr(), v);
            p.cast::<[u8; LANES]>().write_unaligned(lanes.map(|x| x as i8 as u8));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    // SAFETY of every block here: intrinsics under the contract of `Dots`, whose caller has checked the CPU and the pointers.
    #![allow(clippy::undocumented_unsafe_blocks)]

    use super::{Dots, ZERO};
    use crate::simd::{Avx2, Avx512, Pair};
    use std::arch::x86_64::*;

    /// AVX-512 with VNNI: one instruction multiplies and adds 64 pairs of bytes.
    #[derive(Clone, Copy)]
    pub struct Vnni;

    impl Dots for Vnni {
        type S = Avx512;
        type Int = __m512i;
        type Codes = __m512i;
        const ROWS: usize = 12;

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
        unsafe fn begin(_: bool, correction: i32) -> Self::Int {
            unsafe { _mm512_set1_epi32(correction) }
        }
        #[inline(always)]
        unsafe fn dot(_: bool, sums: Self::Int, c: Self::Codes, x: i32) -> Self::Int {
            unsafe { _mm512_dpbusd_epi32(sums, c, _mm512_set1_epi32(x)) }
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

    /// One half of [`Avx2`]'s dot: `vpmaddubsw` would saturate on codes above 127, so those give their sign to the activation.
    #[inline(always)]
    unsafe fn dot8(wide: bool, sums: __m256i, c: __m256i, x: __m256i) -> __m256i {
        unsafe {
            let pairs = if wide {
                let signed = _mm256_xor_si256(c, _mm256_set1_epi8(ZERO as i8));
                _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(x, signed))
            } else {
                _mm256_maddubs_epi16(c, x)
            };
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    impl Dots for Avx2 {
        type S = Avx2;
        type Int = Pair<__m256i>;
        type Codes = Pair<__m256i>;
        const ROWS: usize = 2;

        #[inline(always)]
        unsafe fn codes(p: *const u8) -> Self::Codes {
            unsafe { Pair(_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())) }
        }
        #[inline(always)]
        unsafe fn low(c: Self::Codes) -> Self::Codes {
            unsafe { Pair(_mm256_and_si256(c.0, _mm256_set1_epi8(15)), _mm256_and_si256(c.1, _mm256_set1_epi8(15))) }
        }
        #[inline(always)]
        unsafe fn high(c: Self::Codes) -> Self::Codes {
            unsafe { Self::low(Pair(_mm256_srli_epi16::<4>(c.0), _mm256_srli_epi16::<4>(c.1))) }
        }
        #[inline(always)]
        unsafe fn lookup(table: &[u8; 16], c: Self::Codes) -> Self::Codes {
            unsafe {
                let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
                Pair(_mm256_shuffle_epi8(table, c.0), _mm256_shuffle_epi8(table, c.1))
            }
        }
        #[inline(always)]
        unsafe fn begin(wide: bool, correction: i32) -> Self::Int {
            // `dot8` takes the 128 off itself.
            unsafe {
                if wide {
                    Pair(_mm256_setzero_si256(), _mm256_setzero_si256())
                } else {
                    Pair(_mm256_set1_epi32(correction), _mm256_set1_epi32(correction))
                }
            }
        }
        #[inline(always)]
        unsafe fn dot(wide: bool, sums: Self::Int, c: Self::Codes, x: i32) -> Self::Int {
            unsafe {
                let x = _mm256_set1_epi32(x);
                Pair(dot8(wide, sums.0, c.0, x), dot8(wide, sums.1, c.1, x))
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
}

#[cfg(target_arch = "x86_64")]
pub use x86::Vnni;

/// [`crate::dispatch!`] for kernels over [`Dots`]. AVX-512 without VNNI runs the AVX2 form: the same bytes.
macro_rules! dispatch_dots {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident : $ty:ty),* $(,)?) = $generic:ident) => {
        $(#[$meta])*
        $vis unsafe fn $name($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
            unsafe fn vnni($($arg: $ty),*) {
                // SAFETY: called only where the CPU has these features; pointers are the caller's promise.
                unsafe { $generic::<$crate::quant::dots::Vnni>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($arg: $ty),*) {
                // SAFETY: as above.
                unsafe { $generic::<$crate::simd::Avx2>($($arg),*) }
            }
            // SAFETY: `isa()` returns only instruction sets that this CPU has; all with AVX-512 have AVX2.
            unsafe {
                match $crate::simd::isa() {
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Isa::Avx512 if is_x86_feature_detected!("avx512vnni") => vnni($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Isa::Avx512 | $crate::simd::Isa::Avx2 => avx2($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::simd::Isa::Neon => $generic::<$crate::quant::dots::Scalar<$crate::simd::Neon>>($($arg),*),
                    _ => $generic::<$crate::quant::dots::Scalar<$crate::simd::Portable>>($($arg),*),
                }
            }
        }
    };
}
pub(super) use dispatch_dots;

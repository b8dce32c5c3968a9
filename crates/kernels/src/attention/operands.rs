//! How the small products inside attention take their operands: as float32, or rounded to bfloat16.
//!
//! A term of a chain is 32 bits: one item, or a pair of neighbours along the chain. Left operands lie as rows (chains along the
//! row); right operands lie below each other (chains down the rows) or turned. Softmax, its derivative and all sums stay float32.

use super::BLOCK;
use super::ahead::Ahead;
use super::pages::Item;
use super::product::{Registers, transpose_to_64};
use crate::math::rounded_to_bf16;
use crate::simd::LANES;

pub trait Operands<S: Registers> {
    /// Items in a term.
    const PER: usize;
    /// Operands may be taken from where they are.
    const AS_THEY_ARE: bool;

    /// A term of a left operand for all lanes.
    #[inline(always)]
    unsafe fn splat(term: *const f32) -> S::F {
        // SAFETY: the caller promises the term.
        unsafe { S::splat(*term) }
    }

    /// chain + a·b.
    #[inline(always)]
    unsafe fn step(a: S::F, b: S::F, chain: S::F) -> S::F {
        // SAFETY: arithmetic on lanes only.
        unsafe { S::fma(a, b, chain) }
    }

    /// Writes items `item`…`item + 15` of a row.
    unsafe fn put(row: *mut f32, item: usize, x: S::F);

    /// Where rows of `width` items, at `rows` in a room for 64 of them as float32, lie below each other.
    #[inline(always)]
    fn below(rows: *mut f32, width: usize) -> *mut f32 {
        rows.wrapping_add(if Self::PER == 1 { 0 } else { BLOCK * width / Self::PER })
    }

    /// Joins the terms of neighbouring rows that [`Operands::put`] wrote, `from_row` apart: row i of the result, `to_row` from the
    /// next, holds a term of each column. It may begin where the rows do, if theirs are half as far apart.
    #[inline(always)]
    unsafe fn join_rows(_from: *const f32, _from_row: usize, _rows: usize, _width: usize, _to: *mut f32, _to_row: usize) {}
}

/// float32 as it is.
pub struct Single;

impl<S: Registers> Operands<S> for Single {
    const PER: usize = 1;
    const AS_THEY_ARE: bool = true;

    #[inline(always)]
    unsafe fn put(row: *mut f32, item: usize, x: S::F) {
        // SAFETY: the caller promises the row.
        unsafe { S::store(row.add(item), x) }
    }
}

/// bfloat16 numbers as float32: for instruction sets without bfloat16 products.
pub struct Rounded;

impl<S: Registers> Operands<S> for Rounded {
    const PER: usize = 1;
    const AS_THEY_ARE: bool = false;

    #[inline(always)]
    unsafe fn put(row: *mut f32, item: usize, x: S::F) {
        // SAFETY: the caller promises the row.
        unsafe { S::store(row.add(item), rounded_to_bf16::<S>(x)) }
    }
}

/// Pairs of bfloat16 numbers, for `vdpbf16ps`.
#[cfg(target_arch = "x86_64")]
pub use pairs::Pairs;

#[cfg(target_arch = "x86_64")]
mod pairs {
    use super::Operands;
    use crate::simd::{Avx512, LANES};
    use std::arch::x86_64::*;

    pub struct Pairs;

    /// Half 2i is the i-th of the lower 16, half 2i + 1 the i-th of the upper.
    const ORDER: [u16; 32] = {
        let mut at = [0; 32];
        let mut i = 0;
        while i < 32 {
            at[i] = (i % 2 * 16 + i / 2) as u16;
            i += 1;
        }
        at
    };

    impl Operands<Avx512> for Pairs {
        const PER: usize = 2;
        const AS_THEY_ARE: bool = false;

        #[inline(always)]
        unsafe fn splat(term: *const f32) -> __m512 {
            // SAFETY: the caller promises the term.
            unsafe { _mm512_castsi512_ps(_mm512_set1_epi32(*term.cast())) }
        }

        #[inline(always)]
        unsafe fn step(a: __m512, b: __m512, chain: __m512) -> __m512 {
            // SAFETY: the CPU has AVX512_BF16.
            unsafe { _mm512_dpbf16_ps(chain, std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b)) }
        }

        #[inline(always)]
        unsafe fn put(row: *mut f32, item: usize, x: __m512) {
            // SAFETY: as above; the caller promises the row.
            unsafe {
                _mm256_storeu_si256(row.cast::<u16>().add(item).cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)))
            }
        }

        #[inline(always)]
        unsafe fn join_rows(from: *const f32, from_row: usize, rows: usize, width: usize, to: *mut f32, to_row: usize) {
            // SAFETY: the caller promises the rows. In place, the later items make room for the earlier.
            unsafe {
                let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
                for i in 0..rows.div_ceil(2) {
                    let (even, odd) = (from.add(2 * i * from_row).cast::<u16>(), from.wrapping_add((2 * i + 1) * from_row).cast::<u16>());
                    for d in (0..width).step_by(LANES).rev() {
                        let mut x = _mm512_castsi256_si512(_mm256_loadu_si256(even.add(d).cast()));
                        let other = if 2 * i + 1 < rows { _mm256_loadu_si256(odd.add(d).cast()) } else { _mm256_setzero_si256() };
                        x = _mm512_inserti64x4::<1>(x, other);
                        _mm512_storeu_si512(to.add(i * to_row + d).cast(), _mm512_permutexvar_epi16(order, x));
                    }
                }
            }
        }
    }
}

/// Writes `rows` rows of `n` items as rows of `width`, the rest of them 0, `width / PER` terms apart.
///
/// # Safety
/// `from` and `to` must hold the rows.
#[inline(always)]
pub unsafe fn lay_rows<S: Registers, O: Operands<S>, T: Item>(
    from: *const T,
    from_row: usize,
    rows: usize,
    n: usize,
    to: *mut f32,
    width: usize,
) {
    // SAFETY: as promised above.
    unsafe {
        let whole = n / LANES * LANES;
        for r in 0..rows {
            let (from, to) = (from.add(r * from_row), to.add(r * (width / O::PER)));
            for d in (0..whole).step_by(LANES) {
                O::put(to, d, T::load::<S>(from.add(d)));
            }
            for d in (whole..width).step_by(LANES) {
                O::put(to, d, T::load_n::<S>(from.wrapping_add(d), n.saturating_sub(d)));
            }
        }
    }
}

/// Writes up to 64 rows of `n` items turned: a row of 64 for each term. `room` gets the rows as [`lay_rows`] leaves them, unless they are
/// taken as they are.
///
/// # Safety
/// `from` must hold the rows, `room` and `to` 64 rows of `width` items.
#[inline(always)]
pub unsafe fn turn<S: Registers, O: Operands<S>>(
    from: *const f32,
    from_row: usize,
    rows: usize,
    n: usize,
    room: *mut f32,
    width: usize,
    to: *mut f32,
    ahead: &mut Ahead,
) {
    // SAFETY: as promised above.
    unsafe {
        if O::AS_THEY_ARE {
            return transpose_to_64::<S>(from, from_row, rows, n, to, ahead);
        }
        lay_rows::<S, O, f32>(from, from_row, rows, n, room, width);
        transpose_to_64::<S>(room, width / O::PER, rows, n.div_ceil(O::PER), to, ahead);
    }
}

/// One instance of a generic function for each instruction set and each way to take operands; `bf16` says which.
macro_rules! with_operands {
    (unsafe fn $name:ident($($arg:ident : $ty:ty),*) = $generic:ident) => {
        unsafe fn $name(bf16: bool, $($arg: $ty),*) {
            #[inline(always)]
            unsafe fn single<S: Registers>($($arg: $ty),*) {
                // SAFETY: the caller's promise; so below.
                unsafe { $generic::<S, Single>($($arg),*) }
            }
            #[inline(always)]
            unsafe fn rounded<S: Registers>($($arg: $ty),*) {
                // SAFETY: as above.
                unsafe { $generic::<S, Rounded>($($arg),*) }
            }
            $crate::dispatch! { unsafe fn on_single($($arg: $ty),*) = single }
            $crate::dispatch! { unsafe fn on_rounded($($arg: $ty),*) = rounded }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
            unsafe fn on_pairs($($arg: $ty),*) {
                // SAFETY: called only where the CPU has these features.
                unsafe { $generic::<$crate::simd::Avx512, $crate::attention::operands::Pairs>($($arg),*) }
            }
            // SAFETY: as above.
            unsafe {
                if !bf16 {
                    return on_single($($arg),*);
                }
                #[cfg(target_arch = "x86_64")]
                if $crate::gemm::bf16_native() {
                    return on_pairs($($arg),*);
                }
                on_rounded($($arg),*)
            }
        }
    };
}
pub(super) use with_operands;

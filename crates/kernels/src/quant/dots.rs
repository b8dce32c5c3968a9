//! Integer dot products of a block: 16 rows of the weight by 32 items, with a few rows of activations. Instruction sets differ in how they get there; the sums are
//! exact, so all get the same.

use super::layout::BLOCK;
use crate::half::f16_to_f32;
use crate::simd::{Isa, LANES, Simd};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(target_arch = "x86_64")]
pub use vnni::Vnni;

/// What the loops are compiled for.
pub trait Shape: Copy + 'static {
    /// Codes of four bits.
    const NIBBLES: bool;
    /// Codes go through a table.
    const TABLE: bool;
    /// A scale for every 16 items rather than 32.
    const HALF: bool;
    const MINIMUM: bool;
    /// Codes of eight bits stand for less than 32 in size.
    const SMALL: bool;
    /// Some other code than 0 stands for 0.
    const CENTRED: bool = !(Self::NIBBLES && Self::MINIMUM);
    /// Codes may be above 127, and 128 stands for 0.
    const WIDE: bool = !Self::NIBBLES || Self::TABLE;
    /// Bytes of the 16 rows' codes in a block.
    const BYTES: usize = if Self::NIBBLES { LANES * BLOCK / 2 } else { LANES * BLOCK };
}

/// Sums of products of unsigned codes and signed activations.
///
/// # Safety
/// As [`Simd`]: reached only through [`dispatch_dots!`], which has checked the CPU; pointers are the caller's promise.
pub trait Dots: Copy + 'static {
    type S: Simd;
    /// Sixteen int32 lanes.
    type Int: Copy;
    /// Most rows of activations in a tile, but where they are one tall tile ([`super::activations::height`]).
    const ROWS: usize;
    /// Groups of 16 rows of the weight in a tile: an activation, once loaded, meets all of them.
    const GROUPS: usize = 1;

    /// The exact sums of a block's codes (of G groups), less what stands for 0, times the bytes [R][32] of R rows: of all 32 items, or of both halves. A correction is
    /// −zero · Σ bytes, of the block or of each half: [1 or 2][R].
    unsafe fn block<H: Shape, const R: usize, const G: usize>(
        codes: &[*const u8; G],
        table: &[u8; 16],
        bytes: *const u8,
        corrections: *const i32,
    ) -> [[[Self::Int; R]; G]; 2];
    unsafe fn float(sums: Self::Int) -> <Self::S as Simd>::F;

    /// Sixteen float16 numbers.
    unsafe fn halves(p: *const u8) -> <Self::S as Simd>::F;
    /// Sixteen bytes as numbers.
    unsafe fn unsigned(p: *const u8) -> <Self::S as Simd>::F;
    unsafe fn signed(p: *const u8) -> <Self::S as Simd>::F;
    /// Stores 16 whole numbers from −128 to 127 as bytes.
    unsafe fn store_bytes(p: *mut u8, v: <Self::S as Simd>::F);
}

/// [`Dots::GROUPS`] of the form that an instruction set runs.
pub fn groups_together(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if is_x86_feature_detected!("avx512vnni") => Vnni::GROUPS,
        _ => 1,
    }
}

/// Instruction sets that multiply and add four codes and four activations in one step, whatever the codes are.
///
/// # Safety
/// As [`Dots`].
pub trait FourByFour: Dots {
    /// 64 bytes: 16 rows of 4 codes.
    type Codes: Copy;

    unsafe fn zero() -> Self::Codes;
    unsafe fn codes(p: *const u8) -> Self::Codes;
    /// The lower and the upper half of each byte.
    unsafe fn low(c: Self::Codes) -> Self::Codes;
    unsafe fn high(c: Self::Codes) -> Self::Codes;
    /// What each byte below 16 stands for.
    unsafe fn lookup(table: &[u8; 16], c: Self::Codes) -> Self::Codes;
    unsafe fn begin(correction: i32) -> Self::Int;
    /// Adds the dot product of each row's four codes and four activations (the bytes of `x`).
    unsafe fn dot(sums: Self::Int, c: Self::Codes, x: i32) -> Self::Int;
}

/// [`Dots::block`] in steps of four items.
#[inline(always)]
unsafe fn block_by_four<D: FourByFour, H: Shape, const R: usize, const G: usize>(
    codes: &[*const u8; G],
    table: &[u8; 16],
    bytes: *const u8,
    corrections: *const i32,
) -> [[[D::Int; R]; G]; 2] {
    // SAFETY: as promised to `Dots::block`.
    unsafe {
        let four = |r: usize, at: usize| bytes.add(r * BLOCK + at).cast::<i32>().read_unaligned();
        let mut low = [[D::begin(0); R]; G];
        // The second half of a block where it has a scale of its own.
        let mut high = low;
        for g in 0..G {
            for r in 0..R {
                low[g][r] = D::begin(*corrections.add(r));
                if H::HALF {
                    high[g][r] = D::begin(*corrections.add(R + r));
                }
            }
        }
        if H::NIBBLES {
            for v in 0..4 {
                let mut c = [[D::zero(); 2]; G];
                for g in 0..G {
                    let both = D::codes(codes[g].add(64 * v));
                    c[g] = [D::low(both), D::high(both)];
                    if H::TABLE {
                        c[g] = [D::lookup(table, c[g][0]), D::lookup(table, c[g][1])];
                    }
                }
                for r in 0..R {
                    for g in 0..G {
                        low[g][r] = D::dot(low[g][r], c[g][0], four(r, 4 * v));
                    }
                    let second = if H::HALF { &mut high } else { &mut low };
                    for g in 0..G {
                        second[g][r] = D::dot(second[g][r], c[g][1], four(r, 16 + 4 * v));
                    }
                }
            }
        } else {
            for v in 0..8 {
                let mut c = [D::zero(); G];
                for g in 0..G {
                    c[g] = D::codes(codes[g].add(64 * v));
                }
                let sums = if H::HALF && v >= 4 { &mut high } else { &mut low };
                for r in 0..R {
                    for g in 0..G {
                        sums[g][r] = D::dot(sums[g][r], c[g], four(r, 4 * v));
                    }
                }
            }
        }
        [low, high]
    }
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
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn block<H: Shape, const R: usize, const G: usize>(
        codes: &[*const u8; G],
        table: &[u8; 16],
        bytes: *const u8,
        corrections: *const i32,
    ) -> [[[Self::Int; R]; G]; 2] {
        // SAFETY: as above.
        unsafe { block_by_four::<Self, H, R, G>(codes, table, bytes, corrections) }
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

impl<S: Simd> FourByFour for Scalar<S> {
    type Codes = [u8; 64];

    #[inline(always)]
    unsafe fn zero() -> Self::Codes {
        [0; 64]
    }
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
    unsafe fn begin(correction: i32) -> Self::Int {
        [correction; LANES]
    }
    #[inline(always)]
    unsafe fn dot(sums: Self::Int, c: Self::Codes, x: i32) -> Self::Int {
        let x = x.to_le_bytes().map(|b| i32::from(b as i8));
        std::array::from_fn(|r| {
            let of = |i: usize| i32::from(c[4 * r + i]) * x[i];
            sums[r] + of(0) + of(1) + of(2) + of(3)
        })
    }
}

/// [`crate::dispatch!`] for kernels over [`Dots`], of one [`Shape`] or of none. AVX-512 without VNNI runs the AVX2 form: the same bytes. The instruction set is
/// an argument: all kernels of a product use the one that its rows were laid out for.
macro_rules! dispatch_dots {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident$(<$shape:ident>)?($($arg:ident : $ty:ty),* $(,)?) = $generic:ident) => {
        $(#[$meta])*
        $vis unsafe fn $name$(<$shape: $crate::quant::dots::Shape>)?(isa: $crate::simd::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
            unsafe fn vnni$(<$shape: $crate::quant::dots::Shape>)?($($arg: $ty),*) {
                // SAFETY: called only where the CPU has these features; pointers are the caller's promise.
                unsafe { $generic::<$crate::quant::dots::Vnni $(, $shape)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2$(<$shape: $crate::quant::dots::Shape>)?($($arg: $ty),*) {
                // SAFETY: as above.
                unsafe { $generic::<$crate::simd::Avx2 $(, $shape)?>($($arg),*) }
            }
            // SAFETY: `isa` came from `simd::isa()`, which returns only instruction sets that this CPU has; all with AVX-512 have AVX2.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Isa::Avx512 if is_x86_feature_detected!("avx512vnni") => vnni$(::<$shape>)?($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Isa::Avx512 | $crate::simd::Isa::Avx2 => avx2$(::<$shape>)?($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::simd::Isa::Neon => $generic::<$crate::quant::dots::Scalar<$crate::simd::Neon> $(, $shape)?>($($arg),*),
                    _ => $generic::<$crate::quant::dots::Scalar<$crate::simd::Portable> $(, $shape)?>($($arg),*),
                }
            }
        }
    };
}
pub(super) use dispatch_dots;

//! Sixteen virtual float32 lanes, one source for every instruction set.
//!
//! A kernel is a generic `#[inline(always)]` function over [`Simd`]; [`dispatch!`] makes one instance for each
//! instruction set and picks one at run time. Because every operation here is exact IEEE arithmetic on 16 lanes, whatever
//! registers hold them, results are the same bytes on AVX-512, AVX2, NEON and portable code. Two rules keep it so:
//! sums run over 16 lanes and are folded by [`Simd::sum`]'s fixed tree, and `min`/`max` return the second operand when
//! either is NaN (what x86 does).

use crate::half::f16_to_f32;
use std::arch::asm;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as x86;
use std::sync::atomic::{AtomicU8, Ordering};

/// Virtual lanes in one vector.
pub const LANES: usize = 16;

/// Sixteen float32 lanes and the 32-bit integer view of them.
///
/// # Safety
/// Every method is unsafe because it may only run on a CPU that has the features of the implementing type; kernels
/// reach them through [`dispatch!`], which has checked. Pointers need no alignment but must be valid for the lanes read.
#[allow(clippy::missing_safety_doc)]
pub trait Simd: Copy + 'static {
    /// Sixteen float32 lanes.
    type F: Copy;
    /// Sixteen int32 lanes.
    type I: Copy;
    /// The largest register tile of a matrix product: rows, and vectors of 16 columns.
    const MR: usize;
    const NV: usize;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, v: Self::F);
    /// Stores a whole, aligned cache line to memory, past the caches where the instruction set can.
    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: Self::F) {
        // SAFETY: the caller promises 16 places.
        unsafe { Self::store(p, v) };
    }
    /// Orders what was streamed before what follows.
    #[inline(always)]
    unsafe fn fence() {}
    /// Loads lanes `0..n` (n <= 16); the others are 0 and their memory is not touched.
    unsafe fn load_n(p: *const f32, n: usize) -> Self::F;
    /// Stores lanes `0..n` (n <= 16); other memory is not touched.
    unsafe fn store_n(p: *mut f32, v: Self::F, n: usize);

    /// Eight lanes from `low` and eight from `high`.
    #[inline(always)]
    unsafe fn load_halves(low: *const f32, high: *const f32) -> Self::F {
        let mut both = [0f32; LANES];
        // SAFETY: the caller promises 8 readable items at each place.
        unsafe {
            both.as_mut_ptr().copy_from_nonoverlapping(low, LANES / 2);
            both.as_mut_ptr().add(LANES / 2).copy_from_nonoverlapping(high, LANES / 2);
            Self::load(both.as_ptr())
        }
    }

    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c - a * b`, rounded once.
    unsafe fn fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a < b ? a : b` (b when unordered).
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    /// `a > b ? a : b` (b when unordered).
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sqrt(a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    unsafe fn round(a: Self::F) -> Self::F;
    unsafe fn floor(a: Self::F) -> Self::F;
    /// `a > b ? yes : no` in each lane (no when unordered).
    unsafe fn select_gt(a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F;
    /// `a == b ? yes : no` in each lane (no when unordered).
    unsafe fn select_eq(a: Self::F, b: Self::F, yes: Self::F, no: Self::F) -> Self::F;

    /// Float lanes to int32, ties to even; out of range gives `i32::MIN`.
    unsafe fn to_int(a: Self::F) -> Self::I;
    unsafe fn to_float(a: Self::I) -> Self::F;
    /// The bits of float lanes as integers, and back.
    unsafe fn bits(a: Self::F) -> Self::I;
    unsafe fn from_bits(a: Self::I) -> Self::F;
    unsafe fn isplat(x: i32) -> Self::I;
    unsafe fn iadd(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn isub(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn iand(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn ior(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn ixor(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn shl<const N: i32>(a: Self::I) -> Self::I;
    /// Logical shift right.
    unsafe fn shr<const N: i32>(a: Self::I) -> Self::I;
    /// The 64-bit products of lanes (as unsigned numbers) and `b`: (lower halves, upper halves).
    unsafe fn multiply_wide(a: Self::I, b: u32) -> (Self::I, Self::I);

    /// Of a table of 24 entries, the one that the last five bits of each lane name; 24 to 31 name 16 to 23 again.
    #[inline(always)]
    unsafe fn lookup(table: &[f32; 24], at: Self::I) -> Self::F {
        let mut lanes = [0f32; LANES];
        // SAFETY: 16 lanes of our own.
        unsafe {
            Self::store(lanes.as_mut_ptr(), Self::from_bits(at));
            for lane in &mut lanes {
                let i = lane.to_bits() as usize % 32;
                *lane = table[if i < 24 { i } else { i - 8 }];
            }
            Self::load(lanes.as_ptr())
        }
    }

    /// Stores 64 integers: lane 0 of each of the four vectors, then lane 1 of each, and so on.
    #[inline(always)]
    unsafe fn store_interleaved(p: *mut i32, v: [Self::I; 4]) {
        for (w, v) in v.into_iter().enumerate() {
            let mut lanes = [0f32; LANES];
            // SAFETY: the caller promises 64 places.
            unsafe {
                Self::store(lanes.as_mut_ptr(), Self::from_bits(v));
                for (i, x) in lanes.iter().enumerate() {
                    *p.add(4 * i + w) = x.to_bits() as i32;
                }
            }
        }
    }

    /// Asks for the cache line of `p`, which need not be a valid address.
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which every x86-64 CPU takes.
        unsafe {
            x86::_mm_prefetch::<{ x86::_MM_HINT_T0 }>(p.cast())
        }
        let _ = p;
    }

    /// As [`Simd::prefetch`], into the second-level cache only.
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        unsafe {
            x86::_mm_prefetch::<{ x86::_MM_HINT_T1 }>(p.cast())
        }
        let _ = p;
    }

    /// The same number, of which the compiler knows nothing: it would keep everything that it can compute beforehand from a stride, and
    /// run out of registers; it computes faster from a stride that it can't know.
    #[inline(always)]
    unsafe fn hidden(stride: usize) -> usize {
        let mut stride = stride;
        // SAFETY: no instruction at all.
        unsafe { asm!("/* {0} */", inout(reg) stride, options(nomem, nostack, preserves_flags)) };
        stride
    }

    /// Turns 8 columns of 16 rows, `stride` apart, into vectors: lane r of vector i is `from[r·stride + i]`.
    #[inline(always)]
    unsafe fn turn8(from: *const f32, stride: usize) -> [Self::F; 8] {
        let mut columns = [[0f32; LANES]; 8];
        // SAFETY: the caller promises 8 readable items in each of the 16 rows.
        unsafe {
            for r in 0..LANES {
                for (i, column) in columns.iter_mut().enumerate() {
                    column[r] = *from.add(r * stride + i);
                }
            }
            columns.map(|column| Self::load(column.as_ptr()))
        }
    }

    /// Turns 8 columns of `rows` (1 to 8) rows, `stride` apart, into 8 rows `to_stride` apart. Each of them is written
    /// as 8 items in ascending order; those behind the `rows`-th are undefined.
    #[inline(always)]
    unsafe fn transpose8(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
        for j in 0..8 {
            for i in 0..rows {
                // SAFETY: the caller promises 8 readable items in each row and room for the result.
                unsafe { *to.add(j * to_stride + i) = *from.add(i * stride + j) };
            }
        }
    }

    /// Widens 16 bfloat16 values to float32.
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::F {
        let mut wide = [0f32; LANES];
        for (i, w) in wide.iter_mut().enumerate() {
            // SAFETY: the caller promises 16 readable values.
            *w = f32::from_bits(u32::from(unsafe { *p.add(i) }) << 16);
        }
        // SAFETY: 16 lanes of our own.
        unsafe { Self::load(wide.as_ptr()) }
    }

    /// Widens 16 binary16 values to float32, exactly.
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self::F {
        let mut wide = [0f32; LANES];
        for (i, w) in wide.iter_mut().enumerate() {
            // SAFETY: the caller promises 16 readable values.
            *w = f16_to_f32(unsafe { *p.add(i) });
        }
        // SAFETY: 16 lanes of our own.
        unsafe { Self::load(wide.as_ptr()) }
    }

    /// The lanes' sum by a fixed tree: i + (i + 8), then 4, 2, 1.
    #[inline(always)]
    unsafe fn sum(v: Self::F) -> f32 {
        let mut a = [0f32; LANES];
        // SAFETY: `a` holds 16 values.
        unsafe { Self::store(a.as_mut_ptr(), v) };
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                a[i] += a[i + half];
            }
            half /= 2;
        }
        a[0]
    }

    /// The largest lane by the same tree (NaN wins only where x86's `max` lets it).
    #[inline(always)]
    unsafe fn max_lane(v: Self::F) -> f32 {
        let mut a = [0f32; LANES];
        // SAFETY: `a` holds 16 values.
        unsafe { Self::store(a.as_mut_ptr(), v) };
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                a[i] = if a[i] > a[i + half] { a[i] } else { a[i + half] };
            }
            half /= 2;
        }
        a[0]
    }

    /// Of each of four vectors the largest lane (`MAX`; none is NaN) or the sum of all, which is exact: in whatever order.
    #[inline(always)]
    unsafe fn fold4<const MAX: bool>(v: [Self::F; 4]) -> [f32; 4] {
        let mut out = [0f32; 4];
        for i in 0..4 {
            // SAFETY: no memory.
            out[i] = unsafe { if MAX { Self::max_lane(v[i]) } else { Self::sum(v[i]) } };
        }
        out
    }
}

/// Instruction sets, from the most to the least able. `u8` values are what `GROUNDUP_ISA` and tests force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Isa {
    Portable = 1,
    Neon = 2,
    Avx2 = 3,
    Avx512 = 4,
}

static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// The instruction sets this CPU can run, best first.
pub fn available() -> Vec<Isa> {
    let mut list = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            list.push(Isa::Avx512);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            list.push(Isa::Avx2);
        }
    }
    #[cfg(target_arch = "aarch64")]
    list.push(Isa::Neon);
    list.push(Isa::Portable);
    list
}

/// The instruction set in use: the best one, or the one forced by [`force`].
#[inline]
pub fn isa() -> Isa {
    match CHOSEN.load(Ordering::Relaxed) {
        1 => Isa::Portable,
        2 => Isa::Neon,
        3 => Isa::Avx2,
        4 => Isa::Avx512,
        _ => {
            let best = available()[0];
            CHOSEN.store(best as u8, Ordering::Relaxed);
            best
        }
    }
}

/// Uses this instruction set from now on; false where the CPU lacks it.
pub fn force(isa: Isa) -> bool {
    let able = available().contains(&isa);
    if able {
        CHOSEN.store(isa as u8, Ordering::Relaxed);
    }
    able
}

/// Makes a function that runs a generic kernel on the instruction set in use:
/// `dispatch! { pub unsafe fn softmax(x: *const f32, n: usize) = softmax_rows }` calls `softmax_rows::<S>(x, n)`.
#[macro_export]
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? = $generic:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, clippy::missing_safety_doc)]
        $vis unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: called only where the CPU has these features; pointers are the caller's promise.
                unsafe { $generic::<$crate::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: as above.
                unsafe { $generic::<$crate::simd::Avx2>($($arg),*) }
            }
            // SAFETY: `isa()` returns only instruction sets that this CPU has.
            unsafe {
                match $crate::simd::isa() {
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Isa::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Isa::Avx2 => avx2($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::simd::Isa::Neon => $generic::<$crate::simd::Neon>($($arg),*),
                    _ => $generic::<$crate::simd::Portable>($($arg),*),
                }
            }
        }
    };
}

mod portable;
pub use portable::Portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Pair;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;

#[cfg(test)]
mod tests;

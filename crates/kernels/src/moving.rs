//! Filling, converting and copying.

use crate::dispatch;
use crate::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::pool::{parallel_blocks, parallel_for};
use crate::shared::Shared;
use crate::simd::Simd;
use crate::strided::Walk;

/// Items of one parallel task.
const BLOCK: usize = 32_768;

/// Storage types, by the codes of `DTYPES` in `src/tensor/kernels.ts`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DType {
    F32,
    Bf16,
    F16,
    I32,
    U8,
    Bool,
}

impl DType {
    pub fn from_code(code: i64) -> Option<DType> {
        use DType::*;
        [F32, Bf16, F16, I32, U8, Bool].get(usize::try_from(code).ok()?).copied()
    }

    pub fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::I32 => 4,
            DType::Bf16 | DType::F16 => 2,
            DType::U8 | DType::Bool => 1,
        }
    }
}

/// Stores `value`, converted, `n` times.
///
/// # Safety
/// `out` has room for `n` items.
pub unsafe fn fill(out: *mut u8, dtype: DType, n: usize, value: f64) {
    // SAFETY: the caller's promise.
    unsafe {
        match dtype {
            DType::F32 => fill_with(out.cast(), n, value as f32),
            DType::Bf16 => fill_with(out.cast(), n, f32_to_bf16(value as f32)),
            DType::F16 => fill_with(out.cast(), n, f32_to_f16(value as f32)),
            DType::I32 => fill_with(out.cast(), n, value as i32),
            DType::U8 => fill_with(out, n, value as u8),
            DType::Bool => fill_with(out, n, u8::from(value != 0.0)),
        }
    }
}

unsafe fn fill_with<T: Copy + Sync>(out: *mut T, n: usize, value: T) {
    let out = Shared::new(out);
    // SAFETY: blocks are disjoint parts of the n items.
    parallel_blocks(n, BLOCK, |from, to| unsafe { std::slice::from_raw_parts_mut(out.at(from), to - from).fill(value) });
}

/// `out[i] = x[i]` converted.
///
/// # Safety
/// Both have room for `n` items and do not overlap.
pub unsafe fn cast(x: *const u8, x_dtype: DType, out: *mut u8, out_dtype: DType, n: usize) {
    let (x, out) = (Shared::new(x), Shared::new(out));
    // SAFETY: blocks are disjoint parts of the n items.
    parallel_blocks(n, BLOCK, |from, to| unsafe {
        cast_block(x.at(from * x_dtype.bytes()), x_dtype, out.at(from * out_dtype.bytes()), out_dtype, to - from);
    });
}

dispatch! { unsafe fn cast_block(x: *const u8, x_dtype: DType, out: *mut u8, out_dtype: DType, n: usize) = cast_block_on }

#[inline(always)]
unsafe fn convert<T: Copy, U>(x: *const u8, out: *mut u8, n: usize, f: impl Fn(T) -> U) {
    let (x, out) = (x.cast::<T>(), out.cast::<U>());
    for i in 0..n {
        // SAFETY: the caller promises n items.
        unsafe { *out.add(i) = f(*x.add(i)) };
    }
}

#[inline(always)]
unsafe fn cast_block_on<S: Simd>(x: *const u8, x_dtype: DType, out: *mut u8, out_dtype: DType, n: usize) {
    // By way of float32, from an item read by `$read`.
    macro_rules! by_way_of_float {
        ($from:ty, $read:expr) => {
            match out_dtype {
                DType::F32 => convert::<$from, f32>(x, out, n, $read),
                DType::Bf16 => convert::<$from, u16>(x, out, n, |v| f32_to_bf16($read(v))),
                DType::F16 => convert::<$from, u16>(x, out, n, |v| f32_to_f16($read(v))),
                DType::I32 => convert::<$from, i32>(x, out, n, |v| $read(v) as i32),
                DType::U8 => convert::<$from, u8>(x, out, n, |v| $read(v) as u8),
                DType::Bool => convert::<$from, u8>(x, out, n, |v| u8::from($read(v) != 0.0)),
            }
        };
    }
    // SAFETY: the caller promises room; each arm reads and writes the items of its dtypes.
    unsafe {
        match (x_dtype, out_dtype) {
            (DType::I32, DType::I32) | (DType::F32, DType::F32) => std::ptr::copy_nonoverlapping(x, out, n * 4),
            (DType::I32, DType::U8) => convert::<i32, u8>(x, out, n, |v| v as u8),
            (DType::I32, DType::Bool) => convert::<i32, u8>(x, out, n, |v| u8::from(v != 0)),
            (DType::F32, _) => by_way_of_float!(f32, |v: f32| v),
            (DType::Bf16, _) => by_way_of_float!(u16, bf16_to_f32),
            (DType::F16, _) => by_way_of_float!(u16, f16_to_f32),
            (DType::I32, _) => by_way_of_float!(i32, |v: i32| v as f32),
            (DType::U8 | DType::Bool, _) => by_way_of_float!(u8, |v: u8| f32::from(v)),
        }
    }
}

/// Copies items of `T` between two places with strides.
///
/// # Safety
/// `x` and `out` have room for what shape and strides reach; they do not overlap, and no two places of `out` are the same.
pub unsafe fn copy<T: Copy + Sync>(x: *const T, x_strides: &[usize], out: *mut T, out_strides: &[usize], shape: &[usize]) {
    let walk = Walk::along(1, shape, [x_strides, out_strides]);
    let (x, out) = (Shared::new(x), Shared::new(out));
    if walk.items == 0 {
        return;
    }
    // Where x runs along another dimension than out, tiles of both keep their cache lines busy.
    if let Some(across) = walk.outer().iter().position(|d| d.1[0] == 1).filter(|_| walk.steps[0] > 1) {
        // SAFETY: the caller's promise.
        unsafe { copy_across(x, out, &walk, across) };
        return;
    }
    // SAFETY: blocks are disjoint parts of the shape.
    parallel_blocks(walk.items, BLOCK, |from, to| unsafe {
        walk.visit(from, to, |[a, b], _, n| match walk.steps {
            [1, 1] => std::ptr::copy_nonoverlapping(x.at(a), out.at(b), n),
            [0, 1] => std::slice::from_raw_parts_mut(out.at(b), n).fill(*x.at(a)),
            [s, t] => {
                for i in 0..n {
                    *out.at(b + i * t) = *x.at(a + i * s);
                }
            }
        });
    });
}

/// Side of a tile: a cache line of four-byte items.
const TILE: usize = 16;

/// The copy of a shape whose dimension `across` is the one along which x's items are neighbours.
unsafe fn copy_across<T: Copy + Sync>(x: Shared<T>, out: Shared<T>, walk: &Walk<2>, across: usize) {
    let (width, [_, out_step]) = walk.outer()[across];
    let rest: Vec<(usize, [usize; 2])> = walk.outer().iter().enumerate().filter(|d| d.0 != across).map(|d| *d.1).collect();
    let planes: usize = rest.iter().map(|d| d.0).product();
    let strips = width.div_ceil(TILE);
    let one = |task: usize| {
        let (mut plane, strip) = (task / strips, task % strips);
        let (mut a, mut b) = (0, 0);
        for (n, s) in rest.iter().rev() {
            let i = plane % n;
            plane /= n;
            a += i * s[0];
            b += i * s[1];
        }
        let (first, end) = (strip * TILE, ((strip + 1) * TILE).min(width));
        for start in (0..walk.run).step_by(TILE) {
            let rows = TILE.min(walk.run - start);
            // SAFETY: indices inside the shape; tasks write disjoint strips.
            unsafe {
                let (from, to) = (x.at(a + first + start * walk.steps[0]), out.at(b + first * out_step + start * walk.steps[1]));
                if end - first == TILE && rows == TILE && walk.steps[1] == 1 {
                    whole_tile(from, walk.steps[0], to, out_step);
                    continue;
                }
                for i in 0..end - first {
                    for j in 0..rows {
                        *to.add(i * out_step + j * walk.steps[1]) = *from.add(i + j * walk.steps[0]);
                    }
                }
            }
        }
    };
    let each = (BLOCK / (TILE * walk.run)).max(1);
    parallel_for((planes * strips).div_ceil(each), |t| (t * each..((t + 1) * each).min(planes * strips)).for_each(&one));
}

/// A whole tile by way of a buffer: lines are read whole and written whole.
#[inline(always)]
unsafe fn whole_tile<T: Copy>(from: *const T, from_row: usize, to: *mut T, to_row: usize) {
    // SAFETY: the caller promises 16 rows of 16 items at both.
    unsafe {
        let rows: [[T; TILE]; TILE] = std::array::from_fn(|j| from.add(j * from_row).cast::<[T; TILE]>().read_unaligned());
        for i in 0..TILE {
            let column: [T; TILE] = std::array::from_fn(|j| rows[j][i]);
            to.add(i * to_row).cast::<[T; TILE]>().write_unaligned(column);
        }
    }
}

#[cfg(test)]
mod tests;

//! Matrix products in bfloat16: operands are float32 in memory, rounded to bfloat16 (to nearest, ties to even) on their
//! way into the registers, multiplied and added in float32. Epilogues are those of the float32 products.
//!
//! On CPUs with AVX512_BF16 `vdpbf16ps` takes two items of k at once, at twice the rate of float32 FMAs; elsewhere
//! the rounded operands go through the float32 product, which is right but slower than float32 itself. The row contract
//! holds within each of the two: an element's chain depends on nothing but its own row and column. Between them bytes
//! differ: `vdpbf16ps` adds pairs and takes subnormal numbers for zero, the float32 chain is one FMA after another.

use super::{Batch, Matrix, Product, Right, batched, product};
use crate::half::{bf16_to_f32, f32_to_bf16};
use crate::pool::parallel_blocks;
use crate::scratch::Scratch;

#[cfg(target_arch = "x86_64")]
mod ahead;
#[cfg(target_arch = "x86_64")]
mod pack;
#[cfg(target_arch = "x86_64")]
mod plan;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tile;

/// Whether the instruction set in use has bfloat16 products of its own.
pub fn native() -> bool {
    #[cfg(target_arch = "x86_64")]
    if crate::simd::isa() == crate::simd::Isa::Avx512 {
        return is_x86_feature_detected!("avx512bf16");
    }
    false
}

/// Computes one product of operands rounded to bfloat16; b must be [`Right::Plain`].
///
/// # Safety
/// As [`product`].
pub unsafe fn product_bf16(p: &Product) {
    let Right::Plain(b) = p.b else { unreachable!("packed weights are float32") };
    // SAFETY: as promised above.
    unsafe {
        if p.m == 0 || p.n == 0 || p.k == 0 {
            return product(p);
        }
        #[cfg(target_arch = "x86_64")]
        if native() {
            return plan::product(p, b);
        }
        emulated(p, b);
    }
}

/// As [`super::products`], with [`product_bf16`].
///
/// # Safety
/// As [`super::products`].
pub unsafe fn products_bf16(p: &Product, batch: Batch) {
    // SAFETY: as promised above.
    unsafe { batched(p, batch, product_bf16) };
}

/// The float32 product of rounded copies.
unsafe fn emulated(p: &Product, b: Matrix) {
    let (a_room, b_room) = (Scratch::new(p.m * p.k), Scratch::new(p.k * p.n));
    // SAFETY: the rooms hold m · k and k · n items; the rest is the caller's promise.
    unsafe {
        let a = rounded(p.a, p.m, p.k, a_room.pointer());
        let b = rounded(b, p.k, p.n, b_room.pointer());
        product(&Product { a, b: Right::Plain(b), ..*p });
    }
}

/// A rounded copy of a matrix, its lines in the direction of the original's.
unsafe fn rounded(x: Matrix, rows: usize, cols: usize, to: *mut f32) -> Matrix {
    let across = x.row == 1 && x.col != 1;
    let (lines, long, line, step) = if across { (cols, rows, x.col, x.row) } else { (rows, cols, x.row, x.col) };
    let (from, into) = (x.data as usize, to as usize);
    parallel_blocks(lines, (1usize << 14).div_ceil(long), |first, last| {
        for i in first..last {
            let (from, into) = ((from as *const f32).wrapping_add(i * line), (into as *mut f32).wrapping_add(i * long));
            for j in 0..long {
                // SAFETY: line i has `long` items, and the copy has room for all lines.
                unsafe { *into.add(j) = bf16_to_f32(f32_to_bf16(*from.add(j * step))) };
            }
        }
    });
    if across { Matrix { data: to, row: 1, col: rows } } else { Matrix { data: to, row: cols, col: 1 } }
}

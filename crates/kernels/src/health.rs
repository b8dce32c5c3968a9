//! Two looks at gradients: their norm, and whether all are finite.

use crate::dispatch;
use crate::pool::parallel_for;
use crate::shared::Shared;
use crate::simd::{LANES, Simd};

/// Items of one parallel task. The sum is one of the blocks' sums: changing it changes results.
const BLOCK: usize = 16_384;

/// Σ x² over all tensors (pointer, items) in float64: 16 lanes over blocks of fixed size, the blocks in order.
///
/// # Safety
/// Every pointer holds its items.
pub unsafe fn sum_squares(tensors: &[(*const f32, usize)]) -> f64 {
    let blocks: Vec<(Shared<f32>, usize)> = tensors
        .iter()
        .flat_map(|&(x, n)| {
            let x = Shared::new(x);
            // SAFETY: blocks start inside their tensor.
            (0..n).step_by(BLOCK).map(move |from| (Shared::new(unsafe { x.at(from) }), BLOCK.min(n - from)))
        })
        .collect();
    let mut sums = vec![0f64; blocks.len()];
    let each = Shared::new(sums.as_mut_ptr());
    let one = |i: usize| {
        // SAFETY: task i writes sum i only; the block holds its items.
        unsafe {
            let (x, n) = blocks[i];
            *each.at(i) = squares_of(x.at(0), n);
        }
    };
    parallel_for(blocks.len(), one);
    sums.iter().sum()
}

dispatch! { unsafe fn squares_of(x: *const f32, n: usize) -> f64 = squares_on }

#[inline(always)]
unsafe fn squares_on<S: Simd>(x: *const f32, n: usize) -> f64 {
    // SAFETY: the caller promises n items.
    let x = unsafe { std::slice::from_raw_parts(x, n) };
    let mut sums = [0f64; LANES];
    let chunks = x.chunks_exact(LANES);
    let tail = chunks.remainder();
    for chunk in chunks {
        for (sum, &v) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(v) * f64::from(v);
        }
    }
    for (sum, &v) in sums.iter_mut().zip(tail) {
        *sum += f64::from(v) * f64::from(v);
    }
    sums.iter().sum()
}

/// The place of the first NaN or infinity.
///
/// # Safety
/// `x` holds n items.
pub unsafe fn first_non_finite(x: *const f32, n: usize) -> Option<usize> {
    let x = Shared::new(x);
    let blocks = n.div_ceil(BLOCK);
    let mut found = vec![usize::MAX; blocks];
    let each = Shared::new(found.as_mut_ptr());
    parallel_for(blocks, |b| {
        let from = b * BLOCK;
        // SAFETY: the block lies inside the n items; task b writes place b only.
        unsafe {
            if let Some(i) = non_finite_in(x.at(from), BLOCK.min(n - from)) {
                *each.at(b) = from + i;
            }
        }
    });
    found.into_iter().find(|&i| i != usize::MAX)
}

dispatch! { unsafe fn non_finite_in(x: *const f32, n: usize) -> Option<usize> = non_finite_on }

#[inline(always)]
unsafe fn non_finite_on<S: Simd>(x: *const f32, n: usize) -> Option<usize> {
    // SAFETY: the caller promises n items.
    let x = unsafe { std::slice::from_raw_parts(x, n) };
    let bad = |v: &f32| v.to_bits() & 0x7f80_0000 == 0x7f80_0000;
    // Whole chunks without a branch inside, so that the search runs in vectors.
    let chunk = x.chunks(256).position(|c| c.iter().fold(false, |any, v| any | bad(v)))? * 256;
    x[chunk..].iter().position(bad).map(|i| chunk + i)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{noise, same_everywhere};

    #[test]
    fn the_gradient_norm_and_the_first_bad_number() {
        let x = noise(100_003, 3);
        let want: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        // SAFETY: the slices hold their items.
        let run = || unsafe { sum_squares(&[(x.as_ptr(), 50_001), (x.as_ptr(), 0), (x.as_ptr().add(50_001), 50_002)]) };
        same_everywhere(|| {
            let bits = run().to_bits();
            vec![f32::from_bits((bits >> 34) as u32), (bits & 0xff_ffff) as f32]
        });
        assert!((run() - want).abs() < 1e-9 * want);
        for (places, first) in [(vec![], None), (vec![99_999, 40_000], Some(40_000)), (vec![0], Some(0)), (vec![100_002], Some(100_002))] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut y = x.clone();
                for &p in &places {
                    y[p] = bad;
                }
                // SAFETY: y holds its items.
                assert_eq!(unsafe { first_non_finite(y.as_ptr(), y.len()) }, first);
            }
        }
        // SAFETY: nothing is read.
        assert_eq!(unsafe { first_non_finite(x.as_ptr(), 0) }, None);
    }
}

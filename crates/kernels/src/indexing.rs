//! Items and rows by index, and the gradients. The callers check the indices first ([`out_of_range`]).

use crate::dispatch;
use crate::half::f16_to_f32;
use crate::moving::DType;
use crate::pool::{parallel_blocks, parallel_for};
use crate::shared::Shared;
use crate::simd::{LANES, Simd};

/// Items of one parallel task.
const BLOCK: usize = 16_384;

/// The first place whose index is not in `0..bound`, and that index.
pub fn out_of_range(index: &[i32], bound: usize) -> Option<(usize, i32)> {
    let bound = bound.min(i32::MAX as usize + 1) as u32;
    // As unsigned numbers negative indices are large: one maximum checks everything.
    let largest = index.iter().fold(0, |m, &i| m.max(i as u32));
    if index.is_empty() || largest < bound {
        return None;
    }
    let place = index.iter().position(|&i| i as u32 >= bound)?;
    Some((place, index[place]))
}

/// `out[o, j, i] = x[o, index[o, j, i], i]`, items of four bytes.
///
/// # Safety
/// x holds outer × n × inner items, index and out outer × k × inner; indices lie in `0..n`; out overlaps neither.
pub unsafe fn gather(x: *const u32, index: *const i32, out: *mut u32, outer: usize, n: usize, k: usize, inner: usize) {
    let (x, index, out) = (Shared::new(x), Shared::new(index), Shared::new(out));
    parallel_blocks(outer * k, (BLOCK / inner.max(1)).max(1), |from, to| {
        let (mut o, mut j) = (from / k, from % k);
        for row in from..to {
            for i in 0..inner {
                // SAFETY: the caller's promise; rows of this task.
                unsafe { *out.at(row * inner + i) = *x.at((o * n + *index.at(row * inner + i) as usize) * inner + i) };
            }
            j += 1;
            if j == k {
                (o, j) = (o + 1, 0);
            }
        }
    });
}

/// `out[o, index[o, j, i], i] += src[o, j, i]`, in ascending j.
///
/// # Safety
/// out holds outer × n × inner items, index and src outer × k × inner; indices lie in `0..n`.
pub unsafe fn scatter_add(src: *const f32, index: *const i32, out: *mut f32, outer: usize, n: usize, k: usize, inner: usize) {
    let (src, index, out) = (Shared::new(src), Shared::new(index), Shared::new(out));
    // Two places may add to one item only within a column, so tasks take whole columns.
    const COLUMNS: usize = 64;
    let strips = inner.div_ceil(COLUMNS);
    let each = (BLOCK / (k * inner.min(COLUMNS)).max(1)).max(1);
    parallel_blocks(outer * strips, each, |from, to| {
        for task in from..to {
            let (o, column) = (task / strips, task % strips * COLUMNS);
            for j in 0..k {
                for i in column..(column + COLUMNS).min(inner) {
                    let p = (o * k + j) * inner + i;
                    // SAFETY: the caller's promise; columns of this task.
                    unsafe { *out.at((o * n + *index.at(p) as usize) * inner + i) += *src.at(p) };
                }
            }
        }
    });
}

/// `out[c] = weight[ids[c]]`, rows of `dim` items, widened to float32.
///
/// # Safety
/// weight holds rows that the ids name, ids `count` items, out count × dim; dtype is one of the floats.
pub unsafe fn embedding(weight: *const u8, dtype: DType, ids: *const i32, out: *mut f32, count: usize, dim: usize) {
    let (weight, ids, out) = (Shared::new(weight), Shared::new(ids), Shared::new(out));
    parallel_blocks(count, (BLOCK / dim.max(1)).max(1), |from, to| {
        for c in from..to {
            // SAFETY: the caller's promise; rows of this task.
            unsafe {
                let row = weight.at(*ids.at(c) as usize * dim * dtype.bytes());
                widen(row, dtype, out.at(c * dim), dim);
            }
        }
    });
}

/// `embedding` of a weight that [`crate::gemm::pack_weight`] has copied: float32, 16 rows side by side.
///
/// # Safety
/// As [`embedding`].
pub unsafe fn embedding_packed(packed: *const f32, ids: *const i32, out: *mut f32, count: usize, dim: usize) {
    let (packed, ids, out) = (Shared::new(packed), Shared::new(ids), Shared::new(out));
    parallel_blocks(count, (BLOCK / dim.max(1)).max(1), |from, to| {
        for c in from..to {
            // SAFETY: the caller's promise; rows of this task.
            unsafe {
                let id = *ids.at(c) as usize;
                let row = packed.at(id / LANES * LANES * dim + id % LANES);
                (0..dim).for_each(|d| *out.at(c * dim + d) = *row.add(d * LANES));
            }
        }
    });
}

dispatch! { unsafe fn widen(row: *const u8, dtype: DType, out: *mut f32, n: usize) = widen_on }

#[inline(always)]
unsafe fn widen_on<S: Simd>(row: *const u8, dtype: DType, out: *mut f32, n: usize) {
    // SAFETY: the caller promises n items.
    unsafe {
        match dtype {
            DType::Bf16 => {
                let row = row.cast::<u16>();
                let whole = n - n % LANES;
                let mut i = 0;
                while i < whole {
                    S::store(out.add(i), S::load_bf16(row.add(i)));
                    i += LANES;
                }
                for i in whole..n {
                    *out.add(i) = crate::half::bf16_to_f32(*row.add(i));
                }
            }
            DType::F16 => (0..n).for_each(|i| *out.add(i) = f16_to_f32(*row.cast::<u16>().add(i))),
            _ => std::ptr::copy_nonoverlapping(row.cast::<f32>(), out, n),
        }
    }
}

/// `gw[ids[c]] += gy[c]` in ascending c for each row: the places are grouped by row first (a counting sort), and each row
/// belongs to one task.
///
/// # Safety
/// ids holds `count` items in `0..rows`, gy count × dim, gw rows × dim.
pub unsafe fn embedding_grad(ids: *const i32, gy: *const f32, gw: *mut f32, count: usize, rows: usize, dim: usize) {
    // SAFETY: the caller's promise.
    let ids = unsafe { std::slice::from_raw_parts(ids, count) };
    let (gy, gw) = (Shared::new(gy), Shared::new(gw));
    let places = grouped(ids, rows);
    // Tasks: groups of rows with about as many places each, times strips of columns, so that one frequent id is shared.
    const PLACES: usize = 32;
    const COLUMNS: usize = 256;
    let mut borders = vec![0];
    let mut last = 0;
    for i in 1..count {
        if i - last >= PLACES && ids[places[i] as usize] != ids[places[i - 1] as usize] {
            borders.push(i);
            last = i;
        }
    }
    borders.push(count);
    let strips = dim.div_ceil(COLUMNS);
    let one = |task: usize| {
        let (group, column) = (task / strips, task % strips * COLUMNS);
        let width = COLUMNS.min(dim - column);
        for &c in &places[borders[group]..borders[group + 1]] {
            // SAFETY: indices checked by the caller; a task's rows and columns are its own.
            unsafe { add_row(gy.at(c as usize * dim + column), gw.at(ids[c as usize] as usize * dim + column), width) };
        }
    };
    let tasks = (borders.len() - 1) * strips;
    if count * dim < BLOCK { (0..tasks).for_each(one) } else { parallel_for(tasks, one) }
}

/// The places of ids, grouped by id, ascending within each.
fn grouped(ids: &[i32], rows: usize) -> Vec<u32> {
    if rows > 16 * ids.len() {
        // Few ids of a large table: sorting them is cheaper than counting through it.
        let mut keys: Vec<u64> = ids.iter().enumerate().map(|(c, &id)| (id as u64) << 32 | c as u64).collect();
        keys.sort_unstable();
        return keys.into_iter().map(|k| k as u32).collect();
    }
    let mut next = vec![0u32; rows + 1];
    for &id in ids {
        next[id as usize + 1] += 1;
    }
    for r in 0..rows {
        next[r + 1] += next[r];
    }
    let mut places = vec![0u32; ids.len()];
    for (c, &id) in ids.iter().enumerate() {
        let at = &mut next[id as usize];
        places[*at as usize] = c as u32;
        *at += 1;
    }
    places
}

dispatch! { unsafe fn add_row(from: *const f32, to: *mut f32, n: usize) = add_row_on }

#[inline(always)]
unsafe fn add_row_on<S: Simd>(from: *const f32, to: *mut f32, n: usize) {
    // SAFETY: the caller promises n items.
    unsafe {
        let whole = n - n % LANES;
        let mut i = 0;
        while i < whole {
            S::store(to.add(i), S::add(S::load(to.add(i)), S::load(from.add(i))));
            i += LANES;
        }
        if whole < n {
            S::store_n(to.add(whole), S::add(S::load_n(to.add(whole), n - whole), S::load_n(from.add(whole), n - whole)), n - whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_bits, noise, same_everywhere};

    fn indices(n: usize, bound: usize, seed: u64) -> Vec<i32> {
        noise(n, seed).iter().map(|v| (v.abs() * 1e4) as i32 % bound as i32).collect()
    }

    #[test]
    fn bad_indices_are_named() {
        assert_eq!(out_of_range(&[0, 4, 2], 5), None);
        assert_eq!(out_of_range(&[0, 5, -1], 5), Some((1, 5)));
        assert_eq!(out_of_range(&[0, -1], 5), Some((1, -1)));
        assert_eq!(out_of_range(&[], 0), None);
        assert_eq!(out_of_range(&[0], 0), Some((0, 0)));
    }

    #[test]
    fn gather_and_its_gradient() {
        for (outer, n, k, inner) in [(1, 5, 3, 1), (4, 7, 9, 130), (300, 50, 1, 1), (2, 3, 0, 4), (1, 40_000, 30_000, 1)] {
            let x = noise(outer * n * inner, 1);
            let index = indices(outer * k * inner, n, 2);
            let src = noise(outer * k * inner, 3);
            let (mut want, mut sums) = (vec![0.0; src.len()], x.clone());
            for p in 0..src.len() {
                let (o, i) = (p / inner / k, p % inner);
                let q = (o * n + index[p] as usize) * inner + i;
                want[p] = x[q];
                sums[q] += src[p];
            }
            let got = same_everywhere(|| {
                let mut out = vec![0.0f32; src.len()];
                let mut back = x.clone();
                // SAFETY: the sizes are those of the vectors.
                unsafe {
                    gather(x.as_ptr().cast(), index.as_ptr(), out.as_mut_ptr().cast(), outer, n, k, inner);
                    scatter_add(src.as_ptr(), index.as_ptr(), back.as_mut_ptr(), outer, n, k, inner);
                }
                [out, back].concat()
            });
            assert_same_bits(&got, &[want, sums].concat(), "gather and scatterAdd");
        }
    }

    #[test]
    fn embedding_widens_rows() {
        let (rows, dim, ids) = (9, 37, [3i32, 0, 8, 3]);
        let weight = noise(rows * dim, 4);
        for dtype in [DType::F32, DType::Bf16, DType::F16] {
            let mut stored = vec![0u8; rows * dim * 4];
            let mut wide = vec![0f32; rows * dim];
            let mut out = vec![0f32; ids.len() * dim];
            // SAFETY: the sizes are those of the vectors.
            unsafe {
                crate::moving::cast(weight.as_ptr().cast(), DType::F32, stored.as_mut_ptr(), dtype, rows * dim);
                crate::moving::cast(stored.as_ptr(), dtype, wide.as_mut_ptr().cast(), DType::F32, rows * dim);
                embedding(stored.as_ptr(), dtype, ids.as_ptr(), out.as_mut_ptr(), ids.len(), dim);
            }
            for (c, &id) in ids.iter().enumerate() {
                assert_eq!(out[c * dim..(c + 1) * dim], wide[id as usize * dim..(id as usize + 1) * dim]);
            }
        }
    }

    #[test]
    fn embedding_gradients_add_in_order() {
        for (count, rows, dim) in [(0, 5, 3), (1, 1, 1), (700, 40, 300), (500, 20_000, 33), (2000, 3, 70)] {
            let ids = indices(count, rows, 5);
            let (gy, start) = (noise(count * dim, 6), noise(rows * dim, 7));
            let mut want = start.clone();
            for c in 0..count {
                for d in 0..dim {
                    want[ids[c] as usize * dim + d] += gy[c * dim + d];
                }
            }
            let got = same_everywhere(|| {
                let mut gw = start.clone();
                // SAFETY: the sizes are those of the vectors.
                unsafe { embedding_grad(ids.as_ptr(), gy.as_ptr(), gw.as_mut_ptr(), count, rows, dim) };
                gw
            });
            assert_same_bits(&got, &want, "embeddingGrad");
        }
    }
}

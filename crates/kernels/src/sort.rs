//! Sorting rows. An item becomes a 64-bit key: its value as an ordered integer above, its place below, so that every
//! order is stable and ties need no care.

use crate::pool::parallel_blocks;
use crate::shared::Shared;

/// Items that one parallel task sorts, about.
const BLOCK: usize = 4096;

/// Ascending keys for ascending values; both zeros are one key, and so are all NaN, above everything.
#[inline(always)]
fn ordered(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    let key = if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 };
    if x.is_nan() { u32::MAX } else { key }
}

#[inline(always)]
fn key(x: f32, place: usize, flip: u32) -> u64 {
    u64::from(ordered(x) ^ flip) << 32 | place as u64
}

/// Each row sorted: values and their places; equal items keep their order, NaN counts as largest.
///
/// # Safety
/// All hold rows × n items; n is below 2³².
pub unsafe fn sort(x: *const f32, values: *mut f32, places: *mut i32, rows: usize, n: usize, descending: bool) {
    // SAFETY: the caller's promise; k = n.
    unsafe { sorted(x, values, places, rows, n, n, descending) };
}

/// The k largest of each row in descending order; of equals the lower place first.
///
/// # Safety
/// x holds rows × n items, values and places rows × k; k ≤ n < 2³².
pub unsafe fn topk(x: *const f32, values: *mut f32, places: *mut i32, rows: usize, n: usize, k: usize) {
    // SAFETY: the caller's promise.
    unsafe { sorted(x, values, places, rows, n, k, true) };
}

unsafe fn sorted(x: *const f32, values: *mut f32, places: *mut i32, rows: usize, n: usize, k: usize, descending: bool) {
    let (x, values, places) = (Shared::new(x), Shared::new(values), Shared::new(places));
    let flip = if descending { u32::MAX } else { 0 };
    if k == 0 {
        return;
    }
    parallel_blocks(rows, (BLOCK / n).max(1), |from, to| {
        let mut keys: Vec<u64> = Vec::with_capacity(if few(n, k) { 2 * k + CHUNK } else { n });
        for r in from..to {
            // SAFETY: rows of this task.
            unsafe {
                let row = std::slice::from_raw_parts(x.at(r * n), n);
                keys.clear();
                if few(n, k) {
                    smallest_keys(row, k, flip, &mut keys);
                } else {
                    keys.extend(row.iter().enumerate().map(|(i, &v)| key(v, i, flip)));
                    if k < n {
                        keys.select_nth_unstable(k - 1);
                        keys.truncate(k);
                    }
                    keys.sort_unstable();
                }
                for (i, key) in keys.iter().enumerate() {
                    let place = (key & 0xffff_ffff) as usize;
                    *values.at(r * k + i) = row[place];
                    *places.at(r * k + i) = place as i32;
                }
            }
        }
    });
}

/// Items looked at together by [`smallest_keys`].
const CHUNK: usize = 64;

/// Whether few of many are wanted, so that most chunks of a row can be passed over.
fn few(n: usize, k: usize) -> bool {
    k * 16 <= n && n >= 1024
}

/// The k smallest keys of a row, sorted: candidates below the k-th smallest so far are gathered, and cut back to k when
/// they have doubled. Chunks without a candidate cost a vector compare.
fn smallest_keys(row: &[f32], k: usize, flip: u32, keys: &mut Vec<u64>) {
    let mut limit = u32::MAX;
    let mut start = 0;
    for chunk in row.chunks(CHUNK) {
        // At the limit itself only an earlier place would count, and places ascend.
        let any = keys.len() < k || chunk.iter().fold(false, |any, &v| any | ((ordered(v) ^ flip) < limit));
        if any {
            for (i, &v) in chunk.iter().enumerate() {
                let candidate = key(v, start + i, flip);
                if keys.len() < k || ((candidate >> 32) as u32) < limit {
                    keys.push(candidate);
                }
            }
            if keys.len() >= 2 * k {
                keys.select_nth_unstable(k - 1);
                keys.truncate(k);
                limit = (keys[k - 1] >> 32) as u32;
            }
        }
        start += chunk.len();
    }
    keys.sort_unstable();
    keys.truncate(k);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    fn check(row: &[f32], k: usize, descending: bool) {
        let mut want: Vec<usize> = (0..row.len()).collect();
        let order = |a: f32, b: f32| match (a.is_nan(), b.is_nan()) {
            (true, true) => std::cmp::Ordering::Equal,
            (true, false) => std::cmp::Ordering::Greater,
            (false, true) => std::cmp::Ordering::Less,
            _ => a.partial_cmp(&b).expect("no NaN"),
        };
        want.sort_by(|&i, &j| if descending { order(row[j], row[i]) } else { order(row[i], row[j]) });
        // Two equal rows, so that rows are told apart.
        let x = [row, row].concat();
        let (mut values, mut places) = (vec![0.0; 2 * k], vec![0; 2 * k]);
        // SAFETY: two rows of row.len() and k items.
        unsafe {
            if k == row.len() {
                sort(x.as_ptr(), values.as_mut_ptr(), places.as_mut_ptr(), 2, k, descending);
            } else {
                topk(x.as_ptr(), values.as_mut_ptr(), places.as_mut_ptr(), 2, row.len(), k);
            }
        }
        for r in 0..2 {
            for i in 0..k {
                assert_eq!(places[r * k + i] as usize, want[i], "n {} k {k} item {i}", row.len());
                assert_eq!(values[r * k + i].to_bits(), row[want[i]].to_bits());
            }
        }
    }

    #[test]
    fn rows_sort_stably_with_nan_largest() {
        for n in [0usize, 1, 2, 50, 3000] {
            let mut row: Vec<f32> = noise(n, 21).iter().map(|v| (v * 20.0).round() / 20.0).collect();
            if n >= 50 {
                (row[7], row[9], row[11], row[12], row[13]) = (f32::NAN, -0.0, 0.0, f32::INFINITY, -f32::NAN);
            }
            check(&row, n, false);
            check(&row, n, true);
        }
    }

    #[test]
    fn the_largest_of_short_and_long_rows() {
        for n in [5usize, 1024, 5000, 50_257] {
            let mut row: Vec<f32> = noise(n, 22).iter().map(|v| (v * 50.0).round()).collect();
            for k in [1, 2, 4, 50, 300].into_iter().filter(|&k| k < n) {
                check(&row, k, true);
            }
            // The worst order for the gathering: every item is a new candidate.
            row.sort_by(f32::total_cmp);
            check(&row, 4, true);
            row[n / 2] = f32::NAN;
            check(&row, 3, true);
        }
        check(&vec![1.0; 2000], 7, true);
    }
}

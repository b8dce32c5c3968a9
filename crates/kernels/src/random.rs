//! Random numbers from Philox4x32-10 (Salmon et al. 2011, section 3.2): item i is a pure function of key, stream and
//! place, so blocks may be made in any order on any thread.

use crate::dispatch;
use crate::math;
use crate::pool::parallel_blocks;
use crate::shared::Shared;
use crate::simd::{LANES, Simd};

/// Philox blocks (of four items) in one parallel task.
const TASK: usize = 4096;
/// Philox blocks computed together: one for each lane.
const GROUP: usize = LANES;
/// Items of a group.
const ITEMS: usize = 4 * GROUP;

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// The key schedule's steps: the golden ratio and √3 − 1 as 32-bit fractions.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// Which numbers: item i uses word i mod 4 of the block at counter `block + i/4` of this key and stream.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    pub key: [u32; 2],
    pub stream: u32,
    pub block: u64,
}

impl Stream {
    fn from(self, blocks: usize) -> Stream {
        Stream { block: self.block.wrapping_add(blocks as u64), ..self }
    }
}

/// The words of `GROUP` consecutive blocks: lane b of vector w is word w of block b.
#[inline(always)]
unsafe fn philox<S: Simd>(s: Stream) -> [S::I; 4] {
    // SAFETY: no memory is touched but arrays of 16 values.
    unsafe {
        let low: [f32; GROUP] = std::array::from_fn(|b| f32::from_bits(s.block.wrapping_add(b as u64) as u32));
        let high: [f32; GROUP] = std::array::from_fn(|b| f32::from_bits((s.block.wrapping_add(b as u64) >> 32) as u32));
        let (low, high) = (S::bits(S::load(low.as_ptr())), S::bits(S::load(high.as_ptr())));
        let mut c = [low, high, S::isplat(s.stream as i32), S::isplat(0)];
        let mut key = s.key;
        for _ in 0..10 {
            let (low0, high0) = S::multiply_wide(c[0], MULTIPLIERS[0]);
            let (low1, high1) = S::multiply_wide(c[2], MULTIPLIERS[1]);
            c[0] = S::ixor(S::ixor(high1, c[1]), S::isplat(key[0] as i32));
            c[1] = low1;
            c[2] = S::ixor(S::ixor(high0, c[3]), S::isplat(key[1] as i32));
            c[3] = low0;
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        c
    }
}

/// The words of `GROUP` consecutive blocks in the order of the items.
#[inline(always)]
unsafe fn words<S: Simd>(s: Stream) -> [u32; ITEMS] {
    let mut words = [0; ITEMS];
    // SAFETY: room for all items.
    unsafe { S::store_interleaved(words.as_mut_ptr().cast(), philox::<S>(s)) };
    words
}

/// Runs the blocks of n items in parallel: `task(the stream from its first block, its first item, its items)`.
fn each_task(n: usize, s: Stream, task: impl Fn(Stream, usize, usize) + Sync) {
    parallel_blocks(n.div_ceil(4), TASK, |from, to| task(s.from(from), from * 4, (to * 4).min(n) - from * 4));
}

/// `out[i] = low + (high − low)·u`, u = (word >> 8)·2⁻²⁴.
///
/// # Safety
/// `out` holds n items.
pub unsafe fn uniform(out: *mut f32, n: usize, s: Stream, low: f32, high: f32) {
    let out = Shared::new(out);
    // SAFETY: tasks write disjoint items.
    each_task(n, s, |s, at, n| unsafe { uniform_block(out.at(at), n, s, low, high) });
}

/// Standard normal numbers times `std` plus `mean`, by Box and Muller (1958): words (0, 1) of a block give its items 0
/// and 1, words (2, 3) its items 2 and 3.
///
/// # Safety
/// `out` holds n items.
pub unsafe fn normal(out: *mut f32, n: usize, s: Stream, mean: f32, std: f32) {
    let out = Shared::new(out);
    // SAFETY: tasks write disjoint items.
    each_task(n, s, |s, at, n| unsafe { normal_block(out.at(at), n, s, mean, std) });
}

/// `out[i] = low + ⌊word·range·2⁻³²⌋`.
///
/// # Safety
/// `out` holds n items.
pub unsafe fn randint(out: *mut i32, n: usize, s: Stream, low: i32, range: u64) {
    let out = Shared::new(out);
    // SAFETY: tasks write disjoint items.
    each_task(n, s, |s, at, n| unsafe { randint_block(out.at(at), n, s, low, range) });
}

/// `out[i] = u ≥ p ? x[i]/(1 − p) : 0`; in place is fine.
///
/// # Safety
/// Both hold n items.
pub unsafe fn dropout(x: *const f32, out: *mut f32, n: usize, s: Stream, p: f64) {
    let (x, out) = (Shared::new(x), Shared::new(out));
    let (limit, kept) = (p as f32, (1.0 - p) as f32);
    // SAFETY: tasks write disjoint items.
    each_task(n, s, |s, at, n| unsafe { dropout_block(x.at(at), out.at(at), n, s, limit, kept) });
}

dispatch! { unsafe fn uniform_block(out: *mut f32, n: usize, s: Stream, low: f32, high: f32) = uniform_on }
dispatch! { unsafe fn normal_block(out: *mut f32, n: usize, s: Stream, mean: f32, std: f32) = normal_on }
dispatch! { unsafe fn randint_block(out: *mut i32, n: usize, s: Stream, low: i32, range: u64) = randint_on }
dispatch! { unsafe fn dropout_block(x: *const f32, out: *mut f32, n: usize, s: Stream, limit: f32, kept: f32) = dropout_on }

/// A group's words as fractions in [0, 1): `u[i]` for item i.
#[inline(always)]
unsafe fn fractions<S: Simd>(words: &[u32; ITEMS], at: usize) -> S::F {
    // SAFETY: `at` + 16 is at most ITEMS.
    unsafe {
        let bits = S::bits(S::load(words.as_ptr().add(at).cast()));
        S::mul(S::to_float(S::shr::<8>(bits)), S::splat(1.0 / 16_777_216.0))
    }
}

#[inline(always)]
unsafe fn uniform_on<S: Simd>(out: *mut f32, n: usize, s: Stream, low: f32, high: f32) {
    // SAFETY: the caller promises n items.
    unsafe {
        let (low, range) = (S::splat(low), S::splat(high - low));
        for start in (0..n).step_by(ITEMS) {
            let words = words::<S>(s.from(start / 4));
            for i in (0..ITEMS.min(n - start)).step_by(LANES) {
                let v = S::fma(range, fractions::<S>(&words, i), low);
                S::store_n(out.add(start + i), v, (n - start - i).min(LANES));
            }
        }
    }
}

#[inline(always)]
unsafe fn normal_on<S: Simd>(out: *mut f32, n: usize, s: Stream, mean: f32, std: f32) {
    // SAFETY: the caller promises n items.
    unsafe {
        let (mean, std) = (S::splat(mean), S::splat(std));
        let unit = S::splat(1.0 / 16_777_216.0);
        for start in (0..n).step_by(ITEMS) {
            let words = philox::<S>(s.from(start / 4));
            let mut values = words;
            for pair in [0, 2] {
                let radius = S::to_float(S::shr::<8>(words[pair]));
                let radius = math::log::<S>(S::mul(S::add(radius, S::splat(1.0)), unit));
                let radius = S::mul(std, S::sqrt(S::mul(S::splat(-2.0), radius)));
                let turn = S::mul(S::to_float(S::shr::<8>(words[pair + 1])), unit);
                let (cosine, sine) = math::cos_sin_turn::<S>(turn);
                values[pair] = S::bits(S::fma(radius, cosine, mean));
                values[pair + 1] = S::bits(S::fma(radius, sine, mean));
            }
            if n - start >= ITEMS {
                S::store_interleaved(out.add(start).cast(), values);
            } else {
                let mut items = [0f32; ITEMS];
                S::store_interleaved(items.as_mut_ptr().cast(), values);
                std::ptr::copy_nonoverlapping(items.as_ptr(), out.add(start), n - start);
            }
        }
    }
}

#[inline(always)]
unsafe fn randint_on<S: Simd>(out: *mut i32, n: usize, s: Stream, low: i32, range: u64) {
    for start in (0..n).step_by(ITEMS) {
        // SAFETY: no memory is touched but an array.
        let words = unsafe { words::<S>(s.from(start / 4)) };
        for (i, &word) in words.iter().enumerate().take(n - start) {
            // SAFETY: the caller promises n items.
            unsafe { *out.add(start + i) = low.wrapping_add(((u64::from(word) * range) >> 32) as i32) };
        }
    }
}

#[inline(always)]
unsafe fn dropout_on<S: Simd>(x: *const f32, out: *mut f32, n: usize, s: Stream, limit: f32, kept: f32) {
    // SAFETY: the caller promises n items.
    unsafe {
        let (limit, kept) = (S::splat(limit), S::splat(kept));
        for start in (0..n).step_by(ITEMS) {
            let words = words::<S>(s.from(start / 4));
            for i in (0..ITEMS.min(n - start)).step_by(LANES) {
                let part = (n - start - i).min(LANES);
                let scaled = S::div(S::load_n(x.add(start + i), part), kept);
                let v = S::select_gt(limit, fractions::<S>(&words, i), S::splat(0.0), scaled);
                S::store_n(out.add(start + i), v, part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, noise, same_everywhere};

    const S: Stream = Stream { key: [0xa409_3822, 0x299f_31d0], stream: 7, block: 0xffff_fff0 };

    /// One block, step by step as the paper has it.
    fn plain(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
        for _ in 0..10 {
            let (a, b) = (u64::from(c[0]) * 0xd251_1f53, u64::from(c[2]) * 0xcd9e_8d57);
            c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
            k = [k[0].wrapping_add(0x9e37_79b9), k[1].wrapping_add(0xbb67_ae85)];
        }
        c
    }

    fn word(s: Stream, i: usize) -> u32 {
        let counter = s.block + i as u64 / 4;
        plain([counter as u32, (counter >> 32) as u32, s.stream, 0], s.key)[i % 4]
    }

    /// The words of a group as the kernels see them: `randint` over all 2³² numbers.
    fn group(s: Stream) -> [u32; ITEMS] {
        let mut out = [0i32; ITEMS];
        // SAFETY: room for the items.
        unsafe { randint(out.as_mut_ptr(), ITEMS, s, 0, 1 << 32) };
        out.map(|v| v as u32)
    }

    /// The known answers published with the generator (Random123, `kat_vectors`).
    #[test]
    fn the_published_vectors() {
        assert_eq!(plain([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(plain([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            plain([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
        // The first, which has a zero fourth counter word, through the kernel's own path.
        let words = group(Stream { key: [0; 2], stream: 0, block: 0 });
        assert_eq!(words[..4], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    }

    #[test]
    fn groups_agree_with_the_plain_form_across_the_32_bit_border() {
        let words = group(S);
        for (i, &w) in words.iter().enumerate() {
            assert_eq!(w, word(S, i), "item {i}");
        }
    }

    #[test]
    fn all_kinds_agree_with_their_definition_everywhere() {
        for n in [0usize, 1, 5, 63, 64, 65, 40_003] {
            let u = |i| f64::from(word(S, i) >> 8) / 16_777_216.0;
            let got = same_everywhere(|| {
                let mut out = vec![0.0; n];
                // SAFETY: n items.
                unsafe { uniform(out.as_mut_ptr(), n, S, -1.0, 3.0) };
                out
            });
            assert_close(&got, &(0..n).map(|i| -1.0 + 4.0 * u(i)).collect::<Vec<_>>(), 1e-7, "uniform");

            let got = same_everywhere(|| {
                let mut out = vec![0.0; n];
                // SAFETY: n items.
                unsafe { normal(out.as_mut_ptr(), n, S, 0.5, 2.0) };
                out
            });
            let want: Vec<f64> = (0..n)
                .map(|i| {
                    let pair = i - i % 2;
                    let radius = (-2.0 * (u(pair) + 1.0 / 16_777_216.0).ln()).sqrt();
                    let angle = std::f64::consts::TAU * u(pair + 1);
                    0.5 + 2.0 * radius * if i % 2 == 0 { angle.cos() } else { angle.sin() }
                })
                .collect();
            assert_close(&got, &want, 1e-6, "normal");

            let mut out = vec![0i32; n];
            for (low, high) in [(-5i64, 6i64), (i64::from(i32::MIN), 1 << 31)] {
                // SAFETY: n items.
                unsafe { randint(out.as_mut_ptr(), n, S, low as i32, (high - low) as u64) };
                for (i, &v) in out.iter().enumerate() {
                    assert_eq!(i64::from(v), low + ((i128::from(word(S, i)) * i128::from(high - low)) >> 32) as i64);
                }
            }

            let x = noise(n, 9);
            let got = same_everywhere(|| {
                let mut out = x.clone();
                // SAFETY: in place, n items.
                unsafe { dropout(out.as_ptr(), out.as_mut_ptr(), n, S, 0.3) };
                out
            });
            for i in 0..n {
                let want = if u(i) as f32 >= 0.3 { x[i] / 0.7 } else { 0.0 };
                assert_eq!(got[i], want, "dropout, item {i}");
            }
        }
    }

    #[test]
    fn normal_numbers_have_their_moments() {
        let n = 200_000;
        let mut out = vec![0f32; n];
        // SAFETY: n items.
        unsafe { normal(out.as_mut_ptr(), n, S, 0.0, 1.0) };
        let moment = |k: i32| out.iter().map(|&v| f64::from(v).powi(k)).sum::<f64>() / n as f64;
        assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.02 && moment(3).abs() < 0.05 && (moment(4) - 3.0).abs() < 0.1);
    }
}

//! Every layout: packed and unpacked, as numbers, and in products, on every instruction set.

use super::layout::BLOCK;
use super::*;
use crate::gemm::{Activation, Finish};
use crate::half::f32_to_f16;
use crate::testing::{assert_close, assert_same_bits, noise, same_everywhere};

/// Blocks of any bits, with scales of a sensible size.
fn blocks(kind: Kind, n: usize, k: usize, seed: u64) -> Vec<u8> {
    scaled(kind, random_bytes(n * block_bytes(kind, k).expect("whole blocks"), seed), seed)
}

fn random_bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as u8
    };
    (0..count).map(next).collect()
}

/// The blocks with scales of a sensible size.
fn scaled(kind: Kind, mut all: Vec<u8>, seed: u64) -> Vec<u8> {
    let form = kind.form();
    let sizes = noise(2 * all.len() / form.bytes, seed);
    let halves: &[usize] = match kind {
        Kind::Q8_0 | Kind::Q4_0 | Kind::Q5_0 | Kind::Iq4Nl | Kind::Iq4Xs => &[0],
        Kind::Q4_1 | Kind::Q5_1 | Kind::Q4K | Kind::Q5K => &[0, 2],
        Kind::Q2K => &[80, 82],
        Kind::Q3K => &[108],
        Kind::Q6K => &[208],
        Kind::Mxfp4 => &[],
    };
    for (i, block) in all.chunks_mut(form.bytes).enumerate() {
        for (h, &at) in halves.iter().enumerate() {
            block[at..at + 2].copy_from_slice(&f32_to_f16(sizes[2 * i + h] * if form.is_super() { 0.001 } else { 0.05 }).to_le_bytes());
        }
        if kind == Kind::Mxfp4 {
            block[0] = 118 + block[0] % 8;
        }
    }
    all
}

fn packed(kind: Kind, blocks: &[u8], n: usize, k: usize) -> Vec<u8> {
    let mut out = vec![0xee; packed_bytes(kind, n, k).expect("whole blocks")];
    // SAFETY: both have the sizes.
    unsafe { pack(kind, blocks.as_ptr(), out.as_mut_ptr(), n, k) };
    out
}

fn numbers(kind: Kind, packed: &[u8], n: usize, k: usize) -> Vec<f32> {
    let mut out = vec![f32::NAN; n * k];
    // SAFETY: as above.
    unsafe { dequantize_rows(kind, packed.as_ptr(), 0, out.as_mut_ptr(), n, k) };
    out
}

fn product(kind: Kind, x: &[f32], weight: &[u8], m: usize, n: usize, k: usize, finish: Finish) -> Vec<f32> {
    let mut out = vec![f32::NAN; m * n];
    let p = QuantProduct { kind, x: x.as_ptr(), weight: weight.as_ptr(), out: out.as_mut_ptr(), m, n, k, finish };
    // SAFETY: as above.
    unsafe { linear(&p) };
    out
}

/// A row of activations as the product sees it: rounded to 8 bits in blocks of 32, and what that leaves over once more where the block stands out.
fn rounded(x: &[f32]) -> Vec<f64> {
    let square = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / x.len() as f64;
    x.chunks(BLOCK)
        .flat_map(|block| {
            let largest = block.iter().fold(0f32, |a, x| a.max(x.abs()));
            let (scale, inverse) = (largest / 127.0, 127.0 / largest);
            let fine = f64::from(largest) > 6.0 * square.sqrt();
            block.iter().map(move |&x| {
                let q = (x * inverse).round_ties_even();
                let rest = if fine { ((-q).mul_add(scale, x) * (inverse * 254.0)).round_ties_even() } else { 0.0 };
                f64::from(q) * f64::from(scale) + f64::from(rest) * f64::from(scale / 254.0)
            })
        })
        .collect()
}

/// Activations with a channel that is far larger than the others in some rows.
fn activations(m: usize, k: usize, seed: u64) -> Vec<f32> {
    let mut x = noise(m * k, seed);
    for (i, row) in x.chunks_mut(k.max(1)).enumerate() {
        if i % 3 != 1 {
            row[(7 * i + 45) % k] = 20.0;
        }
    }
    x
}

/// Outputs of so many groups that a task has several, of which a tile takes up to three; the last one is not whole.
const MANY: usize = 766;

#[test]
fn packed_rows_unpack_to_the_same_bytes() {
    for kind in KINDS {
        for (n, k) in [(1, 256), (16, 512), (19, 256), (40, 768)] {
            let blocks = blocks(kind, n, k, 3);
            let packed = packed(kind, &blocks, n, k);
            for (from, count) in [(0, n), (n / 2, n - n / 2), (n - 1, 1)] {
                let row = block_bytes(kind, k).expect("whole blocks");
                let mut got = vec![0xee; count * row];
                // SAFETY: the sizes fit.
                unsafe { unpack_rows(kind, packed.as_ptr(), from, got.as_mut_ptr(), count, k) };
                assert_eq!(got, blocks[from * row..(from + count) * row], "{kind:?} ({n}, {k}) from {from}");
            }
        }
    }
}

#[test]
fn products_are_sums_over_blocks_on_every_instruction_set() {
    for (i, kind) in KINDS.into_iter().enumerate() {
        for (m, n, k) in [(1, 16, 256), (3, 37, 512), (14, 50, 256), (1, 300, 1024), (8, 40, 256), (13, MANY, 256)] {
            let weight = packed(kind, &blocks(kind, n, k, 7 + i as u64), n, k);
            let x = activations(m, k, 11);
            let got = same_everywhere(|| product(kind, &x, &weight, m, n, k, Finish::PLAIN));
            let w = numbers(kind, &weight, n, k);
            let want: Vec<f64> = (0..m * n)
                .map(|at| {
                    let (row, col) = (at / n, at % n);
                    let x = rounded(&x[row * k..(row + 1) * k]);
                    (0..k).map(|p| x[p] * f64::from(w[col * k + p])).sum()
                })
                .collect();
            assert_close(&got, &want, 2e-5, &format!("{kind:?} ({m}, {n}, {k})"));
        }
    }
}

/// Sums in 16 bits must have room for the largest codes and activations of either sign.
#[test]
fn the_largest_codes_and_activations_fit_on_every_instruction_set() {
    let (m, n, k) = (4, 16, 256);
    for kind in KINDS {
        for fill in [0x00, 0xff] {
            let bytes = scaled(kind, vec![fill; n * block_bytes(kind, k).expect("whole blocks")], 5);
            let weight = packed(kind, &bytes, n, k);
            let x: Vec<f32> = (0..m * k).map(|i| if i < k || (i < 2 * k && i % 2 == 0) { 1.0 } else { -1.0 }).collect();
            let got = same_everywhere(|| product(kind, &x, &weight, m, n, k, Finish::PLAIN));
            let w = numbers(kind, &weight, n, k);
            let want: Vec<f64> =
                (0..m * n).map(|at| (0..k).map(|p| f64::from(x[at / n * k + p]) * f64::from(w[at % n * k + p])).sum()).collect();
            assert_close(&got, &want, 2e-5, &format!("{kind:?}, bytes {fill}"));
        }
    }
}

#[test]
fn a_row_has_the_bytes_it_has_alone() {
    let check = |kind: Kind, n: usize, k: usize, heights: &[usize]| {
        let weight = packed(kind, &blocks(kind, n, k, 5), n, k);
        let most = *heights.iter().max().expect("some rows");
        let x = activations(most, k, 2);
        let alone: Vec<Vec<f32>> = x.chunks(k).map(|row| product(kind, row, &weight, 1, n, k, Finish::PLAIN)).collect();
        for &m in heights {
            let got = product(kind, &x[..m * k], &weight, m, n, k, Finish::PLAIN);
            assert_same_bits(&got, &alone[..m].concat(), &format!("{kind:?} ({n}, {k}), {m} rows"));
        }
    };
    let all: Vec<usize> = (1..=64).collect();
    for kind in KINDS {
        check(kind, 70, 256, &all);
        check(kind, MANY, 256, &[8, 9, 15, 16, 31]);
    }
    // More rows than a task meets at a time.
    for kind in [Kind::Q8_0, Kind::Q4_1, Kind::Q6K] {
        check(kind, MANY, 256, &[481, 1000]);
        check(kind, MANY, 8192, &[49, 99]);
    }
}

#[test]
fn layers_together_have_the_bytes_they_have_alone() {
    let k = 512;
    // One rounding of the rows, and several: layouts with scales for 16 items, and with other codes for zero.
    for (m, kinds) in [(1, &[Kind::Q4_1; 3][..]), (3, &[Kind::Q4K, Kind::Q6K, Kind::Q5_0, Kind::Q4_1]), (21, &KINDS)] {
        let layers: Vec<_> = kinds.iter().enumerate().map(|(i, &kind)| (kind, 30 + 95 * (i % 3))).collect();
        let weights: Vec<_> = layers.iter().map(|&(kind, n)| packed(kind, &blocks(kind, n, k, n as u64), n, k)).collect();
        let (x, bias) = (activations(m, k, 2), noise(300, 3));
        let finish = Finish { bias: bias.as_ptr(), ..Finish::PLAIN };
        let alone: Vec<Vec<f32>> = layers.iter().zip(&weights).map(|(&(kind, n), w)| product(kind, &x, w, m, n, k, finish)).collect();
        let got = same_everywhere(|| {
            let mut outs: Vec<Vec<f32>> = layers.iter().map(|&(_, n)| vec![f32::NAN; m * n]).collect();
            let products: Vec<QuantProduct> = (layers.iter().zip(&weights))
                .zip(&mut outs)
                .map(|((&(kind, n), w), out)| QuantProduct {
                    kind,
                    x: x.as_ptr(),
                    weight: w.as_ptr(),
                    out: out.as_mut_ptr(),
                    m,
                    n,
                    k,
                    finish,
                })
                .collect();
            // SAFETY: the sizes fit, and results have memory of their own.
            unsafe { linears(&products) };
            outs.concat()
        });
        assert_same_bits(&got, &alone.concat(), &format!("{m} rows, {kinds:?}"));
    }
    // SAFETY: there is nothing to do.
    unsafe { linears(&[]) };
}

#[test]
fn the_epilogue_follows() {
    for (m, n, k) in [(5, 37, 64), (8, 37, 64), (13, MANY, 64)] {
        let weight = packed(Kind::Q4_1, &blocks(Kind::Q4_1, n, k, 4), n, k);
        let (x, bias, residual) = (noise(m * k, 1), noise(n, 2), noise(m * n, 3));
        let plain = product(Kind::Q4_1, &x, &weight, m, n, k, Finish::PLAIN);
        let got = same_everywhere(|| {
            let finish = Finish { bias: bias.as_ptr(), residual: residual.as_ptr(), activation: Activation::Relu, ..Finish::PLAIN };
            product(Kind::Q4_1, &x, &weight, m, n, k, finish)
        });
        let want: Vec<f32> = (0..m * n).map(|i| (plain[i] + bias[i % n]).max(0.0) + residual[i]).collect();
        assert_same_bits(&got, &want, &format!("bias, relu, residual ({m}, {n}, {k})"));
    }
}

#[test]
fn what_is_not_finite_spreads_and_what_is_tiny_is_zero() {
    let (n, k) = (20, 64);
    let weight = packed(Kind::Q8_0, &blocks(Kind::Q8_0, n, k, 4), n, k);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for m in 1..=9 {
            let fine = noise(m * k, 1);
            let mut x = fine.clone();
            let row = m / 2;
            x[row * k + 40] = bad;
            let want = product(Kind::Q8_0, &fine, &weight, m, n, k, Finish::PLAIN);
            let got = same_everywhere(|| product(Kind::Q8_0, &x, &weight, m, n, k, Finish::PLAIN));
            assert!(got[row * n..][..n].iter().all(|y| y.is_nan()), "{bad}, {m} rows");
            for others in [0..row * n, (row + 1) * n..m * n] {
                assert_same_bits(&got[others.clone()], &want[others], &format!("{bad}, {m} rows"));
            }
        }
    }
    let large = same_everywhere(|| product(Kind::Q8_0, &vec![3e38; k], &weight, 1, n, k, Finish::PLAIN));
    assert!(large.iter().all(|y| !y.is_nan()));
    let tiny = same_everywhere(|| product(Kind::Q8_0, &vec![1e-40; k], &weight, 1, n, k, Finish::PLAIN));
    assert!(tiny.iter().all(|&y| y == 0.0));
}

#[test]
fn no_inputs_give_zeros_and_no_rows_nothing() {
    assert_eq!(product(Kind::Q8_0, &[], &[], 2, 3, 0, Finish::PLAIN), [0.0; 6]);
    assert!(product(Kind::Q8_0, &[], &[], 0, 3, 0, Finish::PLAIN).is_empty());
    assert_eq!((packed_bytes(Kind::Q4K, 16, 128), block_bytes(Kind::Q8_0, 33)), (None, None));
}

#[test]
fn rows_by_id_are_the_rows() {
    let (n, k) = (35, 256);
    for kind in KINDS {
        let weight = packed(kind, &blocks(kind, n, k, 9), n, k);
        let all = numbers(kind, &weight, n, k);
        let ids = [34, 0, 17, 17];
        let mut got = vec![f32::NAN; ids.len() * k];
        // SAFETY: the ids name rows.
        unsafe { embedding(kind, weight.as_ptr(), ids.as_ptr(), got.as_mut_ptr(), ids.len(), k) };
        let want: Vec<f32> = ids.iter().flat_map(|&id| all[id as usize * k..(id as usize + 1) * k].to_vec()).collect();
        assert_same_bits(&got, &want, &format!("{kind:?}"));
    }
}

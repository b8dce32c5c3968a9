use super::super::{Finish, KC};
use super::*;
use crate::gated::Activation;
use crate::gemm::past_caches;
use crate::gemm::tests::{SIZES, Stored};
use crate::testing::{assert_close, assert_same_bits, machine, noise, same_with_bf16};

fn run(p: &Product, out: &mut Vec<f32>) -> Vec<f32> {
    let p = Product { out: out.as_mut_ptr(), ..*p };
    // SAFETY: the vectors hold what the sizes reach.
    unsafe { product_bf16(&p) };
    std::mem::take(out)
}

fn half(x: f32) -> f32 {
    bf16_to_f32(f32_to_bf16(x))
}

/// Σ of products of rounded items, in float64: exact products, so only the order of float32 additions differs.
fn exact(a: &Stored, b: &Stored, i: usize, j: usize, k: usize) -> f64 {
    (0..k).map(|p| f64::from(half(a.get(i, p))) * f64::from(half(b.get(p, j)))).sum()
}

#[test]
fn every_size_and_layout_is_the_product_of_rounded_operands() {
    for (at, &(m, n, k)) in SIZES.iter().enumerate() {
        for layout in 0..16 {
            let (ka, kb) = (layout / 4, layout % 4);
            if m * n * k > 30_000 && (at + layout) % 5 != 0 {
                continue;
            }
            let (a, b) = (Stored::new(m, k, ka, 1 + at as u64), Stored::new(k, n, kb, 100 + at as u64));
            let row = n + layout % 3;
            let want: Vec<f64> = (0..m * row).map(|x| if x % row < n { exact(&a, &b, x / row, x % row, k) } else { 7.0 }).collect();
            let results = same_with_bf16(|| {
                let out = std::ptr::null_mut();
                let p = Product { a: a.view(), b: Right::Plain(b.view()), out, out_row: row, m, n, k, finish: Finish::PLAIN };
                run(&p, &mut vec![7.0; m * row])
            });
            for got in results {
                // Float32 additions of k numbers of unit spread: 2⁻²⁴ of partial sums of about √k, √k times.
                assert_close(&got, &want, 3e-7 * (k as f64).max(4.0), &format!("{m}x{n}x{k} layouts {ka} {kb}"));
            }
        }
    }
}

/// What float32 would give differs by far more than the tolerance above: the operands really are rounded.
#[test]
fn it_is_no_float32_product() {
    let (m, n, k) = (20, 30, 64);
    let (a, b) = (Stored::new(m, k, 0, 1), Stored::new(k, n, 0, 2));
    for got in same_with_bf16(|| {
        let out = std::ptr::null_mut();
        let p = Product { a: a.view(), b: Right::Plain(b.view()), out, out_row: n, m, n, k, finish: Finish::PLAIN };
        run(&p, &mut vec![0.0; m * n])
    }) {
        let far = (0..m * n).filter(|&x| {
            let plain: f64 = (0..k).map(|p| f64::from(a.get(x / n, p)) * f64::from(b.get(p, x % n))).sum();
            (f64::from(got[x]) - plain).abs() > 1e-3
        });
        assert!(far.count() > m * n / 2);
    }
}

#[test]
fn rounding_is_to_nearest_even() {
    // 1 + 2⁻⁸ lies half way between two numbers, 1 + 3·2⁻⁸ too: to the even ones, 1 and 1 + 2⁻⁶.
    let x = [1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, f32::MAX, -1.0 - 1.0 / 256.0];
    let one = [1.0f32];
    for got in same_with_bf16(|| {
        let a = Matrix { data: x.as_ptr(), row: 1, col: 1 };
        let b = Right::Plain(Matrix { data: one.as_ptr(), row: 1, col: 1 });
        run(&Product { a, b, out: std::ptr::null_mut(), out_row: 1, m: 4, n: 1, k: 1, finish: Finish::PLAIN }, &mut vec![0.0; 4])
    }) {
        assert_same_bits(&got, &[1.0, 1.0 + 1.0 / 64.0, f32::INFINITY, -1.0], "rounding");
    }
}

#[test]
fn a_row_alone_has_the_bytes_it_has_among_many() {
    for (m, n, k) in [(64, 70, 1100), (400, 150, 515), (1000, 70, 400)] {
        let (a, b) = (Stored::new(m, k, 0, 14), Stored::new(k, n, 1, 15));
        let rows = |from: usize, m: usize| {
            let finish = Finish::PLAIN;
            let p = Product { a: a.view().at(from, 0), b: Right::Plain(b.view()), out: std::ptr::null_mut(), out_row: n, m, n, k, finish };
            run(&p, &mut vec![0.0; m * n])
        };
        same_with_bf16(|| {
            let all = rows(0, m);
            let pieces = (1..=64).map(|m| (0, m)).chain([(7, 1), (63, 1), (10, 2), (30, 5), (0, m - 1), (m - 41, 41)]);
            for (from, count) in pieces {
                assert_same_bits(
                    &rows(from, count),
                    &all[from * n..(from + count) * n],
                    &format!("{count} rows from {from} of {m}x{n}x{k}"),
                );
            }
            all
        });
    }
}

#[test]
fn the_epilogue_comes_after_the_last_block() {
    for (m, n, k) in [(1, 5, 3), (9, 35, 300), (3, 16, 0), (391, 50, 1031)] {
        for accumulate in [false, true] {
            let (a, b) = (Stored::new(m, k, 1, 5), Stored::new(k, n, 0, 6));
            let (bias, start) = (noise(n, 7), noise(m * n, 8));
            let results = same_with_bf16(|| {
                let mut out = start.clone();
                let mut slope = vec![0.0f32; m * n];
                let finish = if accumulate {
                    Finish { alpha: 0.3, accumulate, ..Finish::PLAIN }
                } else {
                    // In place: the residual is out itself.
                    Finish {
                        bias: bias.as_ptr(),
                        slope: slope.as_mut_ptr(),
                        residual: out.as_ptr(),
                        activation: Activation::Relu,
                        ..Finish::PLAIN
                    }
                };
                let p = Product { a: a.view(), b: Right::Plain(b.view()), out: out.as_mut_ptr(), out_row: n, m, n, k, finish };
                let mut got = run(&p, &mut out);
                got.extend(slope);
                got
            });
            let mut want = Vec::new();
            let mut slopes = Vec::new();
            for x in 0..m * n {
                let s = exact(&a, &b, x / n, x % n, k);
                let z = s + f64::from(bias[x % n]);
                want.push(f64::from(start[x]) + if accumulate { 0.3 * s } else { z.max(0.0) });
                slopes.push(if accumulate || z <= 0.0 { 0.0 } else { 1.0 });
            }
            want.extend(slopes);
            for got in results {
                assert_close(&got, &want, 3e-7 * (k as f64).max(4.0), &format!("{m}x{n}x{k} accumulate {accumulate}"));
            }
        }
    }
}

#[test]
fn a_batch_is_its_problems_one_by_one() {
    for (count, m, n, k, shared) in [(5, 3, 20, 31, false), (4, 100, 33, 65, true), (3, 130, 90, KC + 44, false)] {
        let (a, b) = (Stored::new(m * count, k, 0, 12), Stored::new(k * count, n, 0, 13));
        let step = if shared { 0 } else { k * n };
        same_with_bf16(|| {
            let mut out = vec![0.0f32; count * m * n];
            let p = Product { a: a.view(), b: Right::Plain(b.view()), out: out.as_mut_ptr(), out_row: n, m, n, k, finish: Finish::PLAIN };
            // SAFETY: the vectors hold what the sizes reach.
            unsafe { products_bf16(&p, Batch { count, a: m * k, b: step, out: m * n }) };
            for z in 0..count {
                let b = Right::Plain(Matrix { data: b.memory[z * step..].as_ptr(), ..b.view() });
                let one = run(&Product { a: a.view().at(z * m, 0), b, ..p }, &mut vec![0.0; m * n]);
                assert_same_bits(&out[z * m * n..(z + 1) * m * n], &one, &format!("problem {z} of {count}x{m}x{n}x{k}"));
            }
            out
        });
    }
}

/// Sizes in which a comes in pieces, columns of b do, out is written past the caches (aligned as it is here).
#[test]
fn a_row_of_a_large_product_has_the_bytes_that_it_has_alone() {
    let _guard = machine();
    for (m, n, k) in [(384, 20, 5200), (400, 1950, 520), (1100, 1936, 40)] {
        let (a, b) = (Stored::new(m, k, 0, 1), Stored::new(k, n, 0, 2));
        let some = |from: usize, rows: usize| {
            let room = Scratch::new(rows * n);
            let (a, out) = (a.view().at(from, 0), room.pointer());
            let p = Product { a, b: Right::Plain(b.view()), out, out_row: n, m: rows, n, k, finish: Finish::PLAIN };
            assert_eq!(past_caches(&p), n == 1936);
            // SAFETY: the room holds the rows.
            unsafe {
                product_bf16(&p);
                std::slice::from_raw_parts(out, rows * n).to_vec()
            }
        };
        let all = some(0, m);
        for i in [0, m / 2, m - 1] {
            assert_same_bits(&some(i, 1), &all[i * n..(i + 1) * n], &format!("row {i} of {m} x {n} x {k}"));
        }
    }
}

#[test]
fn a_result_past_the_caches_has_the_same_bytes() {
    // Both plans, sums of one block of k and of more.
    for (m, n, k) in [(100, 64, 200), (30, 144, 1100), (390, 80, 256), (386, 160, 1030)] {
        let (a, b) = (Stored::new(m, k, 1, 16), Stored::new(k, n, 0, 17));
        // From a cache line on, and from the item behind it on, where nothing can go past the caches.
        let run = |from: usize| {
            same_with_bf16(|| {
                let room = Scratch::new(m * n + from);
                let out = room.pointer().wrapping_add(from);
                let p = Product { a: a.view(), b: Right::Plain(b.view()), out, out_row: n, m, n, k, finish: Finish::PLAIN };
                assert_eq!(past_caches(&p), from == 0);
                // SAFETY: the room holds the result, and the vectors what the sizes reach.
                unsafe {
                    product_bf16(&p);
                    std::slice::from_raw_parts(out, m * n).to_vec()
                }
            })
        };
        for (got, want) in run(0).iter().zip(run(1)) {
            assert_same_bits(got, &want, &format!("{m}x{n}x{k}"));
        }
    }
}

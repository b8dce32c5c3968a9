use super::*;
use crate::testing::{assert_close, assert_same_bits, noise, same_everywhere};

/// A matrix stored with any layout, and its items in order.
pub struct Stored {
    pub memory: Vec<f32>,
    row: usize,
    col: usize,
}

impl Stored {
    /// `rows` × `cols` numbers; kinds of layout: 0 row-major, 1 column-major, 2 row-major with gaps, 3 every second item.
    pub fn new(rows: usize, cols: usize, kind: usize, seed: u64) -> Stored {
        let (row, col) = match kind {
            0 => (cols, 1),
            1 => (1, rows),
            2 => (cols + 5, 1),
            _ => (2 * cols + 3, 2),
        };
        let reach = if rows * cols == 0 { 0 } else { (rows - 1) * row + (cols - 1) * col + 1 };
        Stored { memory: noise(reach, seed), row, col }
    }

    pub fn get(&self, i: usize, j: usize) -> f32 {
        self.memory[i * self.row + j * self.col]
    }

    pub fn view(&self) -> Matrix {
        Matrix { data: self.memory.as_ptr(), row: self.row, col: self.col }
    }
}

/// The contract, item by item: what every path must give to the bit.
fn chains(a: &Stored, b: &Stored, i: usize, j: usize, k: usize) -> f32 {
    let mut sum = 0.0f32;
    for (z, from) in (0..k).step_by(KC).enumerate() {
        let mut chain = 0.0f32;
        for p in from..(from + KC).min(k) {
            chain = a.get(i, p).mul_add(b.get(p, j), chain);
        }
        sum = if z == 0 { chain } else { sum + chain };
    }
    sum
}

pub const SIZES: [(usize, usize, usize); 32] = [
    (1, 1, 1),
    (1, 16, 8),
    (2, 3, 5),
    (6, 16, KC),
    (7, 17, KC + 1),
    (5, 48, KC + 44),
    (13, 100, 64),
    (1, 200, 2 * KC + 8),
    (3, 33, KC + 188),
    (4, 130, 96),
    (8, 80, 2 * KC + 1),
    (30, 50, 40),
    (64, 64, 64),
    (97, 31, 130),
    (385, 20, 33),
    (400, 65, KC + 14),
    (390, 1, KC + 44),
    (17, 1, 3),
    (2, 400, 17),
    (1, 70, 2 * KC - 24),
    (100, 7, 2 * KC + 88),
    (386, 49, 2 * KC + 3),
    (5, 80, 2 * KC + 11),
    (20, 96, KC + 44),
    (150, 320, 40),
    (4, 48, 1),
    // Tasks of one tile each, and more of them than threads.
    (62, 110, KC + 9),
    (64, 64, 100),
    (17, 16, 683),
    // Many tiles for few columns; rows of a as they are that meet many panels, and such as begin in one set of a cache.
    (384, 768, 20),
    (260, 520, 40),
    (260, 520, 1024),
];

#[test]
fn every_size_and_layout_has_the_bytes_of_the_contract() {
    for (at, &(m, n, k)) in SIZES.iter().enumerate() {
        for layout in 0..16 {
            let (ka, kb) = (layout / 4, layout % 4);
            // All layouts of small ones, a diagonal of large ones: the portable set is slow.
            if m * n * k > 30_000 && (at + layout) % 5 != 0 {
                continue;
            }
            let (a, b) = (Stored::new(m, k, ka, 1 + at as u64), Stored::new(k, n, kb, 100 + at as u64));
            let row = n + layout % 3;
            let want: Vec<f32> = (0..m * row).map(|x| if x % row < n { chains(&a, &b, x / row, x % row, k) } else { 7.0 }).collect();
            let got = same_everywhere(|| {
                let mut out = vec![7.0f32; m * row];
                let p =
                    Product { a: a.view(), b: Right::Plain(b.view()), out: out.as_mut_ptr(), out_row: row, m, n, k, finish: Finish::PLAIN };
                // SAFETY: the vectors hold what the sizes reach.
                unsafe { product(&p) };
                out
            });
            assert_same_bits(&got, &want, &format!("{m}x{n}x{k} layouts {ka} {kb}"));
        }
    }
}

#[test]
fn few_rows_that_lie_side_by_side_are_packed_on_the_way() {
    // Some of one tile, some whose tiles differ in width or whose tasks are narrower than a tile, one too large for a thread to pack alone.
    for (m, n, k) in [
        (16, 96, KC + 44),
        (20, 200, 2 * KC + 9),
        (13, 130, 64),
        (128, 384, 100),
        (7, 48, KC + 1),
        (17, 40, 50),
        (3, 20, 90),
        (8, 16, 40),
        (128, 300, KC),
        (180, 370, KC + 3),
    ] {
        for layout in [0, 2] {
            let (a, b) = (Stored::new(m, k, 1, 20), Stored::new(k, n, layout, 21));
            let want: Vec<f32> = (0..m * n).map(|x| chains(&a, &b, x / n, x % n, k)).collect();
            let got = same_everywhere(|| {
                let mut out = vec![f32::NAN; m * n];
                let p =
                    Product { a: a.view(), b: Right::Plain(b.view()), out: out.as_mut_ptr(), out_row: n, m, n, k, finish: Finish::PLAIN };
                // SAFETY: the vectors hold what the sizes reach.
                unsafe { product(&p) };
                out
            });
            assert_same_bits(&got, &want, &format!("{m}x{n}x{k} layout {layout}"));
        }
    }
}

#[test]
fn packed_weights_change_nothing() {
    for &(m, n, k) in &SIZES {
        let (a, b) = (Stored::new(m, k, 0, 3), Stored::new(k, n, 1, 4));
        let run = |packed: bool| {
            same_everywhere(|| {
                let mut out = vec![0.0f32; m * n];
                let mut room = vec![f32::NAN; packed_size(n, k)];
                // SAFETY: the vectors hold what the sizes reach.
                unsafe {
                    pack_weight(b.view(), n, k, room.as_mut_ptr());
                    let right = if packed { Right::Packed(room.as_ptr()) } else { Right::Plain(b.view()) };
                    product(&Product { a: a.view(), b: right, out: out.as_mut_ptr(), out_row: n, m, n, k, finish: Finish::PLAIN });
                }
                out
            })
        };
        assert_same_bits(&run(true), &run(false), &format!("{m}x{n}x{k}"));
    }
}

#[test]
fn weights_are_packed_where_they_lie() {
    for (n, k) in [(16, 1), (32, 7), (48, 300), (160, 900), (0, 5)] {
        let b = Stored::new(n, k, 0, 4).memory;
        let (mut packed, mut own) = (vec![f32::NAN; packed_size(n, k)], b.clone());
        // SAFETY: the vectors hold n rows of k items.
        unsafe {
            pack_weight(Matrix { data: b.as_ptr(), row: 1, col: k }, n, k, packed.as_mut_ptr());
            pack_weight_in_place(own.as_mut_ptr(), n, k);
        }
        assert_same_bits(&own, &packed, &format!("{n}x{k}"));
    }
}

/// The activation's value and slope at s, from the definitions.
fn curve(activation: Activation, s: f64) -> (f64, f64) {
    use std::f64::consts::{PI, SQRT_2};
    match activation {
        Activation::None => (s, 1.0),
        Activation::Relu => (s.max(0.0), f64::from(u8::from(s > 0.0))),
        Activation::Gelu => {
            let below = 0.5 * (1.0 + libm_erf(s / SQRT_2));
            (s * below, below + s * (-0.5 * s * s).exp() / (2.0 * PI).sqrt())
        }
        Activation::GeluTanh => {
            let t = ((2.0 / PI).sqrt() * (s + 0.044715 * s * s * s)).tanh();
            let inner = (2.0 / PI).sqrt() * (1.0 + 3.0 * 0.044715 * s * s);
            (0.5 * s * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * s * (1.0 - t * t) * inner)
        }
        Activation::Silu => {
            let below = 1.0 / (1.0 + (-s).exp());
            (s * below, below * (1.0 + s * (1.0 - below)))
        }
    }
}

/// linear with everything, and what float64 makes of it.
fn linear(m: usize, n: usize, k: usize, activation: Activation, in_place: bool, with_slope: bool) {
    let (x, w) = (Stored::new(m, k, 0, 5), Stored::new(k, n, 1, 6));
    let (bias, residual) = (noise(n, 7), noise(m * n, 8));
    let got = same_everywhere(|| {
        let mut out = residual.clone();
        let mut slope = vec![0.0f32; m * n];
        let finish = Finish {
            bias: bias.as_ptr(),
            residual: if in_place { out.as_ptr() } else { residual.as_ptr() },
            slope: if with_slope { slope.as_mut_ptr() } else { std::ptr::null_mut() },
            activation,
            ..Finish::PLAIN
        };
        let p = Product { a: x.view(), b: Right::Plain(w.view()), out: out.as_mut_ptr(), out_row: n, m, n, k, finish };
        // SAFETY: the vectors hold what the sizes reach.
        unsafe { product(&p) };
        out.extend(slope);
        out
    });
    let mut want = Vec::new();
    let mut slopes = Vec::new();
    for i in 0..m {
        for j in 0..n {
            let s = f64::from(chains(&x, &w, i, j, k)) + f64::from(bias[j]);
            let (y, slope) = curve(activation, s);
            want.push(y + f64::from(residual[i * n + j]));
            slopes.push(if with_slope { slope } else { 0.0 });
        }
    }
    want.extend(slopes);
    assert_close(&got, &want, 1e-5, &format!("{m}x{n}x{k} {activation:?}"));
}

/// erf by its series, good for the moderate arguments here.
fn libm_erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn the_epilogue_comes_after_the_last_block() {
    for activation in [Activation::None, Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
        for (m, n, k) in [(1, 5, 3), (9, 35, KC + 44), (3, 16, 0), (391, 33, KC + 1)] {
            for flags in 0..4 {
                linear(m, n, k, activation, flags & 1 == 1, flags & 2 == 2);
            }
        }
    }
}

#[test]
fn a_factor_multiplies_the_sum_also_in_place() {
    for (m, n, k) in [(3, 5, 4), (7, 40, 2 * KC + 88), (388, 21, 2 * KC + 18), (2, 3, 0)] {
        let (a, b) = (Stored::new(m, k, 0, 12), Stored::new(k, n, 1, 13));
        let factor = noise(m * n, 14);
        let run = |in_place: bool| {
            same_everywhere(|| {
                let mut out = factor.clone();
                let finish = Finish { factor: if in_place { out.as_ptr() } else { factor.as_ptr() }, ..Finish::PLAIN };
                let p = Product { a: a.view(), b: Right::Plain(b.view()), out: out.as_mut_ptr(), out_row: n, m, n, k, finish };
                // SAFETY: the vectors hold what the sizes reach.
                unsafe { product(&p) };
                out
            })
        };
        let want: Vec<f32> = (0..m * n).map(|x| chains(&a, &b, x / n, x % n, k) * factor[x]).collect();
        assert_same_bits(&run(false), &want, &format!("{m}x{n}x{k}"));
        assert_same_bits(&run(true), &want, &format!("{m}x{n}x{k} in place"));
    }
}

#[test]
fn the_sums_of_columns_are_those_of_a_pass_over_b() {
    for (m, n, k, layout) in [
        (1, 5, 3, 0),
        (7, 40, 2 * KC + 88, 0),
        (7, 48, 2 * KC + 88, 1),
        (130, 200, 77, 0),
        (48, 16, 2, 1),
        (41, 77, 24, 1),
        (388, 21, 2 * KC + 164, 0),
        (390, 4200, 3, 0),
    ] {
        let (a, b) = (Stored::new(m, k, 1, 12), Stored::new(k, n, layout, 13));
        let got = same_everywhere(|| {
            let (mut out, mut sums) = (vec![0.0f32; m * n], vec![f32::NAN; n]);
            let finish = Finish { column_sums: sums.as_mut_ptr(), ..Finish::PLAIN };
            let p = Product { a: a.view(), b: Right::Plain(b.view()), out: out.as_mut_ptr(), out_row: n, m, n, k, finish };
            // SAFETY: the vectors hold what the sizes reach.
            unsafe { product(&p) };
            sums
        });
        let want: Vec<f32> = (0..n).map(|j| (0..k).fold(0.0, |sum, p| sum + b.get(p, j))).collect();
        assert_same_bits(&got, &want, &format!("{m}x{n}x{k}"));
    }
}

#[test]
fn accumulating_adds_the_scaled_sum_once() {
    for (m, n, k) in [(3, 5, 4), (7, 40, 2 * KC + 88), (388, 21, 2 * KC + 18), (2, 3, 0)] {
        let (a, b) = (Stored::new(m, k, 1, 9), Stored::new(k, n, 0, 10));
        let start = noise(m * n, 11);
        let got = same_everywhere(|| {
            let mut out = start.clone();
            let finish = Finish { alpha: 0.3, accumulate: true, ..Finish::PLAIN };
            let p = Product { a: a.view(), b: Right::Plain(b.view()), out: out.as_mut_ptr(), out_row: n, m, n, k, finish };
            // SAFETY: the vectors hold what the sizes reach.
            unsafe { product(&p) };
            out
        });
        let want: Vec<f32> = (0..m * n).map(|x| start[x] + 0.3 * chains(&a, &b, x / n, x % n, k)).collect();
        assert_same_bits(&got, &want, &format!("{m}x{n}x{k}"));
    }
}

#[test]
fn a_batch_is_its_problems_one_by_one() {
    for (count, m, n, k, shared) in
        [(1, 5, 6, 7, false), (5, 3, 20, 30, false), (4, 100, 33, 65, true), (3, 130, 90, KC + 44, false), (0, 2, 2, 2, false)]
    {
        let (a, b) = (Stored::new(m * count, k, 0, 12), Stored::new(k * count, n, 0, 13));
        let step = if shared { 0 } else { k * n };
        let got = same_everywhere(|| {
            let mut out = vec![0.0f32; count * m * n];
            let p = Product { a: a.view(), b: Right::Plain(b.view()), out: out.as_mut_ptr(), out_row: n, m, n, k, finish: Finish::PLAIN };
            // SAFETY: the vectors hold what the sizes reach.
            unsafe { products(&p, Batch { count, a: m * k, b: step, out: m * n }) };
            out
        });
        let want: Vec<f32> = (0..count * m * n)
            .map(|x| {
                let (z, i, j) = (x / (m * n), x / n % m, x % n);
                let one = Stored { memory: b.memory[z * step..].to_vec(), row: n, col: 1 };
                chains(&Stored { memory: a.memory[(z * m + i) * k..].to_vec(), row: k, col: 1 }, &one, 0, j, k)
            })
            .collect();
        assert_same_bits(&got, &want, &format!("{count} of {m}x{n}x{k}"));
    }
}

#[test]
fn a_row_alone_has_the_bytes_it_has_among_a_thousand() {
    let (m, n, k) = (1000, 70, KC + 144);
    let (a, b) = (Stored::new(m, k, 0, 14), Stored::new(k, n, 1, 15));
    let run = |from: usize, rows: usize| {
        let mut out = vec![0.0f32; rows * n];
        let p = Product {
            a: a.view().at(from, 0),
            b: Right::Plain(b.view()),
            out: out.as_mut_ptr(),
            out_row: n,
            m: rows,
            n,
            k,
            finish: Finish::PLAIN,
        };
        // SAFETY: the vectors hold what the sizes reach.
        unsafe { product(&p) };
        out
    };
    let all = run(0, m);
    for (from, rows) in [(0, 1), (7, 1), (999, 1), (10, 2), (20, 3), (30, 5), (100, 40), (600, 400)] {
        assert_same_bits(&run(from, rows), &all[from * n..(from + rows) * n], &format!("rows {from}..{}", from + rows));
    }
}

#[test]
fn a_result_past_the_caches_has_the_same_bytes() {
    for (m, n, k) in [(100, 64, 200), (390, 80, KC), (30, 144, 20), (386, 160, 130)] {
        let (a, b) = (Stored::new(m, k, 1, 16), Stored::new(k, n, 0, 17));
        // From a cache line on, and from the item behind it on, where nothing can go past the caches.
        let run = |from: usize| {
            same_everywhere(|| {
                let room = Scratch::new(m * n + from);
                let out = room.pointer().wrapping_add(from);
                let p = Product { a: a.view(), b: Right::Plain(b.view()), out, out_row: n, m, n, k, finish: Finish::PLAIN };
                assert_eq!(past_caches(&p), from == 0);
                // SAFETY: the room holds the result, and the vectors what the sizes reach.
                unsafe {
                    product(&p);
                    std::slice::from_raw_parts(out, m * n).to_vec()
                }
            })
        };
        assert_same_bits(&run(0), &run(1), &format!("{m}x{n}x{k}"));
    }
}

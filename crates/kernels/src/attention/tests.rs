use super::{Attention, AttentionGrad, BLOCK, Pages, Problem, WritePages, attention, attention_grad, write_pages};
use crate::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::testing::{assert_close, assert_same_bits, machine, noise, same_everywhere, same_with_bf16};

/// A problem with its operands. Rows of q, k and v are `pad` items longer than they need.
#[derive(Clone)]
struct Case {
    len_q: Vec<usize>,
    len_k: Vec<usize>,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    causal: bool,
    window: usize,
    softcap: f32,
    slopes: bool,
    /// Strides of the mask, if there is one: of (sequences, heads, queries, keys).
    mask: Option<[usize; 4]>,
    bf16: bool,
}

const PAD: usize = 5;
const SCALE: f32 = 0.3;

impl Case {
    fn new(len_q: &[usize], len_k: &[usize], heads: usize, kv_heads: usize, dim: usize) -> Self {
        Case {
            len_q: len_q.to_vec(),
            len_k: len_k.to_vec(),
            heads,
            kv_heads,
            dim,
            causal: true,
            window: 0,
            softcap: 0.0,
            slopes: false,
            mask: None,
            bf16: false,
        }
    }

    fn rows_q(&self) -> usize {
        self.len_q.iter().sum()
    }

    fn rows_k(&self) -> usize {
        self.len_k.iter().sum()
    }

    fn q_row(&self) -> usize {
        self.heads * self.dim + PAD
    }

    fn k_row(&self) -> usize {
        self.kv_heads * self.dim + PAD
    }
}

struct Data {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    gout: Vec<f32>,
    slopes: Vec<f32>,
    mask: Vec<f32>,
    cu_q: Vec<i32>,
    start_k: Vec<i32>,
    len_k: Vec<i32>,
}

fn starts(lengths: &[usize]) -> Vec<i32> {
    let mut at = 0;
    let mut all = vec![0];
    for n in lengths {
        at += *n as i32;
        all.push(at);
    }
    all
}

fn data(c: &Case) -> Data {
    let mask_items = c.mask.map_or(0, |m| {
        let most = |x: &[usize]| x.iter().copied().max().unwrap_or(1).max(1) - 1;
        (c.len_q.len() - 1) * m[0] + (c.heads - 1) * m[1] + most(&c.len_q) * m[2] + most(&c.len_k) * m[3] + 1
    });
    let mask = noise(mask_items, 25).iter().map(|x| if *x > 1.0 { f32::NEG_INFINITY } else { *x }).collect();
    Data {
        q: noise(c.rows_q() * c.q_row(), 21).iter().map(|x| x * 1.5).collect(),
        k: noise(c.rows_k() * c.k_row(), 22).iter().map(|x| x * 1.5).collect(),
        v: noise(c.rows_k() * c.k_row(), 23),
        gout: noise(c.rows_q() * c.q_row(), 24),
        slopes: (0..c.heads).map(|h| 0.5f32.powi(h as i32 + 1)).collect(),
        mask,
        cu_q: starts(&c.len_q),
        start_k: starts(&c.len_k),
        len_k: c.len_k.iter().map(|n| *n as i32).collect(),
    }
}

fn problem(c: &Case, d: &Data) -> Problem {
    Problem {
        q: d.q.as_ptr(),
        q_row: c.q_row(),
        k: d.k.as_ptr(),
        k_row: c.k_row(),
        v: d.v.as_ptr(),
        v_row: c.k_row(),
        cu_q: d.cu_q.as_ptr(),
        start_k: d.start_k.as_ptr(),
        len_k: d.len_k.as_ptr(),
        pages: None,
        sequences: c.len_q.len(),
        rows_q: c.rows_q(),
        heads: c.heads,
        kv_heads: c.kv_heads,
        dim: c.dim,
        scale: SCALE,
        causal: c.causal,
        window: c.window,
        softcap: c.softcap,
        slopes: c.slopes.then_some(d.slopes.as_ptr()),
        mask: c.mask.map(|_| d.mask.as_ptr()),
        mask_strides: c.mask.unwrap_or([0; 4]),
        bf16: c.bf16,
    }
}

/// out (rows without padding) and lse.
fn forward(c: &Case, problem: &Problem) -> (Vec<f32>, Vec<f32>) {
    let row = c.heads * c.dim;
    let mut out = vec![7f32; problem.rows_q * row];
    let mut lse = vec![7f32; problem.rows_q * c.heads];
    // SAFETY: the case's vectors have the lengths that the problem says.
    unsafe { attention(&Attention { problem: *problem, out: out.as_mut_ptr(), o_row: row, lse: Some(lse.as_mut_ptr()) }) };
    (out, lse)
}

/// out, lse, gq, gk, gv, one after the other.
fn run(c: &Case, d: &Data) -> Vec<f32> {
    let p = problem(c, d);
    let (out, lse) = forward(c, &p);
    let (row, kv_row) = (c.heads * c.dim, c.kv_heads * c.dim);
    let (mut gq, mut gk, mut gv) = (vec![7f32; c.rows_q() * row], vec![7f32; c.rows_k() * kv_row], vec![7f32; c.rows_k() * kv_row]);
    let job = AttentionGrad {
        problem: p,
        out: out.as_ptr(),
        o_row: row,
        lse: lse.as_ptr(),
        gout: d.gout.as_ptr(),
        go_row: c.q_row(),
        gq: gq.as_mut_ptr(),
        gq_row: row,
        gk: gk.as_mut_ptr(),
        gk_row: kv_row,
        gv: gv.as_mut_ptr(),
        gv_row: kv_row,
        rows_k: c.rows_k(),
    };
    // SAFETY: as above.
    unsafe { attention_grad(&job) };
    [out, lse, gq, gk, gv].concat()
}

/// The same in float64, straight from the definition.
fn twin(c: &Case, d: &Data) -> Vec<f64> {
    let (row, kv_row) = (c.heads * c.dim, c.kv_heads * c.dim);
    let (mut out, mut lse) = (vec![0f64; c.rows_q() * row], vec![0f64; c.rows_q() * c.heads]);
    let (mut gq, mut gk, mut gv) = (vec![0f64; c.rows_q() * row], vec![0f64; c.rows_k() * kv_row], vec![0f64; c.rows_k() * kv_row]);
    let at = |x: &[f32], i: usize| f64::from(x[i]);
    for s in 0..c.len_q.len() {
        for i in 0..c.len_q[s] {
            for h in 0..c.heads {
                let g = h * c.kv_heads / c.heads;
                let r = d.cu_q[s] as usize + i;
                let t = c.len_k[s] as i64 - c.len_q[s] as i64 + i as i64;
                let mut scores = Vec::new();
                let mut slopes = Vec::new();
                for p in 0..c.len_k[s] {
                    let kr = d.start_k[s] as usize + p;
                    let dot: f64 =
                        (0..c.dim).map(|j| at(&d.q, r * c.q_row() + h * c.dim + j) * at(&d.k, kr * c.k_row() + g * c.dim + j)).sum();
                    let mut x = dot * f64::from(SCALE);
                    let mut slope = f64::from(SCALE);
                    if c.softcap > 0.0 {
                        let t = (x / f64::from(c.softcap)).tanh();
                        x = t * f64::from(c.softcap);
                        slope *= 1.0 - t * t;
                    }
                    if c.slopes {
                        x += at(&d.slopes, h) * (p as i64 - t) as f64;
                    }
                    if let Some(m) = c.mask {
                        x += at(&d.mask, s * m[0] + h * m[1] + i * m[2] + p * m[3]);
                    }
                    let p = p as i64;
                    let w = c.window as i64;
                    let seen = (!c.causal || p <= t) && (w == 0 || (p > t - w && (c.causal || p < t + w)));
                    scores.push(if seen { x } else { f64::NEG_INFINITY });
                    slopes.push(slope);
                }
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                if max == f64::NEG_INFINITY {
                    lse[h * c.rows_q() + r] = max;
                    continue;
                }
                let sum: f64 = scores.iter().map(|x| (x - max).exp()).sum();
                lse[h * c.rows_q() + r] = max + sum.ln();
                let w: Vec<f64> = scores.iter().map(|x| (x - max).exp() / sum).collect();
                let go = |j: usize| at(&d.gout, r * c.q_row() + h * c.dim + j);
                let v = |p: usize, j: usize| at(&d.v, (d.start_k[s] as usize + p) * c.k_row() + g * c.dim + j);
                let o: Vec<f64> = (0..c.dim).map(|j| (0..c.len_k[s]).map(|p| w[p] * v(p, j)).sum()).collect();
                let share: f64 = (0..c.dim).map(|j| o[j] * go(j)).sum();
                for p in 0..c.len_k[s] {
                    let kr = d.start_k[s] as usize + p;
                    let dw: f64 = (0..c.dim).map(|j| go(j) * v(p, j)).sum();
                    let ds = w[p] * (dw - share) * slopes[p];
                    for j in 0..c.dim {
                        gv[kr * kv_row + g * c.dim + j] += w[p] * go(j);
                        gk[kr * kv_row + g * c.dim + j] += ds * at(&d.q, r * c.q_row() + h * c.dim + j);
                        gq[r * row + h * c.dim + j] += ds * at(&d.k, kr * c.k_row() + g * c.dim + j);
                    }
                }
                for j in 0..c.dim {
                    out[r * row + h * c.dim + j] = o[j];
                }
            }
        }
    }
    [out, lse, gq, gk, gv].concat()
}

fn check(c: &Case, what: &str) {
    let d = data(c);
    let got = same_everywhere(|| run(c, &d));
    assert_close(&got, &twin(c, &d), 2e-5, what);
}

#[test]
fn agrees_with_float64_and_is_the_same_everywhere() {
    check(&Case::new(&[1], &[1], 1, 1, 1), "one of everything");
    check(&Case::new(&[70], &[70], 2, 2, 16), "causal");
    check(&Case::new(&[5, 0, 130, 3], &[9, 4, 130, 200], 4, 2, 24), "ragged, grouped");
    check(&Case::new(&[150], &[150], 3, 1, 7), "odd head");
    check(&Case::new(&[4], &[2], 2, 1, 8), "more queries than keys");
    check(&Case::new(&[2, 2], &[0, 5], 1, 1, 8), "no keys");
    check(&Case { causal: false, ..Case::new(&[66, 3], &[90, 129], 2, 1, 32) }, "not causal");
    check(&Case { window: 40, ..Case::new(&[200], &[230], 2, 2, 16) }, "window");
    check(&Case { window: 9, causal: false, ..Case::new(&[100], &[100], 2, 2, 16) }, "window to both sides");
    check(&Case::new(&[600, 20], &[600, 20], 4, 2, 8), "many blocks");
    check(&Case { window: 100, ..Case::new(&[600], &[640], 2, 1, 8) }, "window over many blocks");
    check(&Case::new(&[1, 4], &[900, 400], 8, 2, 20), "few rows, many keys");
    check(&Case { softcap: 2.0, ..Case::new(&[70], &[70], 2, 2, 16) }, "cap");
    check(&Case { slopes: true, ..Case::new(&[70], &[100], 4, 2, 16) }, "slopes");
    check(&Case { mask: Some([0, 0, 100, 1]), causal: false, ..Case::new(&[70], &[100], 2, 2, 16) }, "mask of queries and keys");
    check(&Case { mask: Some([60, 0, 0, 1]), causal: false, ..Case::new(&[3, 40], &[60, 50], 2, 2, 16) }, "mask of padding");
    check(
        &Case { mask: Some([1, 2, 3, 4]), softcap: 5.0, slopes: true, window: 30, ..Case::new(&[80], &[80], 2, 1, 20) },
        "everything at once",
    );
}

/// The keys and values of a case's only sequence, in pages in an order of their own. What nobody has written is NaN.
struct Cache {
    k: Vec<f32>,
    v: Vec<f32>,
    table: Vec<i32>,
    half: bool,
}

impl Cache {
    fn new(c: &Case, d: &Data, half: bool) -> Cache {
        let blocks = c.len_k[0].div_ceil(BLOCK);
        let table: Vec<i32> = (0..blocks).map(|b| ((b * 3 + 2) % blocks.next_power_of_two()) as i32).collect();
        let pages = table.iter().max().map_or(0, |most| *most as usize + 1);
        let slots: Vec<i32> = (0..c.len_k[0]).map(|p| table[p / BLOCK] * BLOCK as i32 + (p % BLOCK) as i32).collect();
        let items = pages * c.kv_heads * c.dim * BLOCK;
        let unwritten = if half { f32::from_bits(0x7e00_7e00) } else { f32::NAN };
        let written = |x: &[f32], keys: bool| {
            let mut all = vec![unwritten; items / if half { 2 } else { 1 }];
            let (pages, slots) = (all.as_mut_ptr(), slots.as_ptr());
            let job = WritePages {
                x: x.as_ptr(),
                x_row: c.k_row(),
                pages,
                half,
                keys,
                slots,
                rows: c.len_k[0],
                kv_heads: c.kv_heads,
                dim: c.dim,
            };
            // SAFETY: the slots lie in the pages, of which there is room for all.
            unsafe { write_pages(&job) };
            all
        };
        Cache { k: written(&d.k, true), v: written(&d.v, false), table, half }
    }

    fn problem(&self, rows: Problem) -> Problem {
        let pages = Pages { table: self.table.as_ptr(), max_pages: self.table.len(), half: self.half };
        Problem { k: self.k.as_ptr(), v: self.v.as_ptr(), start_k: std::ptr::null(), pages: Some(pages), ..rows }
    }
}

/// The pages' keys and values, as float32 rows, give what the pages give.
#[test]
fn pages_equal_rows_of_what_they_hold() {
    let cases = [
        Case::new(&[1], &[1], 1, 1, 1),
        Case::new(&[1], &[700], 9, 3, 64),
        Case::new(&[1], &[130], 32, 4, 16),
        Case::new(&[2], &[200], 8, 1, 48),
        Case::new(&[3], &[300], 4, 2, 7),
        Case::new(&[70], &[200], 6, 2, 24),
        Case::new(&[150], &[150], 3, 1, 64),
        Case { window: 70, softcap: 3.0, slopes: true, ..Case::new(&[5], &[400], 4, 2, 32) },
        Case { causal: false, ..Case::new(&[66], &[90], 2, 1, 20) },
    ];
    for (half, bf16) in [(false, false), (true, false), (false, true), (true, true)] {
        for c in cases.iter().map(|c| Case { bf16, ..c.clone() }) {
            let what = format!("half {half}, bf16 {bf16}, {:?} of {:?}, {}:{} heads of {}", c.len_q, c.len_k, c.heads, c.kv_heads, c.dim);
            let d = data(&c);
            let kept = |x: &[f32]| x.iter().map(|x| if half { f16_to_f32(f32_to_f16(*x)) } else { *x }).collect::<Vec<f32>>();
            let rounded = Data { k: kept(&d.k), v: kept(&d.v), ..data(&c) };
            let both = |(out, lse): (Vec<f32>, Vec<f32>)| [out, lse].concat();
            let rows = || both(forward(&c, &problem(&c, &rounded)));
            let pages = || both(forward(&c, &Cache::new(&c, &d, half).problem(problem(&c, &d))));
            if bf16 {
                for (got, want) in same_with_bf16(pages).iter().zip(same_with_bf16(rows)) {
                    assert_same_bits(got, &want, &what);
                }
            } else {
                assert_same_bits(&same_everywhere(pages), &same_everywhere(rows), &what);
            }
        }
    }
}

/// A row's bytes in a prefill, token by token, in pages and in a batch.
#[test]
fn a_row_gives_the_same_bytes_wherever_it_is_computed() {
    // bf16 products are the same only on one instruction set.
    let _guard = machine();
    let base = Case { slopes: true, ..Case::new(&[300], &[300], 6, 2, 40) };
    for (window, softcap, bf16) in [(0, 0.0, false), (70, 3.0, false), (0, 0.0, true), (70, 3.0, true)] {
        let c = Case { window, softcap, bf16, ..base.clone() };
        let d = data(&c);
        let (want, want_lse) = forward(&c, &problem(&c, &d));
        let row = c.heads * c.dim;
        let cache = Cache::new(&c, &d, false);
        let paged = cache.problem(problem(&c, &d));
        assert_same_bits(&forward(&c, &paged).0, &want, "pages");
        // Pieces of every size, each after the other as a decoding step would see it.
        let mut at = 0;
        for n in [1usize, 1, 1, 2, 60, 1, 7, 64, 1, 65, 90, 1, 1, 1, 4] {
            let piece = Case { len_q: vec![n], len_k: vec![at + n], ..c.clone() };
            let (cu_q, len_k) = ([0, n as i32], [(at + n) as i32]);
            for base in [problem(&c, &d), paged] {
                // SAFETY: the rows from `at` on.
                let q = unsafe { base.q.add(at * c.q_row()) };
                let p = Problem { q, cu_q: cu_q.as_ptr(), len_k: len_k.as_ptr(), rows_q: n, ..base };
                let (out, lse) = forward(&piece, &p);
                assert_same_bits(&out, &want[at * row..(at + n) * row], &format!("{n} rows at {at}"));
                for h in 0..c.heads {
                    assert_same_bits(&lse[h * n..(h + 1) * n], &want_lse[h * 300 + at..h * 300 + at + n], "logsumexp");
                }
            }
            at += n;
        }
        assert_eq!(at, 300);
        // Batch mates: the last 20 rows as the middle of three sequences over the same keys.
        let (cu_q, start_k, len_k) = ([0, 3, 23, 24], [10, 0, 100], [50, 300, 7]);
        let mut q = d.q[..3 * c.q_row()].to_vec();
        q.extend_from_slice(&d.q[280 * c.q_row()..]);
        q.extend_from_slice(&d.q[..c.q_row()]);
        let p = Problem {
            q: q.as_ptr(),
            cu_q: cu_q.as_ptr(),
            start_k: start_k.as_ptr(),
            len_k: len_k.as_ptr(),
            sequences: 3,
            rows_q: 24,
            ..problem(&c, &d)
        };
        assert_same_bits(&forward(&c, &p).0[3 * row..23 * row], &want[280 * row..], "batch");
    }
}

/// The emulated and, where this CPU has them, the native bfloat16 products against float64 with rounded operands.
fn check_bf16(c: &Case, what: &str) {
    let (c, d) = (Case { bf16: true, ..c.clone() }, data(c));
    let half = |x: &Vec<f32>| x.iter().map(|x| bf16_to_f32(f32_to_bf16(*x))).collect::<Vec<f32>>();
    let rounded = Data { q: half(&d.q), k: half(&d.k), v: half(&d.v), gout: half(&d.gout), ..data(&c) };
    let want = twin(&c, &rounded);
    let (out, lse) = (c.rows_q() * c.heads * c.dim, c.rows_q() * c.heads);
    for got in same_with_bf16(|| run(&c, &d)) {
        // A logsumexp depends on rounded q and k alone, so it shows that they are what is rounded, and nothing behind them.
        assert_close(&got[out..out + lse], &want[out..out + lse], 2e-5, &format!("logsumexp, {what}"));
        // Weights and derivatives are rounded too, by at most 2⁻⁹ of each, and the twin's are not: a sum of them is off by at most 2⁻⁹ of the
        // sum of its terms' sizes, which here stays below 16.
        assert_close(&got, &want, 2f64.powi(-5), what);
    }
    let single = same_everywhere(|| run(&Case { bf16: false, ..c.clone() }, &d));
    let apart = (0..lse).any(|i| want[out + i].is_finite() && (f64::from(single[out + i]) - want[out + i]).abs() > 2e-4);
    assert!(apart, "{what}: nothing is rounded");
}

#[test]
fn bf16_products_agree_with_float64_of_rounded_operands() {
    check_bf16(&Case::new(&[70], &[70], 2, 2, 16), "causal");
    check_bf16(&Case::new(&[5, 0, 130, 3], &[9, 4, 130, 199], 4, 2, 24), "ragged, grouped");
    check_bf16(&Case::new(&[151], &[151], 3, 1, 7), "odd head");
    check_bf16(&Case { causal: false, ..Case::new(&[67, 3], &[91, 129], 2, 1, 64) }, "not causal");
    check_bf16(&Case { window: 9, causal: false, ..Case::new(&[101], &[101], 2, 2, 40) }, "window to both sides");
    check_bf16(&Case::new(&[300, 21], &[300, 21], 4, 2, 8), "many blocks");
    check_bf16(&Case::new(&[1, 4], &[901, 400], 8, 2, 20), "few rows, many keys");
    check_bf16(
        &Case { mask: Some([1, 2, 3, 4]), softcap: 5.0, slopes: true, window: 30, ..Case::new(&[80], &[80], 2, 1, 20) },
        "everything at once",
    );
}

#[test]
fn a_nan_is_passed_on_and_a_masked_key_is_not() {
    let c = Case::new(&[100], &[100], 1, 1, 16);
    let mut d = data(&c);
    d.k[80 * c.k_row()] = f32::NAN;
    let (out, _) = forward(&c, &problem(&c, &d));
    assert!(out[..80 * 16].iter().all(|x| x.is_finite()));
    assert!(out[80 * 16..].iter().all(|x| x.is_nan()));
}

//! Times attention, forward and backward: `cargo run --release -p groundup-kernels --example attention_speed [part of a name] [bf16]`.
//! Decoding reads keys and values from pages, of float32 and of binary16.
//! Figures are the best of some runs: other programs only ever slow a run down. With one thread it is that thread's own
//! time that counts.

#![allow(clippy::print_stdout, reason = "a program whose output is its result")]

use groundup_kernels::attention::{Attention, AttentionGrad, BLOCK, Pages, Problem, attention, attention_grad};
use groundup_kernels::simd::Simd;
use groundup_kernels::{dispatch, pool};
use std::time::Instant;

struct Shape {
    name: &'static str,
    batch: usize,
    len_q: usize,
    len_k: usize,
    heads: usize,
    kv_heads: usize,
    dim: usize,
}

const SHAPES: [Shape; 15] = [
    Shape { name: "training, 12 x 256, 6 heads of 64", batch: 12, len_q: 256, len_k: 256, heads: 6, kv_heads: 6, dim: 64 },
    Shape { name: "training, 4 x 64, 12 heads of 64", batch: 4, len_q: 64, len_k: 64, heads: 12, kv_heads: 12, dim: 64 },
    Shape { name: "training, 12 x 64, 4 heads of 32", batch: 12, len_q: 64, len_k: 64, heads: 4, kv_heads: 4, dim: 32 },
    Shape { name: "training, 1 x 1024, 12 heads of 64", batch: 1, len_q: 1024, len_k: 1024, heads: 12, kv_heads: 12, dim: 64 },
    Shape { name: "training, 1 x 2048, 9:3 heads of 64", batch: 1, len_q: 2048, len_k: 2048, heads: 9, kv_heads: 3, dim: 64 },
    Shape { name: "prefill, 512 of 9:3 heads of 64", batch: 1, len_q: 512, len_k: 512, heads: 9, kv_heads: 3, dim: 64 },
    Shape { name: "decoding at 512 x 1, 9:3 heads of 64", batch: 1, len_q: 1, len_k: 512, heads: 9, kv_heads: 3, dim: 64 },
    Shape { name: "decoding at 512 x 8, 9:3 heads of 64", batch: 8, len_q: 1, len_k: 512, heads: 9, kv_heads: 3, dim: 64 },
    Shape { name: "decoding at 4096 x 1, 9:3 heads of 64", batch: 1, len_q: 1, len_k: 4096, heads: 9, kv_heads: 3, dim: 64 },
    Shape { name: "decoding at 4096 x 8, 9:3 heads of 64", batch: 8, len_q: 1, len_k: 4096, heads: 9, kv_heads: 3, dim: 64 },
    Shape { name: "decoding at 512 x 1, 32:4 heads of 64", batch: 1, len_q: 1, len_k: 512, heads: 32, kv_heads: 4, dim: 64 },
    Shape { name: "decoding at 512 x 8, 32:4 heads of 64", batch: 8, len_q: 1, len_k: 512, heads: 32, kv_heads: 4, dim: 64 },
    Shape { name: "decoding at 4096 x 1, 32:4 heads of 64", batch: 1, len_q: 1, len_k: 4096, heads: 32, kv_heads: 4, dim: 64 },
    Shape { name: "decoding at 4096 x 8, 32:4 heads of 64", batch: 8, len_q: 1, len_k: 4096, heads: 32, kv_heads: 4, dim: 64 },
    Shape { name: "decoding at 8192, 32:8 heads of 128", batch: 1, len_q: 1, len_k: 8192, heads: 32, kv_heads: 8, dim: 128 },
];

/// Operands of as many layers are used in turn, so that they come from where a model's come from, not from the
/// second-level cache.
const LAYERS: usize = 4;

/// What one layer reads and writes. While training, q, k and v are parts of the rows of one product.
struct Layer {
    qkv: Vec<f32>,
    cache: Vec<f32>,
    gout: Vec<f32>,
    out: Vec<f32>,
    lse: Vec<f32>,
    gq: Vec<f32>,
    gk: Vec<f32>,
    gv: Vec<f32>,
}

/// Seconds that this thread has run, or (more than one thread) that have passed.
fn now(threads: usize) -> f64 {
    let clock = if threads == 1 { libc::CLOCK_THREAD_CPUTIME_ID } else { libc::CLOCK_MONOTONIC };
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock writes one timespec.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Six independent chains of FMAs: what the registers can do when no memory is in the way.
#[inline(always)]
unsafe fn chains<S: Simd>(out: *mut f32) {
    // SAFETY: the caller has room for 16 floats.
    unsafe {
        let (x, y) = (S::splat(0.999), S::splat(0.001));
        let (mut a, mut b, mut c, mut d, mut e, mut f) = (x, y, x, y, x, y);
        for _ in 0..STEPS {
            a = S::fma(a, x, y);
            b = S::fma(b, x, y);
            c = S::fma(c, x, y);
            d = S::fma(d, x, y);
            e = S::fma(e, x, y);
            f = S::fma(f, x, y);
        }
        S::store(out, S::add(S::add(S::add(a, b), S::add(c, d)), S::add(e, f)));
    }
}

dispatch! { unsafe fn run_chains(out: *mut f32) = chains }

const STEPS: usize = 20_000;

/// GFLOP/s that this core gives at the moment.
fn peak() -> f64 {
    let mut out = [0f32; 16];
    // SAFETY: room for 16 floats.
    let ms = best(1, || unsafe { run_chains(std::hint::black_box(out.as_mut_ptr())) });
    (STEPS * 6 * 16 * 2) as f64 * 1e-6 / ms
}

/// The best of some runs, in milliseconds.
fn best(threads: usize, mut run: impl FnMut()) -> f64 {
    run();
    let mut least = f64::MAX;
    let begin = Instant::now();
    let mut runs = 0;
    while runs < 5 || (begin.elapsed().as_secs_f64() < 0.7 && runs < 2000) {
        let at = now(threads);
        run();
        least = least.min((now(threads) - at) * 1e3);
        runs += 1;
    }
    least
}

fn main() {
    let bf16 = std::env::args().any(|x| x == "bf16");
    let only = std::env::args().nth(1).filter(|x| x != "bf16").unwrap_or_default();
    for s in SHAPES.iter().filter(|s| s.name.contains(&only)) {
        let (rows_q, rows_k) = (s.batch * s.len_q, s.batch * s.len_k);
        let (row, kv_row) = (s.heads * s.dim, s.kv_heads * s.dim);
        let together = rows_q == rows_k;
        let (q_row, k_row) = if together { (row + 2 * kv_row, row + 2 * kv_row) } else { (row, kv_row) };
        let fill = |n: usize| (0..n).map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * 0.8).collect::<Vec<f32>>();
        // Finite also where the halves are read as binary16.
        let cached = |n: usize| (0..n).map(|i| f32::from_bits(((i * 7919 % 1009) as u32 * 0x2_0003) | 0x3000_3000)).collect::<Vec<f32>>();
        let zeros = |n: usize| vec![0f32; n];
        let mut layers: Vec<Layer> = (0..LAYERS)
            .map(|_| Layer {
                qkv: fill(rows_q * q_row),
                cache: cached(if together { 0 } else { 2 * rows_k * kv_row }),
                gout: fill(rows_q * row),
                out: zeros(rows_q * row),
                lse: zeros(rows_q * s.heads),
                gq: zeros(rows_q * row),
                gk: zeros(rows_k * kv_row),
                gv: zeros(rows_k * kv_row),
            })
            .collect();
        let cu_q: Vec<i32> = (0..=s.batch).map(|i| (i * s.len_q) as i32).collect();
        let start_k: Vec<i32> = (0..s.batch).map(|i| (i * s.len_k) as i32).collect();
        let len_k = vec![s.len_k as i32; s.batch];
        // The pages of each sequence one behind the other. All lengths are whole pages.
        let max_pages = s.len_k / BLOCK;
        let table: Vec<i32> = (0..(s.batch * max_pages) as i32).collect();
        let problem = |l: &Layer, half: bool| {
            let (k, v) = if together { (&l.qkv[row..], &l.qkv[row + kv_row..]) } else { l.cache.split_at(rows_k * kv_row) };
            Problem {
                q: l.qkv.as_ptr(),
                q_row,
                k: k.as_ptr(),
                k_row,
                v: v.as_ptr(),
                v_row: k_row,
                cu_q: cu_q.as_ptr(),
                start_k: start_k.as_ptr(),
                len_k: len_k.as_ptr(),
                pages: (s.len_q == 1).then_some(Pages { table: table.as_ptr(), max_pages, half }),
                sequences: s.batch,
                rows_q,
                heads: s.heads,
                kv_heads: s.kv_heads,
                dim: s.dim,
                scale: (s.dim as f32).powf(-0.5),
                causal: true,
                window: 0,
                softcap: 0.0,
                slopes: None,
                mask: None,
                mask_strides: [0; 4],
                bf16,
            }
        };
        // Scores that count, twice 2·dim operations each forward, five times backward.
        let pairs: usize = (0..s.len_q).map(|i| s.len_k - s.len_q + i + 1).sum();
        let product = (pairs * s.batch * s.heads * s.dim * 2) as f64 * 1e-6;
        for threads in [1, 2] {
            pool::set_threads(threads);
            let mut turn = 0;
            let mut forward = |half: bool, layers: &mut [Layer]| {
                best(threads, || {
                    turn = (turn + 1) % LAYERS;
                    let l = &mut layers[turn];
                    let job = Attention { problem: problem(l, half), out: l.out.as_mut_ptr(), o_row: row, lse: Some(l.lse.as_mut_ptr()) };
                    // SAFETY: the vectors above have the lengths that the problem says.
                    unsafe { attention(&job) }
                })
            };
            print!("(FMA peak of a core now {:.0}) {}, {threads} threads:", peak(), s.name);
            let ms = forward(false, &mut layers);
            print!(" forward {ms:.3} ms ({:.0} GFLOP/s)", 2.0 * product / ms);
            if s.len_q > 1 {
                let mut turn = 0;
                let ms = best(threads, || {
                    turn = (turn + 1) % LAYERS;
                    let l = &mut layers[turn];
                    let job = AttentionGrad {
                        problem: problem(l, false),
                        out: l.out.as_ptr(),
                        o_row: row,
                        lse: l.lse.as_ptr(),
                        gout: l.gout.as_ptr(),
                        go_row: row,
                        gq: l.gq.as_mut_ptr(),
                        gq_row: row,
                        gk: l.gk.as_mut_ptr(),
                        gk_row: kv_row,
                        gv: l.gv.as_mut_ptr(),
                        gv_row: kv_row,
                        rows_k,
                    };
                    // SAFETY: as above.
                    unsafe { attention_grad(&job) }
                });
                print!(", backward {ms:.3} ms ({:.0} GFLOP/s)", 5.0 * product / ms);
            } else {
                let bytes = (2 * s.batch * s.len_k * kv_row) as f64 * 1e-6;
                print!(", {:.1} GB/s of keys and values", 4.0 * bytes / ms);
                let ms = forward(true, &mut layers);
                print!("; binary16 {ms:.3} ms, {:.1} GB/s", 2.0 * bytes / ms);
            }
            println!();
        }
    }
}

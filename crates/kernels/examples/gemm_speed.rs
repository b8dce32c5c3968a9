//! GFLOP/s of the matrix product on the shapes of language models, beside this machine's measured FMA peak.
//!
//! `cargo run --release -p groundup-kernels --example gemm_speed [threads] [rounds] [only, e.g. 1024x768x3072] [bf16]`
//! `bf16` (instead of or behind a shape) measures bfloat16 products, whose peak is twice that of float32 FMAs where the CPU has `vdpbf16ps`.
//! NT is a linear layer (weights n × k; `residual` with bias and residual, `gelu` with bias, GELU and its slope), NN and TN are
//! its gradients, `packed` uses a packed copy of the weights.
//! Time is processor time over the number of threads. With more than one thread that is only right when all of them ran:
//! a peak far above the usual one marks a line in which the system ran one thread after the other. Figures are the best round: other programs only ever slow a round down.

#![allow(clippy::print_stdout, reason = "a program whose output is its result")]

use groundup_kernels::dispatch;
use groundup_kernels::gemm::{Activation, Finish, Matrix, Product, Right, bf16_native, pack_weight, packed_size, product, product_bf16};
use groundup_kernels::pool::{parallel_for, set_threads};
use groundup_kernels::simd::Simd;

const SHAPES: [(usize, usize, usize); 35] = [
    (128, 512, 768),
    (512, 128, 768),
    (256, 768, 50257),
    (50257, 768, 256),
    (384, 1536, 3072),
    (1536, 384, 3072),
    (3072, 768, 256),
    (768, 3072, 256),
    (1024, 384, 384),
    (1024, 1152, 384),
    (1024, 1536, 384),
    (1024, 384, 1536),
    (3072, 1152, 384),
    (3072, 384, 384),
    (3072, 1536, 384),
    (3072, 384, 1536),
    (1024, 2304, 768),
    (1024, 3072, 768),
    (1024, 768, 3072),
    (4096, 1536, 384),
    (256, 2304, 768),
    (256, 768, 768),
    (256, 3072, 768),
    (256, 768, 3072),
    (256, 50304, 768),
    (768, 384, 128),
    (768, 512, 128),
    (768, 128, 512),
    (2048, 2048, 2048),
    (32, 3072, 768),
    (16, 3072, 768),
    (8, 3072, 768),
    (4, 3072, 768),
    (1, 3072, 768),
    (1, 50304, 768),
];

const STEPS: usize = 200_000;

/// Twelve independent chains of FMAs: what the registers can do when no memory is in the way.
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

/// Seconds of processor time that the program has used, per thread that works: wall time on a machine of one's own, and
/// less disturbed by other programs.
fn now(threads: usize) -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every POSIX system; `t` is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut t) };
    (t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9) / threads as f64
}

fn best(threads: usize, rounds: usize, mut run: impl FnMut()) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..rounds {
        let from = now(threads);
        run();
        least = least.min(now(threads) - from);
    }
    least
}

fn peak(threads: usize) -> f64 {
    let seconds = best(threads, 15, || {
        parallel_for(threads, |_| {
            let mut out = [0f32; 16];
            // SAFETY: room for 16 floats.
            unsafe { run_chains(out.as_mut_ptr()) };
            std::hint::black_box(out);
        });
    });
    (threads * STEPS * 6 * 16 * 2) as f64 / seconds / 1e9
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize, or: usize| args.get(i).and_then(|x| x.parse().ok()).unwrap_or(or);
    let (threads, rounds) = (number(1, 2), number(2, 9));
    set_threads(threads);
    let bf16 = args.iter().any(|x| x == "bf16");
    let multiply: unsafe fn(&Product) = if bf16 { product_bf16 } else { product };
    let gain = if bf16 && bf16_native() { 2.0 } else { 1.0 };
    println!("FMA peak, {threads} threads: {:.0} GFLOP/s", peak(threads));
    for (m, n, k) in SHAPES {
        let name = format!("{m}x{n}x{k}");
        if args.get(3).is_some_and(|only| *only != name && only != "bf16") {
            continue;
        }
        let fill = |items: usize| -> Vec<f32> { (0..items).map(|i| (i % 13) as f32 * 0.25 - 1.5).collect() };
        let (a, b) = (fill(m * k), fill(n * k));
        let mut out = vec![0f32; m * n];
        let mut packed = vec![0f32; packed_size(n, k)];
        let nt = Matrix { data: b.as_ptr(), row: 1, col: k };
        // SAFETY: the vectors hold what the sizes reach.
        unsafe { pack_weight(nt, n, k, packed.as_mut_ptr()) };
        let nn = Right::Plain(Matrix { data: b.as_ptr(), row: n, col: 1 });
        let rows = Matrix { data: a.as_ptr(), row: k, col: 1 };
        let columns = Matrix { data: a.as_ptr(), row: 1, col: m };
        let bias = fill(n);
        let (residual, mut slope) = (fill(m * n), vec![0f32; m * n]);
        let biased = Finish { bias: bias.as_ptr(), residual: residual.as_ptr(), ..Finish::PLAIN };
        let gelu = Finish { bias: bias.as_ptr(), slope: slope.as_mut_ptr(), activation: Activation::Gelu, ..Finish::PLAIN };
        let kinds = [
            ("NT", rows, Right::Plain(nt), Finish::PLAIN),
            ("residual", rows, Right::Plain(nt), biased),
            ("gelu", rows, Right::Plain(nt), gelu),
            ("NN", rows, nn, Finish::PLAIN),
            ("TN", columns, nn, Finish::PLAIN),
            ("packed", rows, Right::Packed(packed.as_ptr()), Finish::PLAIN),
        ];
        let flops = 2.0 * (m * n * k) as f64;
        let times = ((2e8 / flops) as usize).clamp(1, 400);
        let mut line = format!("{name:>16}");
        let top = peak(threads) * gain;
        for (kind, a, b, finish) in kinds {
            if bf16 && kind == "packed" {
                continue;
            }
            let p = Product { a, b, out: out.as_mut_ptr(), out_row: n, m, n, k, finish };
            let seconds = best(threads, rounds + 1, || {
                for _ in 0..times {
                    // SAFETY: as above.
                    unsafe { multiply(&p) };
                }
            }) / times as f64;
            let speed = flops / seconds / 1e9;
            line += &format!("  {kind} {speed:>4.0} ({:>2.0} %)", 100.0 * speed / top);
            if m == 1 {
                line += &format!(" {:>4.1} GB/s", (n * k * 4) as f64 / seconds / 1e9);
            }
        }
        println!("{line}  peak {top:.0}");
    }
}

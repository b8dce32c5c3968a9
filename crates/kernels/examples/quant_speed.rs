//! Times layers with quantised weights: `cargo run --release -p groundup-kernels --example quant_speed [layout]`.
//! Figures are the best of some runs, on one thread by that thread's own time, because other programs only ever slow a run down. Rows of activations have a few
//! channels that stand out, as a transformer's have.

#![allow(clippy::print_stdout, reason = "a program whose output is its result")]

use groundup_kernels::gemm::Finish;
use groundup_kernels::pool;
use groundup_kernels::quant::{KINDS, QuantProduct, block_bytes, linear, pack, packed_bytes};
use std::time::Instant;

/// Outputs and inputs of a layer: the shapes of SmolLM2-135M's MLP, rounded to what all layouts take, and of a model of a thousand million weights.
const SHAPES: [(usize, usize); 3] = [(1536, 768), (768, 1536), (5632, 2048)];
const ROWS: [usize; 6] = [1, 4, 8, 12, 32, 512];
/// As many weights of one shape are used in turn, so that they don't all come from the second-level cache.
const LAYERS: usize = 4;

/// Seconds that this thread has run, or (more than one thread) that have passed.
fn now(threads: usize) -> f64 {
    let clock = if threads == 1 { libc::CLOCK_THREAD_CPUTIME_ID } else { libc::CLOCK_MONOTONIC };
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is ours.
    unsafe { libc::clock_gettime(clock, &mut t) };
    t.tv_sec as f64 + 1e-9 * t.tv_nsec as f64
}

fn noise(n: usize) -> impl Iterator<Item = u32> {
    let mut state = 0x9E37_79B9u32;
    (0..n).map(move |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    })
}

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default().to_lowercase();
    for kind in KINDS.into_iter().filter(|kind| format!("{kind:?}").to_lowercase().contains(&wanted)) {
        for (n, k) in SHAPES {
            let blocks: Vec<u8> = noise(n * block_bytes(kind, k).expect("whole blocks")).map(|x| (x >> 9) as u8 & 0x3f).collect();
            let weights: Vec<Vec<u8>> = (0..LAYERS)
                .map(|_| {
                    let mut packed = vec![0; packed_bytes(kind, n, k).expect("whole blocks")];
                    // SAFETY: both have the sizes.
                    unsafe { pack(kind, blocks.as_ptr(), packed.as_mut_ptr(), n, k) };
                    packed
                })
                .collect();
            for m in ROWS {
                let x: Vec<f32> = noise(m * k)
                    .enumerate()
                    .map(|(i, x)| (x as f32 / u32::MAX as f32 - 0.5) * if i % k == 45 { 20.0 } else { 1.0 })
                    .collect();
                let mut out = vec![0f32; m * n];
                let mut line = format!("{kind:?} {n} x {k}, {m} rows:");
                for threads in [1, pool::threads()] {
                    pool::set_threads(threads);
                    let work = 2.0 * (m * n * k) as f64;
                    let begun = Instant::now();
                    let mut best = f64::INFINITY;
                    while begun.elapsed().as_secs_f64() < 0.4 {
                        let start = now(threads);
                        for weight in &weights {
                            let p = QuantProduct {
                                kind,
                                x: x.as_ptr(),
                                weight: weight.as_ptr(),
                                out: out.as_mut_ptr(),
                                m,
                                n,
                                k,
                                finish: Finish::PLAIN,
                            };
                            // SAFETY: the operands have these sizes.
                            unsafe { linear(&p) };
                        }
                        best = best.min((now(threads) - start) / LAYERS as f64);
                    }
                    let bytes = weights[0].len() as f64;
                    line += &format!("  {threads} threads {:7.1} GOP/s {:6.2} GB/s", 1e-9 * work / best, 1e-9 * bytes / best);
                }
                println!("{line}");
            }
        }
    }
}

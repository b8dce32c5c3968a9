//! What the tests of the kernels share: one lock for the process-wide choices, seeded numbers, comparisons.

use crate::gemm::bf16_native;
use crate::{pool, simd};
use std::sync::{Mutex, MutexGuard};

static MACHINE: Mutex<()> = Mutex::new(());

/// Held while a test forces an instruction set or a number of threads: both belong to the whole process.
pub fn machine() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs the kernel on every instruction set of this CPU with 1, 2, 3 and 8 threads; its bits must be the same each time.
/// The sign and payload of a NaN are not part of the contract.
pub fn same_everywhere(run: impl Fn() -> Vec<f32>) -> Vec<f32> {
    let [plain, _] = same_in_each_class(|| false, run);
    plain.expect("every CPU has the portable set")
}

/// As [`same_everywhere`] for kernels with bfloat16 products: the bits may differ between `vdpbf16ps` and the others. Gives the emulated
/// result and, where this CPU has it, the native one.
pub fn same_with_bf16(run: impl Fn() -> Vec<f32>) -> Vec<Vec<f32>> {
    same_in_each_class(bf16_native, run).into_iter().flatten().collect()
}

fn same_in_each_class(class: impl Fn() -> bool, run: impl Fn() -> Vec<f32>) -> [Option<Vec<f32>>; 2] {
    let _guard = machine();
    let (isa, threads) = (simd::isa(), pool::threads());
    let mut results = [None, None];
    for set in simd::available() {
        assert!(simd::force(set));
        for n in [1, 2, 3, 8] {
            pool::set_threads(n);
            let got = run();
            match &results[usize::from(class())] {
                None => results[usize::from(class())] = Some(got),
                Some(want) => assert_same_bits(&got, want, &format!("{set:?} with {n} threads")),
            }
        }
    }
    simd::force(isa);
    pool::set_threads(threads);
    results
}

pub fn assert_same_bits(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!(g.to_bits() == w.to_bits() || (g.is_nan() && w.is_nan()), "{what}: item {i} is {g:e}, expected {w:e}");
    }
}

/// |got − want| ≤ tolerance · (1 + |want|) for every item; NaN and infinities must agree exactly.
pub fn assert_close(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let g = f64::from(g);
        let fine = if w.is_finite() { (g - w).abs() <= tolerance * (1.0 + w.abs()) } else { g == w || (g.is_nan() && w.is_nan()) };
        assert!(fine, "{what}: item {i} is {g:e}, expected {w:e}");
    }
}

/// `n` numbers of roughly unit spread, the same for the same seed.
pub fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..n).map(|_| (uniform() + uniform() + uniform() - 1.5) * 2.0).collect()
}

//! What this machine offers, and the two switches that tests need: threads and instruction set.

use crate::napi::Exports;
use groundup_kernels::{gemm, pool, simd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// More than this is a mistake: each thread has a stack of its own.
const MOST_THREADS: f64 = 1024.0;

/// Held for reading by every kernel that runs: the parts of a product must agree on the instruction set, whose tiles decide how operands are packed.
static RUNNING: RwLock<()> = RwLock::new(());

/// Keeps the instruction set as it is while this lives.
pub fn running() -> RwLockReadGuard<'static, ()> {
    RUNNING.read().unwrap_or_else(PoisonError::into_inner)
}

fn name(isa: simd::Isa) -> &'static str {
    match isa {
        simd::Isa::Portable => "portable",
        simd::Isa::Neon => "neon",
        simd::Isa::Avx2 => "avx2",
        simd::Isa::Avx512 => "avx512",
    }
}

/// True once in the life of the process: threads and instruction set are the process's, so only its first JavaScript thread sets
/// them as the environment says, and no later one takes back what the program has set since.
fn first_to_set() -> bool {
    static SET: AtomicBool = AtomicBool::new(false);
    !SET.swap(true, Ordering::Relaxed)
}

pub fn register(x: &mut Exports) -> Result<(), String> {
    // The loader refuses a library of another version than the package's.
    let version = x.string(env!("CARGO_PKG_VERSION"))?;
    x.value("version", version)?;
    x.function("firstToSet", |c| c.from_boolean(first_to_set()))?;
    x.function("threads", |c| {
        if c.count() > 0 {
            let wanted = c.number(0)?;
            if wanted.fract() != 0.0 || !(1.0..=MOST_THREADS).contains(&wanted) {
                return Err(format!("threads: expected a whole number from 1 to {MOST_THREADS}, got {wanted}"));
            }
            pool::set_threads(wanted as usize);
        }
        c.from_number(pool::threads() as f64)
    })?;
    x.function("isa", |c| {
        if c.count() > 0 {
            let wanted = c.string(0)?;
            let found = simd::available().into_iter().find(|&i| name(i) == wanted);
            let all = simd::available().iter().map(|&i| name(i)).collect::<Vec<_>>().join(", ");
            let found = found.ok_or_else(|| format!("isa: this CPU has {all}, got {wanted:?}"))?;
            let _none_runs = RUNNING.write().unwrap_or_else(PoisonError::into_inner);
            simd::force(found);
        }
        c.from_string(name(simd::isa()))
    })?;
    x.function("bf16", |c| c.from_number(f64::from(u8::from(gemm::bf16_native()))))?;
    x.function("isas", |c| c.from_string(&simd::available().iter().map(|&i| name(i)).collect::<Vec<_>>().join(" ")))
}

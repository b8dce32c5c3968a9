//! The arithmetic of groundup. Pure Rust, no N-API: every function takes raw pointers and sizes that the caller has
//! checked, and computes the same bytes on every instruction set and for any number of threads (the row contract of
//! `docs/architecture.md`).
//!
//! Read `simd` first: all kernels are written once over its 16 virtual lanes.

pub mod pool;
pub mod simd;
pub mod lanes;
pub mod binary;
pub mod half;
pub mod indexing;
pub mod math;
pub mod moving;
pub mod optim;
pub mod random;
pub mod reduce;
pub mod shared;
pub mod sort;
pub mod strided;
pub mod unary;
pub mod attention;
pub mod norm;
pub mod gemm;
pub mod scratch;
pub mod gated;
pub mod rope;
pub mod loss;
pub mod softmax;
#[cfg(test)]
pub(crate) mod testing;

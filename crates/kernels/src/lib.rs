//! The arithmetic of groundup. Pure Rust, no N-API: every function takes raw pointers and sizes that the caller has
//! checked, and computes the same bytes on every instruction set and for any number of threads (the row contract of
//! `docs/architecture.md`).
//!
//! Read `simd` first: all kernels are written once over its 16 virtual lanes.

pub mod attention;
pub mod binary;
pub mod gated;
pub mod gemm;
pub mod half;
pub mod health;
pub mod indexing;
pub mod lanes;
pub mod loss;
pub mod math;
pub mod moving;
pub mod norm;
pub mod optim;
pub mod pool;
pub mod quant;
pub mod random;
pub mod reduce;
pub mod rope;
pub mod scratch;
pub mod shared;
pub mod simd;
pub mod softmax;
pub mod sort;
pub mod spaces;
pub mod strided;
#[cfg(test)]
pub(crate) mod testing;
pub mod unary;

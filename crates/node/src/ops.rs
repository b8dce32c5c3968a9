//! The glue of the kernels, one file a family. Each closure reads its arguments in the order of the kernel's signature in
//! `src/tensor/kernels.ts`, which also says what the kernel does.

mod attention;
mod elementwise;
mod gated;
mod indexing;
mod loss;
mod matmul;
mod moving;
mod norm;
mod optim;
mod quant;
mod random;
mod reduce;
mod rope;
mod softmax;

use crate::kernel::Table;

pub fn register(t: &mut Table) {
    moving::register(t);
    elementwise::register(t);
    reduce::register(t);
    indexing::register(t);
    random::register(t);
    optim::register(t);
    norm::register(t);
    matmul::register(t);
    quant::register(t);
    softmax::register(t);
    loss::register(t);
    rope::register(t);
    gated::register(t);
    attention::register(t);
}

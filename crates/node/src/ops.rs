//! The glue of the kernels, one file a family. Each closure reads its arguments in the order of the kernel's signature in
//! `src/tensor/kernels.ts`, which also says what the kernel does.

use crate::kernel::Table;

pub fn register(_t: &mut Table) {}

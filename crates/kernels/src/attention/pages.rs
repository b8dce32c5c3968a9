//! Where the keys and values of a block lie: rows some items apart, or pages. In a page each item of the 64 keys lies side by side, so that
//! a product with them needs no turning, and the values are 64 rows; a page may hold binary16 numbers, which become float32 in registers.

use super::{BLOCK, Problem, Sequence};
use crate::half::f32_to_f16;
use crate::pool::parallel_for;
use crate::simd::{LANES, Simd};

/// What keys and values are stored as. They take part in products as float32.
pub trait Item: Copy {
    /// 16 items.
    unsafe fn load<S: Simd>(from: *const Self) -> S::F;

    /// The first `n` of 16 items, the others 0.
    unsafe fn load_n<S: Simd>(from: *const Self, n: usize) -> S::F;

    fn rounded(x: f32) -> Self;
}

impl Item for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const f32) -> S::F {
        // SAFETY: the caller promises the items.
        unsafe { S::load(from) }
    }

    #[inline(always)]
    unsafe fn load_n<S: Simd>(from: *const f32, n: usize) -> S::F {
        // SAFETY: as above.
        unsafe { S::load_n(from, n) }
    }

    #[inline(always)]
    fn rounded(x: f32) -> f32 {
        x
    }
}

/// IEEE 754 binary16.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Half(u16);

impl Item for Half {
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Half) -> S::F {
        // SAFETY: the caller promises the items.
        unsafe { S::load_f16(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_n<S: Simd>(from: *const Half, n: usize) -> S::F {
        let mut items = [0u16; LANES];
        // SAFETY: as above.
        unsafe {
            items.as_mut_ptr().copy_from_nonoverlapping(from.cast(), n.min(LANES));
            S::load_f16(items.as_ptr())
        }
    }

    #[inline(always)]
    fn rounded(x: f32) -> Half {
        Half(f32_to_f16(x))
    }
}

/// One kv head's part of a block.
pub struct Block {
    /// Rows of keys, or in pages rows of items, as float32 or binary16.
    pub k: *const f32,
    pub k_row: usize,
    pub v: *const f32,
    pub v_row: usize,
    /// Keys that there are.
    pub here: usize,
}

impl Problem {
    /// # Safety
    /// The sequence must have the block.
    pub(super) unsafe fn block(&self, s: &Sequence, kv_head: usize, b: usize) -> Block {
        let here = (s.len_k - b * BLOCK).min(BLOCK);
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(pages) = &self.pages {
                let page = *pages.table.add(s.index * pages.max_pages + b) as usize;
                let at = (page * self.kv_heads + kv_head) * self.dim * BLOCK;
                // Whole pages of binary16 are whole float32 items.
                let at = if pages.half { at / 2 } else { at };
                return Block { k: self.k.add(at), k_row: BLOCK, v: self.v.add(at), v_row: self.dim, here };
            }
            let (row, column) = (self.key_row(s, b), kv_head * self.dim);
            Block {
                k: self.k.add(row * self.k_row + column),
                k_row: self.k_row,
                v: self.v.add(row * self.v_row + column),
                v_row: self.v_row,
                here,
            }
        }
    }
}

/// New rows for pages. Shapes and meaning: `writePages` in `src/tensor/kernels.ts`.
pub struct WritePages {
    pub x: *const f32,
    pub x_row: usize,
    /// float32 or, `half`, binary16.
    pub pages: *mut f32,
    pub half: bool,
    /// Keys, whose items lie side by side.
    pub keys: bool,
    /// The place of each row: page · 64 + position in the page.
    pub slots: *const i32,
    pub rows: usize,
    pub kv_heads: usize,
    pub dim: usize,
}

// SAFETY: tasks write disjoint kv heads.
unsafe impl Sync for WritePages {}

/// Below this many items a job is not worth a second thread.
const PARALLEL_FROM: usize = 50_000;

/// Rounds rows to what the pages hold and writes them into their places. Of rows with the same place the last stays.
///
/// # Safety
/// Every operand must have the room that `src/tensor/kernels.ts` says, and `slots` must name places that exist.
pub unsafe fn write_pages(job: &WritePages) {
    let head = |kv_head: usize| {
        // SAFETY: the caller's promise.
        unsafe {
            match job.half {
                true => write_head::<Half>(job, kv_head),
                false => write_head::<f32>(job, kv_head),
            }
        }
    };
    if job.rows * job.kv_heads * job.dim < PARALLEL_FROM {
        (0..job.kv_heads).for_each(head);
    } else {
        parallel_for(job.kv_heads, head);
    }
}

unsafe fn write_head<T: Item>(job: &WritePages, kv_head: usize) {
    let dim = job.dim;
    for r in 0..job.rows {
        // SAFETY: the caller's promise.
        unsafe {
            let slot = *job.slots.add(r) as usize;
            let from = job.x.add(r * job.x_row + kv_head * dim);
            let to = job.pages.cast::<T>().add((slot / BLOCK * job.kv_heads + kv_head) * dim * BLOCK);
            if job.keys {
                let to = to.add(slot % BLOCK);
                (0..dim).for_each(|d| *to.add(d * BLOCK) = T::rounded(*from.add(d)));
            } else {
                let to = to.add(slot % BLOCK * dim);
                (0..dim).for_each(|d| *to.add(d) = T::rounded(*from.add(d)));
            }
        }
    }
}

//! Attention over ragged sequences, forward and backward: block by block, never a T×T matrix
//! (online softmax: Milakov and Gimelshein 2018; tiles and recomputation: Dao et al. 2022).
//!
//! What a query row gets is defined per row, so that its bytes do not depend on the tile that computes it, on the
//! rows beside it, or on whether it is computed in a prefill or a decoding step:
//! - a score is one chain of FMAs over the head's items in ascending order, then the scale, the cap, the slope, the mask;
//! - keys are taken in blocks of 64 at absolute positions; each block gives a largest score m, l = Σ e^(s − m) (16
//!   lanes, folded) and o = Σ e^(s − m)·v (one chain of FMAs in ascending positions);
//! - the blocks' (m, l, o) are joined in ascending order; a block in which the row has no key changes nothing;
//! - the result is o·(1/l).
//!
//! With bfloat16, q, k, v, the weights e^(s − m) on their way to v, and in the backward pass the gradient of the result, the
//! probabilities and the derivatives of the scores are rounded on their way into products; with `vdpbf16ps` a chain takes pairs of
//! neighbours at even places. Everything else is the same float32: softmax, l, lse, the joining of blocks. See [`crate::gemm`]'s bf16
//! for what that means for bytes.

use crate::pool::parallel_for;

mod ahead;
mod backward;
mod forward;
mod operands;
mod pages;
mod product;
mod scores;
mod tasks;
#[cfg(test)]
mod tests;

pub use backward::{AttentionGrad, attention_grad};
pub use pages::{WritePages, write_pages};

/// Keys in a block, and rows in a page.
pub const BLOCK: usize = 64;

/// Rows of a tile: (query, head of the group) pairs.
const TILE: usize = 64;

/// Below this many floating-point operations a job is not worth a second thread.
const PARALLEL_FROM: usize = 200_000;

/// What the forward and the backward pass have in common. Shapes and meaning: `attention` in `src/tensor/kernels.ts`.
#[derive(Clone, Copy)]
pub struct Problem {
    pub q: *const f32,
    pub q_row: usize,
    pub k: *const f32,
    pub k_row: usize,
    pub v: *const f32,
    pub v_row: usize,
    pub cu_q: *const i32,
    /// Null with pages.
    pub start_k: *const i32,
    pub len_k: *const i32,
    /// Where `k` and `v` are not rows but pages.
    pub pages: Option<Pages>,
    pub sequences: usize,
    pub rows_q: usize,
    pub heads: usize,
    /// Divides `heads`.
    pub kv_heads: usize,
    pub dim: usize,
    pub scale: f32,
    pub causal: bool,
    /// 0: none.
    pub window: usize,
    /// 0: none.
    pub softcap: f32,
    pub slopes: Option<*const f32>,
    pub mask: Option<*const f32>,
    pub mask_strides: [usize; 4],
    /// Products round their operands to bfloat16.
    pub bf16: bool,
}

// SAFETY: tasks read the inputs and write disjoint outputs.
unsafe impl Sync for Problem {}

/// Keys in pages of (kv_heads, dim, 64) items and values in pages of (kv_heads, 64, dim): a page's keys lie as the products take them.
#[derive(Clone, Copy)]
pub struct Pages {
    /// The page of each block of a sequence, (sequences, max_pages).
    pub table: *const i32,
    pub max_pages: usize,
    /// Items are binary16, not float32.
    pub half: bool,
}

/// The forward pass: `lse` is (heads, rows_q).
pub struct Attention {
    pub problem: Problem,
    pub out: *mut f32,
    pub o_row: usize,
    pub lse: Option<*mut f32>,
}

// SAFETY: as above.
unsafe impl Sync for Attention {}

/// One sequence of a problem.
#[derive(Clone, Copy)]
struct Sequence {
    index: usize,
    first_row: usize,
    len_q: usize,
    len_k: usize,
}

impl Problem {
    unsafe fn sequence(&self, s: usize) -> Sequence {
        // SAFETY: cu_q holds sequences + 1 items, len_k `sequences`; the caller of the kernel has checked the values.
        unsafe {
            let first = *self.cu_q.add(s) as usize;
            Sequence { index: s, first_row: first, len_q: *self.cu_q.add(s + 1) as usize - first, len_k: *self.len_k.add(s) as usize }
        }
    }

    /// Heads that share a kv head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The row of k and v that holds the first key of block `b`; a block's keys are neighbouring rows.
    unsafe fn key_row(&self, s: &Sequence, b: usize) -> usize {
        // SAFETY: start_k holds an item for each sequence.
        unsafe { *self.start_k.add(s.index) as usize + b * BLOCK }
    }

    /// The key positions that the i-th query of `s` sees: from (first) to (past the last).
    fn visible(&self, s: &Sequence, i: usize) -> (usize, usize) {
        let t = s.len_k as i64 - s.len_q as i64 + i as i64;
        let len = s.len_k as i64;
        let (mut from, mut to) = (0, len);
        if self.causal {
            to = to.min(t + 1);
        }
        if self.window > 0 {
            from = from.max(t - self.window as i64 + 1);
            if !self.causal {
                to = to.min(t + self.window as i64);
            }
        }
        let to = to.max(0);
        (from.min(to) as usize, to as usize)
    }

    /// Keys and values are binary16.
    fn half(&self) -> bool {
        self.pages.is_some_and(|pages| pages.half)
    }

    /// Floating-point operations of one product over all heads, not counting what is masked.
    unsafe fn work(&self) -> usize {
        // SAFETY: s is a sequence.
        (0..self.sequences).map(|s| unsafe { self.sequence(s) }).map(|s| s.len_q * s.len_k * 2 * self.dim * self.heads).sum()
    }
}

/// Items of a head, filled up to whole vectors.
fn padded(dim: usize) -> usize {
    dim.next_multiple_of(crate::simd::LANES)
}

/// Runs the tasks on all threads where there is enough work.
fn parallel_if(work: usize, tasks: usize, task: impl Fn(usize) + Sync) {
    if work < PARALLEL_FROM {
        (0..tasks).for_each(task);
    } else {
        parallel_for(tasks, task);
    }
}

/// Attention.
///
/// # Safety
/// Every operand must have the room that `src/tensor/kernels.ts` says, and `cu_q`, `start_k`, `len_k` and `pages` must
/// name rows that exist.
pub unsafe fn attention(job: &Attention) {
    // SAFETY: the caller's promise.
    unsafe { forward::run(job) }
}

//! Asks for the operand that will be packed next while tiles are computed: packing alone would wait for memory.

use crate::gemm::Matrix;
use std::arch::x86_64::*;

/// Floats in a cache line.
const LINE: usize = 16;

/// A part of a matrix that goes into the second-level cache, line by line.
pub struct Ahead {
    at: *const f32,
    /// Distance of its rows or columns, whichever do not lie together, and how many are left.
    apart: usize,
    left: usize,
    /// Floats of each.
    long: usize,
    /// How far the present one is done.
    done: usize,
    /// Cache lines a step.
    rate: usize,
}

impl Ahead {
    pub const NONE: Ahead = Ahead { at: std::ptr::null(), apart: 0, left: 0, long: 0, done: 0, rate: 0 };

    /// `rows` × `cols` of a matrix in that many steps. They need not exist.
    pub fn new(x: Matrix, rows: usize, cols: usize, steps: usize) -> Ahead {
        let (apart, left, long) = if x.col == 1 { (x.row, rows, cols) } else { (x.col, cols, rows) };
        Ahead { at: x.data, apart, left, long, done: 0, rate: (left * long.div_ceil(LINE)).div_ceil(steps.max(1)) }
    }

    /// Asks for the next lines.
    #[inline(always)]
    pub fn step(&mut self) {
        for _ in 0..self.rate {
            if self.left == 0 {
                return;
            }
            // SAFETY: every x86-64 CPU has the instruction, and an address that is asked for need not be valid.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(self.at.wrapping_add(self.done).cast()) };
            self.done += LINE;
            if self.done >= self.long {
                (self.at, self.left, self.done) = (self.at.wrapping_add(self.apart), self.left - 1, 0);
            }
        }
    }
}

//! Asks for memory ahead of its use. Rows of a head lie far apart, so that the processor does not see by itself which come
//! next; asked for in small portions between other work, they cost no time of their own.

use crate::simd::{LANES, Simd};

/// Rows that will be needed soon. They need not exist.
#[derive(Clone, Copy)]
pub struct Area {
    at: *const f32,
    row: usize,
    rows: usize,
    items: usize,
}

impl Area {
    pub const NONE: Area = Area { at: std::ptr::null(), row: 0, rows: 0, items: 0 };

    /// `rows` rows of `items` items, `row` apart.
    pub fn new(at: *const f32, row: usize, rows: usize, items: usize) -> Area {
        Area { at, row, rows, items }
    }

    /// The rows of the n-th of `of` equal parts.
    pub fn share(self, n: usize, of: usize) -> Area {
        let (from, to) = (self.rows * n / of, self.rows * (n + 1) / of);
        Area { at: self.at.wrapping_add(from * self.row), rows: to - from, ..self }
    }
}

/// Most areas of a stretch of work.
const AREAS: usize = 8;

/// What is asked for during a stretch of work.
pub struct Ahead {
    areas: [Area; AREAS],
    count: usize,
    /// The first area of which something is left.
    at: usize,
    /// Rows a step.
    rate: usize,
}

impl Ahead {
    /// Areas (at most 8) to ask for in that many steps.
    pub fn new(areas: &[Area], steps: usize) -> Self {
        let mut ahead = Ahead { areas: [Area::NONE; AREAS], count: areas.len(), at: 0, rate: 0 };
        ahead.areas[..areas.len()].copy_from_slice(areas);
        ahead.rate = areas.iter().map(|a| a.rows).sum::<usize>().div_ceil(steps.max(1));
        ahead
    }

    /// Asks for the next portion.
    ///
    /// # Safety
    /// As every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn step<S: Simd>(&mut self) {
        let mut left = self.rate;
        while left > 0 && self.at < self.count {
            let a = &mut self.areas[self.at];
            let some = left.min(a.rows);
            for _ in 0..some {
                for d in (0..a.items).step_by(LANES) {
                    // SAFETY: an address that is asked for need not be valid.
                    unsafe { S::prefetch_far(a.at.wrapping_add(d)) };
                }
                a.at = a.at.wrapping_add(a.row);
            }
            a.rows -= some;
            left -= some;
            self.at += usize::from(a.rows == 0);
        }
    }
}

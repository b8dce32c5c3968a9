//! What tiles ask for in advance: operands of the tiles after them.

use super::{GROUP, KC, Matrix};
use crate::simd::LANES;

/// Memory that will be read when these tiles are done, so that they wait for it: `lines` cache lines, `across` apart, and the like again
/// `count` times, `down` apart. Each tile asks for a run down of one line.
#[derive(Clone, Copy)]
pub struct Upcoming {
    at: *const f32,
    lines: usize,
    across: usize,
    count: usize,
    down: usize,
    /// How much further for each item of k that lies behind.
    pub deeper: usize,
    /// What a tile asks for in a block of k.
    run: usize,
    /// Tiles that have asked already.
    first: usize,
}

impl Upcoming {
    /// What a tile asks for while it takes a block of `deep` items of k: a line every four steps.
    #[inline(always)]
    fn run(deep: usize) -> usize {
        (deep.min(KC) / 4).max(1)
    }

    /// Tiles that it takes to ask for a block of a group of columns.
    #[inline(always)]
    pub fn tiles(deep: usize) -> usize {
        deep.min(KC).div_ceil(LANES) * (GROUP * LANES).div_ceil(Upcoming::run(deep))
    }

    /// A group of packed panels of `deep` items of k.
    #[inline(always)]
    pub fn panels(at: *const f32, group: usize, panel: usize, deep: usize) -> Upcoming {
        let count = deep.min(KC);
        Upcoming { at, lines: group, across: panel, count, down: LANES, deeper: LANES, run: Upcoming::run(deep), first: 0 }
    }

    /// Columns of `deep` items of k that will be packed.
    #[inline(always)]
    pub fn source(b: Matrix, columns: usize, deep: usize, first: usize) -> Upcoming {
        let (items, run) = (deep.min(KC), Upcoming::run(deep));
        if b.col == 1 {
            Upcoming { at: b.data, lines: columns.div_ceil(LANES), across: LANES, count: items, down: b.row, deeper: b.row, run, first }
        } else {
            Upcoming { at: b.data, lines: items.div_ceil(LANES), across: LANES, count: columns, down: b.col, deeper: b.row, run, first }
        }
    }

    /// What tile `t` asks for: where, and how far apart.
    #[inline(always)]
    pub fn of(&self, t: usize) -> Option<(*const f32, usize)> {
        let (line, run) = ((self.first + t) % self.lines, (self.first + t) / self.lines * self.run);
        (run < self.count).then(|| (self.at.wrapping_add(line * self.across + run * self.down), self.down))
    }
}

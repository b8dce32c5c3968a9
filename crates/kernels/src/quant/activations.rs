//! Rows of activations in 8 bits: blocks of 32, each with a float32 scale of a 127th of its largest size, rounded to the nearest, ties to even.
//!
//! Some channels of a transformer are far larger than the others (Dettmers et al. 2022, "LLM.int8()", section 3), and what shares a block with one would
//! keep few bits. So a block whose largest size stands out of its row has a second part: what the rounding left over, in 8 bits more. Its products are
//! added right after those of the first part. Rows that a product takes together share the parts of a block, and those that don't stand out there add zeros:
//! their results are what they would be alone, and the row contract holds.

use super::dots::{Dots, dispatch_dots};
use super::layout::{BLOCK, Form};
use crate::pool::parallel_blocks;
use crate::scratch::Scratch;
use crate::shared::Shared;
use crate::simd::{Isa, LANES, Simd};

/// Quantised rows: tiles of a few rows, which a product takes together, one behind the other.
pub struct Activations {
    room: Scratch,
    rows: usize,
    k: usize,
    sub: usize,
}

/// A tile: its blocks in ascending k, each as one part or two.
#[derive(Clone, Copy)]
pub struct Tile {
    pub parts: usize,
    /// Which block each part is of.
    pub blocks: *const u32,
    start: *const u8,
}

/// A part of a block of a tile of R rows. All rows of a part lie side by side, so that one pointer reaches them.
#[derive(Clone, Copy)]
pub struct Part {
    /// [R][32]
    pub bytes: *const u8,
    /// [R]
    pub scales: *const f32,
    /// [32 / sub][R]: −zero · Σ of the sub-block's bytes.
    pub corrections: *const i32,
    /// [32 / sub][R]: what a minimum is multiplied by, the sum of the sub-block's numbers.
    pub sums: *const f32,
}

impl Part {
    /// Bytes of one row, with so many sub-blocks.
    const fn size(halves: usize) -> usize {
        BLOCK + 4 + 8 * halves
    }
}

impl Tile {
    /// Part i, of `rows` rows.
    #[inline(always)]
    pub const fn part(&self, i: usize, rows: usize, halves: usize) -> Part {
        let bytes = self.start.wrapping_add(i * rows * Part::size(halves));
        let scales: *const f32 = bytes.wrapping_add(rows * BLOCK).cast();
        let corrections: *const i32 = scales.wrapping_add(rows).cast();
        Part { bytes, scales, corrections, sums: corrections.wrapping_add(halves * rows).cast() }
    }
}

/// Blocks whose largest size is below this become zeros: the inverse of a scale would overflow.
const LEAST: f32 = 1e-36;
/// A block has a second part where its largest size is above so many times the root of its row's mean square.
const OUTLIER: f32 = 6.0;
/// Steps of the second part in one of the first: what is left over is at most half of one.
const FINE: f32 = 254.0;
/// Rows of one task: whole tiles of any height.
const ROWS: usize = 24;

/// Rows of a tile at most.
const TALLEST: usize = 12;

/// Rows of the next tile, where so many are left.
#[inline(always)]
pub const fn height<D: Dots>(left: usize) -> usize {
    if D::ROWS >= TALLEST && left >= TALLEST {
        TALLEST
    } else if D::ROWS >= 8 && left >= 8 {
        8
    } else if D::ROWS >= 4 && left >= 4 {
        4
    } else if left >= 2 {
        2
    } else {
        1
    }
}

// SAFETY: tasks write tiles of their own, and only read them later.
unsafe impl Sync for Activations {}

impl Activations {
    /// Quantises m rows of k items, which lie one behind the other, in tiles for that instruction set.
    ///
    /// # Safety
    /// `x` holds m · k numbers.
    pub unsafe fn of(isa: Isa, x: *const f32, m: usize, k: usize, form: &Form) -> Activations {
        let blocks = k / BLOCK;
        let room = Scratch::new(m * (Self::bytes(k, form.sub) / 4 + 1 + 2 * blocks));
        let all = Activations { room, rows: m, k, sub: form.sub };
        let x = Shared::new(x);
        let rows = |from: usize, to: usize| {
            // SAFETY: tasks begin where tiles do, and `x` holds the rows.
            unsafe { quantise(isa, &all, x.at(0), from, to, form.zero) }
        };
        if m * k >= 1 << 14 {
            parallel_blocks(m, ROWS, rows)
        } else {
            rows(0, m)
        }
        all
    }

    /// Bytes of a row where all of its blocks have two parts.
    const fn bytes(k: usize, sub: usize) -> usize {
        2 * (k / BLOCK) * Part::size(BLOCK / sub)
    }

    /// Where the tile that begins with row i counts its parts; what they are of lies behind it.
    #[inline(always)]
    fn count(&self, i: usize) -> *const u32 {
        let start: *const u32 = self.room.pointer().cast();
        start.wrapping_add(self.rows * Self::bytes(self.k, self.sub) / 4 + i * (1 + 2 * (self.k / BLOCK)))
    }

    fn place(&self, i: usize) -> Tile {
        let start = self.room.pointer().cast::<u8>().wrapping_add(i * Self::bytes(self.k, self.sub));
        Tile { parts: 0, blocks: self.count(i).wrapping_add(1), start }
    }

    /// The tile that begins with row i.
    ///
    /// # Safety
    /// One does.
    #[inline(always)]
    pub unsafe fn tile(&self, i: usize) -> Tile {
        // SAFETY: as promised above.
        Tile { parts: unsafe { *self.count(i) } as usize, ..self.place(i) }
    }
}

dispatch_dots! {
    /// Rows `from` to `to` of x: whole tiles.
    unsafe fn quantise(all: &Activations, x: *const f32, from: usize, to: usize, zero: i32) = quantise_tiles
}

#[inline(always)]
unsafe fn quantise_tiles<D: Dots>(all: &Activations, x: *const f32, from: usize, to: usize, zero: i32) {
    let mut first = from;
    while first < to {
        let rows = height::<D>(to - first);
        let tile = all.place(first);
        // SAFETY: as promised to `Activations::of`.
        unsafe { *all.count(first).cast_mut() = quantise_tile::<D>(&tile, x.add(first * all.k), rows, all.k, all.sub, zero) };
        first += rows;
    }
}

/// Writes the parts of a tile; gives how many they are.
#[inline(always)]
unsafe fn quantise_tile<D: Dots>(tile: &Tile, x: *const f32, rows: usize, k: usize, sub: usize, zero: i32) -> u32 {
    let mut outliers = [0f32; TALLEST];
    // SAFETY: the rows and the tile hold k items.
    unsafe {
        for r in 0..rows {
            let mut squares = D::S::splat(0.0);
            for i in (0..k).step_by(LANES) {
                let v = D::S::load(x.add(r * k + i));
                squares = D::S::fma(v, v, squares);
            }
            outliers[r] = OUTLIER * (D::S::sum(squares) / k as f32).sqrt();
        }
        let mut parts = 0;
        for b in 0..k / BLOCK {
            let (mut scales, mut fine) = ([(0f32, 0f32); TALLEST], 0u32);
            let to = Place { part: tile.part(parts, rows, BLOCK / sub), rows, sub, zero };
            for r in 0..rows {
                let x = x.add(r * k + b * BLOCK);
                let v = [D::S::load(x), D::S::load(x.add(LANES))];
                let size = |v| D::S::max(v, D::S::sub(D::S::splat(0.0), v));
                let largest = D::S::max_lane(D::S::max(size(v[0]), size(v[1])));
                // 0, or NaN where a number is infinite or NaN: it spreads to the row's results, as in float32.
                let none = D::S::splat(0.0);
                let zeros = D::S::sum(D::S::add(D::S::mul(v[0], none), D::S::mul(v[1], none)));
                let some = largest >= LEAST;
                let (scale, inverse) = if some { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) };
                let scale = scale + zeros.abs();
                // No `map` over lanes here: its closure would be compiled without the instruction set, and called.
                let q = [D::S::round(D::S::mul(v[0], D::S::splat(inverse))), D::S::round(D::S::mul(v[1], D::S::splat(inverse)))];
                put::<D>(&to, r, q, scale);
                scales[r] = (scale, inverse);
                fine |= u32::from(some && largest > outliers[r]) << r;
            }
            *tile.blocks.cast_mut().add(parts) = b as u32;
            parts += 1;
            if fine == 0 {
                continue;
            }
            let to = Place { part: tile.part(parts, rows, BLOCK / sub), ..to };
            for r in 0..rows {
                let (scale, inverse) = scales[r];
                let x = x.add(r * k + b * BLOCK);
                let mut rest = [D::S::splat(0.0); 2];
                // A row that does not stand out here adds zeros: its results stay the same.
                let own = fine >> r & 1 == 1;
                if own {
                    for i in 0..2 {
                        let v = D::S::load(x.add(i * LANES));
                        let q = D::S::round(D::S::mul(v, D::S::splat(inverse)));
                        rest[i] = D::S::round(D::S::mul(D::S::fnma(q, D::S::splat(scale), v), D::S::splat(inverse * FINE)));
                    }
                }
                put::<D>(&to, r, rest, if own { scale / FINE } else { 0.0 });
            }
            *tile.blocks.cast_mut().add(parts) = b as u32;
            parts += 1;
        }
        parts as u32
    }
}

/// Where a part goes.
struct Place {
    part: Part,
    rows: usize,
    sub: usize,
    zero: i32,
}

/// Stores row r of a part: 32 whole numbers from −127 to 127, and what one is worth.
#[inline(always)]
unsafe fn put<D: Dots>(to: &Place, r: usize, q: [<D::S as Simd>::F; 2], scale: f32) {
    // SAFETY: the tile has room for the part.
    unsafe {
        let bytes = to.part.bytes.cast_mut().add(r * BLOCK);
        D::store_bytes(bytes, q[0]);
        D::store_bytes(bytes.add(LANES), q[1]);
        *to.part.scales.cast_mut().add(r) = scale;
        // At most 32 · 127: exact.
        let put_sum = |half: usize, sum: f32| {
            *to.part.corrections.cast_mut().add(half * to.rows + r) = -to.zero * sum as i32;
            *to.part.sums.cast_mut().add(half * to.rows + r) = scale * sum;
        };
        if to.sub == BLOCK {
            put_sum(0, D::S::sum(D::S::add(q[0], q[1])));
        } else {
            put_sum(0, D::S::sum(q[0]));
            put_sum(1, D::S::sum(q[1]));
        }
    }
}

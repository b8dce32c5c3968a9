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
/// Rows of a tall tile.
pub const TALL: usize = 8;

/// Rows of a tile, where `left` are left of `all`. Eight alone are one tall tile, where others are small for the sake of several groups: they wait for the weight, which
/// then passes once.
#[inline(always)]
pub const fn height<D: Dots>(left: usize, all: usize) -> usize {
    if D::GROUPS > 1 && all == TALL {
        TALL
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
        let rows = height::<D>(to - first, all.rows);
        let tile = all.place(first);
        let x = x.wrapping_add(first * all.k);
        // SAFETY: as promised to `Activations::of`.
        unsafe {
            *all.count(first).cast_mut() = match rows {
                TALL if const { D::GROUPS > 1 } => quantise_tile::<D, TALL>(&tile, x, all.k, all.sub, zero),
                4 if const { D::ROWS >= 4 } => quantise_tile::<D, 4>(&tile, x, all.k, all.sub, zero),
                2 => quantise_tile::<D, 2>(&tile, x, all.k, all.sub, zero),
                _ => quantise_tile::<D, 1>(&tile, x, all.k, all.sub, zero),
            };
        }
        first += rows;
    }
}

/// Writes the parts of a tile; gives how many they are.
#[inline(always)]
unsafe fn quantise_tile<D: Dots, const R: usize>(tile: &Tile, x: *const f32, k: usize, sub: usize, zero: i32) -> u32 {
    // SAFETY: no memory.
    let none = unsafe { D::S::splat(0.0) };
    let (mut outliers, mut finite) = ([0f32; R], true);
    // No `map` over lanes here: its closure would be compiled without the instruction set, and called.
    // SAFETY: the rows and the tile hold k items.
    unsafe {
        for r in 0..R {
            let mut squares = none;
            for i in (0..k).step_by(LANES) {
                let v = D::S::load(x.add(r * k + i));
                squares = D::S::fma(v, v, squares);
            }
            let squares = D::S::sum(squares);
            finite &= squares.is_finite();
            outliers[r] = OUTLIER * (squares / k as f32).sqrt();
        }
        let mut parts = 0;
        for b in 0..k / BLOCK {
            let (mut v, mut sizes) = ([[none; 2]; R], [none; R]);
            for r in 0..R {
                let x = x.add(r * k + b * BLOCK);
                v[r] = [D::S::load(x), D::S::load(x.add(LANES))];
                let size = |v| D::S::max(v, D::S::sub(none, v));
                sizes[r] = D::S::max(size(v[r][0]), size(v[r][1]));
            }
            let largest = fold::<D::S, R, true>(sizes);
            let (mut scales, mut inverses, mut fine) = ([0f32; R], [0f32; R], 0u32);
            for r in 0..R {
                let some = largest[r] >= LEAST;
                scales[r] = if some { largest[r] / 127.0 } else { 0.0 };
                inverses[r] = if some { 127.0 / largest[r] } else { 0.0 };
                fine |= u32::from(some && largest[r] > outliers[r]) << r;
            }
            if !finite {
                // 0, or NaN where a number is infinite or NaN: it spreads to the row's results, as in float32.
                for r in 0..R {
                    scales[r] += D::S::sum(D::S::add(D::S::mul(v[r][0], none), D::S::mul(v[r][1], none))).abs();
                }
            }
            let mut q = [[none; 2]; R];
            for r in 0..R {
                for i in 0..2 {
                    q[r][i] = D::S::round(D::S::mul(v[r][i], D::S::splat(inverses[r])));
                }
            }
            put::<D, R>(&tile.part(parts, R, BLOCK / sub), q, scales, sub, zero);
            *tile.blocks.cast_mut().add(parts) = b as u32;
            parts += 1;
            if fine == 0 {
                continue;
            }
            let (mut rest, mut steps) = ([[none; 2]; R], [0f32; R]);
            for r in 0..R {
                // A row that does not stand out here adds zeros: its results stay the same.
                if fine >> r & 1 == 1 {
                    steps[r] = scales[r] / FINE;
                    for i in 0..2 {
                        let left = D::S::fnma(q[r][i], D::S::splat(scales[r]), v[r][i]);
                        rest[r][i] = D::S::round(D::S::mul(left, D::S::splat(inverses[r] * FINE)));
                    }
                }
            }
            put::<D, R>(&tile.part(parts, R, BLOCK / sub), rest, steps, sub, zero);
            *tile.blocks.cast_mut().add(parts) = b as u32;
            parts += 1;
        }
        parts as u32
    }
}

/// Stores a part: of each row 32 whole numbers from −127 to 127, and what one is worth.
#[inline(always)]
unsafe fn put<D: Dots, const R: usize>(to: &Part, q: [[<D::S as Simd>::F; 2]; R], scales: [f32; R], sub: usize, zero: i32) {
    // SAFETY: the tile has room for the part.
    unsafe {
        for r in 0..R {
            let bytes = to.bytes.cast_mut().add(r * BLOCK);
            D::store_bytes(bytes, q[r][0]);
            D::store_bytes(bytes.add(LANES), q[r][1]);
            *to.scales.cast_mut().add(r) = scales[r];
        }
        for half in 0..BLOCK / sub {
            let mut items = [q[0][0]; R];
            for r in 0..R {
                items[r] = if sub == BLOCK { D::S::add(q[r][0], q[r][1]) } else { q[r][half] };
            }
            // At most 32 · 127: exact.
            let sums = fold::<D::S, R, false>(items);
            for r in 0..R {
                *to.corrections.cast_mut().add(half * R + r) = -zero * sums[r] as i32;
                *to.sums.cast_mut().add(half * R + r) = scales[r] * sums[r];
            }
        }
    }
}

/// [`Simd::fold4`] of any number of vectors.
#[inline(always)]
unsafe fn fold<S: Simd, const R: usize, const MAX: bool>(v: [S::F; R]) -> [f32; R] {
    let (mut out, mut r) = ([0f32; R], 0);
    // SAFETY: no memory.
    unsafe {
        while r + 4 <= R {
            out[r..r + 4].copy_from_slice(&S::fold4::<MAX>([v[r], v[r + 1], v[r + 2], v[r + 3]]));
            r += 4;
        }
        while r < R {
            out[r] = if MAX { S::max_lane(v[r]) } else { S::sum(v[r]) };
            r += 1;
        }
    }
    out
}

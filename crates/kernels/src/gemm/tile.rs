//! The register tile: the inner loop of every matrix product.

use super::finish::Touched;
use crate::simd::{LANES, Portable, Simd};

/// Rows in the largest tile of any instruction set.
pub const MAX_ROWS: usize = 8;
/// Vectors (panels of 16 columns) in the widest tile of any instruction set.
pub const MAX_PANELS: usize = 4;

/// One block of one tile: `rows` packed rows of a times one or more packed panels of b over `k` items.
#[derive(Clone, Copy)]
pub struct Block {
    /// `[k][rows]`.
    pub a: *const f32,
    /// `[k][16]`, the next panel `panel` items further.
    pub b: *const f32,
    pub panel: usize,
    pub k: usize,
    /// What the result is added to; null: nothing.
    pub sums: *const f32,
    pub sums_row: usize,
    pub out: *mut f32,
    pub out_row: usize,
    /// Memory that will be read soon: every four steps a line of it is asked for, `ahead_step` items after the one before.
    pub ahead: *const f32,
    pub ahead_step: usize,
    /// What the tile's rows will touch when its sums are done, `soon_row` items apart (null: nothing).
    pub soon: Touched,
    pub soon_row: usize,
}

/// How far ahead of a tile of few rows b is asked for: it waits for memory, not for its FMAs.
const STREAM: usize = 48 * LANES;
/// Up to this many rows are few.
const STREAM_ROWS: usize = 4;
/// Steps before the end of a tile from which on the memory of its results is asked for, row by row: all at once would hold up the
/// loads of b, and much earlier b would push it out of the first-level cache again.
const SOON: usize = 160;
/// Items ahead in each column for which a tile that turns them asks.
const TURNING: usize = 64;

/// out = sums + the chains, each element's chain a run of FMAs in ascending k from 0.
///
/// # Safety
/// Packed operands must hold `k` steps; rows of `sums` and `out` must have all `16 * V` items.
#[inline(always)]
unsafe fn block<S: Simd, const R: usize, const V: usize>(t: &Block) {
    // SAFETY: as promised above.
    unsafe {
        let mut acc = [[S::splat(0.0); V]; R];
        let (mut a, mut b, mut ahead) = (t.a, t.b, t.ahead);
        let mut row = 0;
        // A macro, not a closure: a closure would be compiled without the instruction set's features.
        macro_rules! step {
            ($a:expr, $b:expr) => {
                let (a, b) = ($a, $b);
                let mut v = [S::splat(0.0); V];
                for j in 0..V {
                    if R <= STREAM_ROWS {
                        S::prefetch(b.wrapping_add(j * t.panel + STREAM));
                    }
                    v[j] = S::load(b.add(j * t.panel));
                }
                for i in 0..R {
                    let x = S::splat(*a.add(i));
                    for j in 0..V {
                        acc[i][j] = S::fma(x, v[j], acc[i][j]);
                    }
                }
            };
        }
        let mut left = t.k;
        while left >= 4 {
            if R > STREAM_ROWS {
                S::prefetch_far(ahead);
                ahead = ahead.wrapping_add(t.ahead_step);
            }
            if left <= SOON && row < R {
                for at in t.soon {
                    if !at.is_null() {
                        for j in 0..V {
                            S::prefetch(at.wrapping_add(row * t.soon_row + j * LANES));
                        }
                    }
                }
                row += 1;
            }
            step!(a, b);
            step!(a.add(R), b.add(LANES));
            step!(a.add(2 * R), b.add(2 * LANES));
            step!(a.add(3 * R), b.add(3 * LANES));
            a = a.add(4 * R);
            b = b.add(4 * LANES);
            left -= 4;
        }
        while left > 0 {
            step!(a, b);
            a = a.add(R);
            b = b.add(LANES);
            left -= 1;
        }
        end::<S, R, V>(t, acc);
    }
}

/// Stores the chains of a tile, added to its sums.
#[inline(always)]
unsafe fn end<S: Simd, const R: usize, const V: usize>(t: &Block, acc: [[S::F; V]; R]) {
    for i in 0..R {
        for j in 0..V {
            // SAFETY: as promised to `block`.
            unsafe {
                let mut x = acc[i][j];
                if !t.sums.is_null() {
                    x = S::add(S::load(t.sums.add(i * t.sums_row + j * LANES)), x);
                }
                S::store(t.out.add(i * t.out_row + j * LANES), x);
            }
        }
    }
}

/// Columns of b that each lie in one run, as in a linear layer's weight: column j starts at `at + j * col`.
#[derive(Clone, Copy)]
pub struct Columns {
    pub at: *const f32,
    pub col: usize,
    /// Where they are written as packed panels, for the tiles of the rows that follow; null: nowhere.
    pub keep: *mut f32,
}

/// What [`block`] does, of 16 columns that are not packed yet: they are turned in registers, while the FMAs of those before run.
///
/// # Safety
/// As [`block`], but for the packed b: the columns must hold `k` items each, and `keep` must have room for a panel.
#[inline(always)]
unsafe fn turning<S: Simd, const R: usize>(t: &Block, b: &Columns) {
    // SAFETY: as promised above.
    unsafe {
        let mut acc = [S::splat(0.0); R];
        let mut p = 0;
        while p + 8 <= t.k {
            if p % LANES == 0 {
                for j in 0..LANES {
                    S::prefetch(b.at.wrapping_add(p + j * b.col + TURNING));
                }
            }
            let columns = S::turn8(b.at.add(p), b.col);
            if !b.keep.is_null() {
                for q in 0..8 {
                    S::store(b.keep.add((p + q) * LANES), columns[q]);
                }
            }
            for q in 0..8 {
                for i in 0..R {
                    acc[i] = S::fma(S::splat(*t.a.add((p + q) * R + i)), columns[q], acc[i]);
                }
            }
            p += 8;
        }
        for p in p..t.k {
            let mut column = [0f32; LANES];
            for (j, x) in column.iter_mut().enumerate() {
                *x = *b.at.add(j * b.col + p);
            }
            let column = S::load(column.as_ptr());
            if !b.keep.is_null() {
                S::store(b.keep.add(p * LANES), column);
            }
            for i in 0..R {
                acc[i] = S::fma(S::splat(*t.a.add(p * R + i)), column, acc[i]);
            }
        }
        end::<S, R, 1>(t, acc.map(|x| [x]));
    }
}

/// The tiles of an instruction set: every number of rows up to `MR`, with as many panels as its registers hold.
#[allow(clippy::missing_safety_doc)]
pub trait Tile: Simd {
    /// Panels of b in a tile of `rows` rows; few rows want more panels, to keep enough chains in flight.
    fn panels(rows: usize) -> usize;
    /// Runs the tile of `rows` rows and `panels` panels, at most `Self::panels(rows)`.
    unsafe fn run(rows: usize, panels: usize, t: &Block);
    /// The same of columns that are turned on the way.
    unsafe fn turn(rows: usize, panels: usize, t: &Block, b: &Columns);
}

macro_rules! tiles {
    ($isa:ty; $(($r:literal, $v:literal)),*; $($r1:literal),*) => {
        impl Tile for $isa {
            #[inline(always)]
            fn panels(rows: usize) -> usize {
                match rows {
                    $($r => $v,)*
                    _ => 1,
                }
            }

            // No recursion for the narrow edge: a recursive function is not inlined, and its body would be compiled
            // without the instruction set's features.
            #[inline(always)]
            unsafe fn run(rows: usize, panels: usize, t: &Block) {
                // SAFETY: the caller keeps `block`'s promises.
                unsafe {
                    match (rows, panels) {
                        $(($r, $v) => block::<$isa, $r, $v>(t),)*
                        _ => {
                            for j in 0..panels {
                                let at = j * LANES;
                                let sums = t.sums.wrapping_add(if t.sums.is_null() { 0 } else { at });
                                let one = Block { b: t.b.add(j * t.panel), sums, out: t.out.add(at), ..*t };
                                match rows {
                                    $($r1 => block::<$isa, $r1, 1>(&one),)*
                                    // Tiles of this many rows have one panel at most.
                                    _ => _ = one,
                                }
                            }
                        }
                    }
                }
            }

            #[inline(always)]
            unsafe fn turn(rows: usize, panels: usize, t: &Block, b: &Columns) {
                for j in 0..panels {
                    // SAFETY: the caller keeps `turning`'s promises for each panel.
                    unsafe {
                        let at = j * LANES;
                        let sums = t.sums.wrapping_add(if t.sums.is_null() { 0 } else { at });
                        let one = Block { sums, out: t.out.add(at), ..*t };
                        let keep = b.keep.wrapping_add(if b.keep.is_null() { 0 } else { j * t.panel });
                        let columns = Columns { at: b.at.add(at * b.col), keep, ..*b };
                        match rows {
                            $($r => turning::<$isa, $r>(&one, &columns),)*
                            // No tile has more rows.
                            _ => _ = (one, columns),
                        }
                    }
                }
            }
        }
    };
}

tiles!(Portable; (1, 1), (2, 1), (3, 1), (4, 1); );
#[cfg(target_arch = "aarch64")]
tiles!(crate::simd::Neon; (1, 1), (2, 1), (3, 1), (4, 1); );
#[cfg(target_arch = "x86_64")]
tiles!(crate::simd::Avx2; (1, 4), (2, 2), (3, 2), (4, 1), (5, 1), (6, 1); 1, 2, 3);
#[cfg(target_arch = "x86_64")]
tiles!(crate::simd::Avx512; (1, 4), (2, 4), (3, 3), (4, 3), (5, 3), (6, 3), (7, 3), (8, 3); 1, 2, 3, 4, 5, 6, 7, 8);

//! The register tile: the inner loop of every matrix product.

use super::finish::{self, Touched};
use super::{Matrix, Product};
use crate::simd::{LANES, Portable, Simd};

/// Rows in the largest tile of any instruction set.
pub const MAX_ROWS: usize = 8;
/// Vectors (panels of 16 columns) in the widest tile of any instruction set.
pub const MAX_PANELS: usize = 4;

/// One block of one tile: some rows of a times one or more panels of b over `k` items.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    /// `[k][rows]`, or the rows as they are, `a_row` items apart: each in one run (`a_col` = 1), or side by side (`a_row` = 1).
    pub a: *const f32,
    /// 0: a is packed.
    pub a_row: usize,
    pub a_col: usize,
    /// Where rows side by side are written as packed ones, for the groups of panels that follow.
    pub keep_a: *mut f32,
    /// Where the rows that will be read next, as far apart, begin.
    pub next_a: *const f32,
    /// `[k][16]` (`row` = 16, `col` = 1), or b as it is: rows (`col` = 1), or columns that each lie in one run (`row` = 1), as in a linear
    /// layer's weight, which are turned in registers while the FMAs of those before run. The next panel is `panel` items further.
    pub b: Matrix,
    pub panel: usize,
    /// Where b as it is is written as packed panels, `kept_panel` items apart, for the tiles that follow; null: nowhere (only of
    /// columns).
    pub keep: *mut f32,
    pub kept_panel: usize,
    pub k: usize,
    /// What the result is added to; null: nothing.
    pub sums: *const f32,
    pub sums_row: usize,
    pub out: *mut f32,
    pub out_row: usize,
    /// The product whose epilogue follows, the place in its out and the column; none: the sums stay as they are.
    pub finish: Option<(&'a Product, usize, usize)>,
    /// Whether the results, whole cache lines, go to memory past the caches.
    pub past: bool,
    /// Memory that will be read soon: for every four steps a line of it is asked for, `ahead_step` items after the one before.
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
/// Steps before the end of a tile from which on the memory of its results is asked for, some rows at a time: all at once would hold up the
/// loads of b, and much earlier b would push it out of the first-level cache again.
const SOON: usize = 160;
/// Steps of a tile with operands that are not packed, between which memory is asked for: as many as items of a row in a cache line.
const RUN: usize = LANES;
/// Rows of the results that it asks for between them.
const SOON_ROWS: usize = 2;
/// Items ahead in each column for which a tile that turns them asks.
const TURNING: usize = 64;
/// Rows of b ahead for which a tile that packs them asks.
const COPYING: usize = 20;
/// Steps ahead for which a tile asks that reads rows of a side by side.
const BESIDE_AHEAD: usize = 8;
/// How far ahead memory is asked for to which b is packed: stores that miss the first-level cache wait one for the other.
const KEEPING: usize = 12 * LANES;

/// out = sums + the chains, each element's chain a run of FMAs in ascending k from 0, of packed operands.
///
/// # Safety
/// Operands must hold `k` steps; rows of `sums` and `out` must have all `16 * V` items.
#[inline(always)]
unsafe fn packed<S: Simd, const R: usize, const V: usize>(t: &Block) {
    // SAFETY: as promised above.
    unsafe {
        let mut acc = [[S::splat(0.0); V]; R];
        let (mut a, mut b, mut ahead) = (t.a, t.b.data, t.ahead);
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
                ask::<S, V>(t, row);
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

/// How a tile finds a: packed, in rows that each lie in one run, or in rows that lie side by side, which it packs on the way.
const PACKED: u8 = 0;
const ROWS: u8 = 1;
const BESIDE: u8 = 2;

/// What [`packed`] does with operands that are not packed; apart from it because its shorter loop is faster. `A`: how a lies; `FRESH`: b's
/// rows are read as they are, and packed on the way.
///
/// # Safety
/// As [`packed`], and `keep` and `keep_a` must have room for what is packed.
#[inline(always)]
unsafe fn unpacked<S: Simd, const R: usize, const V: usize, const A: u8, const FRESH: bool>(t: &Block) {
    // SAFETY: as promised above.
    unsafe {
        let mut acc = [[S::splat(0.0); V]; R];
        let (mut a, mut b, mut ahead, mut next, mut keep, mut keep_a) = (t.a, t.b.data, t.ahead, t.next_a, t.keep, t.keep_a);
        let a_row = if A == ROWS { S::hidden(t.a_row) } else { 1 };
        let a_step = [R, 1, t.a_col][usize::from(A)];
        let b_step = if FRESH { t.b.row } else { LANES };
        // A macro, not a closure: a closure would be compiled without the instruction set's features. Without a branch: the compiler would move
        // loads across it and run out of registers; for the same reason b is stored last.
        macro_rules! step {
            ($q:expr) => {
                let (a, b) = (a.add($q * a_step), b.add($q * b_step));
                let mut v = [S::splat(0.0); V];
                for j in 0..V {
                    if FRESH {
                        S::prefetch(b.wrapping_add(j * t.panel + COPYING * b_step));
                    }
                    v[j] = S::load(b.add(j * t.panel));
                }
                if A == BESIDE {
                    S::prefetch(a.wrapping_add(BESIDE_AHEAD * a_step));
                    keep_a.copy_from_nonoverlapping(a, R);
                    keep_a = keep_a.add(R);
                }
                for i in 0..R {
                    // Three rows share an address, so that addresses fit the registers.
                    let x = S::splat(*a.add(if A == ROWS { i / 3 * (3 * a_row) + i % 3 * a_row } else { i }));
                    for j in 0..V {
                        acc[i][j] = S::fma(x, v[j], acc[i][j]);
                    }
                }
                if FRESH {
                    for j in 0..V {
                        S::prefetch(keep.wrapping_add(j * t.kept_panel + KEEPING));
                        S::store(keep.add(j * t.kept_panel), v[j]);
                    }
                    keep = keep.add(LANES);
                }
            };
        }
        let (mut left, mut row) = (t.k, 0);
        while left >= RUN {
            for q in 0..RUN / 4 {
                S::prefetch_far(ahead.wrapping_add(q * t.ahead_step));
            }
            ahead = ahead.wrapping_add(RUN / 4 * t.ahead_step);
            if A == ROWS {
                for i in 0..R {
                    S::prefetch_far(next.wrapping_add(i * t.a_row));
                }
                next = next.wrapping_add(RUN);
            }
            while left <= SOON && row < R {
                ask::<S, V>(t, row);
                row += 1;
                if row % SOON_ROWS == 0 {
                    break;
                }
            }
            // Not unrolled any further.
            let mut quarters = S::hidden(RUN / 4);
            while quarters > 0 {
                step!(0);
                step!(1);
                step!(2);
                step!(3);
                a = a.add(4 * a_step);
                b = b.add(4 * b_step);
                quarters -= 1;
            }
            left -= RUN;
        }
        while left > 0 {
            step!(0);
            a = a.add(a_step);
            b = b.add(b_step);
            left -= 1;
        }
        end::<S, R, V>(t, acc);
    }
}

/// Asks for what row `row` of the tile will touch when its sums are done.
#[inline(always)]
fn ask<S: Simd, const V: usize>(t: &Block, row: usize) {
    for at in t.soon {
        if !at.is_null() {
            for j in 0..V {
                // SAFETY: a hint, which takes any address.
                unsafe { S::prefetch(at.wrapping_add(row * t.soon_row + j * LANES)) };
            }
        }
    }
}

/// Stores the chains of a tile, added to its sums, and finished where the epilogue follows.
#[inline(always)]
unsafe fn end<S: Simd, const R: usize, const V: usize>(t: &Block, mut acc: [[S::F; V]; R]) {
    // SAFETY: as promised to `packed`.
    unsafe {
        if !t.sums.is_null() {
            for i in 0..R {
                for j in 0..V {
                    acc[i][j] = S::add(S::load(t.sums.add(i * t.sums_row + j * LANES)), acc[i][j]);
                }
            }
        }
        if let Some((p, at, column)) = t.finish {
            finish::straight::<S, R, V>(p, &mut acc, at, column);
        }
        if t.past {
            for i in 0..R {
                for j in 0..V {
                    S::stream(t.out.add(i * t.out_row + j * LANES), acc[i][j]);
                }
            }
            return;
        }
        for i in 0..R {
            for j in 0..V {
                S::store(t.out.add(i * t.out_row + j * LANES), acc[i][j]);
            }
        }
    }
}

/// What [`packed`] does with one panel of b whose 16 columns each lie in one run: they are turned in registers.
///
/// # Safety
/// As [`packed`].
#[inline(always)]
unsafe fn turning<S: Simd, const R: usize, const ROWS: bool>(t: &Block) {
    // SAFETY: as promised above.
    unsafe {
        let mut acc = [S::splat(0.0); R];
        let mut p = 0;
        let a_row = if ROWS { S::hidden(t.a_row) } else { 1 };
        let a_step = if ROWS { 1 } else { R };
        while p + 8 <= t.k {
            if p % LANES == 0 {
                for j in 0..LANES {
                    S::prefetch(t.b.data.wrapping_add(p + j * t.b.col + TURNING));
                }
            }
            let columns = S::turn8(t.b.data.add(p), t.b.col);
            if !t.keep.is_null() {
                for q in 0..8 {
                    S::prefetch(t.keep.wrapping_add((p + q) * LANES + KEEPING));
                    S::store(t.keep.add((p + q) * LANES), columns[q]);
                }
            }
            let a = t.a.add(p * a_step);
            for q in 0..8 {
                for i in 0..R {
                    acc[i] = S::fma(S::splat(*a.add(i / 3 * (3 * a_row) + i % 3 * a_row + q * a_step)), columns[q], acc[i]);
                }
            }
            p += 8;
        }
        for p in p..t.k {
            let mut column = [0f32; LANES];
            for (j, x) in column.iter_mut().enumerate() {
                *x = *t.b.data.add(j * t.b.col + p);
            }
            let column = S::load(column.as_ptr());
            if !t.keep.is_null() {
                S::store(t.keep.add(p * LANES), column);
            }
            for i in 0..R {
                acc[i] = S::fma(S::splat(*t.a.add(i * a_row + p * a_step)), column, acc[i]);
            }
        }
        end::<S, R, 1>(t, acc.map(|x| [x]));
    }
}

impl Block<'_> {
    /// How a lies.
    #[inline(always)]
    fn a_lies(&self) -> u8 {
        match (self.a_row, self.a_col) {
            (0, _) => PACKED,
            (_, 1) => ROWS,
            _ => BESIDE,
        }
    }

    /// The block of panel `j` alone.
    #[inline(always)]
    fn panel(&self, j: usize) -> Block<'_> {
        let at = j * LANES;
        Block {
            b: Matrix { data: self.b.data.wrapping_add(j * self.panel), ..self.b },
            keep: self.keep.wrapping_add(if self.keep.is_null() { 0 } else { j * self.kept_panel }),
            sums: self.sums.wrapping_add(if self.sums.is_null() { 0 } else { at }),
            out: self.out.wrapping_add(at),
            finish: self.finish.map(|(p, place, column)| (p, place + at, column + at)),
            ..*self
        }
    }
}

/// The tiles of an instruction set: every number of rows up to `MR`, with as many panels as its registers hold.
#[allow(clippy::missing_safety_doc)]
pub trait Tile: Simd {
    /// Panels of b in a tile of `rows` rows; few rows want more panels, to keep enough chains in flight.
    fn panels(rows: usize) -> usize;
    /// Runs the tile of `rows` rows and `panels` panels, at most `Self::panels(rows)`.
    unsafe fn run(rows: usize, panels: usize, t: &Block);
    /// The same with b as it is. Rows of it, and columns together with rows of a as they are, only in the largest tile.
    unsafe fn run_fresh(rows: usize, panels: usize, t: &Block);
}

/// The tiles of one instruction set. Each is a function of its own, so that it has all registers for itself.
macro_rules! tiles {
    ($isa:ty, $name:ident, [$(#[$features:meta])?]; $(($r:literal, $v:literal)),*; $($r1:literal),*) => {
        mod $name {
            use super::*;

            $(#[$features])?
            #[inline(never)]
            pub unsafe fn packed<const R: usize, const V: usize>(t: &Block) {
                // SAFETY: the caller keeps `packed`'s promises; so below.
                unsafe { super::packed::<$isa, R, V>(t) }
            }

            $(#[$features])?
            #[inline(never)]
            pub unsafe fn unpacked<const R: usize, const V: usize, const A: u8, const FRESH: bool>(t: &Block) {
                // SAFETY: as above.
                unsafe { super::unpacked::<$isa, R, V, A, FRESH>(t) }
            }

            $(#[$features])?
            #[inline(never)]
            pub unsafe fn turning<const R: usize, const ROWS: bool>(t: &Block) {
                // SAFETY: as above.
                unsafe { super::turning::<$isa, R, ROWS>(t) }
            }
        }

        impl Tile for $isa {
            #[inline(always)]
            fn panels(rows: usize) -> usize {
                match rows {
                    $($r => $v,)*
                    _ => 1,
                }
            }

            #[inline(always)]
            unsafe fn run(rows: usize, panels: usize, t: &Block) {
                // SAFETY: the caller keeps `packed`'s promises.
                unsafe {
                    match (rows, panels, t.a_lies()) {
                        $(($r, $v, ROWS) => $name::unpacked::<$r, $v, ROWS, false>(t),)*
                        $(($r, $v, BESIDE) => $name::unpacked::<$r, $v, BESIDE, false>(t),)*
                        $(($r, $v, _) => $name::packed::<$r, $v>(t),)*
                        (_, _, lies) => {
                            for j in 0..panels {
                                let one = t.panel(j);
                                match (rows, lies) {
                                    $(($r1, ROWS) => $name::unpacked::<$r1, 1, ROWS, false>(&one),)*
                                    $(($r1, _) => $name::packed::<$r1, 1>(&one),)*
                                    // Tiles of this many rows have one panel at most.
                                    _ => _ = one,
                                }
                            }
                        }
                    }
                }
            }

            #[inline(always)]
            unsafe fn run_fresh(rows: usize, panels: usize, t: &Block) {
                const R: usize = <$isa as Simd>::MR;
                const V: usize = <$isa as Simd>::NV;
                // SAFETY: the caller keeps `packed`'s promises.
                unsafe {
                    match (t.b.col, t.a_lies()) {
                        (1, ROWS) => $name::unpacked::<R, V, ROWS, true>(t),
                        (1, BESIDE) => $name::unpacked::<R, V, BESIDE, true>(t),
                        (1, _) => $name::unpacked::<R, V, PACKED, true>(t),
                        (_, ROWS) => {
                            for j in 0..panels {
                                $name::turning::<R, true>(&t.panel(j));
                            }
                        }
                        _ => {
                            for j in 0..panels {
                                match rows {
                                    $($r => $name::turning::<$r, false>(&t.panel(j)),)*
                                    // No tile has more rows.
                                    _ => {}
                                }
                            }
                        }
                    }
                }
            }
        }
    };
}

tiles!(Portable, portable, []; (1, 1), (2, 1), (3, 1), (4, 1); );
#[cfg(target_arch = "aarch64")]
tiles!(crate::simd::Neon, neon, []; (1, 1), (2, 1), (3, 1), (4, 1); );
#[cfg(target_arch = "x86_64")]
tiles!(crate::simd::Avx2, avx2, [#[target_feature(enable = "avx2,fma,f16c")]]; (1, 4), (2, 2), (3, 2), (4, 1), (5, 1), (6, 1); 1, 2, 3);
#[cfg(target_arch = "x86_64")]
tiles!(
    crate::simd::Avx512, avx512, [#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]];
    (1, 4), (2, 4), (3, 3), (4, 3), (5, 3), (6, 3), (7, 3), (8, 3); 1, 2, 3, 4, 5, 6, 7, 8
);

//! What one task of a product does: packing, and multiplying some rows or columns tile by tile.

use super::pack::{pack_panels, pack_rows};
use super::tile::{Block, Columns, MAX_PANELS, MAX_ROWS, Tile};
use super::{GROUP, KC, Matrix, PACKED_PANELS, Piece, Product, Right, finish};
use crate::dispatch;
use crate::scratch::Scratch;
use crate::simd::LANES;

dispatch! { pub(super) unsafe fn pack_a(piece: &Piece, i: usize) = pack_a_block }
dispatch! { pub(super) unsafe fn pack_b(piece: &Piece, i: usize) = pack_b_panels }
dispatch! { pub(super) unsafe fn rows_task(piece: &Piece, i: usize) = rows_block }
dispatch! { pub(super) unsafe fn columns_task(piece: &Piece, i: usize) = columns_block }
dispatch! { pub(super) unsafe fn finish_zeros(p: &Product) = finish_zero_rows }

/// k = 0: the epilogue of zeros.
#[inline(always)]
unsafe fn finish_zero_rows<S: Tile>(p: &Product) {
    for i in 0..p.m {
        for j in (0..p.n).step_by(LANES) {
            // SAFETY: columns below n.
            unsafe { finish::store::<S>(p, S::splat(0.0), i * p.out_row + j, j, (p.n - j).min(LANES)) };
        }
    }
}

/// Cuts `rows` rows into the fewest tiles and evens them out: (tiles, rows of the short ones, how many have one more).
#[inline(always)]
fn split<S: Tile>(rows: usize) -> (usize, usize, usize) {
    let tiles = rows.div_ceil(S::MR);
    (tiles, rows / tiles, rows % tiles)
}

/// Packs a block of k of some rows tile by tile.
#[inline(always)]
unsafe fn pack_tiles<S: Tile>(a: Matrix, rows: usize, k: usize, to: *mut f32) {
    let (tiles, short, longer) = split::<S>(rows);
    // Rows that lie side by side (a transposed a): four tiles at a time use whole cache lines.
    let together = if a.row == 1 { 4 } else { 1 };
    let mut i = 0;
    for t in (0..tiles).step_by(together) {
        let mut rows = [0; 4];
        for (u, r) in rows.iter_mut().enumerate().take(together.min(tiles - t)) {
            *r = short + usize::from(t + u < longer);
        }
        // SAFETY: the caller's room holds rows * k items.
        unsafe { pack_rows::<S>(a.at(i, 0), rows, k, to.add(i * k)) };
        i += rows.iter().sum::<usize>();
    }
}

#[inline(always)]
unsafe fn pack_a_block<S: Tile>(piece: &Piece, i: usize) {
    let k = piece.k0 + i * KC;
    let deep = KC.min(piece.k1 - k);
    // SAFETY: block i starts after i * KC columns of all rows.
    unsafe { pack_tiles::<S>(piece.p.a.at(0, k), piece.p.m, deep, piece.packed.add(i * KC * piece.p.m)) };
}

#[inline(always)]
unsafe fn pack_b_panels<S: Tile>(piece: &Piece, i: usize) {
    let Right::Plain(b) = piece.p.b else { return };
    let j = piece.j0 + i * PACKED_PANELS * LANES;
    let columns = (PACKED_PANELS * LANES).min(piece.j1 - j);
    let to = piece.packed.wrapping_add(i * PACKED_PANELS * piece.panel);
    let deep = piece.k1 - piece.k0;
    // SAFETY: each panel has room for the piece's depth.
    unsafe {
        pack_panels::<S>(b.at(piece.k0, j), columns, deep, to, piece.panel, std::ptr::null());
        sum_columns::<S>(piece.p, to, piece.panel, columns, j, piece.k0, deep);
    }
}

/// Panels whose columns are summed side by side: one chain of additions would wait for itself.
const SUMMED: usize = 4;

/// Where the sums of b's columns are wanted, adds those of `columns` packed columns, from column `j` and item `k` of k on.
#[inline(always)]
unsafe fn sum_columns<S: Tile>(p: &Product, b: *const f32, panel: usize, columns: usize, j: usize, k: usize, deep: usize) {
    if p.finish.column_sums.is_null() {
        return;
    }
    let sums = p.finish.column_sums.wrapping_add(j);
    // SAFETY: whole packed panels, and room for the sums of n columns.
    unsafe {
        for first in (0..columns).step_by(SUMMED * LANES) {
            let (b, sums, left) = (b.add(first / LANES * panel), sums.add(first), columns - first);
            let mut sum = [S::splat(0.0); SUMMED];
            if k > 0 {
                for (v, sum) in sum.iter_mut().enumerate().take(left.div_ceil(LANES)) {
                    *sum = S::load_n(sums.add(v * LANES), (left - v * LANES).min(LANES));
                }
            }
            if left > (SUMMED - 1) * LANES {
                for q in 0..deep {
                    for (v, sum) in sum.iter_mut().enumerate() {
                        *sum = S::add(*sum, S::load(b.add(v * panel + q * LANES)));
                    }
                }
            } else {
                for (v, sum) in sum.iter_mut().enumerate().take(left.div_ceil(LANES)) {
                    for q in 0..deep {
                        *sum = S::add(*sum, S::load(b.add(v * panel + q * LANES)));
                    }
                }
            }
            for (v, sum) in sum.iter().enumerate().take(left.div_ceil(LANES)) {
                S::store_n(sums.add(v * LANES), *sum, (left - v * LANES).min(LANES));
            }
        }
    }
}

/// Some rows of a, packed tile by tile for one block of k after the other: block q at `a + q · KC · rows`.
#[derive(Clone, Copy)]
struct Rows {
    a: *const f32,
    from: usize,
    rows: usize,
}

/// Memory that will be read when these tiles are done, so that they wait for it: `lines` cache lines, `across` apart, and the like again
/// `count` times, `down` apart. Each tile asks for a run down of one line.
#[derive(Clone, Copy)]
struct Upcoming {
    at: *const f32,
    lines: usize,
    across: usize,
    count: usize,
    down: usize,
    /// How much further for each item of k that lies behind.
    deeper: usize,
    /// Tiles that have asked already.
    first: usize,
}

impl Upcoming {
    /// What a tile of one block asks for, a line every four steps.
    const RUN: usize = KC / 4;
    /// Tiles that it takes to ask for a group of columns.
    const TILES: usize = KC / LANES;

    /// A group of packed panels.
    #[inline(always)]
    fn panels(at: *const f32, group: usize, panel: usize) -> Upcoming {
        Upcoming { at, lines: group, across: panel, count: KC, down: LANES, deeper: LANES, first: 0 }
    }

    /// Columns that will be packed.
    #[inline(always)]
    fn source(b: Matrix, columns: usize, k: usize, first: usize) -> Upcoming {
        if b.col == 1 {
            Upcoming { at: b.data, lines: columns.div_ceil(LANES), across: LANES, count: k, down: b.row, deeper: 0, first }
        } else {
            Upcoming { at: b.data, lines: KC / LANES, across: LANES, count: columns, down: b.col, deeper: 0, first }
        }
    }

    /// What tile `t` asks for: where, and how far apart.
    #[inline(always)]
    fn of(&self, t: usize) -> Option<(*const f32, usize)> {
        let (line, run) = ((self.first + t) % self.lines, (self.first + t) / self.lines * Upcoming::RUN);
        (run < self.count).then(|| (self.at.wrapping_add(line * self.across + run * self.down), self.down))
    }
}

/// All tiles of some rows with `panels` panels at `b`, for the items `k` and `deep - 1` more of k. A tile's sums stay in the first-level
/// cache from block to block of k.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn multiply<S: Tile>(
    piece: &Piece,
    rows: Rows,
    b: *const f32,
    panel: usize,
    panels: usize,
    j: usize,
    k: usize,
    deep: usize,
    next: Upcoming,
    turning: Option<Columns>,
) {
    let p = piece.p;
    let wide = panels * LANES;
    let columns = wide.min(piece.j1 - j);
    let ends = k + deep == p.k;
    // Whole vectors that go where they stay, or to the sums: straight from the registers.
    let straight = columns == wide && (!ends || (piece.plain && !piece.past));
    let (tiles, short, longer) = split::<S>(rows.rows);
    let mut aside = std::mem::MaybeUninit::<[f32; MAX_ROWS * MAX_PANELS * LANES]>::uninit();
    let aside = aside.as_mut_ptr().cast::<f32>();
    let none = std::ptr::null();
    let mut i = 0;
    for t in 0..tiles {
        let r = short + usize::from(t < longer);
        // SAFETY: rows and columns lie inside out and the sums; `aside` holds the largest tile.
        unsafe {
            let at = (rows.from + i) * p.out_row + j;
            let before = piece.sums.wrapping_add((rows.from + i) * piece.sums_row + j);
            let (out, out_row) = match (straight, ends) {
                (false, _) => (aside, wide),
                (true, true) => (p.out.add(at), p.out_row),
                (true, false) => (before, piece.sums_row),
            };
            if !straight && k > 0 {
                for row in 0..r {
                    for v in (0..columns).step_by(LANES) {
                        let sum = S::load_n(before.add(row * piece.sums_row + v), (columns - v).min(LANES));
                        S::store(aside.add(row * wide + v), sum);
                    }
                }
            }
            for q in (0..deep).step_by(KC) {
                let items = KC.min(deep - q);
                let last = q + items == deep;
                let (sums, sums_row) = match (q, k) {
                    (0, 0) => (none, 0),
                    (0, _) if straight => (before.cast_const(), piece.sums_row),
                    _ => (out.cast_const(), out_row),
                };
                let (soon, soon_row) = match (last, ends) {
                    (true, true) if piece.past => (finish::NOTHING, 0),
                    (true, true) => (finish::touched(p, at), p.out_row),
                    (true, false) => ([before.cast_const(), none, none, none], piece.sums_row),
                    _ => (finish::NOTHING, 0),
                };
                let a = rows.a.add(q * rows.rows + i * items);
                let b = b.add(q * LANES);
                let (ahead, ahead_step) = next.of(t).map_or((b, 0), |(at, step)| (at.wrapping_add(q * next.deeper), step));
                let block = Block { a, b, panel, k: items, sums, sums_row, out, out_row, ahead, ahead_step, soon, soon_row };
                match &turning {
                    Some(columns) if t == 0 => S::turn(r, panels, &block, columns),
                    _ => S::run(r, panels, &block),
                }
            }
            if straight {
            } else if ends && piece.past && columns == wide {
                for row in 0..r {
                    for v in (0..wide).step_by(LANES) {
                        S::stream(p.out.add(at + row * p.out_row + v), S::load(aside.add(row * wide + v)));
                    }
                }
            } else if ends {
                finish::tile::<S>(p, aside, wide, at, j, r, columns);
            } else {
                for row in 0..r {
                    for v in (0..columns).step_by(LANES) {
                        let sum = S::load(aside.add(row * wide + v));
                        S::store_n(before.add(row * piece.sums_row + v), sum, (columns - v).min(LANES));
                    }
                }
            }
        }
        i += r;
    }
}

/// A task of the many-rows plan: rows `i * step` and on, all columns of the piece.
#[inline(always)]
unsafe fn rows_block<S: Tile>(piece: &Piece, i: usize) {
    let p = piece.p;
    let from = i * piece.step;
    let rows = piece.step.min(p.m - from);
    let deep = piece.k1 - piece.k0;
    let room = Scratch::new(rows * deep);
    let a = room.pointer();
    let group = S::panels(S::MR);
    let panels = (piece.j1 - piece.j0).div_ceil(LANES);
    // SAFETY: the room holds this task's rows; panels lie inside the packed piece.
    unsafe {
        for q in (0..deep).step_by(KC) {
            pack_tiles::<S>(p.a.at(from, piece.k0 + q), rows, KC.min(deep - q), a.add(q * rows));
        }
        for j in (0..panels).step_by(group) {
            let b = piece.packed.add(j * piece.panel);
            let next = Upcoming::panels(b.wrapping_add(group * piece.panel), group, piece.panel);
            let columns = piece.j0 + j * LANES;
            multiply::<S>(piece, Rows { a, from, rows }, b, piece.panel, group.min(panels - j), columns, piece.k0, deep, next, None);
        }
        if piece.past {
            S::fence();
        }
    }
}

/// A task of the few-rows plan: columns `i * step` and on, all rows.
#[inline(always)]
unsafe fn columns_block<S: Tile>(piece: &Piece, i: usize) {
    let p = piece.p;
    let from = piece.j0 + i * piece.step;
    let to = (from + piece.step).min(piece.j1);
    let (tiles, short, longer) = split::<S>(p.m);
    let group = S::panels(short + usize::from(longer > 0));
    let run = if tiles < Upcoming::TILES { 8 } else { GROUP };
    // Neighbouring columns are read in long runs where no tiles ask for them in advance; other columns in pieces that fit L1.
    let (wide, b) = match p.b {
        Right::Plain(b) if b.col == 1 => (group * run.div_ceil(group), b),
        Right::Plain(b) => (group, b),
        Right::Packed(b) => (group, Matrix { data: b, row: 0, col: 0 }),
    };
    // Whole panels of columns that each lie in one run are turned by the first tile; their sums are taken where they are packed.
    let turns = b.row == 1 && matches!(p.b, Right::Plain(_)) && p.finish.column_sums.is_null();
    let room = Scratch::new(wide * LANES * KC);
    let own = room.pointer();
    for j in (from..to).step_by(wide * LANES) {
        let columns = (wide * LANES).min(to - j);
        let panels = columns.div_ceil(LANES);
        for k in (piece.k0..piece.k1).step_by(KC) {
            let deep = KC.min(piece.k1 - k);
            // SAFETY: the room holds the panels; a's piece is packed block by block.
            unsafe {
                let a = piece.packed.add((k - piece.k0) * p.m);
                let turned = turns && columns == panels * LANES;
                let (packed, panel, source) = match p.b {
                    Right::Packed(b) => (b.add(j * p.k + k * LANES), p.k * LANES, None),
                    Right::Plain(_) => {
                        let next = if k + KC < piece.k1 { b.at(k + KC, j) } else { b.at(piece.k0, j + columns) };
                        if !turned {
                            let alone = if tiles < Upcoming::TILES { next.data } else { std::ptr::null() };
                            pack_panels::<S>(b.at(k, j), columns, deep, own, LANES * deep, alone);
                            sum_columns::<S>(p, own, LANES * deep, columns, j, k, deep);
                        }
                        (own.cast_const(), LANES * deep, Some(next))
                    }
                };
                for v in (0..panels).step_by(group) {
                    let rows = Rows { a, from: 0, rows: p.m };
                    let turning = turned.then(|| {
                        let keep = if tiles > 1 { own.add(v * panel) } else { std::ptr::null_mut() };
                        Columns { at: b.at(k, j + v * LANES).data, col: b.col, keep }
                    });
                    let b = packed.add(v * panel);
                    let next = match source {
                        Some(b) => Upcoming::source(b, columns, deep, v / group * tiles),
                        None if k + KC < piece.k1 => Upcoming::panels(b.wrapping_add(KC * LANES), group, panel),
                        None => Upcoming::panels(b.wrapping_add(group * panel - (k - piece.k0) * LANES), group, panel),
                    };
                    multiply::<S>(piece, rows, b, panel, group.min(panels - v), j + v * LANES, k, deep, next, turning);
                }
            }
        }
    }
    if piece.past {
        // SAFETY: a fence touches no memory.
        unsafe { S::fence() };
    }
}

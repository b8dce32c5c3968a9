//! What one task of a product does: packing, and multiplying some rows or columns tile by tile.

use super::pack::{pack_panels, pack_rows};
use super::tile::{Block, MAX_PANELS, MAX_ROWS, Tile};
use super::upcoming::Upcoming;
use super::{GROUP, KC, Matrix, PACKED_PANELS, Piece, Product, Right, finish};
use crate::dispatch;
use crate::scratch::Scratch;
use crate::simd::LANES;

dispatch! { pub(super) unsafe fn pack_a(piece: &Piece, i: usize, shares: usize) = pack_a_block }
dispatch! { pub(super) unsafe fn pack_b(piece: &Piece, i: usize) = pack_b_panels }
dispatch! { pub(super) unsafe fn rows_task(piece: &Piece, i: usize, own: *mut f32, fresh: bool) = rows_block }
dispatch! { pub(super) unsafe fn columns_task(piece: &Piece, i: usize, own_a: *mut f32, fresh: bool) = columns_block }
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

/// Packs a block of k of some rows tile by tile; of `shares` equal shares of them only share `share`.
#[inline(always)]
unsafe fn pack_tiles<S: Tile>(a: Matrix, rows: usize, k: usize, to: *mut f32, share: usize, shares: usize) {
    let (tiles, short, longer) = split::<S>(rows);
    // Rows that lie side by side (a transposed a): four tiles at a time use whole cache lines.
    let together = if a.row == 1 { 4 } else { 1 };
    let groups = tiles.div_ceil(together);
    for group in share * groups / shares..(share + 1) * groups / shares {
        let t = group * together;
        let i = t * short + t.min(longer);
        let mut rows = [0; 4];
        for (u, r) in rows.iter_mut().enumerate().take(together.min(tiles - t)) {
            *r = short + usize::from(t + u < longer);
        }
        // SAFETY: the caller's room holds rows * k items.
        unsafe { pack_rows::<S>(a.at(i, 0), rows, k, to.add(i * k)) };
    }
}

/// Share `i % shares` of a block of k of all rows.
#[inline(always)]
unsafe fn pack_a_block<S: Tile>(piece: &Piece, i: usize, shares: usize) {
    let block = i / shares * KC;
    let deep = KC.min(piece.k1 - piece.k0 - block);
    let (a, m) = (piece.p.a.at(0, piece.k0 + block), piece.p.m);
    // SAFETY: each block starts after the columns of all rows before it.
    unsafe { pack_tiles::<S>(a, m, deep, piece.packed.add(block * m), i % shares, shares) };
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

/// Some rows of a for some items of k: as they are (`packed` null), or packed tile by tile for one block of k after the other, block q at
/// `packed + q · KC · rows`. `fresh`: as they are, side by side; the tiles pack them on the way.
#[derive(Clone, Copy)]
struct Rows {
    from: usize,
    rows: usize,
    source: Matrix,
    packed: *mut f32,
    fresh: bool,
}

/// Some panels of b for the same items of k, `panel` items apart, packed, or to be packed by the first tile from columns or rows of `source`.
#[derive(Clone, Copy)]
struct Panels {
    packed: *mut f32,
    panel: usize,
    count: usize,
    source: Option<Matrix>,
}

/// Up to this many panels of b, rows of a are read as they are, even if they begin in the same set of the first-level cache.
const FEW_PANELS: usize = 32;
/// Floats from one line of a first-level cache's set to the next.
const SET: usize = 1024;

/// Whether the first of the tiles of `rows` rows is as large as tiles can be.
#[inline(always)]
fn largest<S: Tile>(rows: usize) -> bool {
    let (_, short, longer) = split::<S>(rows);
    short + usize::from(longer > 0) == S::MR
}

/// Room for the sums of the largest tile, on cache lines of its own.
#[repr(align(64))]
struct Aside {
    _sums: [f32; MAX_ROWS * MAX_PANELS * LANES],
}

/// All tiles of some rows with some panels, for the items `k` and `deep - 1` more of k. A tile's sums stay in the first-level cache from
/// block to block of k.
#[inline(always)]
unsafe fn multiply<S: Tile>(piece: &Piece, a: Rows, b: Panels, j: usize, k: usize, deep: usize, next: Upcoming) {
    let p = piece.p;
    let wide = b.count * LANES;
    let columns = wide.min(piece.j1 - j);
    let ends = k + deep == p.k;
    // Whole vectors are finished in the registers and go straight where they stay, or to the sums.
    let straight = columns == wide && (!ends || p.finish.is_straight());
    let (tiles, short, longer) = split::<S>(a.rows);
    let mut aside = std::mem::MaybeUninit::<Aside>::uninit();
    let aside = aside.as_mut_ptr().cast::<f32>();
    let none = std::ptr::null();
    let as_is = a.packed.is_null() || a.fresh;
    // Made once and changed from block to block: it is large.
    let mut block = Block {
        a: none,
        a_row: if as_is { a.source.row } else { 0 },
        a_col: a.source.col,
        keep_a: std::ptr::null_mut(),
        next_a: none,
        b: Matrix { data: b.packed, row: LANES, col: 1 },
        panel: b.panel,
        keep: std::ptr::null_mut(),
        kept_panel: b.panel,
        k: 0,
        sums: none,
        sums_row: 0,
        out: aside,
        out_row: 0,
        finish: None,
        past: false,
        ahead: none,
        ahead_step: 0,
        soon: finish::NOTHING,
        soon_row: 0,
    };
    let mut i = 0;
    for t in 0..tiles {
        let r = short + usize::from(t < longer);
        let (ahead, step, deeper) = next.of(t).map_or((b.packed.cast_const(), 0, 0), |(at, step)| (at, step, next.deeper));
        block.ahead_step = step;
        // SAFETY: rows and columns lie inside out and the sums; `aside` holds the largest tile.
        unsafe {
            let at = (a.from + i) * p.out_row + j;
            let before = piece.sums.wrapping_add((a.from + i) * piece.sums_row + j);
            // Where the sums are between the blocks of k.
            let (kept, kept_row) = match (straight, ends) {
                (true, false) => (before, piece.sums_row),
                (true, true) if piece.plain && !piece.past => (p.out.add(at), p.out_row),
                _ => (aside, wide),
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
                let done = last && ends && straight;
                let past = done && piece.past;
                let (sums, sums_row) = match (q, k) {
                    (0, 0) => (none, 0),
                    (0, _) if straight => (before.cast_const(), piece.sums_row),
                    _ => (kept.cast_const(), kept_row),
                };
                let (out, out_row) = if done { (p.out.add(at), p.out_row) } else { (kept, kept_row) };
                let (soon, soon_row) = match (last, ends) {
                    (true, true) if past => (finish::NOTHING, 0),
                    (true, true) => (finish::touched(p, at), p.out_row),
                    (true, false) => ([before.cast_const(), none, none, none], piece.sums_row),
                    _ => (finish::NOTHING, 0),
                };
                // The block of a after this one: the tile's next, or the next tile's first.
                let (next_row, next_item) = if last { (i + r, 0) } else { (i, q + KC) };
                block.keep_a = a.packed.wrapping_add(q * a.rows + i * items);
                block.a = if as_is { a.source.at(i, q).data } else { block.keep_a };
                block.next_a = a.source.at(next_row, next_item).data;
                block.k = items;
                (block.sums, block.sums_row) = (sums, sums_row);
                (block.out, block.out_row) = (out, out_row);
                block.finish = (done && !piece.plain).then_some((p, at, j));
                block.past = past;
                block.ahead = ahead.wrapping_add(q * deeper);
                (block.soon, block.soon_row) = (soon, soon_row);
                match b.source {
                    Some(source) if t == 0 => {
                        // A thread's own panels serve its later tasks, too, however few tiles this one has.
                        let keep =
                            if tiles > 1 || piece.packed.is_null() { b.packed.wrapping_add(q * LANES) } else { std::ptr::null_mut() };
                        let fresh = Block { b: source.at(q, 0), panel: LANES * source.col, keep, ..block };
                        S::run_fresh(r, b.count, &fresh);
                    }
                    _ => {
                        block.b.data = b.packed.wrapping_add(q * LANES);
                        S::run(r, b.count, &block);
                    }
                }
            }
            if !straight && ends {
                finish::tile(p, aside, wide, at, j, r, columns);
            } else if !straight {
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

/// A task of the many-rows plan: rows `i * step` and on, all columns of the piece. `own`: the thread's panels, made of b as it is by the first
/// of its tasks (`fresh`); null: those of the piece.
#[inline(always)]
unsafe fn rows_block<S: Tile>(piece: &Piece, i: usize, own: *mut f32, fresh: bool) {
    let p = piece.p;
    let from = i * piece.step;
    let rows = piece.step.min(p.m - from);
    let deep = piece.k1 - piece.k0;
    let source = p.a.at(from, piece.k0);
    let all = if own.is_null() { piece.packed } else { own };
    let b = match p.b {
        Right::Plain(b) if fresh => Some(b),
        _ => None,
    };
    let group = S::panels(S::MR);
    let panels = (piece.j1 - piece.j0).div_ceil(LANES);
    // Rows that lie side by side are packed by the tiles of the first group, where all of these are as wide.
    let (_, short, _) = split::<S>(rows);
    let beside = source.row == 1 && source.col != 1 && panels >= group && S::panels(short) == group && b.is_none_or(|b| b.col == 1);
    let in_one_set = source.row.is_multiple_of(SET) && panels > FEW_PANELS;
    let packs = source.col != 1 || in_one_set || source.row == 0;
    let room = packs.then(|| Scratch::new(rows * deep));
    let packed = room.as_ref().map_or(std::ptr::null_mut(), Scratch::pointer);
    // SAFETY: the room holds this task's rows; panels lie inside the packed piece.
    unsafe {
        for q in (0..if packs && !beside { deep } else { 0 }).step_by(KC) {
            pack_tiles::<S>(source.at(0, q), rows, KC.min(deep - q), packed.add(q * rows), 0, 1);
        }
        for j in (0..panels).step_by(group) {
            let to = all.wrapping_add(j * piece.panel);
            let column = piece.j0 + j * LANES;
            let count = group.min(panels - j);
            let columns = (count * LANES).min(piece.j1 - column);
            let mut some = Panels { packed: to, panel: piece.panel, count, source: None };
            let mut next = Upcoming::panels(to.wrapping_add(group * piece.panel), group, piece.panel, deep);
            if let Some(b) = b {
                let b = b.at(piece.k0, column);
                let largest = count == S::NV && largest::<S>(rows);
                if columns == count * LANES && (b.col == 1 || b.row == 1) && largest {
                    some.source = Some(b);
                } else {
                    pack_panels::<S>(b, columns, deep, to, piece.panel, std::ptr::null());
                }
                next = Upcoming::source(b.at(0, columns), columns, deep, 0);
            }
            multiply::<S>(piece, Rows { from, rows, source, packed, fresh: beside && j == 0 }, some, column, piece.k0, deep, next);
        }
        if !own.is_null() {
            // Each task's share of the panels, all of which its thread has.
            let tasks = p.m.div_ceil(piece.step);
            let (first, end) = (i * panels / tasks, (i + 1) * panels / tasks);
            let columns = (end * LANES).min(piece.j1 - piece.j0) - (first * LANES).min(piece.j1 - piece.j0);
            sum_columns::<S>(p, all.wrapping_add(first * piece.panel), piece.panel, columns, piece.j0 + first * LANES, piece.k0, deep);
        }
        if piece.past {
            S::fence();
        }
    }
}

/// A task of the few-rows plan: columns `i * step` and on, all rows. `own_a`: the thread's packed rows, made of rows that lie side by side by the
/// first of its tasks (`fresh`); null: those of the piece.
#[inline(always)]
unsafe fn columns_block<S: Tile>(piece: &Piece, i: usize, own_a: *mut f32, fresh: bool) {
    let p = piece.p;
    let from = piece.j0 + i * piece.step;
    let to = (from + piece.step).min(piece.j1);
    let (tiles, short, longer) = split::<S>(p.m);
    let group = S::panels(short + usize::from(longer > 0));
    let asks = tiles >= Upcoming::tiles(piece.k1 - piece.k0);
    let run = if asks { GROUP } else { 8 };
    // Neighbouring columns are read in long runs where no tiles ask for them in advance; other columns a group at a time.
    let (wide, b) = match p.b {
        Right::Plain(b) if b.col == 1 => (group * run.div_ceil(group), b),
        Right::Plain(b) => (group, b),
        Right::Packed(b) => (group, Matrix { data: b, row: 0, col: 0 }),
    };
    // Not the columns of a single item, which are rows as well.
    let turns = b.row == 1 && b.col != 1 && matches!(p.b, Right::Plain(_)) && p.finish.column_sums.is_null();
    let room = Scratch::new(wide * LANES * KC);
    let own = room.pointer();
    let packed = if own_a.is_null() { piece.packed } else { own_a };
    // The tiles of the first group pack a where all of them are as wide.
    let beside = fresh && (to - from).div_ceil(LANES) >= group && S::panels(short) == group;
    if fresh && !beside {
        for k in (piece.k0..piece.k1).step_by(KC) {
            // SAFETY: the room holds a's piece, block by block.
            unsafe { pack_tiles::<S>(p.a.at(0, k), p.m, KC.min(piece.k1 - k), packed.add((k - piece.k0) * p.m), 0, 1) };
        }
    }
    for j in (from..to).step_by(wide * LANES) {
        let columns = (wide * LANES).min(to - j);
        let panels = columns.div_ceil(LANES);
        for k in (piece.k0..piece.k1).step_by(KC) {
            let deep = KC.min(piece.k1 - k);
            // SAFETY: the room holds the panels; a's piece is packed block by block.
            unsafe {
                let rows = Rows { from: 0, rows: p.m, source: p.a.at(0, k), packed: packed.add((k - piece.k0) * p.m), fresh: false };
                // Whole panels of columns that each lie in one run are turned by the first tile; their sums are taken where they are packed.
                let whole = turns && columns == panels * LANES;
                let (all, panel, upcoming) = match p.b {
                    Right::Packed(b) => (b.add(j * p.k + k * LANES).cast_mut(), p.k * LANES, None),
                    Right::Plain(_) => {
                        let next = if k + KC < piece.k1 { b.at(k + KC, j) } else { b.at(piece.k0, j + columns) };
                        if !whole {
                            let alone = if asks { std::ptr::null() } else { next.data };
                            pack_panels::<S>(b.at(k, j), columns, deep, own, LANES * deep, alone);
                            sum_columns::<S>(p, own, LANES * deep, columns, j, k, deep);
                        }
                        (own, LANES * deep, Some(next))
                    }
                };
                for v in (0..panels).step_by(group) {
                    let to = all.wrapping_add(v * panel);
                    let source = whole.then(|| b.at(k, j + v * LANES));
                    let next = match upcoming {
                        Some(b) => Upcoming::source(b, columns, deep, v / group * tiles),
                        None if k + KC < piece.k1 => Upcoming::panels(to.wrapping_add(KC * LANES), group, panel, deep),
                        None => Upcoming::panels(to.wrapping_add(group * panel - (k - piece.k0) * LANES), group, panel, deep),
                    };
                    let some = Panels { packed: to, panel, count: group.min(panels - v), source };
                    let rows = Rows { fresh: beside && j == from && v == 0, ..rows };
                    multiply::<S>(piece, rows, some, j + v * LANES, k, deep, next);
                }
            }
        }
    }
    if piece.past {
        // SAFETY: a fence touches no memory.
        unsafe { S::fence() };
    }
}

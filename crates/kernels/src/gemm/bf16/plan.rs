//! Who packs and multiplies what: the two plans of the float32 product, for operands of half the size.
//!
//! Many rows: b is packed once by all threads, and a task packs a block of rows of a into its own L2 and multiplies it
//! with all panels. Few rows: a is packed once, and a task packs panels of b just before it uses them for all rows. In
//! both a task keeps the running sums of one group of columns beside it, so that out is written once.

use super::pack::{COLUMNS, ROWS, pack_panels, pack_rows};
use super::tile::{Block, PANELS, run};
use crate::gemm::{Matrix, Product, SERIAL_FLOPS, each, finish, share};
use crate::pool::threads;
use crate::scratch::Scratch;
use crate::simd::Avx512;

/// Items of k in one chain. Part of the row contract: changing it changes results.
const KC: usize = 512;
/// Pairs in such a block.
const DEEP: usize = KC / 2;
/// Up to this many rows the few-rows plan is used.
const FEW_ROWS: usize = 384;
/// Columns of one tile.
const GROUP: usize = PANELS * COLUMNS;
/// Columns that a task of the few-rows plan packs at a time: long runs of a row-major b, and L2 holds them.
const WIDE: usize = 2 * GROUP;
/// Panels of b that one task of the many-rows plan packs.
const PACKED_PANELS: usize = 4;
/// Pairs of packed b that are held at a time.
const PACKED: usize = 16 << 20;
/// Pairs of packed a that a task of the many-rows plan keeps in its L2, unless its fewest rows need more.
const OWN: usize = 96 << 10;

/// One product, or some of its columns, as the tasks see it.
struct Piece<'a> {
    p: &'a Product,
    b: Matrix,
    j0: usize,
    j1: usize,
    /// The packed operand: b's columns `j0..j1` in the many-rows plan, all of a in the few-rows plan.
    packed: *mut u32,
    /// Rows (many-rows plan) or columns (few-rows plan) of one task.
    step: usize,
    plain: bool,
}

// SAFETY: as for `Product`; tasks write disjoint parts of `packed`.
unsafe impl Sync for Piece<'_> {}

/// Computes one product.
///
/// # Safety
/// As [`crate::gemm::product`]; sizes are not zero, and the CPU has AVX512_BF16.
pub unsafe fn product(p: &Product, b: Matrix) {
    let parallel = 2 * p.m * p.n * p.k >= SERIAL_FLOPS;
    let piece = |j0, j1| Piece { p, b, j0, j1, packed: std::ptr::null_mut(), step: 0, plain: p.finish.is_plain() };
    // SAFETY: as promised above.
    unsafe {
        if p.m <= FEW_ROWS {
            few_rows(piece(0, p.n), parallel);
            return;
        }
        let wide = (PACKED / p.k.div_ceil(2) / GROUP * GROUP).max(GROUP);
        for j0 in (0..p.n).step_by(wide) {
            many_rows(piece(j0, (j0 + wide).min(p.n)), parallel);
        }
    }
}

unsafe fn many_rows(mut piece: Piece, parallel: bool) {
    let p = piece.p;
    let panels = (piece.j1 - piece.j0).div_ceil(COLUMNS);
    let pairs = p.k.div_ceil(2);
    let room = Scratch::new(panels * COLUMNS * pairs);
    piece.packed = room.pointer().cast();
    // SAFETY: the room is as large as the panels; each task packs its own.
    each(panels.div_ceil(PACKED_PANELS), parallel, |i| unsafe { pack_b(&piece, i) });
    // A few blocks of rows for each thread even out their speeds; too few rows would read the panels too often.
    piece.step = share(p.m, (OWN / pairs).clamp(48, 192), 8);
    // SAFETY: tasks have their own rows.
    each(p.m.div_ceil(piece.step), parallel, |i| unsafe { rows_task(&piece, i) });
}

unsafe fn few_rows(mut piece: Piece, parallel: bool) {
    let p = piece.p;
    let room = Scratch::new(p.m.div_ceil(ROWS) * ROWS * p.k.next_multiple_of(KC) / 2);
    piece.packed = room.pointer().cast();
    // SAFETY: the room is as large as the operand; each task packs its own block of k.
    each(p.k.div_ceil(KC), parallel, |i| unsafe { pack_a(&piece, i) });
    // Small tasks even out the threads' speeds; each reads all of a.
    piece.step = if p.n >= 4 * WIDE * threads() { WIDE } else { GROUP };
    // SAFETY: tasks have their own columns.
    each(p.n.div_ceil(piece.step), parallel, |i| unsafe { columns_task(&piece, i) });
}

/// The tiles of some rows, the fewest and evened out: the first row of tile t and how many it has. No closure takes part
/// in this: it would be compiled without the instruction set's features.
#[inline(always)]
fn tile(rows: usize, t: usize) -> (usize, usize) {
    let count = rows.div_ceil(ROWS);
    let (short, longer) = (rows / count, rows % count);
    (t * short + t.min(longer), short + usize::from(t < longer))
}

/// Packs `rows` rows of one block of k tile by tile: `[tile][pair][8]`.
#[inline(always)]
unsafe fn pack_tiles(a: Matrix, rows: usize, k: usize, to: *mut u32) {
    for t in 0..rows.div_ceil(ROWS) {
        let (i, r) = tile(rows, t);
        // SAFETY: the caller's room holds all tiles.
        unsafe { pack_rows(a.at(i, 0), r, k, to.add(t * ROWS * k.div_ceil(2))) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn pack_a(piece: &Piece, i: usize) {
    let p = piece.p;
    let k = i * KC;
    // SAFETY: block i starts after i blocks of all tiles.
    unsafe { pack_tiles(p.a.at(0, k), p.m, KC.min(p.k - k), piece.packed.add(k / 2 * p.m.next_multiple_of(ROWS))) };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn pack_b(piece: &Piece, i: usize) {
    let j = piece.j0 + i * PACKED_PANELS * COLUMNS;
    let columns = (PACKED_PANELS * COLUMNS).min(piece.j1 - j);
    let k = piece.p.k;
    let panel = k.div_ceil(2) * COLUMNS;
    // SAFETY: the room holds all panels.
    unsafe { pack_panels(piece.b.at(0, j), columns, k, piece.packed.add(i * PACKED_PANELS * panel), panel) };
}

/// Some rows (packed at `a`) times a group of panels (at `b`) for the block of k that starts at `k`.
struct Step {
    a: *const u32,
    i0: usize,
    rows: usize,
    b: *const u32,
    panel: usize,
    panels: usize,
    j: usize,
    k: usize,
    /// The running sums: row `i0` and column `j` are at its beginning.
    sums: *mut f32,
    sums_row: usize,
}

#[inline(always)]
unsafe fn multiply(piece: &Piece, s: &Step) {
    let p = piece.p;
    let columns = (s.panels * COLUMNS).min(piece.j1 - s.j);
    let deep = KC.min(p.k - s.k);
    let (first, last) = (s.k == 0, s.k + deep == p.k);
    let straight = columns == s.panels * COLUMNS && piece.plain;
    let mut aside = [0f32; ROWS * GROUP];
    let pairs = deep.div_ceil(2);
    for t in 0..s.rows.div_ceil(ROWS) {
        let (i, r) = tile(s.rows, t);
        // SAFETY: rows and columns lie inside out and the sums; `aside` holds the largest tile.
        unsafe {
            let before = s.sums.wrapping_add(i * s.sums_row);
            let sums = if first { std::ptr::null() } else { before.cast_const() };
            let at = (s.i0 + i) * p.out_row + s.j;
            let (out, out_row) = match (last, straight) {
                (false, _) => (before, s.sums_row),
                (true, true) => (p.out.add(at), p.out_row),
                (true, false) => (aside.as_mut_ptr(), GROUP),
            };
            let a = s.a.add(t * ROWS * pairs);
            if last && !straight {
                finish::prefetch::<Avx512>(p, at, r, columns);
            }
            run(r, s.panels, &Block { a, b: s.b, panel: s.panel, pairs, sums, sums_row: s.sums_row, out, out_row });
            if last && !straight {
                finish::tile::<Avx512>(p, aside.as_ptr(), GROUP, at, s.j, r, columns);
            }
        }
    }
}

/// A task of the many-rows plan: rows `i * step` and on, all columns of the piece.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn rows_task(piece: &Piece, i: usize) {
    let p = piece.p;
    let i0 = i * piece.step;
    let rows = piece.step.min(p.m - i0);
    let packed_rows = rows.next_multiple_of(ROWS);
    let pairs = p.k.div_ceil(2);
    let (room, sums) = (Scratch::new(packed_rows * pairs), Scratch::new(rows * GROUP));
    let a: *mut u32 = room.pointer().cast();
    let panel = pairs * COLUMNS;
    let panels = (piece.j1 - piece.j0).div_ceil(COLUMNS);
    // SAFETY: the rooms hold this task's rows; panels lie inside the packed piece.
    unsafe {
        for k in (0..p.k).step_by(KC) {
            pack_tiles(p.a.at(i0, k), rows, KC.min(p.k - k), a.add(k / 2 * packed_rows));
        }
        for v in (0..panels).step_by(PANELS) {
            for k in (0..p.k).step_by(KC) {
                let step = Step {
                    a: a.add(k / 2 * packed_rows),
                    i0,
                    rows,
                    b: piece.packed.add(v * panel + k / 2 * COLUMNS),
                    panel,
                    panels: PANELS.min(panels - v),
                    j: piece.j0 + v * COLUMNS,
                    k,
                    sums: sums.pointer(),
                    sums_row: GROUP,
                };
                multiply(piece, &step);
            }
        }
    }
}

/// A task of the few-rows plan: columns `i * step` and on, all rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn columns_task(piece: &Piece, i: usize) {
    let p = piece.p;
    let from = i * piece.step;
    let to = (from + piece.step).min(p.n);
    let wide = WIDE.min((to - from).next_multiple_of(COLUMNS));
    let (room, sums) = (Scratch::new(wide * DEEP), Scratch::new(p.m * wide));
    let own: *mut u32 = room.pointer().cast();
    for j in (from..to).step_by(wide) {
        let columns = wide.min(to - j);
        let panels = columns.div_ceil(COLUMNS);
        for k in (0..p.k).step_by(KC) {
            let deep = KC.min(p.k - k);
            let panel = deep.div_ceil(2) * COLUMNS;
            // SAFETY: the rooms hold the panels and all rows' sums; a is packed block by block.
            unsafe {
                pack_panels(piece.b.at(k, j), columns, deep, own, panel);
                for v in (0..panels).step_by(PANELS) {
                    let step = Step {
                        a: piece.packed.add(k / 2 * p.m.next_multiple_of(ROWS)),
                        i0: 0,
                        rows: p.m,
                        b: own.add(v * panel),
                        panel,
                        panels: PANELS.min(panels - v),
                        j: j + v * COLUMNS,
                        k,
                        sums: sums.pointer().add(v * COLUMNS),
                        sums_row: wide,
                    };
                    multiply(piece, &step);
                }
            }
        }
    }
}

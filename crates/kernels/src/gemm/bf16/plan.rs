//! Who packs and multiplies what: the two plans of the float32 product, for operands of half the size.
//!
//! Many rows: b is packed once by all threads, and a task packs a block of rows of a into its own L2 and multiplies it
//! with all panels. Few rows: a is packed once, and a task packs panels of b just before it uses them for all rows. In
//! both a task keeps its running sums beside it, so that out is written once, and what it packs next is on its way from memory
//! while it multiplies.

use super::ahead::Ahead;
use super::pack::{COLUMNS, ROWS, pack_panels, pack_rows};
use super::tile::{Block, PANELS, run};
use crate::gemm::{Matrix, Product, SERIAL_FLOPS, each, finish, past_caches, share};
use crate::pool::threads;
use crate::scratch::Scratch;
use std::arch::x86_64::_mm_sfence;

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
/// Floats of sums that a task of the many-rows plan keeps in its L2, unless its fewest rows need more.
const SUMS: usize = 96 << 10;
/// Columns that a task of the many-rows plan takes at a time where their sums must be kept.
const SUMMED: usize = 40 * GROUP;
/// Pairs of packed a that the few-rows plan holds at a time: every task reads all of them.
const PACKED_A: usize = 1 << 20;
/// Fewest and most rows of such a task.
const TALL: (usize, usize) = (48, 192);

/// One product, or some of its columns, as the tasks see it.
struct Piece<'a> {
    p: &'a Product,
    b: Matrix,
    j0: usize,
    j1: usize,
    k0: usize,
    k1: usize,
    /// The packed operand: b's columns `j0..j1` in the many-rows plan, items `k0..k1` of k of a in the few-rows plan.
    packed: *mut u32,
    /// The few-rows plan's running sums where a comes in pieces, rows n apart; null: each task keeps its own.
    sums: *mut f32,
    /// Rows (many-rows plan) or columns (few-rows plan) of one task.
    step: usize,
    /// The task that a thread takes after task i is likely to be i + `stride`.
    stride: usize,
    plain: bool,
    /// Whether whole tiles of out are written past the caches.
    past: bool,
}

// SAFETY: as for `Product`; tasks write disjoint parts of `packed`.
unsafe impl Sync for Piece<'_> {}

/// Computes one product.
///
/// # Safety
/// As [`crate::gemm::product`]; sizes are not zero, and the CPU has AVX512_BF16.
pub unsafe fn product(p: &Product, b: Matrix) {
    let parallel = 2 * p.m * p.n * p.k >= SERIAL_FLOPS;
    let stride = if parallel { threads() } else { 1 };
    let plain = p.finish.is_plain();
    let past = past_caches(p);
    let piece = |j0, j1| Piece {
        p,
        b,
        j0,
        j1,
        k0: 0,
        k1: p.k,
        packed: std::ptr::null_mut(),
        sums: std::ptr::null_mut(),
        step: 0,
        stride,
        plain,
        past,
    };
    // SAFETY: as promised above.
    unsafe {
        if p.m <= FEW_ROWS {
            few_rows(piece(0, p.n), parallel);
            return;
        }
        let most = if p.k > KC { SUMMED } else { p.n };
        let wide = (PACKED / p.k.div_ceil(2) / GROUP * GROUP).min(most).max(GROUP);
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
    let most = if p.k > KC { (SUMS / (panels * COLUMNS)).clamp(TALL.0, TALL.1) } else { TALL.1 };
    piece.step = share(p.m, most, 8);
    // SAFETY: tasks have their own rows.
    each(p.m.div_ceil(piece.step), parallel, |i| unsafe { rows_task(&piece, i) });
}

unsafe fn few_rows(mut piece: Piece, parallel: bool) {
    let p = piece.p;
    let rows = p.m.next_multiple_of(ROWS);
    let deep = (2 * PACKED_A / rows / KC * KC).clamp(KC, p.k.next_multiple_of(KC));
    let room = Scratch::new(rows * deep / 2);
    // Whole vectors: a tile writes the columns behind the last, too.
    let sums = if p.k > deep { Some(Scratch::new(p.m * p.n.next_multiple_of(COLUMNS))) } else { None };
    piece.packed = room.pointer().cast();
    piece.sums = sums.as_ref().map_or(std::ptr::null_mut(), Scratch::pointer);
    // Small tasks even out the threads' speeds; each reads all of a.
    piece.step = if p.n >= 4 * WIDE * threads() { WIDE } else { GROUP };
    for k in (0..p.k).step_by(deep) {
        (piece.k0, piece.k1) = (k, (k + deep).min(p.k));
        // SAFETY: the room is as large as the piece; each task packs its own block of k.
        each((piece.k1 - k).div_ceil(KC), parallel, |i| unsafe { pack_a(&piece, i) });
        // SAFETY: tasks have their own columns.
        each(p.n.div_ceil(piece.step), parallel, |i| unsafe { columns_task(&piece, i) });
    }
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
    let k = piece.k0 + i * KC;
    // SAFETY: block i starts after i blocks of all tiles.
    unsafe { pack_tiles(p.a.at(0, k), p.m, KC.min(p.k - k), piece.packed.add(i * DEEP * p.m.next_multiple_of(ROWS))) };
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

impl Step {
    /// Steps that [`multiply`] goes ahead.
    fn steps(rows: usize, panels: usize) -> usize {
        rows * panels.div_ceil(PANELS)
    }
}

#[inline(always)]
unsafe fn multiply(piece: &Piece, s: &Step, ahead: &mut Ahead) {
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
            let past = last && straight && piece.past;
            let beside = if last && !past { finish::touched(p, at) } else { finish::NOTHING };
            let (sums_row, beside_row) = (s.sums_row, p.out_row);
            run(r, s.panels, &Block { a, b: s.b, panel: s.panel, pairs, sums, sums_row, out, out_row, past, beside, beside_row }, ahead);
            if last && !straight {
                finish::tile(p, aside.as_ptr(), GROUP, at, s.j, r, columns);
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
    let panel = p.k.div_ceil(2) * COLUMNS;
    let panels = (piece.j1 - piece.j0).div_ceil(COLUMNS);
    let sums_row = panels * COLUMNS;
    let room = Scratch::new(rows.next_multiple_of(ROWS) * KC.min(p.k).div_ceil(2));
    let sums = Scratch::new(if p.k > KC { rows * sums_row } else { 0 });
    let a: *mut u32 = room.pointer().cast();
    for k in (0..p.k).step_by(KC) {
        // SAFETY: the rooms hold this task's rows; panels lie inside the packed piece.
        unsafe {
            pack_tiles(p.a.at(i0, k), rows, KC.min(p.k - k), a);
            let steps = Step::steps(rows, panels);
            let ahead = &mut match (k + KC, (i + piece.stride) * piece.step) {
                (k, _) if k < p.k => Ahead::new(p.a.at(i0, k), rows, KC.min(p.k - k), steps),
                (_, i) if i < p.m => Ahead::new(p.a.at(i, 0), piece.step.min(p.m - i), KC.min(p.k), steps),
                _ => Ahead::NONE,
            };
            for v in (0..panels).step_by(PANELS) {
                let step = Step {
                    a,
                    i0,
                    rows,
                    b: piece.packed.add(v * panel + k / 2 * COLUMNS),
                    panel,
                    panels: PANELS.min(panels - v),
                    j: piece.j0 + v * COLUMNS,
                    k,
                    sums: sums.pointer().wrapping_add(v * COLUMNS),
                    sums_row,
                };
                multiply(piece, &step, ahead);
            }
        }
    }
    // What went past the caches is in no order with the thread's other writes.
    _mm_sfence();
}

/// A task of the few-rows plan: columns `i * step` and on, all rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
unsafe fn columns_task(piece: &Piece, i: usize) {
    let p = piece.p;
    let from = i * piece.step;
    let to = (from + piece.step).min(p.n);
    let wide = WIDE.min((to - from).next_multiple_of(COLUMNS));
    let room = Scratch::new(wide * DEEP);
    let own_sums = if piece.sums.is_null() { Some(Scratch::new(p.m * wide)) } else { None };
    let own: *mut u32 = room.pointer().cast();
    for j in (from..to).step_by(wide) {
        let columns = wide.min(to - j);
        let panels = columns.div_ceil(COLUMNS);
        let (sums, sums_row) = match &own_sums {
            Some(own) => (own.pointer(), wide),
            None => (piece.sums.wrapping_add(j), p.n.next_multiple_of(COLUMNS)),
        };
        for k in (piece.k0..piece.k1).step_by(KC) {
            let deep = KC.min(p.k - k);
            let panel = deep.div_ceil(2) * COLUMNS;
            let (next_k, next_j) = match (k + KC, j + wide) {
                (k, _) if k < piece.k1 => (k, j),
                (_, j) if j < to => (piece.k0, j),
                _ => (piece.k0, (i + piece.stride) * piece.step),
            };
            // SAFETY: the rooms hold the panels and all rows' sums; a is packed block by block.
            unsafe {
                pack_panels(piece.b.at(k, j), columns, deep, own, panel);
                let ahead = &mut if next_j < p.n {
                    let next = piece.b.at(next_k, next_j);
                    Ahead::new(next, KC.min(p.k - next_k), wide.min(p.n - next_j), Step::steps(p.m, panels))
                } else {
                    Ahead::NONE
                };
                for v in (0..panels).step_by(PANELS) {
                    let step = Step {
                        a: piece.packed.add((k - piece.k0) / 2 * p.m.next_multiple_of(ROWS)),
                        i0: 0,
                        rows: p.m,
                        b: own.add(v * panel),
                        panel,
                        panels: PANELS.min(panels - v),
                        j: j + v * COLUMNS,
                        k,
                        sums: sums.wrapping_add(v * COLUMNS),
                        sums_row,
                    };
                    multiply(piece, &step, ahead);
                }
            }
        }
    }
    _mm_sfence();
}

//! Matrix products: `gemm` and `linear`.
//!
//! Every element of a result is the same chain of operations, whatever the sizes around it: FMAs in ascending k from 0
//! over a block of [`KC`] items, then the blocks' sums added one after the other, then the epilogue. Tiles, packing,
//! threads and paths only change when and where that happens. So row 7 of a batch of 1000 has the bytes it has alone.
//!
//! Two plans, both after Goto and van de Geijn 2008. Many rows: a task multiplies a block of rows of a with all panels of 16 columns of b. A
//! large b is packed into panels once by all threads; of a small one each thread packs its own while its first tile multiplies, so that no
//! thread waits for another or reads what another's cache holds. Rows of a that each lie in one run are read as they are; rows that lie side by
//! side, as in a weight's gradient, are packed by the tiles of the first panels while they multiply. Few rows: a is packed once (a small one of
//! rows side by side by each thread for itself, in the same way), and a task packs panels of b into its own L2 just before it uses them for all
//! rows, so that a large weight is read from memory once and never written back; a linear layer's weight is turned by the first tile of rows
//! itself, in registers, while the FMAs of the columns before run.

use crate::pool::{parallel_for, parallel_threads, threads};
use crate::scratch::Scratch;
use crate::shared::Shared;
use crate::simd::LANES;

pub use crate::gated::Activation;
pub use bf16::{native as bf16_native, product_bf16, products_bf16};
pub use finish::Finish;
pub(crate) use finish::tile as finish_tile;
pub use pack::Matrix;

mod bf16;
mod finish;
mod pack;
mod tasks;
#[cfg(test)]
mod tests;
mod tile;
mod upcoming;

use tasks::{columns_task, finish_zeros, pack_a, pack_b, rows_task};

/// Items of k in one chain of FMAs: as many as keep a tile of 8 rows of a in a first-level cache of 32 KiB, for each end of a chain costs a
/// read and a write of the tile. Part of the row contract: changing it changes results.
pub const KC: usize = 768;

/// Below this many operations one thread does it all.
const SERIAL_FLOPS: usize = 200_000;
/// Up to this many rows the few-rows plan is used, where b has at least twice as many columns.
const FEW_ROWS: usize = 384;
/// Floats of packed operand that are held at a time.
const PACKED: usize = 4 << 20;
/// Panels that one task packs.
const PACKED_PANELS: usize = 4;
/// Shares of a block of rows that are packed by one task each, so that a few blocks of k keep all threads busy.
const A_SHARES: usize = 4;
/// Columns that are packed at a time.
const WIDE: usize = 4096;
/// Floats of b up to which each thread packs them for itself: half of a second-level cache of 1 MiB.
const OWN_PANELS: usize = 128 << 10;
/// Floats of a that a task of the many-rows plan takes: with the panels it meets they fill a second-level cache of 1 MiB.
const OWN: usize = 72 << 10;
/// Items of k that it takes at a time.
const DEEP: usize = 2 * KC;
/// Panels in most tiles of the widest instruction set.
const GROUP: usize = 3;
/// Floats of b from which on it comes from memory rather than from a cache.
const LARGE: usize = 4 << 20;
/// Floats of out from which on a plain result goes to memory past the caches (tests: few): a weight's gradient, which the optimiser
/// reads when other data have long taken its place, and whose old contents would be read for nothing.
const LARGE_OUT: usize = if cfg!(test) { 1 << 10 } else { 2 << 20 };

/// Where b comes from.
#[derive(Clone, Copy)]
pub enum Right {
    /// k × n in memory.
    Plain(Matrix),
    /// What [`pack_weight`] made: panels of 16 columns, `[panel][k][16]`.
    Packed(*const f32),
}

/// out (m × n, rows `out_row` apart) = finish(a (m × k) · b (k × n)).
#[derive(Clone, Copy)]
pub struct Product {
    pub a: Matrix,
    pub b: Right,
    pub out: *mut f32,
    pub out_row: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub finish: Finish,
}

// SAFETY: tasks write disjoint parts of out (and of `slope`); operands are only read.
unsafe impl Sync for Product {}
// SAFETY: as above.
unsafe impl Send for Product {}

/// One piece of a product, as the tasks see it: columns `j0..j1` and items `k0..k1` of k.
struct Piece<'a> {
    p: &'a Product,
    j0: usize,
    j1: usize,
    k0: usize,
    k1: usize,
    /// The running sums of all but the last block; column 0 is column 0 of out.
    sums: *mut f32,
    sums_row: usize,
    /// The packed operand: all of b's piece in the many-rows plan, all of a's in the few-rows plan.
    packed: *mut f32,
    /// Items from one panel of b to the next.
    panel: usize,
    /// Rows (many-rows plan) or columns (few-rows plan) of one task.
    step: usize,
    plain: bool,
    /// Whether whole vectors of out, which then lie on cache lines, go to memory past the caches.
    past: bool,
}

// SAFETY: as for `Product`; tasks write disjoint sums and disjoint parts of `packed`.
unsafe impl Sync for Piece<'_> {}

/// Whether out goes to memory past the caches, whole cache lines at a time.
fn past_caches(p: &Product) -> bool {
    let lines = p.out_row.is_multiple_of(LANES) && (p.out as usize).is_multiple_of(LANES * size_of::<f32>());
    p.finish.is_plain() && p.m * p.n >= LARGE_OUT && lines
}

/// How much of `n` one task takes: at most `most`, less (down to a third) where that gives each thread up to `tasks` tasks, and as many
/// tasks for each thread.
fn share(n: usize, most: usize, tasks: usize) -> usize {
    let count = n.div_ceil(most).max((tasks * threads()).min(n.div_ceil(most.div_ceil(3))));
    n.div_ceil(count.next_multiple_of(threads()))
}

/// Runs the tasks on all threads where that pays.
fn each(tasks: usize, parallel: bool, task: impl Fn(usize) + Sync) {
    if parallel {
        parallel_for(tasks, task);
    } else {
        for i in 0..tasks {
            task(i);
        }
    }
}

/// As [`each`]; each thread has a room of its own of so many floats, which the first of its tasks fills for the others.
fn per_thread(tasks: usize, parallel: bool, room: usize, task: impl Fn(usize, *mut f32, bool) + Sync) {
    let body = |next: &mut dyn FnMut() -> Option<usize>| {
        let mut own = None;
        while let Some(i) = next() {
            let first = own.is_none();
            let own: &Scratch = own.get_or_insert_with(|| Scratch::new(room));
            task(i, own.pointer(), first);
        }
    };
    if parallel {
        parallel_threads(tasks, body);
    } else {
        let mut all = 0..tasks;
        body(&mut || all.next());
    }
}

/// Computes one product.
///
/// # Safety
/// Operands must hold what the sizes and strides reach; out may be `finish.residual` or `finish.factor` but overlap nothing else.
pub unsafe fn product(p: &Product) {
    if p.m == 0 || p.n == 0 {
        return;
    }
    if p.k == 0 {
        // SAFETY: as promised above.
        unsafe { finish_zeros(p) };
        return;
    }
    let finish = &p.finish;
    let in_place = [finish.residual, finish.factor].contains(&p.out.cast_const());
    let own = p.k > KC && (finish.accumulate || in_place);
    let own = if own && finish.slope.is_null() { Some(Scratch::new(p.m * p.n)) } else { None };
    let (sums, sums_row) = match &own {
        Some(own) => (own.pointer(), p.n),
        None if finish.accumulate || !finish.slope.is_null() => (finish.slope, p.out_row),
        None => (p.out, p.out_row),
    };
    let parallel = 2 * p.m * p.n * p.k >= SERIAL_FLOPS;
    let few = p.m <= FEW_ROWS && p.n >= 2 * p.m;
    let wide = if few { p.n } else { p.n.min(WIDE) };
    let packed_wide = if few { p.m } else { wide };
    let most = if few { p.k.next_multiple_of(KC) } else { DEEP };
    let deep = (PACKED / packed_wide / KC * KC).clamp(KC, most);
    for j0 in (0..p.n).step_by(wide) {
        for k0 in (0..p.k).step_by(deep) {
            let (j1, k1) = ((j0 + wide).min(p.n), (k0 + deep).min(p.k));
            let (packed, plain, past) = (std::ptr::null_mut(), finish.is_plain(), p.k <= KC && past_caches(p));
            let piece = Piece { p, j0, j1, k0, k1, sums, sums_row, packed, panel: 0, step: 0, plain, past };
            // SAFETY: as promised above.
            unsafe { if few { few_rows(piece, parallel) } else { many_rows(piece, parallel) } };
        }
    }
}

unsafe fn many_rows(mut piece: Piece, parallel: bool) {
    let p = piece.p;
    let panels = (piece.j1 - piece.j0).div_ceil(LANES);
    let deep = piece.k1 - piece.k0;
    // A few blocks of rows for each thread even out their speeds; too few rows would read the panels too often.
    piece.step = share(p.m, (OWN / deep).clamp(48, 144), 8);
    let tasks = p.m.div_ceil(piece.step);
    let small = panels * LANES * deep <= OWN_PANELS;
    let shared;
    match p.b {
        Right::Packed(b) => {
            piece.packed = b.cast_mut().wrapping_add(piece.j0 * p.k + piece.k0 * LANES);
            piece.panel = p.k * LANES;
        }
        Right::Plain(_) if small => {
            piece.panel = deep * LANES;
            per_thread(tasks, parallel, panels * LANES * deep, |i, own, fresh| {
                // SAFETY: tasks have their own rows, and the room is as large as the panels.
                unsafe { rows_task(&piece, i, own, fresh) }
            });
            return;
        }
        Right::Plain(_) => {
            shared = Scratch::new(panels * LANES * deep);
            piece.packed = shared.pointer();
            piece.panel = deep * LANES;
            // SAFETY: the room is as large as the panels; each task packs its own.
            each(panels.div_ceil(PACKED_PANELS), parallel, |i| unsafe { pack_b(&piece, i) });
        }
    }
    // SAFETY: tasks have their own rows.
    each(tasks, parallel, |i| unsafe { rows_task(&piece, i, std::ptr::null_mut(), false) });
}

unsafe fn few_rows(mut piece: Piece, parallel: bool) {
    let p = piece.p;
    let deep = piece.k1 - piece.k0;
    let columns = piece.j1 - piece.j0;
    // Narrow pieces of long rows are slow to read from memory.
    let long = matches!(p.b, Right::Plain(b) if b.col == 1) && p.k * columns > LARGE;
    let panels = columns.div_ceil(LANES);
    // Whole groups of the widest tile where each thread gets as many of them.
    let unit = if panels.is_multiple_of(GROUP * threads()) { GROUP } else { 1 };
    let most = (if long { 24 } else { 12 }) / unit;
    piece.step = LANES * unit * share(panels / unit, most, if long { 2 } else { 8 }).max(GROUP / unit);
    let tasks = columns.div_ceil(piece.step);
    // Rows of a small a that lie side by side are packed by each thread while its first tiles multiply.
    let beside = p.a.row == 1 && p.a.col != 1 && matches!(p.b, Right::Plain(b) if b.col == 1) && p.m * deep <= OWN_PANELS;
    if beside {
        per_thread(tasks, parallel, p.m * deep, |i, own, fresh| {
            // SAFETY: tasks have their own columns, and the room is as large as a's piece.
            unsafe { columns_task(&piece, i, own, fresh) }
        });
        return;
    }
    let room = Scratch::new(p.m * deep);
    piece.packed = room.pointer();
    let blocks = deep.div_ceil(KC);
    let (parallel_a, shares) = if p.m * deep >= 1 << 15 { (parallel, A_SHARES) } else { (false, 1) };
    // SAFETY: the room is as large as the operand; each task packs its own part of it.
    each(blocks * shares, parallel_a, |i| unsafe { pack_a(&piece, i, shares) });
    // SAFETY: tasks have their own columns.
    each(tasks, parallel, |i| unsafe { columns_task(&piece, i, std::ptr::null_mut(), false) });
}

/// Floats that [`pack_weight`] writes for a weight of `n` outputs and `k` inputs.
pub fn packed_size(n: usize, k: usize) -> usize {
    n.next_multiple_of(LANES) * k
}

/// Packs b (k × n) for [`Right::Packed`].
///
/// # Safety
/// `out` must have room for [`packed_size`] items.
pub unsafe fn pack_weight(b: Matrix, n: usize, k: usize, out: *mut f32) {
    let nowhere = Matrix { data: std::ptr::null(), row: 0, col: 0 };
    let p = Product { a: nowhere, b: Right::Plain(b), out, out_row: 0, m: 0, n, k, finish: Finish::PLAIN };
    let (panel, step, plain, past) = (k * LANES, 0, true, false);
    let piece = Piece { p: &p, j0: 0, j1: n, k0: 0, k1: k, sums: out, sums_row: 0, packed: out, panel, step, plain, past };
    // SAFETY: as promised above; each task packs its own panels.
    each(n.div_ceil(PACKED_PANELS * LANES), n * k >= 1 << 15, |i| unsafe { pack_b(&piece, i) });
}

/// [`pack_weight`] of n rows of k items, n whole groups of 16, over the rows themselves: a group lies where its rows lay.
///
/// # Safety
/// `weight` must hold n · k items.
pub unsafe fn pack_weight_in_place(weight: *mut f32, n: usize, k: usize) {
    let (weight, panel) = (Shared::new(weight), k * LANES);
    each(n / LANES, n * k >= 1 << 15, |g| {
        let rows = Scratch::new(panel);
        // SAFETY: as promised above; each task has its own group, and packs it from a copy.
        unsafe {
            let out = weight.at(g * panel);
            rows.pointer().copy_from_nonoverlapping(out, panel);
            let nowhere = Matrix { data: std::ptr::null(), row: 0, col: 0 };
            let b = Right::Plain(Matrix { data: rows.pointer(), row: 1, col: k });
            let p = Product { a: nowhere, b, out, out_row: 0, m: 0, n: LANES, k, finish: Finish::PLAIN };
            let (step, plain, past) = (0, true, false);
            let piece = Piece { p: &p, j0: 0, j1: LANES, k0: 0, k1: k, sums: out, sums_row: 0, packed: out, panel, step, plain, past };
            pack_b(&piece, 0);
        }
    });
}

/// Products over a batch: problem z adds z · its batch stride to each operand.
#[derive(Clone, Copy)]
pub struct Batch {
    pub count: usize,
    pub a: usize,
    pub b: usize,
    pub out: usize,
}

/// `batch.count` products of the same sizes and strides; the operands of the first are in `p`, whose b is plain and whose
/// epilogue has only alpha and accumulate.
///
/// # Safety
/// As [`product`], for every problem; outputs do not overlap.
pub unsafe fn products(p: &Product, batch: Batch) {
    // SAFETY: as promised above.
    unsafe { batched(p, batch, product) };
}

/// The products of a batch, each computed by `one`.
unsafe fn batched(p: &Product, batch: Batch, one: unsafe fn(&Product)) {
    let mut p = *p;
    let mut count = batch.count;
    if count > 1 && batch.b == 0 && batch.a == p.m * p.a.row && batch.out == p.m * p.out_row {
        // One tall product.
        p.m *= count;
        count = 1;
    }
    let flops = 2 * p.m * p.n * p.k;
    // Whole problems for each thread, unless they are few and large.
    let whole = flops < 20 * SERIAL_FLOPS || count >= 8 * threads();
    // SAFETY: as promised above.
    each(count, whole && count > 1 && flops * count >= SERIAL_FLOPS, |z| unsafe { one(&problem(&p, batch, z)) });
}

/// Problem `z` of a batch.
fn problem(p: &Product, batch: Batch, z: usize) -> Product {
    let a = Matrix { data: p.a.data.wrapping_add(z * batch.a), ..p.a };
    let b = match p.b {
        Right::Plain(b) => Right::Plain(Matrix { data: b.data.wrapping_add(z * batch.b), ..b }),
        packed => packed,
    };
    Product { a, b, out: p.out.wrapping_add(z * batch.out), ..*p }
}

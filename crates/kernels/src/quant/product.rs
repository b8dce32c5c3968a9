//! A linear layer with a packed weight: which thread multiplies which groups with which rows.

use super::activations::{Activations, TALL, height};
use super::dots::{Dots, Shape, dispatch_dots, groups_together};
use super::layout::{BLOCK, Form, Kind, Planes};
use super::tile::{Ahead, Groups, LINE, Of, spread, tile};
use crate::gemm::{Finish, Matrix, Product, Right, finish_tile};
use crate::pool::{parallel_for, threads};
use crate::scratch::Scratch;
use crate::simd::{Isa, LANES, Simd, isa};

/// out (m, n) = finish(x (m, k) · weightᵀ), with a weight that [`super::pack`] made.
#[derive(Clone, Copy)]
pub struct QuantProduct {
    pub kind: Kind,
    pub x: *const f32,
    pub weight: *const u8,
    pub out: *mut f32,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub finish: Finish,
}

/// Multiplications below which one thread does it all.
const SERIAL: usize = 100_000;
/// Multiplications of a task at least.
const TASK: usize = 16 << 10;
/// Rows of activations whose records a task meets with all of its groups before it takes the next: their bytes stay in the second-level cache.
const CACHED: usize = 256 << 10;
/// Tasks of each thread at most: with few rows a layer takes microseconds, and threads should end together.
const TASKS: usize = 8;
const TASKS_OF_FEW: usize = 16;
/// As many rows are few: they wait for the weight.
const FEW: usize = TALL;
/// How far few rows ask for their weight in advance: a quarter of a first-level cache.
const SOON: usize = 8 << 10;
/// Groups of a tile where halves of a block have scales, and sums, of their own: as many as registers hold.
const HALVES: usize = 2;

/// Groups of a tile, where an instruction set takes so many together.
const fn most(together: usize, halves: bool) -> usize {
    if halves && together > HALVES { HALVES } else { together }
}

/// What the tasks share.
struct Job<'a> {
    isa: Isa,
    p: &'a QuantProduct,
    form: Form,
    planes: Planes,
    x: &'a Activations,
    /// The product as the epilogue knows it.
    finish: Product,
    /// Groups of one task.
    step: usize,
    /// Rows met at a time.
    rows: usize,
}

// SAFETY: tasks write disjoint columns of out (and of `slope`); operands are only read.
unsafe impl Sync for Job<'_> {}

/// Computes one layer.
///
/// # Safety
/// As [`linears`].
pub unsafe fn linear(p: &QuantProduct) {
    // SAFETY: as promised.
    unsafe { linears(std::slice::from_ref(p)) };
}

/// Computes layers that read the same rows: x, m and k of all are the first one's. Rows are rounded once for the layouts that see them alike, and threads share
/// the tasks of all layers. Each result has the bytes that [`linear`] gives it.
///
/// # Safety
/// Operands hold what the sizes say, `weight` is a packed one of `n` rows of `k` items; out may be `finish.residual` but overlap nothing else.
pub unsafe fn linears(products: &[QuantProduct]) {
    let Some(&QuantProduct { x, m, k, .. }) = products.first() else { return };
    let columns: usize = products.iter().map(|p| p.n).sum();
    if m == 0 || columns == 0 {
        return;
    }
    let isa = isa();
    let seen = |form: &Form| (form.sub, form.zero);
    let mut rows: Vec<((usize, i32), Activations)> = Vec::with_capacity(1);
    for p in products {
        let form = p.kind.form();
        if rows.iter().all(|(alike, _)| *alike != seen(&form)) {
            // SAFETY: x holds m · k numbers.
            rows.push((seen(&form), unsafe { Activations::of(isa, x, m, k, &form) }));
        }
    }
    let groups: usize = products.iter().map(|p| p.n.div_ceil(LANES)).sum();
    let least = TASK.div_ceil(LANES * k.max(1) * m);
    let step = groups.div_ceil(threads() * if m <= FEW { TASKS_OF_FEW } else { TASKS }).max(least);
    let met = (CACHED / k.max(1)).clamp(48, 480) / 48 * 48;
    let together = groups_together(isa);
    let nowhere = Matrix { data: std::ptr::null(), row: 0, col: 0 };
    let mut tasks = 0;
    let jobs: Vec<(usize, Job)> = products
        .iter()
        .map(|p| {
            let form = p.kind.form();
            let planes = Planes::of(&form, k);
            let finish = Product { a: nowhere, b: Right::Plain(nowhere), out: p.out, out_row: p.n, m, n: p.n, k, finish: p.finish };
            let x = &rows.iter().find(|(alike, _)| *alike == seen(&form)).expect("rows were rounded for each layout").1;
            // Whole tiles, where that leaves tasks enough.
            let whole = step.next_multiple_of(most(together, form.sub != BLOCK));
            let step = if m > FEW && groups.div_ceil(whole) >= 2 * threads() { whole } else { step };
            let first = tasks;
            tasks += p.n.div_ceil(LANES).div_ceil(step);
            (first, Job { isa, p, form, planes, x, finish, step, rows: met })
        })
        .collect();
    let run = |i: usize| {
        let (first, job) = jobs.iter().rev().find(|(first, _)| *first <= i).expect("the first job begins at 0");
        // SAFETY: as promised above; tasks have their own columns.
        unsafe { task(job, i - first) };
    };
    if m * columns * k < SERIAL { (0..tasks).for_each(run) } else { parallel_for(tasks, run) }
}

/// One task. A function of its own for each shape: all of them in one would take a compiler minutes.
unsafe fn task(job: &Job, i: usize) {
    let f = &job.form;
    // SAFETY: as promised to `linear`.
    unsafe {
        match (f.nibbles, f.table.is_some(), f.sub != BLOCK, f.minimum, f.small) {
            (true, false, false, false, _) => groups::<Of<true, false, false, false, true>>(job.isa, job, i),
            (true, false, false, true, _) => groups::<Of<true, false, false, true, true>>(job.isa, job, i),
            (true, false, true, false, _) => groups::<Of<true, false, true, false, true>>(job.isa, job, i),
            (true, false, true, true, _) => groups::<Of<true, false, true, true, true>>(job.isa, job, i),
            (true, true, _, _, false) => groups::<Of<true, true, false, false, false>>(job.isa, job, i),
            (true, true, _, _, true) => groups::<Of<true, true, false, false, true>>(job.isa, job, i),
            (false, _, false, false, false) => groups::<Of<false, false, false, false, false>>(job.isa, job, i),
            (false, _, false, false, true) => groups::<Of<false, false, false, false, true>>(job.isa, job, i),
            (false, _, false, true, _) => groups::<Of<false, false, false, true, true>>(job.isa, job, i),
            (false, _, true, ..) => groups::<Of<false, false, true, false, true>>(job.isa, job, i),
        }
    }
}

dispatch_dots! {
    /// Groups i · step … of the weight with all rows.
    unsafe fn groups<H>(job: &Job, i: usize) = groups_on
}

#[inline(always)]
unsafe fn groups_on<D: Dots, H: Shape>(job: &Job, i: usize) {
    let most = const { most(D::GROUPS, H::HALF) };
    let subs = job.p.k / job.form.sub;
    let room = Scratch::new(most * LANES * (2 * subs + TALL));
    let last = ((i + 1) * job.step).min(job.p.n.div_ceil(LANES));
    for from in (0..job.p.m).step_by(job.rows) {
        let mut g = i * job.step;
        while g < last {
            // Few rows wait for the weight: it is read from front to back.
            let whole = job.p.m > FEW && last - g >= most;
            // SAFETY: as promised to `linear`.
            unsafe {
                if const { D::GROUPS == 3 && !H::HALF } && whole {
                    rows_of::<D, H, 3>(job, g, from, &room);
                    g += 3;
                } else if const { D::GROUPS == 3 && H::HALF } && whole {
                    rows_of::<D, H, HALVES>(job, g, from, &room);
                    g += HALVES;
                } else {
                    rows_of::<D, H, 1>(job, g, from, &room);
                    g += 1;
                }
            }
        }
    }
}

/// G groups from `g` on with as many rows as a task meets at a time, from `from` on.
#[inline(always)]
unsafe fn rows_of<D: Dots, H: Shape, const G: usize>(job: &Job, g: usize, from: usize, room: &Scratch) {
    static NO_TABLE: [u8; 16] = [0; 16];
    let (p, form, planes) = (job.p, &job.form, &job.planes);
    let scale_items = p.k / form.sub * LANES;
    let (scales, minima) = (room.pointer(), room.pointer().wrapping_add(G * scale_items));
    let sums = minima.wrapping_add(G * scale_items);
    // SAFETY: as promised to `linear`; `room` is large enough for G groups.
    unsafe {
        let start = p.weight.add(g * planes.group);
        for j in 0..G {
            spread::<D>(form, planes, start.add(j * planes.group), p.k, scales.add(j * scale_items), minima.add(j * scale_items));
        }
        let groups = Groups {
            start,
            bytes: planes.group,
            codes: planes.codes,
            stride: planes.group / (p.k / BLOCK).max(1),
            scales,
            minima,
            scale_items,
            table: form.table.unwrap_or(&NO_TABLE),
        };
        let columns = (G * LANES).min(p.n - g * LANES);
        let to = (from + job.rows).min(p.m);
        let mut row = from;
        let next = start.wrapping_add(G * planes.group);
        let mut ahead = if p.m <= FEW {
            // They have no time to spare: while the first of them read a block, with its part of the planes of scales, the like a little further is on its way.
            Ahead { at: start.wrapping_add(SOON), step: groups.stride, far: false }
        } else {
            // The groups behind these come from memory meanwhile, evenly: a thread takes tasks in order.
            let blocks = (to - from).div_ceil(D::ROWS) * (p.k / BLOCK).max(1);
            let step = if from > 0 { 0 } else { (G * planes.group).div_ceil(blocks).next_multiple_of(LINE) };
            Ahead { at: next, step, far: true }
        };
        while row < to {
            let rows = height::<D>(to - row, p.m);
            let x = job.x.tile(row);
            match rows {
                TALL if const { D::GROUPS > 1 && G == 1 } => tile::<D, H, TALL, G>(&groups, &x, ahead, sums),
                4 if const { D::ROWS >= 4 } => tile::<D, H, 4, G>(&groups, &x, ahead, sums),
                2 => tile::<D, H, 2, G>(&groups, &x, ahead, sums),
                1 => tile::<D, H, 1, G>(&groups, &x, ahead, sums),
                _ => unreachable!("no such tile"),
            }
            ahead.at = ahead.at.wrapping_add(ahead.step * (p.k / BLOCK));
            if p.m <= FEW || ahead.at >= next.wrapping_add(G * planes.group) {
                ahead.step = 0;
            }
            let at = row * p.n + g * LANES;
            if p.finish.is_plain() {
                for r in 0..rows {
                    for v in (0..columns).step_by(LANES) {
                        let sums = D::S::load(sums.add(r * G * LANES + v));
                        D::S::store_n(p.out.add(at + r * p.n + v), sums, LANES.min(columns - v));
                    }
                }
            } else {
                finish_tile(&job.finish, sums, G * LANES, at, g * LANES, rows, columns);
            }
            row += rows;
        }
    }
}

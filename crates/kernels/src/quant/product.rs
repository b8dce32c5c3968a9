//! A linear layer with a packed weight: which thread multiplies which groups with which rows.

use super::activations::Activations;
use super::dots::{Dots, dispatch_dots};
use super::layout::{BLOCK, Form, Kind, Planes};
use super::tile::{Group, Of, Shape, spread, tile};
use crate::gemm::{Finish, Matrix, Product, Right, finish_tile};
use crate::pool::{parallel_for, threads};
use crate::scratch::Scratch;
use crate::simd::{LANES, Simd};

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
const TASK: usize = 32 << 10;
/// Rows of activations whose records a task meets with all of its groups before it takes the next: their bytes stay in the second-level cache.
const CACHED: usize = 256 << 10;
/// Tasks of each thread at most.
const TASKS: usize = 8;

/// What the tasks share.
struct Job<'a> {
    p: &'a QuantProduct,
    form: Form,
    planes: Planes,
    x: Activations,
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
/// Operands hold what the sizes say, `weight` is a packed one of `n` rows of `k` items; out may be `finish.residual` but overlap nothing else.
pub unsafe fn linear(p: &QuantProduct) {
    if p.m == 0 || p.n == 0 {
        return;
    }
    let form = p.kind.form();
    let planes = Planes::of(&form, p.k);
    let nowhere = Matrix { data: std::ptr::null(), row: 0, col: 0 };
    let finish = Product { a: nowhere, b: Right::Plain(nowhere), out: p.out, out_row: p.n, m: p.m, n: p.n, k: p.k, finish: p.finish };
    // SAFETY: x holds m · k numbers.
    let x = unsafe { Activations::of(p.x, p.m, p.k, &form) };
    let groups = p.n.div_ceil(LANES);
    let least = TASK.div_ceil(LANES * p.k.max(1) * p.m);
    let step = groups.div_ceil(threads() * TASKS).max(least);
    let rows = (CACHED / p.k.max(1)).clamp(48, 480) / 48 * 48;
    let job = Job { p, form, planes, x, finish, step, rows };
    let tasks = groups.div_ceil(step);
    if p.m * p.n * p.k < SERIAL {
        for i in 0..tasks {
            // SAFETY: as promised above.
            unsafe { task(&job, i) };
        }
    } else {
        // SAFETY: as promised above; tasks have their own columns.
        parallel_for(tasks, |i| unsafe { task(&job, i) });
    }
}

dispatch_dots! { unsafe fn task(job: &Job, i: usize) = task_on }

#[inline(always)]
unsafe fn task_on<D: Dots>(job: &Job, i: usize) {
    let f = &job.form;
    // SAFETY: as promised to `linear`.
    unsafe {
        match (f.nibbles, f.table.is_some(), f.sub != BLOCK, f.minimum) {
            (true, false, false, false) => groups::<D, Of<true, false, false, false>>(job, i),
            (true, false, false, true) => groups::<D, Of<true, false, false, true>>(job, i),
            (true, false, true, false) => groups::<D, Of<true, false, true, false>>(job, i),
            (true, false, true, true) => groups::<D, Of<true, false, true, true>>(job, i),
            (true, true, ..) => groups::<D, Of<true, true, false, false>>(job, i),
            (false, _, false, false) => groups::<D, Of<false, false, false, false>>(job, i),
            (false, _, false, true) => groups::<D, Of<false, false, false, true>>(job, i),
            (false, _, true, _) => groups::<D, Of<false, false, true, false>>(job, i),
        }
    }
}

/// Groups i · step … of the weight with all rows.
#[inline(always)]
unsafe fn groups<D: Dots, H: Shape>(job: &Job, i: usize) {
    static NO_TABLE: [u8; 16] = [0; 16];
    let (p, form) = (job.p, &job.form);
    let subs = p.k / form.sub;
    let room = Scratch::new(2 * subs * LANES);
    let (scales, minima) = (room.pointer(), room.pointer().wrapping_add(subs * LANES));
    let last = ((i + 1) * job.step).min(p.n.div_ceil(LANES));
    for from in (0..p.m).step_by(job.rows) {
        let to = (from + job.rows).min(p.m);
        for g in i * job.step..last {
            // SAFETY: as promised to `linear`.
            unsafe {
                let planes = p.weight.add(g * job.planes.group);
                spread::<D>(form, &job.planes, planes, p.k, scales, minima);
                let codes = planes.add(job.planes.codes);
                let group = Group { codes, scales, minima, blocks: p.k / BLOCK, table: form.table.unwrap_or(&NO_TABLE) };
                let mut row = from;
                while row < to {
                    row += match to - row {
                        left if left >= 12 && D::ROWS >= 12 => rows::<D, H, 12>(job, &group, row, g),
                        left if left >= 8 && D::ROWS >= 8 => rows::<D, H, 8>(job, &group, row, g),
                        left if left >= 4 && D::ROWS >= 4 => rows::<D, H, 4>(job, &group, row, g),
                        left if left >= 2 => rows::<D, H, 2>(job, &group, row, g),
                        _ => rows::<D, H, 1>(job, &group, row, g),
                    };
                }
            }
        }
    }
}

/// One tile with its epilogue; gives R.
#[inline(always)]
unsafe fn rows<D: Dots, H: Shape, const R: usize>(job: &Job, group: &Group, row: usize, g: usize) -> usize {
    let mut sums = [[0f32; LANES]; R];
    let (n, j) = (job.p.n, g * LANES);
    let columns = LANES.min(n - j);
    // SAFETY: as promised to `linear`; the sums are our own.
    unsafe {
        tile::<D, H, R>(group, std::array::from_fn(|r| job.x.row(row + r)), row == 0, sums.as_mut_ptr().cast());
        let at = row * n + j;
        if job.p.finish.is_plain() {
            for (r, sums) in sums.iter().enumerate() {
                D::S::store_n(job.p.out.add(at + r * n), D::S::load(sums.as_ptr()), columns);
            }
        } else {
            finish_tile(&job.finish, sums.as_ptr().cast(), LANES, at, j, R, columns);
        }
    }
    R
}

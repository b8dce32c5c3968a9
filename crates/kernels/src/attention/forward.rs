//! The forward pass: a task takes some tiles of query rows of one kv head through the key blocks, so that they share
//! the work of laying a block out.

use super::product::{Part, Product, Registers, Sink, copy_rows, multiply, transpose_to_64};
use super::scores::{Rows, Scoring, Spans};
use super::{Attention, BLOCK, Sequence, TILE, padded, parallel_if};
use crate::dispatch;
use crate::math;
use crate::pool::threads;
use crate::scratch::Scratch;
use crate::simd::{LANES, Simd};
use crate::softmax::log_of;
use std::ops::Range;

/// Rows from which a copy of the block's values in neighbouring rows pays.
const COPY_FROM: usize = 16;

/// Most tiles of one task.
const TILES: usize = 4;

/// One task: rows `first`… of a kv head of a sequence, at most [`TILES`] tiles.
struct Task {
    sequence: Sequence,
    kv_head: usize,
    first: usize,
    count: usize,
}

pub(super) unsafe fn run(job: &Attention) {
    let p = &job.problem;
    // SAFETY: s is a sequence.
    let sequences: Vec<Sequence> = (0..p.sequences).map(|s| unsafe { p.sequence(s) }).collect();
    let tiles: usize = sequences.iter().map(|s| (s.len_q * p.group()).div_ceil(TILE)).sum();
    // What a task is changes no result, so it may depend on the number of threads.
    let share = (tiles * p.kv_heads / (4 * threads())).clamp(1, TILES);
    let mut tasks = Vec::new();
    for &sequence in &sequences {
        let rows = sequence.len_q * p.group();
        // Long rows first: the threads then end together.
        for first in (0..rows).step_by(share * TILE).rev() {
            for kv_head in 0..p.kv_heads {
                tasks.push(Task { sequence, kv_head, first, count: (rows - first).min(share * TILE) });
            }
        }
    }
    // SAFETY: tasks write disjoint rows and heads of the output; the rest is the caller's promise.
    parallel_if(unsafe { p.work() } * 2, tasks.len(), |i| unsafe { tiles_of(job, &tasks[i]) });
}

/// The scores' chains, stored for the columns that a row sees.
pub(super) struct Store<'a> {
    pub out: *mut f32,
    pub spans: &'a Spans,
    pub terms: usize,
}

impl Sink for Store<'_> {
    #[inline(always)]
    fn part(&self, row: usize, rows: usize) -> Part {
        Part { columns: self.spans.of(row, rows), terms: (0, self.terms) }
    }

    #[inline(always)]
    unsafe fn take<S: Simd>(&self, row: usize, column: usize, chain: S::F) {
        // SAFETY: the tile has room for 64 items in each row.
        unsafe { S::store(self.out.add(row * BLOCK + column), chain) }
    }
}

/// The values' chains, joined with what the earlier blocks gave: o = o·old + chain·new.
struct Join<'a> {
    out: *mut f32,
    width: usize,
    old: *const f32,
    new: *const f32,
    spans: &'a Spans,
}

impl Sink for Join<'_> {
    #[inline(always)]
    fn part(&self, row: usize, rows: usize) -> Part {
        let terms = self.spans.of(row, rows);
        Part { columns: (0, if terms.0 < terms.1 { self.width } else { 0 }), terms }
    }

    #[inline(always)]
    unsafe fn take<S: Simd>(&self, row: usize, column: usize, chain: S::F) {
        // SAFETY: the tile has room for `width` items in each row.
        unsafe {
            let at = self.out.add(row * self.width + column);
            let new = S::mul(chain, S::splat(*self.new.add(row)));
            S::store(at, S::fma(S::load(at), S::splat(*self.old.add(row)), new));
        }
    }
}

/// What a task keeps of one tile: its queries (items × rows), and of each row o, m and l of the blocks so far.
struct Tile {
    rows: Rows,
    blocks: Range<usize>,
    q: *mut f32,
    out: *mut f32,
    max: *mut f32,
    sum: *mut f32,
}

dispatch! { unsafe fn tiles_of(job: &Attention, task: &Task) = tiles_on }

#[inline(always)]
unsafe fn tiles_on<S: Registers>(job: &Attention, task: &Task) {
    // SAFETY: the caller promises the operands; the scratch holds the parts named here.
    unsafe {
        let p = &job.problem;
        let s = &task.sequence;
        let (dim, width) = (p.dim, padded(p.dim));
        let one = TILE * (dim + width + 2);
        let count = task.count.div_ceil(TILE);
        let scratch = Scratch::new(2 * BLOCK * width + TILE * BLOCK + 4 * TILE + count * one);
        let keys = scratch.pointer();
        let values = keys.add(BLOCK * width);
        let scores = values.add(BLOCK * width);
        let state = scores.add(TILE * BLOCK);
        let [block_max, block_sum, old, new] = [0, 1, 2, 3].map(|i| state.add(i * TILE));
        scores.write_bytes(0, TILE.min(task.count) * BLOCK);
        state.write_bytes(0, 4 * TILE);
        let tiles: [Option<Tile>; TILES] = std::array::from_fn(|i| {
            let first = i * TILE;
            (first < task.count).then(|| {
                let rows = Rows::new(p, s, task.kv_head, task.first + first, (task.count - first).min(TILE));
                let q = state.add(4 * TILE + i * one);
                let out = q.add(TILE * dim);
                let max = out.add(TILE * width);
                Tile { blocks: rows.blocks(), rows, q, out, max, sum: max.add(TILE) }
            })
        });
        for t in tiles.iter().flatten() {
            for (r, row) in t.rows.row[..t.rows.count].iter().enumerate() {
                let from = p.q.add((s.first_row + row.query) * p.q_row + row.head * dim);
                t.out.add(r * width).copy_from_nonoverlapping(from, dim);
            }
            transpose_to_64::<S>(t.out, width, t.rows.count, dim, t.q);
            t.out.write_bytes(0, t.rows.count * width);
            for r in 0..TILE {
                *t.max.add(r) = f32::NEG_INFINITY;
                *t.sum.add(r) = 0.0;
            }
        }
        let first = tiles.iter().flatten().filter(|t| !t.blocks.is_empty()).map(|t| t.blocks.start).min().unwrap_or(0);
        let last = tiles.iter().flatten().map(|t| t.blocks.end).max().unwrap_or(0);
        for b in first..last {
            let row = p.key_row(s, b);
            let here = (s.len_k - b * BLOCK).min(BLOCK);
            transpose_to_64::<S>(p.k.add(row * p.k_row + task.kv_head * dim), p.k_row, here, dim, keys);
            let mut v = p.v.add(row * p.v_row + task.kv_head * dim);
            let mut v_row = p.v_row;
            if task.count >= COPY_FROM || width != dim {
                copy_rows::<S>(v, v_row, here, dim, values, width);
                (v, v_row) = (values, width);
            }
            for t in tiles.iter().flatten().filter(|t| t.blocks.contains(&b)) {
                let count = t.rows.count;
                let spans = t.rows.spans(b);
                let product = Product::<true> { a: t.q, b: keys, b_row: BLOCK, rows: count, columns: BLOCK };
                multiply::<S, _, _>(&product, &Store { out: scores, spans: &spans, terms: dim });
                for r in 0..count {
                    let scoring = Scoring::new(p, s, &t.rows.row[r], b, spans.from[r], spans.to[r]);
                    let (m, l) = weigh::<S>(&scoring, scores.add(r * BLOCK));
                    *block_max.add(r) = m;
                    *block_sum.add(r) = l;
                }
                for r in (0..count).step_by(LANES) {
                    join::<S>(t.max.add(r), t.sum.add(r), block_max.add(r), block_sum.add(r), old.add(r), new.add(r));
                }
                let product = Product::<false> { a: scores, b: v, b_row: v_row, rows: count, columns: width };
                multiply::<S, _, _>(&product, &Join { out: t.out, width, old, new, spans: &spans });
            }
        }
        for t in tiles.iter().flatten() {
            for (r, row) in t.rows.row[..t.rows.count].iter().enumerate() {
                let l = *t.sum.add(r);
                let to = job.out.add((s.first_row + row.query) * job.o_row + row.head * dim);
                let whole = S::splat(if l == 0.0 { 1.0 } else { l });
                let mut d = 0;
                while d < dim {
                    let some = (dim - d).min(LANES);
                    S::store_n(to.add(d), S::div(S::load(t.out.add(r * width + d)), whole), some);
                    d += LANES;
                }
                if let Some(lse) = job.lse {
                    *lse.add(row.head * p.rows_q + s.first_row + row.query) = *t.max.add(r) + log_of::<S>(l);
                }
            }
        }
    }
}

/// Turns a row's raw products with a block into e^(score − largest); gives the largest score and the sum.
#[inline(always)]
unsafe fn weigh<S: Simd>(scoring: &Scoring, row: *mut f32) -> (f32, f32) {
    // SAFETY: the row holds 64 items.
    unsafe {
        let mut x = [S::splat(0.0); BLOCK / LANES];
        let mut most = S::splat(f32::NEG_INFINITY);
        for c in 0..BLOCK / LANES {
            x[c] = scoring.score::<S>(S::load(row.add(c * LANES)), c * LANES).0;
            most = S::max(most, x[c]);
        }
        let m = S::max_lane(most);
        // Where every score is −∞ the weights are 0, not NaN.
        let centre = S::splat(if m == f32::NEG_INFINITY { 0.0 } else { m });
        let mut sum = S::splat(0.0);
        for c in 0..BLOCK / LANES {
            let e = math::exp_nonpositive::<S>(S::sub(x[c], centre));
            S::store(row.add(c * LANES), e);
            sum = S::add(sum, e);
        }
        (m, S::sum(sum))
    }
}

/// Joins 16 rows' (m, l) of a block with those of the earlier blocks, and leaves the factors of both outputs.
#[inline(always)]
unsafe fn join<S: Simd>(max: *mut f32, sum: *mut f32, block_max: *const f32, block_sum: *const f32, old: *mut f32, new: *mut f32) {
    // SAFETY: 16 rows' states lie behind each pointer.
    unsafe {
        let (m0, m1, l0, l1) = (S::load(max), S::load(block_max), S::load(sum), S::load(block_sum));
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        let m = S::max(m0, m1);
        let f0 = math::exp_nonpositive::<S>(S::sub(m0, m));
        let f1 = math::exp_nonpositive::<S>(S::sub(m1, m));
        // A block without weight changes nothing.
        let f0 = S::select_eq(l1, zero, one, f0);
        let f1 = S::select_eq(l1, zero, zero, f1);
        S::store(max, S::select_eq(l1, zero, m0, m));
        S::store(sum, S::fma(l0, f0, S::mul(l1, f1)));
        S::store(old, f0);
        S::store(new, f1);
    }
}

/// Σ a·b of two rows, in 16 lanes.
#[inline(always)]
pub(super) unsafe fn dot<S: Simd>(a: *const f32, b: *const f32, n: usize) -> f32 {
    // SAFETY: the caller promises n items behind both.
    unsafe {
        let mut sum = S::splat(0.0);
        let mut d = 0;
        while d < n {
            let some = (n - d).min(LANES);
            sum = S::fma(S::load_n(a.add(d), some), S::load_n(b.add(d), some), sum);
            d += LANES;
        }
        S::sum(sum)
    }
}

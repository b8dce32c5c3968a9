//! The backward pass: the probabilities are made again, block by block.
//!
//! The gradients of k and v sum over the heads of the group and their query tiles in ascending order (the tiles begin at
//! the sequence's first query); inside a tile each is one chain of FMAs. The gradient of q sums the blocks of a run of [`RUN`]
//! blocks in ascending order, then the runs. So a run of one kv head's keys can be a task of its own.

use super::ahead::{Ahead, Area};
use super::forward::Scores;
use super::operands::{Operands, Rounded, Single, lay_rows, turn, with_operands};
use super::product::{Part, Product, Registers, Sink, dot, load_left, multiply, store_left};
use super::scores::{Rows, SIDE_BY_SIDE, Scoring, Spans};
use super::{BLOCK, Problem, Sequence, TILE, padded, parallel_if};
use crate::math;
use crate::pool::threads;
use crate::scratch::Scratch;
use crate::simd::{LANES, Simd};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blocks of a run. Four keep what is laid out of them in the second-level cache.
const RUN: usize = 4;

/// Most floats that runs may keep until they are added.
const ROOM: usize = 32 << 20;

/// The backward pass; `problem` has no pages. `gq`, `gk` and `gv` are stored.
pub struct AttentionGrad {
    pub problem: Problem,
    pub out: *const f32,
    pub o_row: usize,
    pub lse: *const f32,
    pub gout: *const f32,
    pub go_row: usize,
    pub gq: *mut f32,
    pub gq_row: usize,
    pub gk: *mut f32,
    pub gk_row: usize,
    pub gv: *mut f32,
    pub gv_row: usize,
    pub rows_k: usize,
}

// SAFETY: tasks read the inputs and write disjoint heads of disjoint sequences.
unsafe impl Sync for AttentionGrad {}

/// One kv head of one sequence.
struct Unit {
    sequence: Sequence,
    kv_head: usize,
    /// Gradients of q that later runs than the first give: of each run, rows from the first that sees it.
    kept: Vec<*mut f32>,
    /// Runs that are not finished.
    left: AtomicUsize,
}

// SAFETY: the runs write disjoint memory; the last of them reads after all have counted down.
unsafe impl Sync for Unit {}

impl Unit {
    fn rows(&self, p: &Problem) -> usize {
        self.sequence.len_q * p.group()
    }

    fn runs(&self) -> usize {
        self.sequence.len_k.div_ceil(RUN * BLOCK).max(1)
    }

    fn blocks(&self, run: usize) -> Range<usize> {
        run * RUN..((run + 1) * RUN).min(self.sequence.len_k.div_ceil(BLOCK))
    }

    #[inline(always)]
    fn tile(&self, p: &Problem, tile: usize) -> Rows {
        let first = tile * TILE;
        Rows::new(p, &self.sequence, self.kv_head, first, (self.rows(p) - first).min(TILE))
    }

    /// The first tile that sees the run; past the last if none does. The first run writes the gradients of all queries.
    fn first_tile(&self, p: &Problem, run: usize) -> usize {
        if run == 0 {
            return 0;
        }
        let tiles = self.rows(p).div_ceil(TILE);
        (0..tiles).find(|t| meet(&self.tile(p, *t).blocks, &self.blocks(run))).unwrap_or(tiles)
    }

    /// What is read and written of a tile of queries: q, gout, out, gq.
    fn rows_ahead(&self, job: &AttentionGrad, tile: usize) -> [Area; 4] {
        let (p, s) = (&job.problem, &self.sequence);
        let queries = (tile * TILE / p.group()).min(s.len_q)..((tile + 1) * TILE).div_ceil(p.group()).min(s.len_q);
        let items = p.group() * p.dim;
        [(p.q, p.q_row), (job.gout, job.go_row), (job.out, job.o_row), (job.gq.cast_const(), job.gq_row)].map(|(at, row)| {
            let first = at.wrapping_add((s.first_row + queries.start) * row + self.kv_head * items);
            Area::new(first, row, queries.len(), items)
        })
    }

    /// What is read, and what is written, of a run's keys and values.
    unsafe fn keys_ahead(&self, job: &AttentionGrad, run: usize) -> [[Area; 2]; 2] {
        let p = &job.problem;
        let from = run * RUN * BLOCK;
        let rows = self.sequence.len_k.saturating_sub(from).min(RUN * BLOCK);
        // SAFETY: s is a sequence.
        let first = unsafe { p.key_row(&self.sequence, 0) } + from;
        let of = |at: *const f32, row: usize| Area::new(at.wrapping_add(first * row + self.kv_head * p.dim), row, rows, p.dim);
        [[of(p.k, p.k_row), of(p.v, p.v_row)], [of(job.gk, job.gk_row), of(job.gv, job.gv_row)]]
    }
}

fn meet(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

/// The gradient of [`super::attention`].
///
/// # Safety
/// As [`super::attention`]; sequences must not share rows of k.
pub unsafe fn attention_grad(job: &AttentionGrad) {
    let p = &job.problem;
    // SAFETY: tasks write disjoint places; the rest is the caller's promise.
    unsafe {
        clear_unused(job);
        let mut units = Vec::new();
        for s in 0..p.sequences {
            let sequence = p.sequence(s);
            units.extend((0..p.kv_heads).map(|kv_head| Unit { sequence, kv_head, kept: Vec::new(), left: AtomicUsize::new(0) }));
        }
        let work = p.work() * 5;
        // Enough units for all threads: each takes its runs one after the other, and keeps nothing.
        if threads() == 1 || units.len() >= 4 * threads() {
            return parallel_if(work, units.len(), |i| take_runs(p.bf16, job, &units, i, 0..units[i].runs(), (i + 1, 0)));
        }
        let width = padded(p.dim);
        let items = |u: &Unit, run: usize| (u.rows(p) - (u.first_tile(p, run) * TILE).min(u.rows(p))) * width;
        let sizes: Vec<Vec<usize>> = units.iter().map(|u| (1..u.runs()).map(|run| items(u, run)).collect()).collect();
        let all = sizes.iter().flatten().sum();
        if all > ROOM {
            return parallel_if(work, units.len(), |i| take_runs(p.bf16, job, &units, i, 0..units[i].runs(), (i + 1, 0)));
        }
        let memory = Scratch::new(all);
        let mut at = memory.pointer();
        let mut runs = Vec::new();
        for (i, u) in units.iter_mut().enumerate() {
            for n in &sizes[i] {
                u.kept.push(at);
                at = at.add(*n);
            }
            *u.left.get_mut() = u.runs();
            runs.extend((0..u.runs()).map(|run| (run, i)));
        }
        // Early runs are seen by most queries: the threads then end together.
        runs.sort_unstable();
        parallel_if(work, runs.len(), |n| {
            let (run, i) = runs[n];
            let (next_run, next) = *runs.get(n + 1).unwrap_or(&(0, units.len()));
            take_runs(p.bf16, job, &units, i, run..run + 1, (next, next_run));
        });
    }
}

/// Rows that no sequence uses get no gradient.
unsafe fn clear_unused(job: &AttentionGrad) {
    let p = &job.problem;
    let (mut q_used, mut k_used) = (vec![false; p.rows_q], vec![false; job.rows_k]);
    // SAFETY: sequences and rows exist.
    unsafe {
        for s in (0..p.sequences).map(|s| p.sequence(s)) {
            let first_key = p.key_row(&s, 0);
            q_used[s.first_row..s.first_row + s.len_q].fill(true);
            k_used[first_key..first_key + s.len_k].fill(true);
        }
        for (r, _) in q_used.iter().enumerate().filter(|(_, used)| !**used) {
            job.gq.add(r * job.gq_row).write_bytes(0, p.heads * p.dim);
        }
        for (r, _) in k_used.iter().enumerate().filter(|(_, used)| !**used) {
            job.gk.add(r * job.gk_row).write_bytes(0, p.kv_heads * p.dim);
            job.gv.add(r * job.gv_row).write_bytes(0, p.kv_heads * p.dim);
        }
    }
}

/// Sums chains in rows of `dim` items, all columns, with the terms that the rows need.
struct Add<'a> {
    to: &'a [*mut f32; TILE],
    dim: usize,
    /// Nothing is there yet: rows without terms become 0.
    first: bool,
    spans: &'a Spans,
    /// The product's rows are keys and its terms query rows, not the other way round.
    of_keys: bool,
}

impl Sink for Add<'_> {
    #[inline(always)]
    fn part(&self, row: usize, rows: usize) -> Part {
        let terms = if self.of_keys { self.spans.seeing(row, rows) } else { self.spans.of(row, rows) };
        Part { columns: (0, if self.first || terms.0 < terms.1 { self.dim } else { 0 }), terms }
    }

    #[inline(always)]
    unsafe fn take<S: Simd>(&self, row: usize, column: usize, chain: S::F) {
        // SAFETY: the caller promises the rows.
        unsafe {
            let to = self.to[row];
            let sum = if self.first { S::splat(0.0) } else { load_left::<S>(to, column, self.dim) };
            store_left::<S>(to, column, self.dim, S::add(sum, chain));
        }
    }
}

with_operands! { unsafe fn take_runs(job: &AttentionGrad, units: &[Unit], i: usize, runs: Range<usize>, next: (usize, usize)) = take_runs_on }

/// Some runs of a unit. Where they are not all, whoever finishes the last of them adds what was kept. `next` is the unit and the run that
/// this thread is likely to take next.
#[inline(always)]
unsafe fn take_runs_on<S: Registers, O: Operands<S>>(
    job: &AttentionGrad,
    units: &[Unit],
    i: usize,
    runs: Range<usize>,
    next: (usize, usize),
) {
    let (p, unit) = (&job.problem, &units[i]);
    // SAFETY: the caller's promise.
    unsafe {
        for run in runs.clone() {
            let (next, next_run) = if run + 1 < runs.end { (i, run + 1) } else { next };
            run_on::<S, O>(job, unit, run, units.get(next).map(|u| (u, next_run)));
        }
        if unit.kept.is_empty() || unit.left.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        for (kept, run) in unit.kept.iter().zip(1..) {
            let first = unit.first_tile(p, run);
            for tile in first..unit.rows(p).div_ceil(TILE) {
                let rows = unit.tile(p, tile);
                if meet(&rows.blocks, &unit.blocks(run)) {
                    give_q::<S>(job, unit, &rows, kept.add((tile - first) * TILE * padded(p.dim)));
                }
            }
        }
    }
}

/// A run of a unit's blocks: all gradients of its keys and values, and its share of the queries', which is kept or added to
/// what the earlier runs gave.
#[inline(always)]
unsafe fn run_on<S: Registers, O: Operands<S>>(job: &AttentionGrad, unit: &Unit, run: usize, next: Option<(&Unit, usize)>) {
    // SAFETY: the caller promises the operands; the scratch holds the parts named here.
    unsafe {
        let p = &job.problem;
        let (s, kv_head) = (&unit.sequence, unit.kv_head);
        let (dim, width) = (p.dim, padded(p.dim));
        let blocks = unit.blocks(run);
        let tiles = unit.rows(p).div_ceil(TILE);
        let one = width * BLOCK;
        let scratch = Scratch::new(one * (5 * blocks.len() + 3) + 2 * TILE * BLOCK);
        let [q, gout, gq] = [0, 1, 2].map(|i| scratch.pointer().add(i * one));
        let weights = scratch.pointer().add(3 * one);
        let slopes = weights.add(TILE * BLOCK);
        let of_block = |b: usize| [0, 1, 2, 3, 4].map(|i| slopes.add(TILE * BLOCK + (5 * (b - blocks.start) + i) * one));
        let keys_of =
            |b: usize| [(job.gk, job.gk_row), (job.gv, job.gv_row)].map(|(at, row)| (at.add(p.key_row(s, b) * row + kv_head * dim), row));
        let keep = if run == 0 { None } else { unit.kept.get(run - 1) };
        let first_tile = unit.first_tile(p, run);
        let alone = tiles - first_tile == 1;
        let mut summed = [false; RUN];
        for b in blocks.clone() {
            let [keys_t, values_t, keys, ..] = of_block(b);
            let row = p.key_row(s, b);
            let here = (s.len_k - b * BLOCK).min(BLOCK);
            let (k, v) = (p.k.add(row * p.k_row + kv_head * dim), p.v.add(row * p.v_row + kv_head * dim));
            let ahead = &mut Ahead::new(&[], 0);
            turn::<S, O>(k, p.k_row, here, dim, keys, width, keys_t, ahead);
            turn::<S, O>(v, p.v_row, here, dim, keys, width, values_t, ahead);
            lay_rows::<S, O, _>(k, p.k_row, here, dim, keys, width);
            O::join_rows(keys, width / O::PER, here, width, O::below(keys, width), width);
        }
        let to_come = next.map_or([Area::NONE; 2], |n| n.0.keys_ahead(job, n.1)[0]);
        let to_go = unit.keys_ahead(job, run)[1];
        for tile in first_tile..tiles {
            let rows = unit.tile(p, tile);
            let count = rows.count;
            let (mut shares, mut lse) = ([0f32; TILE], [0f32; TILE]);
            let gq = keep.map_or(gq, |keep| keep.add((tile - first_tile) * one));
            let to_q = if run == 0 { of_queries(job, s, &rows) } else { std::array::from_fn(|r| gq.wrapping_add(r * width)) };
            if run == 0 && !meet(&rows.blocks, &blocks) {
                to_q[..count].iter().for_each(|row| row.write_bytes(0, dim));
            }
            if meet(&rows.blocks, &blocks) {
                for r in 0..count {
                    let (at, h) = (s.first_row + rows.query[r] as usize, rows.head[r] as usize);
                    let given = job.gout.add(at * job.go_row + h * dim);
                    lay_rows::<S, O, _>(p.q.add(at * p.q_row + h * dim), 0, 1, dim, q.add(r * (width / O::PER)), width);
                    lay_rows::<S, O, _>(given, 0, 1, dim, gout.add(r * (width / O::PER)), width);
                    shares[r] = dot::<S>(job.out.add(at * job.o_row + h * dim), given, dim);
                    lse[r] = *job.lse.add(h * p.rows_q + at);
                }
                for x in [q, gout] {
                    O::join_rows(x, width / O::PER, count, width, O::below(x, width), width);
                }
            }
            let seen = rows.blocks.start.max(blocks.start)..rows.blocks.end.min(blocks.end);
            let [q_next, gout_next, out_next, gq_next] = match next {
                Some((unit, run)) if tile + 1 == tiles => unit.rows_ahead(job, unit.first_tile(p, run)),
                _ => unit.rows_ahead(job, tile + 1),
            };
            let [k_next, v_next, gk_next, gv_next] =
                [to_come[0], to_come[1], to_go[0], to_go[1]].map(|a| a.share(tile - first_tile, tiles - first_tile));
            let ahead = &mut Ahead::new(
                &[q_next, gout_next, out_next, gq_next, k_next, v_next, gk_next, gv_next],
                seen.len() * (3 * count.div_ceil(S::ROWS) + 2 * BLOCK.div_ceil(S::ROWS)),
            );
            for b in seen.clone() {
                let [keys_t, values_t, keys, gk, gv] = of_block(b);
                // Sums of many tiles are gathered in neighbouring rows.
                let [gk, gv] = if alone { keys_of(b) } else { [(gk, width), (gv, width)] };
                let here = (s.len_k - b * BLOCK).min(BLOCK);
                let spans = &rows.spans(b);
                for (a, b, out) in [(q, keys_t, weights), (gout, values_t, slopes)] {
                    let product = Product::<false> { a, a_apart: width / O::PER, b, b_row: BLOCK, rows: count };
                    multiply::<S, O, _, _, _>(&product, &Scores { out, spans, terms: dim }, ahead);
                }
                let scoring = &Scoring { p, s, rows: &rows, spans, block: b };
                let mut r = 0;
                while r < count {
                    let (w, g) = (weights.add(r * BLOCK), slopes.add(r * BLOCK));
                    let (lse, shares) = (&lse[r..], &shares[r..]);
                    r += match scoring.plain() {
                        true if r + SIDE_BY_SIDE <= count => differentiate::<S, O, true, SIDE_BY_SIDE>(scoring, r, lse, shares, w, g),
                        true => differentiate::<S, O, true, 1>(scoring, r, lse, shares, w, g),
                        false => differentiate::<S, O, false, 1>(scoring, r, lse, shares, w, g),
                    };
                }
                let product = Product::<false> { a: slopes, a_apart: BLOCK, b: O::below(keys, width), b_row: width, rows: count };
                let first = b == seen.start;
                multiply::<S, O, _, _, _>(&product, &Add { to: &to_q, dim, first, spans, of_keys: false }, ahead);
                let first = !std::mem::replace(&mut summed[b - blocks.start], true);
                for (a, b, (at, row)) in [(weights, gout, gv), (slopes, q, gk)] {
                    let to = std::array::from_fn(|i| at.wrapping_add(i * row));
                    O::join_rows(a, BLOCK, count, BLOCK, a, BLOCK * O::PER);
                    let product = Product::<true> { a, a_apart: BLOCK * O::PER, b: O::below(b, width), b_row: width, rows: here };
                    multiply::<S, O, _, _, _>(&product, &Add { to: &to, dim, first, spans, of_keys: true }, ahead);
                }
            }
            if keep.is_none() && run > 0 && !seen.is_empty() {
                give_q::<S>(job, unit, &rows, gq);
            }
        }
        for b in blocks.clone() {
            let [_, _, _, gk, gv] = of_block(b);
            for (from, (to, row)) in [gk, gv].into_iter().zip(keys_of(b)) {
                for i in 0..(s.len_k - b * BLOCK).min(BLOCK) {
                    match summed[b - blocks.start] {
                        false => to.add(i * row).write_bytes(0, dim),
                        true if alone => {}
                        true => to.add(i * row).copy_from_nonoverlapping(from.add(i * width), dim),
                    }
                }
            }
        }
    }
}

/// Where the gradients of a tile's queries lie.
#[inline(always)]
fn of_queries(job: &AttentionGrad, s: &Sequence, rows: &Rows) -> [*mut f32; TILE] {
    std::array::from_fn(|r| {
        job.gq.wrapping_add((s.first_row + rows.query[r] as usize) * job.gq_row + rows.head[r] as usize * job.problem.dim)
    })
}

/// Adds a tile's gradient of q to what is there.
#[inline(always)]
unsafe fn give_q<S: Simd>(job: &AttentionGrad, unit: &Unit, rows: &Rows, from: *const f32) {
    // SAFETY: the caller promises the operands, and `from` holds the rows.
    unsafe {
        let dim = job.problem.dim;
        for (r, &to) in of_queries(job, &unit.sequence, rows)[..rows.count].iter().enumerate() {
            for d in (0..dim).step_by(LANES) {
                let x = load_left::<S>(from.add(r * padded(dim)), d, dim);
                store_left::<S>(to, d, dim, S::add(load_left::<S>(to, d, dim), x));
            }
        }
    }
}

/// Of `R` rows from `row` on and a block: raw products become probabilities, and the products of gout and v the derivatives of the raw
/// products; 0 where they see nothing. Gives `R`.
#[inline(always)]
unsafe fn differentiate<S: Registers, O: Operands<S>, const PLAIN: bool, const R: usize>(
    scoring: &Scoring,
    row: usize,
    lse: &[f32],
    shares: &[f32],
    weights: *mut f32,
    slopes: *mut f32,
) -> usize {
    // SAFETY: each row holds 64 items; those that none of the product's rows sees hold anything, and are replaced.
    unsafe {
        let seen = &scoring.seen::<R>(row);
        for c in seen.vectors.clone() {
            for r in 0..R {
                // A row without weight has only scores of −∞.
                let lse = S::splat(if lse[r] == f32::NEG_INFINITY { 0.0 } else { lse[r] });
                let (w, g) = (weights.add(r * BLOCK), slopes.add(r * BLOCK));
                let (score, slope) = scoring.score::<S, PLAIN>(seen, row + r, c, S::load(w.add(c * LANES)));
                let p = math::exp_nonpositive::<S>(S::sub(score, lse));
                let d = S::mul(S::mul(p, S::sub(S::load(g.add(c * LANES)), S::splat(shares[r]))), slope);
                // Where lse is NaN so is p, but only for the keys that the row sees.
                O::put(w, c * LANES, scoring.only_seen::<S>(seen, row + r, c, p, 0.0));
                O::put(g, c * LANES, scoring.only_seen::<S>(seen, row + r, c, d, 0.0));
            }
        }
        for c in (0..seen.vectors.start).chain(seen.vectors.end..BLOCK / LANES) {
            for r in 0..R {
                O::put(weights.add(r * BLOCK), c * LANES, S::splat(0.0));
                O::put(slopes.add(r * BLOCK), c * LANES, S::splat(0.0));
            }
        }
        R
    }
}

//! The backward pass: a task takes one kv head of one sequence; the probabilities are made again, block by block.
//!
//! The gradients of k and v sum over the heads of the group and their query tiles in ascending order (the tiles begin at
//! the sequence's first query), that of q over the key blocks in ascending order; inside a tile each is one chain of FMAs.

use super::forward::{Store, dot};
use super::product::{Part, Product, Registers, Sink, copy_rows, multiply, transpose_to_64};
use super::scores::{Rows, Scoring, Spans};
use super::{BLOCK, Problem, TILE, padded, parallel_if};
use crate::dispatch;
use crate::math;
use crate::scratch::Scratch;
use crate::simd::{LANES, Simd};

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

/// The gradient of [`super::attention`].
///
/// # Safety
/// As [`super::attention`]; sequences must not share rows of k.
pub unsafe fn attention_grad(job: &AttentionGrad) {
    let p = &job.problem;
    // SAFETY: tasks write disjoint places; the rest is the caller's promise.
    unsafe {
        // Rows that no sequence uses get no gradient.
        for r in 0..p.rows_q {
            job.gq.add(r * job.gq_row).write_bytes(0, p.heads * p.dim);
        }
        for r in 0..job.rows_k {
            job.gk.add(r * job.gk_row).write_bytes(0, p.kv_heads * p.dim);
            job.gv.add(r * job.gv_row).write_bytes(0, p.kv_heads * p.dim);
        }
        parallel_if(p.work() * 5, p.sequences * p.kv_heads, |i| head(job, i / p.kv_heads, i % p.kv_heads));
    }
}

/// Adds chains to a tile, all columns, with the terms that the rows need.
struct Add<'a> {
    out: *mut f32,
    width: usize,
    spans: &'a Spans,
    /// The product's rows are keys and its terms query rows, not the other way round.
    of_keys: Option<usize>,
}

impl Sink for Add<'_> {
    #[inline(always)]
    fn part(&self, row: usize, rows: usize) -> Part {
        let terms = match self.of_keys {
            Some(count) => self.spans.seeing(row, rows, count),
            None => self.spans.of(row, rows),
        };
        Part { columns: (0, if terms.0 < terms.1 { self.width } else { 0 }), terms }
    }

    #[inline(always)]
    unsafe fn take<S: Simd>(&self, row: usize, column: usize, chain: S::F) {
        // SAFETY: the tile has room for `width` items in each row.
        unsafe {
            let at = self.out.add(row * self.width + column);
            S::store(at, S::add(S::load(at), chain));
        }
    }
}

dispatch! { unsafe fn head(job: &AttentionGrad, sequence: usize, kv_head: usize) = head_on }

#[inline(always)]
unsafe fn head_on<S: Registers>(job: &AttentionGrad, sequence: usize, kv_head: usize) {
    // SAFETY: the caller promises the operands; the scratch holds the parts named here.
    unsafe {
        let p = &job.problem;
        let s = &p.sequence(sequence);
        let (dim, width) = (p.dim, padded(p.dim));
        let group = p.group();
        let all = s.len_q * group;
        let tiles = all.div_ceil(TILE);
        let blocks = s.len_k.div_ceil(BLOCK);
        // Of each row: Σ gout·out, and the gradient of q so far.
        let whole = Scratch::new(all * (1 + width) + LANES);
        let shares = whole.pointer();
        let gq = shares.add(all.next_multiple_of(LANES));
        let scratch = Scratch::new(width * BLOCK * 8 + 2 * TILE * BLOCK);
        let [keys_t, values_t, keys, gk, gv, q, gout, turned] = [0, 1, 2, 3, 4, 5, 6, 7].map(|i| scratch.pointer().add(i * width * BLOCK));
        let weights = scratch.pointer().add(8 * width * BLOCK);
        let slopes = weights.add(TILE * BLOCK);
        whole.pointer().write_bytes(0, all * (1 + width) + LANES);
        weights.write_bytes(0, 2 * TILE * BLOCK);
        for r in 0..all {
            let (row, h) = (s.first_row + r / group, kv_head * group + r % group);
            *shares.add(r) = dot::<S>(job.out.add(row * job.o_row + h * dim), job.gout.add(row * job.go_row + h * dim), dim);
        }
        for b in 0..blocks {
            let first_key = p.key_row(s, b);
            let here = (s.len_k - b * BLOCK).min(BLOCK);
            let k = p.k.add(first_key * p.k_row + kv_head * dim);
            let v = p.v.add(first_key * p.v_row + kv_head * dim);
            transpose_to_64::<S>(k, p.k_row, here, dim, keys_t);
            transpose_to_64::<S>(v, p.v_row, here, dim, values_t);
            copy_rows::<S>(k, p.k_row, here, dim, keys, width);
            gk.write_bytes(0, BLOCK * width);
            gv.write_bytes(0, BLOCK * width);
            for tile in 0..tiles {
                let first = tile * TILE;
                let count = (all - first).min(TILE);
                let rows = Rows::new(p, s, kv_head, first, count);
                if !rows.blocks().contains(&b) {
                    continue;
                }
                let spans = rows.spans(b);
                for (r, row) in rows.row[..count].iter().enumerate() {
                    let at = s.first_row + row.query;
                    copy_rows::<S>(p.q.add(at * p.q_row + row.head * dim), 0, 1, dim, q.add(r * width), width);
                    copy_rows::<S>(job.gout.add(at * job.go_row + row.head * dim), 0, 1, dim, gout.add(r * width), width);
                }
                let by_rows = |a, b| Product::<true> { a, b, b_row: BLOCK, rows: count, columns: BLOCK };
                transpose_to_64::<S>(q, width, count, dim, turned);
                multiply::<S, _, _>(&by_rows(turned, keys_t), &Store { out: weights, spans: &spans, terms: dim });
                transpose_to_64::<S>(gout, width, count, dim, turned);
                multiply::<S, _, _>(&by_rows(turned, values_t), &Store { out: slopes, spans: &spans, terms: dim });
                for (r, row) in rows.row[..count].iter().enumerate() {
                    let scoring = Scoring::new(p, s, row, b, spans.from[r], spans.to[r]);
                    let lse = *job.lse.add(row.head * p.rows_q + s.first_row + row.query);
                    differentiate::<S>(&scoring, lse, *shares.add(first + r), weights.add(r * BLOCK), slopes.add(r * BLOCK));
                }
                let by_keys = |a, b| Product::<true> { a, b, b_row: width, rows: here, columns: width };
                multiply::<S, _, _>(&by_keys(weights, gout), &Add { out: gv, width, spans: &spans, of_keys: Some(count) });
                multiply::<S, _, _>(&by_keys(slopes, q), &Add { out: gk, width, spans: &spans, of_keys: Some(count) });
                let to_q = Product::<false> { a: slopes, b: keys, b_row: width, rows: count, columns: width };
                multiply::<S, _, _>(&to_q, &Add { out: gq.add(first * width), width, spans: &spans, of_keys: None });
            }
            for i in 0..here {
                job.gk.add((first_key + i) * job.gk_row + kv_head * dim).copy_from_nonoverlapping(gk.add(i * width), dim);
                job.gv.add((first_key + i) * job.gv_row + kv_head * dim).copy_from_nonoverlapping(gv.add(i * width), dim);
            }
        }
        for r in 0..all {
            let (row, h) = (s.first_row + r / group, kv_head * group + r % group);
            job.gq.add(row * job.gq_row + h * dim).copy_from_nonoverlapping(gq.add(r * width), dim);
        }
    }
}

/// Of one row and block: raw products become probabilities, and the products of gout and v the derivatives of the raw
/// products.
#[inline(always)]
unsafe fn differentiate<S: Simd>(scoring: &Scoring, lse: f32, share: f32, weights: *mut f32, slopes: *mut f32) {
    // SAFETY: both rows hold 64 items.
    unsafe {
        // A row without weight has only scores of −∞.
        let lse = S::splat(if lse == f32::NEG_INFINITY { 0.0 } else { lse });
        let share = S::splat(share);
        for c in 0..BLOCK / LANES {
            let at = c * LANES;
            let (score, slope) = scoring.score::<S>(S::load(weights.add(at)), at);
            let w = math::exp_nonpositive::<S>(S::sub(score, lse));
            let g = S::mul(S::mul(w, S::sub(S::load(slopes.add(at)), share)), slope);
            S::store(weights.add(at), w);
            S::store(slopes.add(at), scoring.seen::<S>(g, at, 0.0));
        }
    }
}

//! From raw products of q and k to scores: scale, cap, slope, mask, and the keys a row may see.

use super::{BLOCK, Problem, Sequence, TILE};
use crate::lanes::ordinals;
use crate::math;
use crate::simd::{LANES, Simd};
use std::ops::Range;

/// The rows `first`… of a kv head's (query, head of the group) pairs, queries outermost.
pub struct Rows {
    /// The query's place in its sequence.
    pub query: [u32; TILE],
    pub head: [u32; TILE],
    /// Key positions that count: from (first) to (past the last).
    from: [u32; TILE],
    to: [u32; TILE],
    pub count: usize,
    /// Blocks that some row sees.
    pub blocks: Range<usize>,
}

impl Rows {
    #[inline(always)]
    pub fn new(p: &Problem, s: &Sequence, kv_head: usize, first: usize, count: usize) -> Self {
        let group = p.group();
        let mut rows = Rows { query: [0; TILE], head: [0; TILE], from: [0; TILE], to: [0; TILE], count, blocks: 0..0 };
        let (mut query, mut member) = (first / group, first % group);
        let (mut least, mut most) = (usize::MAX, 0);
        for r in 0..count {
            let (from, to) = p.visible(s, query);
            if from < to {
                (least, most) = (least.min(from), most.max(to));
            }
            (rows.query[r], rows.head[r]) = (query as u32, (kv_head * group + member) as u32);
            (rows.from[r], rows.to[r]) = (from as u32, to as u32);
            member += 1;
            if member == group {
                (query, member) = (query + 1, 0);
            }
        }
        if least < most {
            rows.blocks = least / BLOCK..most.div_ceil(BLOCK);
        }
        rows
    }

    /// What each row sees of block `b`.
    #[inline(always)]
    pub fn spans(&self, b: usize) -> Spans {
        let base = (b * BLOCK) as u32;
        let mut spans = Spans { from: [0; TILE], to: [0; TILE] };
        for r in 0..TILE {
            let to = self.to[r].saturating_sub(base).min(BLOCK as u32);
            let from = self.from[r].saturating_sub(base).min(to);
            let sees = from < to;
            spans.from[r] = if sees { from } else { BLOCK as u32 };
            spans.to[r] = if sees { to } else { 0 };
        }
        spans
    }
}

/// For each row of a tile the items `from`…`to` of a block that it sees; (64, 0) if none.
pub struct Spans {
    from: [u32; TILE],
    to: [u32; TILE],
}

impl Spans {
    /// The items that any of these rows sees.
    #[inline(always)]
    pub fn of(&self, row: usize, rows: usize) -> (usize, usize) {
        let (mut from, mut to) = (BLOCK as u32, 0);
        for r in row..row + rows {
            (from, to) = (from.min(self.from[r]), to.max(self.to[r]));
        }
        if from < to { (from as usize, to as usize) } else { (0, 0) }
    }

    /// The rows that see any of the items `item`…`item + items - 1`: from the first to past the last.
    #[inline(always)]
    pub fn seeing(&self, item: usize, items: usize) -> (usize, usize) {
        let (first, end) = (item as u32, (item + items) as u32);
        let (mut from, mut to) = (TILE as u32, 0);
        // No branch depends on a row, so that many are looked at at once.
        for r in 0..TILE {
            let sees = self.from[r] < end && self.to[r] > first;
            from = from.min(if sees { r as u32 } else { TILE as u32 });
            to = to.max(if sees { r as u32 + 1 } else { 0 });
        }
        if from < to { (from as usize, to as usize) } else { (0, 0) }
    }
}

/// What makes scores of a row's products with a block of keys.
pub struct Scoring<'a> {
    p: &'a Problem,
    slope: f32,
    /// Position of the block's first key minus the query's.
    distance: f32,
    mask: Option<*const f32>,
    from: usize,
    to: usize,
}

impl<'a> Scoring<'a> {
    /// Of row `r` and block `b`.
    ///
    /// # Safety
    /// `p`'s slopes and mask must hold the row's head, query and keys.
    #[inline(always)]
    pub unsafe fn new(p: &'a Problem, s: &Sequence, rows: &Rows, r: usize, b: usize, spans: &Spans) -> Self {
        let base = b * BLOCK;
        let (query, head) = (rows.query[r] as usize, rows.head[r] as usize);
        let at = s.len_k as i64 - s.len_q as i64 + query as i64;
        let [ms, mh, mi, mp] = p.mask_strides;
        // SAFETY: the caller's promise.
        unsafe {
            Scoring {
                p,
                slope: p.slopes.map_or(0.0, |x| *x.add(head)),
                distance: (base as i64 - at) as f32,
                mask: p.mask.map(|m| m.add(s.index * ms + head * mh + query * mi + base * mp)),
                from: spans.from[r] as usize,
                to: spans.to[r] as usize,
            }
        }
    }

    /// The vectors of items in which the row sees any: the first, and how many.
    #[inline(always)]
    pub fn vectors(&self) -> (usize, usize) {
        let first = self.from / LANES;
        (first, self.to.div_ceil(LANES).saturating_sub(first))
    }

    /// The scores of items `item`…`item + 15` of the block, −∞ where the row does not see the key, and the derivative
    /// of each with respect to its raw product.
    ///
    /// # Safety
    /// As [`Scoring::new`].
    #[inline(always)]
    pub unsafe fn score<S: Simd>(&self, raw: S::F, item: usize) -> (S::F, S::F) {
        // SAFETY: mask reads stay at keys that the row sees.
        unsafe {
            let p = self.p;
            let mut slope = S::splat(p.scale);
            let mut x = S::mul(raw, slope);
            if p.softcap > 0.0 {
                let cap = S::splat(p.softcap);
                let t = math::tanh::<S>(S::div(x, cap));
                x = S::mul(cap, t);
                slope = S::mul(slope, S::fnma(t, t, S::splat(1.0)));
            }
            if p.slopes.is_some() {
                x = S::fma(S::splat(self.slope), S::add(S::splat(self.distance + item as f32), ordinals::<S>()), x);
            }
            if let Some(mask) = self.mask {
                x = S::add(x, self.mask_items::<S>(mask, item));
            }
            (self.seen::<S>(x, item, f32::NEG_INFINITY), slope)
        }
    }

    /// `x` where the row sees the key, `other` elsewhere.
    ///
    /// # Safety
    /// As every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn seen<S: Simd>(&self, x: S::F, item: usize, other: f32) -> S::F {
        if self.from <= item && self.to >= item + LANES {
            return x;
        }
        // SAFETY: arithmetic on lanes only.
        unsafe {
            let (at, other) = (S::add(S::splat(item as f32), ordinals::<S>()), S::splat(other));
            let below = S::select_gt(S::splat(self.to as f32), at, x, other);
            S::select_gt(S::splat(self.from as f32), at, other, below)
        }
    }

    #[inline(always)]
    unsafe fn mask_items<S: Simd>(&self, mask: *const f32, item: usize) -> S::F {
        let stride = self.p.mask_strides[3];
        let to = self.to.saturating_sub(item).min(LANES);
        // SAFETY: only keys below `to` are read, which the sequence has.
        unsafe {
            if stride == 1 {
                return S::load_n(mask.add(item), to);
            }
            let mut items = [0f32; LANES];
            for (j, x) in items[..to].iter_mut().enumerate() {
                *x = *mask.add((item + j) * stride);
            }
            S::load(items.as_ptr())
        }
    }
}

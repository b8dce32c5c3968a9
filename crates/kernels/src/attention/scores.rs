//! From raw products of q and k to scores: scale, cap, slope, mask, and the keys a row may see.

use super::{BLOCK, Problem, Sequence, TILE};
use crate::lanes::ordinals;
use crate::math;
use crate::simd::{LANES, Simd};

/// One row of a tile: a query and a head.
#[derive(Clone, Copy)]
pub struct Row {
    /// The query's place in its sequence.
    pub query: usize,
    pub head: usize,
    /// Key positions that count: from (first) to (past the last).
    pub from: usize,
    pub to: usize,
}

/// The rows `first`… of a kv head's (query, head of the group) pairs, queries outermost.
pub struct Rows {
    pub row: [Row; TILE],
    pub count: usize,
}

impl Rows {
    pub fn new(p: &Problem, s: &Sequence, kv_head: usize, first: usize, count: usize) -> Self {
        let group = p.group();
        let mut row = [Row { query: 0, head: 0, from: 0, to: 0 }; TILE];
        for (r, row) in row[..count].iter_mut().enumerate() {
            let query = (first + r) / group;
            let (from, to) = p.visible(s, query);
            *row = Row { query, head: kv_head * group + (first + r) % group, from, to };
        }
        Rows { row, count }
    }

    /// Blocks that some row sees.
    pub fn blocks(&self) -> std::ops::Range<usize> {
        let seeing = self.row[..self.count].iter().filter(|r| r.from < r.to);
        let from = seeing.clone().map(|r| r.from / BLOCK).min().unwrap_or(0);
        from..seeing.map(|r| r.to.div_ceil(BLOCK)).max().unwrap_or(0)
    }

    /// What each row sees of block `b`.
    pub fn spans(&self, b: usize) -> Spans {
        let base = b * BLOCK;
        let mut spans = Spans { from: [0; TILE], to: [0; TILE] };
        for (r, row) in self.row[..self.count].iter().enumerate() {
            let to = row.to.saturating_sub(base).min(BLOCK);
            let from = row.from.saturating_sub(base).min(to);
            (spans.from[r], spans.to[r]) = if from < to { (from, to) } else { (BLOCK, 0) };
        }
        spans
    }
}

/// For each row of a tile the items `from`…`to` of a block that it sees; (64, 0) if none.
pub struct Spans {
    pub from: [usize; TILE],
    pub to: [usize; TILE],
}

impl Spans {
    /// The items that any of these rows sees.
    pub fn of(&self, row: usize, rows: usize) -> (usize, usize) {
        let from = self.from[row..row + rows].iter().copied().min().unwrap_or(BLOCK);
        let to = self.to[row..row + rows].iter().copied().max().unwrap_or(0);
        if from < to { (from, to) } else { (0, 0) }
    }

    /// The rows that see any of the items `item`…`item + items - 1`: from the first to past the last.
    pub fn seeing(&self, item: usize, items: usize, count: usize) -> (usize, usize) {
        let sees = |r: &usize| self.from[*r] < item + items && self.to[*r] > item;
        match (0..count).find(sees) {
            Some(first) => (first, (0..count).rev().find(sees).map_or(first, |r| r + 1)),
            None => (0, 0),
        }
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
    /// # Safety
    /// `p`'s slopes and mask must hold the row's head, query and keys.
    #[inline(always)]
    pub unsafe fn new(p: &'a Problem, s: &Sequence, row: &Row, b: usize, from: usize, to: usize) -> Self {
        let base = b * BLOCK;
        let at = s.len_k as i64 - s.len_q as i64 + row.query as i64;
        let [ms, mh, mi, mp] = p.mask_strides;
        // SAFETY: the caller's promise.
        unsafe {
            Scoring {
                p,
                slope: p.slopes.map_or(0.0, |x| *x.add(row.head)),
                distance: (base as i64 - at) as f32,
                mask: p.mask.map(|m| m.add(s.index * ms + row.head * mh + row.query * mi + base * mp)),
                from,
                to,
            }
        }
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

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

/// Rows whose scores are made side by side where they are plain: what they wait for, they then wait for together.
pub const SIDE_BY_SIDE: usize = 4;

/// What makes scores of a tile's products with a block of keys.
pub struct Scoring<'a> {
    pub p: &'a Problem,
    pub s: &'a Sequence,
    pub rows: &'a Rows,
    pub spans: &'a Spans,
    pub block: usize,
}

/// Where some neighbouring rows see keys of a block.
pub struct Seen {
    /// The vectors in which any of the rows sees any.
    pub vectors: Range<usize>,
    /// The items that all of them see.
    all: Range<usize>,
}

impl Seen {
    /// Every row sees all items of the vector.
    fn whole(&self, vector: usize) -> bool {
        self.all.start <= vector * LANES && (vector + 1) * LANES <= self.all.end
    }
}

impl Scoring<'_> {
    /// What `R` rows from `row` on see.
    #[inline(always)]
    pub fn seen<const R: usize>(&self, row: usize) -> Seen {
        let (from, to) = self.spans.of(row, R);
        let (mut first, mut end) = (0, BLOCK as u32);
        for r in row..row + R {
            (first, end) = (first.max(self.spans.from[r]), end.min(self.spans.to[r]));
        }
        Seen { vectors: from / LANES..to.div_ceil(LANES), all: first as usize..end as usize }
    }

    /// Scores are products times the scale, and nothing else.
    pub fn plain(&self) -> bool {
        self.p.softcap == 0.0 && self.p.slopes.is_none() && self.p.mask.is_none()
    }

    /// The scores of row `r` for a vector of items, −∞ where the row does not see the key, and the derivative of each with respect to its
    /// raw product. `PLAIN` where [`Scoring::plain`].
    ///
    /// # Safety
    /// `p`'s slopes and mask must hold the row's head, query and keys.
    #[inline(always)]
    pub unsafe fn score<S: Simd, const PLAIN: bool>(&self, seen: &Seen, r: usize, vector: usize, raw: S::F) -> (S::F, S::F) {
        // SAFETY: mask reads stay at keys that the row sees.
        unsafe {
            let p = self.p;
            let mut slope = S::splat(p.scale);
            let mut x = S::mul(raw, slope);
            if !PLAIN && p.softcap > 0.0 {
                let cap = S::splat(p.softcap);
                let t = math::tanh::<S>(S::div(x, cap));
                x = S::mul(cap, t);
                slope = S::mul(slope, S::fnma(t, t, S::splat(1.0)));
            }
            if let Some(slopes) = p.slopes.filter(|_| !PLAIN) {
                let item = S::add(S::splat(self.distance(r) + (vector * LANES) as f32), ordinals::<S>());
                x = S::fma(S::splat(*slopes.add(self.rows.head[r] as usize)), item, x);
            }
            if let Some(mask) = p.mask.filter(|_| !PLAIN) {
                x = S::add(x, self.mask_items::<S>(mask, r, vector * LANES));
            }
            (self.only_seen::<S>(seen, r, vector, x, f32::NEG_INFINITY), slope)
        }
    }

    /// `x` where the row sees the key, `other` elsewhere.
    ///
    /// # Safety
    /// As every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn only_seen<S: Simd>(&self, seen: &Seen, r: usize, vector: usize, x: S::F, other: f32) -> S::F {
        if seen.whole(vector) {
            return x;
        }
        // SAFETY: arithmetic on lanes only.
        unsafe {
            let (at, other) = (S::add(S::splat((vector * LANES) as f32), ordinals::<S>()), S::splat(other));
            let below = S::select_gt(S::splat(self.spans.to[r] as f32), at, x, other);
            S::select_gt(S::splat(self.spans.from[r] as f32), at, other, below)
        }
    }

    /// Position of the block's first key minus the query's.
    fn distance(&self, r: usize) -> f32 {
        let at = self.s.len_k as i64 - self.s.len_q as i64 + i64::from(self.rows.query[r]);
        ((self.block * BLOCK) as i64 - at) as f32
    }

    #[inline(always)]
    unsafe fn mask_items<S: Simd>(&self, mask: *const f32, r: usize, item: usize) -> S::F {
        let [sequences, heads, queries, keys] = self.p.mask_strides;
        let first = self.s.index * sequences + self.rows.head[r] as usize * heads + self.rows.query[r] as usize * queries;
        let to = (self.spans.to[r] as usize).saturating_sub(item).min(LANES);
        // SAFETY: only keys below `to` are read, which the sequence has.
        unsafe {
            let from = mask.add(first + (self.block * BLOCK + item) * keys);
            if keys == 1 {
                return S::load_n(from, to);
            }
            let mut items = [0f32; LANES];
            for (j, x) in items[..to].iter_mut().enumerate() {
                *x = *from.add(j * keys);
            }
            S::load(items.as_ptr())
        }
    }
}

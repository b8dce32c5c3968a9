//! The forward pass: a task takes some tiles of query rows of one kv head through the key blocks, so that they share
//! the work of laying a block out.
//!
//! With few rows (decoding) the reading of keys and values is what takes time. There a task takes all kv heads of some
//! blocks, which lie together. What a block gives is kept, and joined at the end, in ascending order as ever.

use super::ahead::{Ahead, Area};
use super::operands::{Operands, Rounded, Single, lay_rows, turn, with_operands};
use super::pages::{Block, Half, Item};
use super::product::{Part, Product, Registers, Sink, multiply, store_left};
use super::scores::{Rows, SIDE_BY_SIDE, Scoring, Spans};
use super::tasks::{MANY, Task, divide};
use super::{Attention, BLOCK, Problem, Sequence, TILE, padded, parallel_if};
use crate::dispatch;
use crate::math;
use crate::scratch::Scratch;
use crate::simd::{LANES, Simd};

pub(super) unsafe fn run(job: &Attention) {
    let p = &job.problem;
    // SAFETY: the caller's promise.
    let (tasks, work) = unsafe { (divide(p), p.work() * 2) };
    // SAFETY: tasks write disjoint rows and heads of the output, or disjoint blocks; the rest is the caller's promise.
    parallel_if(work, tasks.all.len(), |i| unsafe { attend(p.bf16, job, &tasks.all[i], tasks.all.get(i + 1)) });
    let joining: usize = tasks.divided.iter().map(|t| 2 * t.places(padded(p.dim))).sum();
    parallel_if(joining, tasks.divided.len() * p.kv_heads, |i| {
        // SAFETY: as above.
        unsafe { join_blocks(job, &tasks.divided[i / p.kv_heads], i % p.kv_heads) };
    });
}

/// The scores' chains, stored for the columns that a row sees.
pub(super) struct Scores<'a> {
    pub out: *mut f32,
    pub spans: &'a Spans,
    pub terms: usize,
}

impl Sink for Scores<'_> {
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
        unsafe { join_items::<S>(self.out.add(row * self.width + column), chain, *self.old.add(row), *self.new.add(row)) }
    }
}

/// The values' chains, kept as they are; 0 for rows that see nothing.
struct Keep<'a> {
    out: *mut f32,
    width: usize,
    spans: &'a Spans,
}

impl Sink for Keep<'_> {
    #[inline(always)]
    fn part(&self, row: usize, rows: usize) -> Part {
        Part { columns: (0, self.width), terms: self.spans.of(row, rows) }
    }

    #[inline(always)]
    unsafe fn take<S: Simd>(&self, row: usize, column: usize, chain: S::F) {
        // SAFETY: the block's place has room for `width` items in each row.
        unsafe { S::store(self.out.add(row * self.width + column), chain) }
    }
}

/// What a task keeps of one tile: its queries, and of each row o, m and l of the blocks so far.
struct Tile {
    rows: Rows,
    q: *const f32,
    /// Distance of the rows of q.
    q_row: usize,
    out: *mut f32,
    max: *mut f32,
    sum: *mut f32,
}

impl Tile {
    fn room(task: &Task) -> usize {
        task.count.min(TILE).next_multiple_of(LANES)
    }

    fn items(task: &Task, width: usize) -> usize {
        2 * Tile::room(task) * (width + 1)
    }

    /// The task's rows from `first` on, in memory for [`Tile::items`].
    #[inline(always)]
    unsafe fn new<S: Registers, O: Operands<S>>(p: &Problem, task: &Task, kv_head: usize, first: usize, memory: *mut f32) -> Tile {
        // SAFETY: the caller promises the memory and the operands.
        unsafe {
            let (s, width, room) = (&task.sequence, padded(p.dim), Tile::room(task));
            let rows = Rows::new(p, s, kv_head, first, (task.first + task.count - first).min(TILE));
            let out = memory.add(room * width);
            let max = out.add(room * width);
            out.write_bytes(0, rows.count * width);
            for r in (0..room).step_by(LANES) {
                S::store(max.add(r), S::splat(f32::NEG_INFINITY));
                S::store(max.add(room + r), S::splat(0.0));
            }
            let (mut q, mut q_row) = (memory.cast_const(), width / O::PER);
            if O::AS_THEY_ARE && p.group() == 1 {
                (q, q_row) = (p.q.add((s.first_row + first) * p.q_row + kv_head * p.dim), p.q_row);
            } else {
                for r in 0..rows.count {
                    let from = p.q.add((s.first_row + rows.query[r] as usize) * p.q_row + rows.head[r] as usize * p.dim);
                    lay_rows::<S, O, _>(from, 0, 1, p.dim, memory.add(r * q_row), width);
                }
            }
            Tile { rows, q, q_row, out, max, sum: max.add(room) }
        }
    }

    /// Writes the rows' results.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, job: &Attention, s: &Sequence) {
        // SAFETY: the caller promises the operands.
        unsafe {
            let p = &job.problem;
            let (width, one) = (padded(p.dim), S::splat(1.0));
            let (mut shares, mut logs) = ([0f32; LANES], [0f32; LANES]);
            for r in 0..self.rows.count {
                if r % LANES == 0 {
                    let l = S::load(self.sum.add(r));
                    S::store(shares.as_mut_ptr(), S::div(one, S::select_eq(l, S::splat(0.0), one, l)));
                    S::store(logs.as_mut_ptr(), S::add(S::load(self.max.add(r)), math::log::<S>(l)));
                }
                let (query, head) = (s.first_row + self.rows.query[r] as usize, self.rows.head[r] as usize);
                let to = job.out.add(query * job.o_row + head * p.dim);
                let share = S::splat(shares[r % LANES]);
                for d in (0..p.dim).step_by(LANES) {
                    store_left::<S>(to, d, p.dim, S::mul(S::load(self.out.add(r * width + d)), share));
                }
                if let Some(lse) = job.lse {
                    *lse.add(head * p.rows_q + query) = logs[r % LANES];
                }
            }
        }
    }
}

/// [`lay_rows`] of float32 or binary16.
#[inline(always)]
unsafe fn lay_either<S: Registers, O: Operands<S>>(
    half: bool,
    from: *const f32,
    from_row: usize,
    rows: usize,
    n: usize,
    to: *mut f32,
    width: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match half {
            true => lay_rows::<S, O, Half>(from.cast(), from_row, rows, n, to, width),
            false => lay_rows::<S, O, f32>(from, from_row, rows, n, to, width),
        }
    }
}

/// A block's keys turned and its values, of which the latter lie `v_row` apart.
struct Laid {
    keys: *const f32,
    values: *const f32,
    v_row: usize,
}

/// Working memory for blocks of keys: a block's keys transposed and its values, a tile's scores, and of each row m, l and the
/// factors of what was and what comes.
struct Desk {
    keys: *mut f32,
    values: *mut f32,
    scores: *mut f32,
    max: *mut f32,
    sum: *mut f32,
    old: *mut f32,
    new: *mut f32,
}

impl Desk {
    fn items(width: usize) -> usize {
        2 * BLOCK * width + TILE * BLOCK + 4 * TILE
    }

    /// In memory for [`Desk::items`].
    unsafe fn new(width: usize, memory: *mut f32) -> Desk {
        // SAFETY: the caller promises the memory.
        unsafe {
            let scores = memory.add(2 * BLOCK * width);
            let state = scores.add(TILE * BLOCK);
            state.write_bytes(0, 4 * TILE);
            let [max, sum, old, new] = [0, 1, 2, 3].map(|i| state.add(i * TILE));
            Desk { keys: memory, values: memory.add(BLOCK * width), scores, max, sum, old, new }
        }
    }

    /// Lays a block out where it can't be taken as it is.
    #[inline(always)]
    unsafe fn lay<S: Registers, O: Operands<S>>(&self, p: &Problem, task: &Task, block: &Block, ahead: &mut Ahead) -> Laid {
        // SAFETY: the caller promises the operands and the block.
        unsafe {
            let (width, paged, half) = (padded(p.dim), p.pages.is_some(), p.half());
            let &Block { k, k_row, v, v_row, here } = block;
            let mut laid = Laid { keys: self.keys, values: v, v_row };
            if !paged {
                turn::<S, O>(k, k_row, here, p.dim, self.values, width, self.keys, ahead);
            } else if O::AS_THEY_ARE && !half {
                laid.keys = k;
            } else {
                // Terms of pairs take half the room of their items, and are joined behind where these lie.
                let rows = self.keys.add(if O::PER == 1 { 0 } else { BLOCK * width / O::PER });
                lay_either::<S, O>(half, k, k_row, p.dim, BLOCK, rows, BLOCK);
                O::join_rows(rows, BLOCK / O::PER, p.dim, BLOCK, self.keys, BLOCK);
            }
            if !(O::AS_THEY_ARE && !half && (paged || task.count < MANY) && width == p.dim) {
                lay_either::<S, O>(half, v, v_row, here, p.dim, self.values, width);
                let below = O::below(self.values, width);
                O::join_rows(self.values, width / O::PER, here, width, below, width);
                (laid.values, laid.v_row) = (below, width);
            }
            laid
        }
    }

    /// Leaves the weights, m and l of a tile's rows and the block that is laid out.
    #[inline(always)]
    unsafe fn weigh<S: Registers, O: Operands<S>, T: Item>(
        &self,
        p: &Problem,
        s: &Sequence,
        tile: &Tile,
        b: usize,
        keys: *const T,
        spans: &Spans,
        ahead: &mut Ahead,
    ) {
        // SAFETY: the caller promises the operands.
        unsafe {
            let rows = tile.rows.count;
            let product = Product::<false, T> { a: tile.q, a_apart: tile.q_row, b: keys, b_row: BLOCK, rows };
            multiply::<S, O, _, _, _>(&product, &Scores { out: self.scores, spans, terms: p.dim }, ahead);
            let scoring = &Scoring { p, s, rows: &tile.rows, spans, block: b };
            let mut r = 0;
            while r < rows {
                let (scores, max, sum) = (self.scores.add(r * BLOCK), self.max.add(r), self.sum.add(r));
                r += match scoring.plain() {
                    true if r + SIDE_BY_SIDE <= rows => weigh::<S, O, true, SIDE_BY_SIDE>(scoring, r, scores, max, sum),
                    true if r + 3 == rows => weigh::<S, O, true, 3>(scoring, r, scores, max, sum),
                    true if r + 2 == rows => weigh::<S, O, true, 2>(scoring, r, scores, max, sum),
                    true => weigh::<S, O, true, 1>(scoring, r, scores, max, sum),
                    false => weigh::<S, O, false, 1>(scoring, r, scores, max, sum),
                };
            }
        }
    }
}

/// What to ask for during the work on a block of a kv head: the keys and values of the next, and parts of the task that may
/// come next.
#[inline(always)]
unsafe fn ahead_of(job: &Attention, task: &Task, next: Option<&Task>, kv_head: usize, b: usize, steps: usize) -> Ahead {
    let p = &job.problem;
    // SAFETY: the blocks of tasks exist.
    unsafe {
        let following = if p.pages.is_some() {
            // What a page has of a kv head lies together: the processor sees by itself what comes next, and asking for it all takes as long as a product.
            None
        } else if kv_head + 1 < task.kv_heads.end {
            Some((task, kv_head + 1, b))
        } else if b + 1 < task.blocks.end {
            Some((task, task.kv_heads.start, b + 1))
        } else {
            next.filter(|t| !t.blocks.is_empty()).map(|t| (t, t.kv_heads.start, t.blocks.start))
        };
        let keys = following.map_or([Area::NONE; 2], |(task, kv_head, b)| {
            let Block { k, k_row, v, v_row, here } = p.block(&task.sequence, kv_head, b);
            [Area::new(k, k_row, here, p.dim), Area::new(v, v_row, here, p.dim)]
        });
        let rows = next.filter(|t| t.kept.is_none()).map_or([Area::NONE; 2], |t| {
            let queries = t.first / p.group()..(t.first + t.count).div_ceil(p.group());
            let items = p.group() * p.dim * t.kv_heads.len();
            let of = |at: *const f32, row: usize| {
                let from = at.wrapping_add((t.sequence.first_row + queries.start) * row + t.kv_heads.start * p.group() * p.dim);
                Area::new(from, row, queries.len(), items).share(b - task.blocks.start, task.blocks.len())
            };
            [of(p.q, p.q_row), of(job.out, job.o_row)]
        });
        Ahead::new(&[keys[0], keys[1], rows[0], rows[1]], steps)
    }
}

with_operands! { unsafe fn attend(job: &Attention, task: &Task, next: Option<&Task>) = attend_on }

#[inline(always)]
unsafe fn attend_on<S: Registers, O: Operands<S>>(job: &Attention, task: &Task, next: Option<&Task>) {
    // SAFETY: the caller promises the operands; the scratch holds the parts named here.
    unsafe {
        let (p, s) = (&job.problem, &task.sequence);
        let width = padded(p.dim);
        let tiles_each = task.count.div_ceil(TILE);
        let scratch = Scratch::new(Desk::items(width) + task.kv_heads.len() * tiles_each * Tile::items(task, width));
        let desk = Desk::new(width, scratch.pointer());
        let mut place = scratch.pointer().add(Desk::items(width));
        let mut tiles = Vec::with_capacity(task.kv_heads.len() * tiles_each);
        for kv_head in task.kv_heads.clone() {
            for first in (task.first..task.first + task.count).step_by(TILE) {
                tiles.push(Tile::new::<S, O>(p, task, kv_head, first, place));
                place = place.add(Tile::items(task, width));
            }
        }
        for b in task.blocks.clone() {
            for (kv_head, tiles) in task.kv_heads.clone().zip(tiles.chunks(tiles_each)) {
                let seeing = || tiles.iter().filter(|t| t.rows.blocks.contains(&b));
                let turning = if p.pages.is_some() { 0 } else { BLOCK / 8 };
                let steps = turning + seeing().map(|t| 2 * t.rows.count.div_ceil(S::ROWS)).sum::<usize>();
                let ahead = &mut ahead_of(job, task, next, kv_head, b, steps);
                let block = &p.block(s, kv_head, b);
                // Few rows take binary16 from where it is: what becomes float32 on its way is not written and read once more.
                let direct = O::AS_THEY_ARE && p.half() && task.count < MANY && width == p.dim;
                let laid = if direct {
                    Laid { keys: block.k, values: block.v, v_row: block.v_row }
                } else {
                    desk.lay::<S, O>(p, task, block, ahead)
                };
                let Laid { keys, values, v_row } = laid;
                for t in seeing() {
                    if direct {
                        take::<S, O, Half>(job, task, &desk, t, kv_head, b, keys.cast(), values.cast(), v_row, ahead);
                    } else {
                        take::<S, O, f32>(job, task, &desk, t, kv_head, b, keys, values, v_row, ahead);
                    }
                }
            }
        }
        if task.kept.is_none() {
            for t in &tiles {
                t.finish::<S>(job, s);
            }
        }
    }
}

/// Takes a tile through a block whose keys lie as rows of items and whose values lie `v_row` apart.
#[inline(always)]
unsafe fn take<S: Registers, O: Operands<S>, T: Item>(
    job: &Attention,
    task: &Task,
    desk: &Desk,
    t: &Tile,
    kv_head: usize,
    b: usize,
    keys: *const T,
    values: *const T,
    v_row: usize,
    ahead: &mut Ahead,
) {
    // SAFETY: the caller promises the operands and the block.
    unsafe {
        let (p, width, spans) = (&job.problem, padded(job.problem.dim), &t.rows.spans(b));
        desk.weigh::<S, O, T>(p, &task.sequence, t, b, keys, spans, ahead);
        let product = Product::<false, T> { a: desk.scores, a_apart: BLOCK, b: values, b_row: v_row, rows: t.rows.count };
        if let Some(kept) = &task.kept {
            let [max, sum, out] = task.kept(kept, kv_head, width, b);
            max.copy_from_nonoverlapping(desk.max, LANES);
            sum.copy_from_nonoverlapping(desk.sum, LANES);
            multiply::<S, O, _, _, _>(&product, &Keep { out, width, spans }, ahead);
            return;
        }
        for r in (0..t.rows.count).step_by(LANES) {
            join::<S>(t.max.add(r), t.sum.add(r), desk.max.add(r), desk.sum.add(r), desk.old.add(r), desk.new.add(r));
        }
        multiply::<S, O, _, _, _>(&product, &Join { out: t.out, width, old: desk.old, new: desk.new, spans }, ahead);
    }
}

dispatch! { unsafe fn join_blocks(job: &Attention, task: &Task, kv_head: usize) = join_blocks_on }

/// Joins what a divided task's blocks have left.
#[inline(always)]
unsafe fn join_blocks_on<S: Registers>(job: &Attention, task: &Task, kv_head: usize) {
    // SAFETY: the caller promises the operands and that the task has been divided.
    unsafe {
        let width = padded(job.problem.dim);
        let Some(kept) = &task.kept else { return };
        let scratch = Scratch::new(2 * LANES + Tile::items(task, width));
        let (old, new) = (scratch.pointer(), scratch.pointer().add(LANES));
        let tile = Tile::new::<S, Single>(&job.problem, task, kv_head, task.first, new.add(LANES));
        for b in kept.all.clone() {
            let [max, sum, out] = task.kept(kept, kv_head, width, b);
            join::<S>(tile.max, tile.sum, max, sum, old, new);
            for r in 0..task.count {
                for d in (0..width).step_by(LANES) {
                    let at = r * width + d;
                    join_items::<S>(tile.out.add(at), S::load(out.add(at)), *old.add(r), *new.add(r));
                }
            }
        }
        tile.finish::<S>(job, &task.sequence);
    }
}

/// Turns the raw products of `R` rows from `row` on with a block into e^(score − largest), 0 where they see nothing; leaves each row's
/// largest score and the sum (of what is not rounded), and gives `R`.
#[inline(always)]
unsafe fn weigh<S: Registers, O: Operands<S>, const PLAIN: bool, const R: usize>(
    scoring: &Scoring,
    row: usize,
    scores: *mut f32,
    max: *mut f32,
    sum: *mut f32,
) -> usize {
    // SAFETY: each row holds 64 items; those that none of the product's rows sees hold anything, and are replaced.
    unsafe {
        let seen = &scoring.seen::<R>(row);
        let zero = S::splat(0.0);
        let mut most = [S::splat(f32::NEG_INFINITY); R];
        for c in seen.vectors.clone() {
            for r in 0..R {
                let at = scores.add(r * BLOCK + c * LANES);
                let x = scoring.score::<S, PLAIN>(seen, row + r, c, S::load(at)).0;
                S::store(at, x);
                most[r] = S::max(most[r], x);
            }
        }
        let (mut centre, mut sums) = ([zero; R], [zero; R]);
        for r in 0..R {
            let m = S::max_lane(most[r]);
            *max.add(r) = m;
            // Where every score is −∞ the weights are 0, not NaN.
            centre[r] = S::splat(if m == f32::NEG_INFINITY { 0.0 } else { m });
        }
        for c in seen.vectors.clone() {
            for r in 0..R {
                let at = scores.add(r * BLOCK);
                let e = math::exp_nonpositive::<S>(S::sub(S::load(at.add(c * LANES)), centre[r]));
                O::put(at, c * LANES, e);
                sums[r] = S::add(sums[r], e);
            }
        }
        for c in (0..seen.vectors.start).chain(seen.vectors.end..BLOCK / LANES) {
            for r in 0..R {
                O::put(scores.add(r * BLOCK), c * LANES, zero);
            }
        }
        for r in 0..R {
            *sum.add(r) = S::sum(sums[r]);
        }
        R
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

/// The outputs that belong to [`join`]'s factors.
#[inline(always)]
unsafe fn join_items<S: Simd>(out: *mut f32, block: S::F, old: f32, new: f32) {
    // SAFETY: 16 items lie behind the pointer.
    unsafe { S::store(out, S::fma(S::load(out), S::splat(old), S::mul(block, S::splat(new)))) }
}

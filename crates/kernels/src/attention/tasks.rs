//! What the threads take of a forward pass: usually some tiles of query rows of one kv head, with all their keys; with few
//! rows all kv heads, and of many keys a part.

use super::{BLOCK, Problem, Sequence, TILE, padded};
use crate::pool::threads;
use crate::scratch::Scratch;
use crate::simd::LANES;
use std::ops::Range;

/// Rows from which a copy of the block's values in neighbouring rows pays; with fewer, a task takes all kv heads.
pub const MANY: usize = 16;

/// Most tiles of a kv head in one task.
const TILES: usize = 4;

/// Fewest blocks of a task that takes only some of them.
const FEWEST: usize = 2;

/// Rows `first`… of some kv heads of a sequence, at most [`TILES`] tiles of each.
#[derive(Clone)]
pub struct Task {
    pub sequence: Sequence,
    pub kv_heads: Range<usize>,
    pub first: usize,
    pub count: usize,
    /// The blocks that some row sees, or some of them.
    pub blocks: Range<usize>,
    /// Where each block leaves what it gives, if they are not all the blocks.
    pub kept: Option<Kept>,
}

/// Of each block and kv head: 16 m, 16 l and the rows of o.
#[derive(Clone)]
pub struct Kept {
    at: *mut f32,
    pub all: Range<usize>,
}

// SAFETY: tasks write disjoint blocks.
unsafe impl Sync for Task {}

impl Task {
    fn new(p: &Problem, sequence: Sequence, kv_heads: Range<usize>, first: usize, count: usize) -> Task {
        // Visible keys neither begin nor end earlier with a later query.
        let [(from, _), (_, to)] = [first, first + count - 1].map(|row| p.visible(&sequence, row / p.group()));
        let blocks = from / BLOCK..to.div_ceil(BLOCK).max(from / BLOCK);
        Task { sequence, kv_heads, first, count, blocks, kept: None }
    }

    /// Floats that one block and kv head leaves.
    fn kept_items(&self, width: usize) -> usize {
        2 * LANES + self.count * width
    }

    /// Floats that the task's blocks leave.
    pub fn places(&self, width: usize) -> usize {
        self.blocks.len() * self.kv_heads.len() * self.kept_items(width)
    }

    /// m, l and o of block `b`.
    pub unsafe fn kept(&self, kept: &Kept, kv_head: usize, width: usize, b: usize) -> [*mut f32; 3] {
        let place = (b - kept.all.start) * self.kv_heads.len() + kv_head - self.kv_heads.start;
        // SAFETY: b is one of the blocks.
        unsafe {
            let at = kept.at.add(place * self.kept_items(width));
            [at, at.add(LANES), at.add(2 * LANES)]
        }
    }
}

/// A job in pieces.
pub struct Tasks {
    pub all: Vec<Task>,
    /// What has been divided, as a whole; the parts are among `all`.
    pub divided: Vec<Task>,
    /// Where the parts leave what they give.
    _memory: Scratch,
}

/// Divides a job. What a task is changes no result, so it may depend on the number of threads.
pub unsafe fn divide(p: &Problem) -> Tasks {
    // SAFETY: s is a sequence.
    let sequences: Vec<Sequence> = (0..p.sequences).map(|s| unsafe { p.sequence(s) }).collect();
    let tiles: usize = sequences.iter().map(|s| (s.len_q * p.group()).div_ceil(TILE)).sum();
    let wanted = 4 * threads();
    let share = (tiles * p.kv_heads / wanted).clamp(1, TILES);
    let mut tasks = Vec::new();
    let mut few = Vec::new();
    for &sequence in sequences.iter().filter(|s| s.len_q > 0) {
        let rows = sequence.len_q * p.group();
        if rows <= MANY {
            few.push(Task::new(p, sequence, 0..p.kv_heads, 0, rows));
            continue;
        }
        // Long rows first: the threads then end together.
        for first in (0..rows).step_by(share * TILE).rev() {
            for kv_head in 0..p.kv_heads {
                tasks.push(Task::new(p, sequence, kv_head..kv_head + 1, first, (rows - first).min(share * TILE)));
            }
        }
    }
    let width = padded(p.dim);
    let parts = if threads() == 1 { 1 } else { wanted.div_ceil(tasks.len() + few.len().max(1)) };
    let divides = |t: &Task| parts.min(t.blocks.len() / FEWEST) > 1;
    let memory = Scratch::new(few.iter().filter(|t| divides(t)).map(|t| t.places(width)).sum());
    let mut at = memory.pointer();
    let mut divided = Vec::new();
    for task in few {
        if !divides(&task) {
            tasks.push(task);
            continue;
        }
        let kept = Some(Kept { at, all: task.blocks.clone() });
        // SAFETY: the memory holds the places of all divided tasks.
        at = unsafe { at.add(task.places(width)) };
        let whole = Task { kept, ..task };
        let step = whole.blocks.len().div_ceil(parts).max(FEWEST);
        tasks.extend(whole.blocks.clone().step_by(step).map(|b| Task { blocks: b..(b + step).min(whole.blocks.end), ..whole.clone() }));
        divided.push(whole);
    }
    Tasks { all: tasks, divided, _memory: memory }
}

//! SentencePiece's unigram model, unit by unit. Of ways with nearly equal sums the library's rounding decides: float32, added from the text's start,
//! and started again from 0 before the sum grows so large that scores would drown in it. So a unit's best way depends on the sum before it, if only
//! by a hair: a way that was kept is taken again where its lead over every other is more than rounding could ever take away, else found anew.

use crate::hash;
use crate::sentencepiece::kind;
use crate::trie::{NONE, ROOT, Trie};
use crate::unigram::{Lattice, Node, width};

/// How much less an unknown character is worth than the worst piece.
const UNKNOWN_PENALTY: f32 = 10.0;
/// From this sum on, upwards or downwards, sums start again.
const LARGEST_SUM: f32 = 100_000.0;

/// Slots at first, and at most: some megabytes.
const FEWEST_SLOTS: usize = 1 << 11;
const MOST_SLOTS: usize = 1 << 16;
const LONGEST: usize = 47;
const MOST: usize = 10;

#[derive(Clone, Copy)]
struct Slot {
    unit: [u8; LONGEST],
    length: u8,
    count: u8,
    lengths: [u8; MOST],
    ids: [u32; MOST],
    lead: f32,
}

pub struct Unigrams {
    pieces: Trie,
    worth: Vec<f32>,
    unknown: u32,
    unknown_score: f32,
    /// The largest worth of any step, upwards or downwards.
    largest: f32,
}

pub struct UnigramRoom {
    lattice: Lattice<f32>,
    slots: Vec<Slot>,
    filled: usize,
    second: Vec<[f64; 2]>,
    ids: Vec<u32>,
    lengths: Vec<u32>,
}

const EMPTY: Slot = Slot { unit: [0; LONGEST], length: 0, count: 0, lengths: [0; MOST], ids: [0; MOST], lead: 0.0 };

impl Default for UnigramRoom {
    fn default() -> Self {
        Self {
            lattice: Lattice::default(),
            slots: vec![EMPTY; FEWEST_SLOTS],
            filled: 0,
            second: Vec::new(),
            ids: Vec::new(),
            lengths: Vec::new(),
        }
    }
}

impl UnigramRoom {
    /// Doubles the slots where half of them are taken.
    fn grow(&mut self) {
        if self.filled * 2 < self.slots.len() || self.slots.len() == MOST_SLOTS {
            return;
        }
        let larger = vec![EMPTY; self.slots.len() * 2];
        self.filled = 0;
        for slot in std::mem::replace(&mut self.slots, larger).into_iter().filter(|slot| slot.length > 0) {
            let at = hash::bytes(&slot.unit[..usize::from(slot.length)]) as usize & (self.slots.len() - 1);
            self.filled += usize::from(self.slots[at].length == 0);
            self.slots[at] = slot;
        }
    }
}

impl Unigrams {
    pub fn new(pieces: &[(&[u8], u32)], types: &[u8], scores: Vec<f32>, unknown: u32) -> Self {
        let normal = types.iter().zip(&scores).filter(|(kind, _)| **kind == kind::NORMAL).map(|(_, score)| *score);
        let unknown_score = normal.fold(f32::MAX, f32::min) - UNKNOWN_PENALTY;
        let mut worth = scores;
        for &(piece, id) in pieces {
            // Worth more than any way to cut it, so that it stays whole.
            if types[id as usize] == kind::USER_DEFINED {
                worth[id as usize] = (0.1 * (piece.len() as f64 - 1.0)) as f32;
            }
        }
        let largest = worth.iter().fold(unknown_score.abs(), |most, worth| most.max(worth.abs()));
        let used = pieces.iter().copied().filter(|&(_, id)| types[id as usize] != kind::UNUSED);
        Self { pieces: Trie::new(used), worth, unknown, unknown_score, largest }
    }

    fn worth(&self, id: u32) -> f32 {
        if id == self.unknown { self.unknown_score } else { self.worth[id as usize] }
    }

    /// Gives the ids of `text[start..end]` and the bytes that each takes to `give`; returns the sum behind it, of `sum` before it.
    pub fn cut(&self, text: &str, start: usize, end: usize, sum: f32, room: &mut UnigramRoom, give: impl FnOnce(&[u32], &[u32])) -> f32 {
        let unit = &text.as_bytes()[start..end];
        let sum = if sum.abs() > LARGEST_SUM { 0.0 } else { sum };
        let at = hash::bytes(unit) as usize & (room.slots.len() - 1);
        let kept = unit.len() <= LONGEST;
        if kept {
            let slot = &room.slots[at];
            if usize::from(slot.length) == unit.len() && slot.unit[..unit.len()] == *unit && self.is_safe(slot.lead, unit.len(), sum) {
                let count = usize::from(slot.count);
                let mut lengths = [0; MOST];
                for (to, &from) in lengths.iter_mut().zip(&slot.lengths[..count]) {
                    *to = u32::from(from);
                }
                give(&slot.ids[..count], &lengths[..count]);
                return slot.ids[..count].iter().fold(sum, |sum, &id| self.worth(id) + sum);
            }
        }
        let behind = self.search(unit, sum, room);
        if kept && room.ids.len() <= MOST {
            let lead = self.lead(unit, room);
            let slot = &mut room.slots[at];
            room.filled += usize::from(slot.length == 0);
            slot.unit[..unit.len()].copy_from_slice(unit);
            slot.length = unit.len() as u8;
            slot.count = room.ids.len() as u8;
            for (i, (&id, &length)) in room.ids.iter().zip(&room.lengths).enumerate() {
                (slot.ids[i], slot.lengths[i]) = (id, length as u8);
            }
            slot.lead = lead;
            room.grow();
        }
        give(&room.ids, &room.lengths);
        behind
    }

    /// Whether rounding can't take the lead: each of at most `steps` sums is off by half a unit in its last place at most, on both ways.
    fn is_safe(&self, lead: f32, steps: usize, sum: f32) -> bool {
        let steps = steps as f32;
        let largest = sum.abs() + (steps + 1.0) * self.largest;
        // Twice what both ways can be off together.
        largest < LARGEST_SUM && lead > 4.0 * steps * largest * f32::EPSILON
    }

    /// The best way through a unit into `room.ids`, as the library adds; returns the sum at its end.
    fn search(&self, unit: &[u8], sum: f32, room: &mut UnigramRoom) -> f32 {
        let nodes = &mut room.lattice.nodes;
        nodes.clear();
        nodes.resize(unit.len() + 1, Node { sum: 0.0, start: NONE, id: NONE });
        nodes[0].sum = sum;
        let mut furthest = 0;
        let mut start = 0;
        while start < unit.len() {
            if nodes[start].sum.abs() > LARGEST_SUM {
                let sum = nodes[start].sum;
                nodes[start..=furthest].iter_mut().filter(|node| node.start != NONE).for_each(|node| node.sum -= sum);
            }
            let before = nodes[start].sum;
            let next = (start + width(unit[start])).min(unit.len());
            let mut known = false;
            for (length, id) in self.pieces.beginnings(ROOT, &unit[start..]) {
                furthest = furthest.max(start + length);
                offer(&mut nodes[start + length], start, id, self.worth[id as usize] + before);
                known |= start + length == next;
            }
            if !known {
                furthest = furthest.max(next);
                offer(&mut nodes[next], start, self.unknown, self.unknown_score + before);
            }
            start = next;
        }
        room.ids.clear();
        room.lengths.clear();
        let mut end = unit.len();
        while end > 0 {
            let node = nodes[end];
            room.ids.push(node.id);
            room.lengths.push(end as u32 - node.start);
            end = node.start as usize;
        }
        room.ids.reverse();
        room.lengths.reverse();
        nodes[unit.len()].sum
    }

    /// By how much the way that was found is worth more than any other one, at least; below 0 where another is worth more but for rounding.
    fn lead(&self, unit: &[u8], room: &mut UnigramRoom) -> f32 {
        let best = &mut room.second;
        best.clear();
        best.resize(unit.len() + 1, [f64::NEG_INFINITY; 2]);
        best[0][0] = 0.0;
        let offer = |place: &mut [f64; 2], from: [f64; 2], worth: f32| {
            for sum in from.map(|sum| sum + f64::from(worth)) {
                if sum > place[0] {
                    *place = [sum, place[0]];
                } else if sum > place[1] {
                    place[1] = sum;
                }
            }
        };
        let mut start = 0;
        while start < unit.len() {
            let next = (start + width(unit[start])).min(unit.len());
            let from = best[start];
            let mut known = false;
            for (length, id) in self.pieces.beginnings(ROOT, &unit[start..]) {
                offer(&mut best[start + length], from, self.worth[id as usize]);
                known |= start + length == next;
            }
            if !known {
                offer(&mut best[next], from, self.unknown_score);
            }
            start = next;
        }
        let found: f64 = room.ids.iter().map(|&id| f64::from(self.worth(id))).sum();
        let [first, second] = best[unit.len()];
        // Where the way that was found is not the best, `second` is no less than it.
        ((found - second) as f32).min(if found < first { 0.0 } else { f32::MAX })
    }
}

#[inline(always)]
fn offer(node: &mut Node<f32>, start: usize, id: u32, sum: f32) {
    if node.start == NONE || sum > node.sum {
        *node = Node { sum, start: start as u32, id };
    }
}

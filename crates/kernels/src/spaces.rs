//! Which parts of some memory are free: the smallest space that suffices is given, and spaces that meet become one again.
//!
//! So what was used for sizes that come no more serves others: a program holds little more than it needs at once, not the sum of what it has ever needed of each size.

use std::collections::{BTreeMap, BTreeSet};

/// Free spaces, by their addresses and by their sizes.
#[derive(Default)]
pub struct Spaces {
    by_start: BTreeMap<usize, usize>,
    by_size: BTreeSet<(usize, usize)>,
}

impl Spaces {
    /// Takes so many bytes of the smallest space that has them, of several the first; None where there is none.
    pub fn take(&mut self, bytes: usize) -> Option<usize> {
        let &(size, start) = self.by_size.range((bytes, 0)..).next()?;
        self.remove(start, size);
        if size > bytes {
            self.insert(start + bytes, size - bytes);
        }
        Some(start)
    }

    /// Makes memory free that is not, and belongs to whoever calls.
    pub fn give(&mut self, start: usize, bytes: usize) {
        let (mut from, mut size) = (start, bytes);
        if let Some((&before, &room)) = self.by_start.range(..start).next_back()
            && before + room == start
        {
            self.remove(before, room);
            (from, size) = (before, room + size);
        }
        if let Some(&room) = self.by_start.get(&(start + bytes)) {
            self.remove(start + bytes, room);
            size += room;
        }
        self.insert(from, size);
    }

    fn insert(&mut self, start: usize, size: usize) {
        self.by_start.insert(start, size);
        self.by_size.insert((size, start));
    }

    fn remove(&mut self, start: usize, size: usize) {
        self.by_start.remove(&start);
        self.by_size.remove(&(size, start));
    }
}

#[cfg(test)]
mod tests {
    use super::Spaces;

    #[test]
    fn the_smallest_that_suffices_is_taken_and_its_rest_stays() {
        let mut s = Spaces::default();
        s.give(1000, 500);
        s.give(4000, 200);
        s.give(8000, 200);
        assert_eq!(s.take(600), None);
        assert_eq!(s.take(150), Some(4000));
        assert_eq!(s.take(150), Some(8000));
        assert_eq!(s.take(50), Some(4150));
        assert_eq!(s.take(500), Some(1000));
        assert_eq!(s.take(51), None);
        assert_eq!(s.take(50), Some(8150));
        assert_eq!(s.take(1), None);
    }

    #[test]
    fn spaces_that_meet_become_one() {
        let mut s = Spaces::default();
        s.give(0, 100);
        s.give(200, 100);
        assert_eq!(s.take(101), None);
        s.give(100, 100);
        assert_eq!(s.take(300), Some(0));
        assert_eq!(s.take(1), None);
    }

    /// A map of the memory, byte by byte, says the same.
    #[test]
    fn nothing_is_given_twice_and_nothing_gets_lost() {
        const ALL: usize = 2000;
        let mut s = Spaces::default();
        s.give(0, ALL);
        let mut used = [false; ALL];
        let mut held: Vec<(usize, usize)> = Vec::new();
        let mut state = 1u64;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        for _ in 0..5000 {
            let bytes = 1 + draw(200);
            if draw(2) == 0 {
                let Some(start) = s.take(bytes) else {
                    let fits = used.split(|&u| u).any(|free| free.len() >= bytes);
                    assert!(!fits, "{bytes} bytes are free in one piece");
                    continue;
                };
                assert!(used[start..start + bytes].iter().all(|&u| !u));
                used[start..start + bytes].fill(true);
                held.push((start, bytes));
            } else if !held.is_empty() {
                let (start, bytes) = held.swap_remove(draw(held.len()));
                used[start..start + bytes].fill(false);
                s.give(start, bytes);
            }
        }
        for (start, bytes) in held {
            s.give(start, bytes);
        }
        assert_eq!(s.take(ALL), Some(0));
    }
}

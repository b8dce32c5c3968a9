//! A set of byte strings by their beginnings, as a double array (Aoe 1989): the child of cell `c` for byte `b` is cell `base(c) ^ b`, if that one
//! says that it belongs to `c`.

/// "No value", "no cell".
pub const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Cell {
    base: u32,
    /// The cell above; `NONE` for a free one.
    above: u32,
    value: u32,
}

const FREE: Cell = Cell { base: 0, above: NONE, value: NONE };

pub struct Trie {
    cells: Vec<Cell>,
}

pub const ROOT: u32 = 0;

impl Trie {
    /// Of a key that is there twice the later value counts.
    pub fn new<'a>(keys: impl Iterator<Item = (&'a [u8], u32)>) -> Self {
        let mut keys: Vec<(&[u8], u32)> = keys.collect();
        // Stable, so that the last of equals is the later.
        keys.sort_by(|a, b| a.0.cmp(b.0));
        let mut builder = Builder { cells: vec![FREE; 512], first_free: 1 };
        builder.cells[0].above = ROOT;
        // Ranges of sorted keys that share their first `depth` bytes, with the cell where they stand.
        let mut open = vec![(0, keys.len(), 0usize, ROOT)];
        let mut bytes: Vec<(u8, usize, usize)> = Vec::new();
        while let Some((mut from, to, depth, cell)) = open.pop() {
            while from < to && keys[from].0.len() == depth {
                builder.cells[cell as usize].value = keys[from].1;
                from += 1;
            }
            if from == to {
                continue;
            }
            bytes.clear();
            for at in from..to {
                let byte = keys[at].0[depth];
                match bytes.last_mut() {
                    Some(last) if last.0 == byte => last.2 = at + 1,
                    _ => bytes.push((byte, at, at + 1)),
                }
            }
            let base = builder.place(&bytes);
            builder.cells[cell as usize].base = base;
            for &(byte, start, end) in &bytes {
                let child = base ^ u32::from(byte);
                builder.cells[child as usize].above = cell;
                open.push((start, end, depth + 1, child));
            }
        }
        Self { cells: builder.cells }
    }

    #[inline(always)]
    pub fn step(&self, cell: u32, byte: u8) -> Option<u32> {
        let next = self.cells[cell as usize].base ^ u32::from(byte);
        // The root is its own parent, and no one's child.
        (self.cells[next as usize].above == cell && next != ROOT).then_some(next)
    }

    /// The value of the key that ends here, or `NONE`.
    #[inline(always)]
    pub fn value(&self, cell: u32) -> u32 {
        self.cells[cell as usize].value
    }

    /// The cell behind all of `bytes`.
    pub fn walk(&self, from: u32, bytes: &[u8]) -> Option<u32> {
        bytes.iter().try_fold(from, |cell, &byte| self.step(cell, byte))
    }

    pub fn get(&self, key: &[u8]) -> Option<u32> {
        self.walk(ROOT, key).map(|cell| self.value(cell)).filter(|&value| value != NONE)
    }

    /// The keys with which `text` begins, the shortest first: their lengths and values. With `from`, those that are below that cell.
    #[inline(always)]
    pub fn beginnings(&self, from: u32, text: &[u8]) -> impl Iterator<Item = (usize, u32)> {
        let mut cell = from;
        let walked = text.iter().map_while(move |&byte| {
            cell = self.step(cell, byte)?;
            Some(self.value(cell))
        });
        (1..).zip(walked).filter(|&(_, value)| value != NONE)
    }

    /// The length of the longest key with which `text` begins, and its value; 0 where there is none.
    pub fn longest(&self, from: u32, text: &[u8]) -> (usize, u32) {
        self.beginnings(from, text).last().unwrap_or((0, NONE))
    }
}

struct Builder {
    cells: Vec<Cell>,
    /// No cell before is free.
    first_free: usize,
}

/// How many free cells are tried for a set of children before it goes to the end: bounds the time of building.
const TRIES: usize = 64;

impl Builder {
    /// A base with a free cell for each byte, taken for them.
    fn place(&mut self, bytes: &[(u8, usize, usize)]) -> u32 {
        while self.first_free < self.cells.len() && self.cells[self.first_free].above != NONE {
            self.first_free += 1;
        }
        let first = usize::from(bytes[0].0);
        let mut tries = 0;
        let mut at = self.first_free;
        let base = loop {
            if at >= self.cells.len() || tries == TRIES {
                let end = self.cells.len();
                self.cells.resize(end + 256, FREE);
                // Whole blocks of 256 belong to whoever comes first.
                break end;
            }
            if self.cells[at].above == NONE {
                tries += 1;
                let base = at ^ first;
                if bytes.iter().all(|&(byte, ..)| self.cells[base ^ usize::from(byte)].above == NONE) {
                    break base;
                }
            }
            at += 1;
        };
        for &(byte, ..) in bytes {
            // Any cell but `NONE`: the caller says which.
            self.cells[base ^ usize::from(byte)].above = ROOT;
        }
        if tries == TRIES {
            // What is left before is too scattered to be looked through again and again.
            self.first_free = self.first_free.max(at.saturating_sub(TRIES));
        }
        base as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_in_and_nothing_else() {
        let mut state = 3u64;
        let mut next = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let keys: Vec<Vec<u8>> = (0..20_000).map(|_| (0..1 + next(6)).map(|_| (next(40) * 7) as u8).collect()).collect();
        let mut expected = std::collections::HashMap::new();
        for (i, key) in keys.iter().enumerate() {
            expected.insert(key.clone(), i as u32);
        }
        let trie = Trie::new(keys.iter().enumerate().map(|(i, key)| (key.as_slice(), i as u32)));
        for key in &keys {
            assert_eq!(trie.get(key), expected.get(key).copied());
        }
        for _ in 0..20_000 {
            let key: Vec<u8> = (0..1 + next(6)).map(|_| next(256) as u8).collect();
            assert_eq!(trie.get(&key), expected.get(&key).copied(), "{key:?}");
        }
        assert_eq!(trie.get(b""), None);
        let trie = Trie::new([(b"".as_slice(), 7), (b"ab", 1), (b"abcd", 2)].into_iter());
        assert_eq!((trie.get(b""), trie.longest(ROOT, b"abcx"), trie.longest(ROOT, b"b")), (Some(7), (2, 1), (0, NONE)));
        assert_eq!(trie.beginnings(ROOT, b"abcde").collect::<Vec<_>>(), [(2, 1), (4, 2)]);
        assert_eq!(Trie::new(std::iter::empty()).get(b"a"), None);
    }
}

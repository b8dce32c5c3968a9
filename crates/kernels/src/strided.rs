//! Walking a shape whose operands have strides: dimensions that lie one after the other in every operand are merged, and
//! what is left is visited in runs along the last one.

/// The merged dimensions of `N` operands over one shape.
pub struct Walk<const N: usize> {
    /// Sizes and strides of all merged dimensions but the last.
    outer: Vec<(usize, [usize; N])>,
    /// The length of a run, and each operand's step in it.
    pub run: usize,
    pub steps: [usize; N],
    /// Items of the shape.
    pub items: usize,
}

impl<const N: usize> Walk<N> {
    /// `strides[o][d]` is operand o's stride along dimension d of `shape`.
    pub fn new(shape: &[usize], strides: [&[usize]; N]) -> Self {
        let dims = (0..shape.len()).map(|d| (shape[d], std::array::from_fn(|o| strides[o][d])));
        Walk::of(dims.collect())
    }

    /// As [`Walk::new`], but visited in the order that makes operand `o`'s strides descend.
    pub fn along(o: usize, shape: &[usize], strides: [&[usize]; N]) -> Self {
        let dims = (0..shape.len()).map(|d| (shape[d], std::array::from_fn(|o| strides[o][d])));
        let mut dims: Vec<(usize, [usize; N])> = dims.collect();
        dims.sort_by_key(|d| std::cmp::Reverse(d.1[o]));
        Walk::of(dims)
    }

    fn of(dims: Vec<(usize, [usize; N])>) -> Self {
        let items = dims.iter().map(|d| d.0).product();
        let mut merged: Vec<(usize, [usize; N])> = Vec::with_capacity(dims.len());
        for (n, s) in dims.into_iter().filter(|d| d.0 != 1) {
            match merged.last_mut() {
                Some(last) if (0..N).all(|o| last.1[o] == s[o] * n) => *last = (last.0 * n, s),
                _ => merged.push((n, s)),
            }
        }
        let (run, steps) = merged.pop().unwrap_or((1, [1; N]));
        Walk { outer: merged, run, steps, items }
    }

    /// The outer dimensions: sizes and strides.
    pub fn outer(&self) -> &[(usize, [usize; N])] {
        &self.outer
    }

    /// The operands' offsets at the start of run `row`.
    pub fn offsets(&self, row: usize) -> [usize; N] {
        let (mut rest, mut at) = (row, [0; N]);
        for (n, s) in self.outer.iter().rev() {
            let i = rest % n;
            rest /= n;
            for o in 0..N {
                at[o] += i * s[o];
            }
        }
        at
    }

    /// Visits items `from..to` (in row-major order) in pieces of runs: `visit(offsets of the piece's first item, its place, its length)`.
    #[inline(always)]
    pub fn visit(&self, from: usize, to: usize, mut visit: impl FnMut([usize; N], usize, usize)) {
        if from >= to {
            return;
        }
        let (mut row, mut column) = (from / self.run, from % self.run);
        let mut at = self.offsets(row);
        let mut place = from;
        loop {
            let length = (self.run - column).min(to - place);
            visit(std::array::from_fn(|o| at[o] + column * self.steps[o]), place, length);
            place += length;
            if place >= to {
                return;
            }
            // The next run: mostly one step along the innermost of the outer dimensions.
            row += 1;
            column = 0;
            match self.outer.last() {
                Some((n, s)) if row % n != 0 => (0..N).for_each(|o| at[o] += s[o]),
                _ => at = self.offsets(row),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_merge_and_every_item_is_visited_once() {
        let walk = Walk::new(&[2, 3, 4], [&[12, 4, 1], &[12, 4, 1]]);
        assert_eq!((walk.run, walk.outer().len(), walk.steps), (24, 0, [1, 1]));
        let walk = Walk::new(&[2, 1, 3, 4], [&[12, 99, 4, 1], &[0, 0, 0, 1]]);
        assert_eq!((walk.run, walk.outer().len()), (4, 1));
        let mut seen = Vec::new();
        walk.visit(3, 21, |[a, b], place, n| seen.extend((0..n).map(|i| (a + i * walk.steps[0], b + i * walk.steps[1], place + i))));
        assert_eq!(seen, (3..21).map(|p| (p, p % 4, p)).collect::<Vec<_>>());
    }

    #[test]
    fn scalars_and_empty_shapes() {
        assert_eq!(Walk::new(&[], [&[], &[]]).items, 1);
        let empty = Walk::new(&[3, 0], [&[0, 1]]);
        assert_eq!(empty.items, 0);
        empty.visit(0, 0, |_, _, _| panic!("nothing to visit"));
    }
}

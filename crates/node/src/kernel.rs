//! The table of kernels, and the reader of their arguments.
//!
//! A kernel's arguments lie in the shared float64 array in the order of its TypeScript signature
//! (`src/tensor/kernels.ts`): a number is one slot; an operand is two (buffer handle, offset in items; handle 0 means "none");
//! an array of numbers is its length and then its values. Readers check everything: a kernel sees only pointers with room.

use crate::memory;
use std::sync::OnceLock;

pub type Kernel = fn(&mut Args) -> Result<(), String>;
pub type Table = Vec<(&'static str, Kernel)>;

/// All kernels; a kernel's number is its place.
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut t = Table::new();
        crate::ops::register(&mut t);
        t
    })
}

/// Reads a kernel's arguments one after the other.
pub struct Args {
    data: *const f64,
    slots: usize,
    at: usize,
    /// Copies of indices that another thread could change.
    copies: Vec<Vec<i32>>,
    /// The kernel's number for JavaScript, if it has one.
    pub answer: Option<f64>,
}

impl Args {
    /// Behind `data` lie so many slots, as long as this lives.
    pub fn new(data: *const f64, slots: usize) -> Self {
        Args { data, slots, at: 0, copies: Vec::new(), answer: None }
    }

    fn next(&mut self) -> Result<f64, String> {
        if self.at >= self.slots {
            return Err(format!("more than {} argument slots", self.slots));
        }
        // SAFETY: `at` is below the array's length.
        let x = unsafe { *self.data.add(self.at) };
        self.at += 1;
        Ok(x)
    }

    /// A float32 number.
    pub fn f32(&mut self) -> Result<f32, String> {
        Ok(self.next()? as f32)
    }

    pub fn f64(&mut self) -> Result<f64, String> {
        self.next()
    }

    /// A whole number that may be negative.
    pub fn int(&mut self) -> Result<i64, String> {
        let x = self.next()?;
        if x.fract() != 0.0 || x.abs() > 9e15 {
            return Err(format!("argument slot {}: expected a whole number, got {x}", self.at - 1));
        }
        Ok(x as i64)
    }

    /// A size: a whole number, not negative.
    pub fn size(&mut self) -> Result<usize, String> {
        let x = self.int()?;
        usize::try_from(x).map_err(|_| format!("argument slot {}: expected a size, got {x}", self.at - 1))
    }

    pub fn flag(&mut self) -> Result<bool, String> {
        Ok(self.next()? != 0.0)
    }

    /// An array of sizes.
    pub fn sizes(&mut self) -> Result<Vec<usize>, String> {
        let n = self.size()?;
        (0..n.min(self.slots)).map(|_| self.size()).collect()
    }

    /// An operand whose size is known only after later arguments: read it here, ask [`Place::room`] for the pointer then.
    pub fn place(&mut self) -> Result<Place, String> {
        let slot = self.at;
        Ok(Place { handle: self.next()?, offset: self.size()?, slot })
    }

    /// An array of operands: its length and then its (handle, offset) pairs.
    pub fn places(&mut self) -> Result<Vec<Place>, String> {
        let n = self.size()?;
        (0..n.min(self.slots)).map(|_| self.place()).collect()
    }

    /// The pointer to `n` row numbers or lengths, good as long as this call. A kernel reads again what was checked, so indices that
    /// another thread could change in between are copied first.
    pub fn indices(&mut self, place: Place, n: usize) -> Result<*const i32, String> {
        let pointer: *const i32 = place.room(n)?;
        if !memory::is_shared(place.handle) {
            return Ok(pointer);
        }
        let mut copy = vec![0; n];
        // SAFETY: room for n items was checked, and the copy is new.
        unsafe { std::ptr::copy_nonoverlapping(pointer, copy.as_mut_ptr(), n) };
        Ok(self.hold(copy))
    }

    /// The pointer to indices that are nobody else's, good as long as this call.
    pub fn hold(&mut self, indices: Vec<i32>) -> *const i32 {
        let pointer = indices.as_ptr();
        self.copies.push(indices);
        pointer
    }
}

/// An operand's two slots, not yet checked against a size.
#[derive(Clone, Copy)]
pub struct Place {
    handle: f64,
    offset: usize,
    slot: usize,
}

impl Place {
    /// Whether JavaScript passed no operand.
    pub fn is_none(self) -> bool {
        self.handle == 0.0
    }

    /// The pointer, after checking that the buffer has room for `n` items of `T` behind the offset.
    pub fn room<T>(self, n: usize) -> Result<*mut T, String> {
        self.optional(n)?.ok_or_else(|| format!("argument slot {}: expected a tensor, got none", self.slot))
    }

    /// As [`Place::room`], but handle 0 is `None`.
    pub fn optional<T>(self, n: usize) -> Result<Option<*mut T>, String> {
        if self.handle == 0.0 {
            return Ok(None);
        }
        let (pointer, bytes) = memory::lookup(self.handle)?;
        let item = size_of::<T>();
        let end = self.offset.checked_add(n).and_then(|e| e.checked_mul(item));
        match end {
            // SAFETY: the offset lies inside the buffer, as just checked.
            Some(end) if end <= bytes => Ok(Some(unsafe { pointer.add(self.offset * item) }.cast())),
            _ => Err(format!(
                "argument slot {}: expected room for {n} items of {item} bytes at offset {}, got a buffer of {bytes} bytes",
                self.slot, self.offset
            )),
        }
    }
}

/// One more than the highest item offset that `shape` and `strides` reach; 0 for an empty shape.
pub fn reach(shape: &[usize], strides: &[usize]) -> Result<usize, String> {
    if shape.len() != strides.len() {
        return Err(format!("expected as many strides as dimensions, got {} and {}", strides.len(), shape.len()));
    }
    if shape.contains(&0) {
        return Ok(0);
    }
    let mut last = 0usize;
    for (&n, &s) in shape.iter().zip(strides) {
        last = (n - 1).checked_mul(s).and_then(|x| x.checked_add(last)).ok_or("the strides overflow")?;
    }
    Ok(last + 1)
}

/// That no two places of what is written are the same: dimension by dimension, from the smallest stride on, each steps over all
/// that the ones below it reach. So a shape of any size needs as much room, and tasks write disjoint places.
pub fn distinct(what: &str, shape: &[usize], strides: &[usize]) -> Result<(), String> {
    let mut dims: Vec<(usize, usize)> = strides.iter().copied().zip(shape.iter().copied()).filter(|d| d.1 > 1).collect();
    dims.sort_unstable();
    let mut reached = 1usize;
    for (stride, n) in dims {
        if stride < reached {
            return Err(format!("the places of {what}, expected all different, got strides {strides:?} for the shape {shape:?}"));
        }
        reached = (n - 1).checked_mul(stride).and_then(|x| x.checked_add(reached)).ok_or("the strides overflow")?;
    }
    Ok(())
}

/// That writing `m` items of `out` leaves the `n` row numbers or lengths at `index` alone: they were checked, and are read again
/// while the kernel writes.
pub fn apart<T>(index: *const i32, n: usize, out: *const T, m: usize) -> Result<(), String> {
    let (index, out) = (index as usize, out as usize);
    if index < out + m * size_of::<T>() && out < index + n * size_of::<i32>() {
        return Err("the output lies over the indices, expected memory of its own".into());
    }
    Ok(())
}

/// The product of sizes, checked.
pub fn product(sizes: &[usize]) -> Result<usize, String> {
    sizes.iter().try_fold(1usize, |a, &b| a.checked_mul(b)).ok_or_else(|| format!("the size {sizes:?} overflows"))
}

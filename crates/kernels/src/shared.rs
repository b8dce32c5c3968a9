//! A pointer that tasks of one job may share.

/// A pointer that may be used on every thread of a job. The job promises that its tasks write disjoint places.
pub struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<T> {}

// SAFETY: it is only an address; what is done with it is the job's promise.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(p: *const T) -> Self {
        Shared(p.cast_mut())
    }

    /// The address of item `i`.
    ///
    /// # Safety
    /// Item `i` lies inside the memory behind the pointer, or one past it.
    #[inline(always)]
    pub unsafe fn at(self, i: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(i) }
    }
}

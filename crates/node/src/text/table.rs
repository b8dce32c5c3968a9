//! Handles: small integers that stand for objects of this side. One table for all JavaScript threads of the process; an object
//! belongs to the thread that made it, whose end frees it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

struct Held<T> {
    next: u32,
    /// With the thread of each.
    objects: HashMap<u32, (usize, Arc<T>)>,
}

pub struct Handles<T>(OnceLock<Mutex<Held<T>>>);

impl<T> Handles<T> {
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    fn held(&self) -> MutexGuard<'_, Held<T>> {
        let mutex = self.0.get_or_init(|| Mutex::new(Held { next: 1, objects: HashMap::new() }));
        // No code that can panic runs under the lock, so the table is whole.
        mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn add(&self, object: T, thread: usize) -> u32 {
        let mut held = self.held();
        let handle = held.next;
        held.next = held.next.wrapping_add(1).max(1);
        held.objects.insert(handle, (thread, Arc::new(object)));
        handle
    }

    pub fn get(&self, handle: u32, what: &str) -> Result<Arc<T>, String> {
        self.held()
            .objects
            .get(&handle)
            .map(|held| held.1.clone())
            .ok_or_else(|| format!("no {what} has the handle {handle}: it was disposed"))
    }

    pub fn remove(&self, handle: u32) -> Option<Arc<T>> {
        self.held().objects.remove(&handle).map(|held| held.1)
    }

    /// Frees every object of a thread that ends.
    pub fn free_all_of(&self, thread: usize) {
        let gone: Vec<_> = self.held().objects.extract_if(|_, held| held.0 == thread).collect();
        // Large ones take their time, and not under the lock.
        drop(gone);
    }
}

//! Working memory that a thread keeps between calls, so that a steady loop allocates nothing.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::RefCell;

/// From this size on a buffer starts on a huge page where the system has them.
const HUGE: usize = 2 << 20;
const LINE: usize = 64;
/// Buffers that a thread keeps; more than any kernel holds at once.
const KEPT: usize = 6;

/// A 64-byte aligned buffer of floats, not initialised; goes back to the thread that drops it.
pub struct Scratch {
    data: *mut f32,
    bytes: usize,
    align: usize,
}

thread_local! {
    static FREE: RefCell<Vec<Scratch>> = const { RefCell::new(Vec::new()) };
}

impl Scratch {
    /// Room for `items` floats. In tests they are NaN, so that reading what was never written shows.
    pub fn new(items: usize) -> Scratch {
        let room = Scratch::some(items);
        if cfg!(test) {
            // SAFETY: the buffer holds at least `items` floats and belongs to nobody else.
            unsafe { std::slice::from_raw_parts_mut(room.data.cast::<std::mem::MaybeUninit<f32>>(), items) }
                .fill(std::mem::MaybeUninit::new(f32::NAN));
        }
        room
    }

    fn some(items: usize) -> Scratch {
        let bytes = (items * size_of::<f32>()).max(LINE);
        let kept = FREE.with_borrow_mut(|free| {
            let fit = (0..free.len()).filter(|&i| free[i].bytes >= bytes).min_by_key(|&i| free[i].bytes);
            fit.map(|i| free.swap_remove(i))
        });
        kept.unwrap_or_else(|| Scratch::fresh(bytes))
    }

    fn fresh(bytes: usize) -> Scratch {
        let align = if bytes >= HUGE { HUGE } else { LINE };
        // Growing in steps lets slightly different sizes share one buffer.
        let bytes = if align == HUGE { bytes.next_multiple_of(HUGE) } else { bytes.next_power_of_two() };
        let layout = Layout::from_size_align(bytes, align).expect("a scratch buffer larger than the address space");
        // SAFETY: the size is not zero.
        let data = unsafe { alloc(layout) }.cast::<f32>();
        if data.is_null() {
            handle_alloc_error(layout);
        }
        #[cfg(target_os = "linux")]
        if align == HUGE {
            // SAFETY: advice about memory that this buffer owns; a refusal changes nothing.
            unsafe { libc::madvise(data.cast(), bytes, libc::MADV_HUGEPAGE) };
        }
        Scratch { data, bytes, align }
    }

    pub fn pointer(&self) -> *mut f32 {
        self.data
    }

    fn release(&mut self) {
        if !self.data.is_null() {
            // SAFETY: allocated above with this layout.
            unsafe { dealloc(self.data.cast(), Layout::from_size_align_unchecked(self.bytes, self.align)) };
            self.data = std::ptr::null_mut();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let data = std::mem::replace(&mut self.data, std::ptr::null_mut());
        if data.is_null() {
            return;
        }
        let mut mine = Scratch { data, bytes: self.bytes, align: self.align };
        // A thread that ends has no list any more; a full list drops its smallest buffer.
        let kept = FREE.try_with(|free| {
            let Ok(mut free) = free.try_borrow_mut() else { return Some(std::mem::replace(&mut mine, EMPTY)) };
            free.push(std::mem::replace(&mut mine, EMPTY));
            if free.len() <= KEPT {
                return None;
            }
            let least = (0..free.len()).min_by_key(|&i| free[i].bytes)?;
            Some(free.swap_remove(least))
        });
        match kept {
            Ok(Some(mut over)) => over.release(),
            Ok(None) => {}
            Err(_) => mine.release(),
        }
    }
}

const EMPTY: Scratch = Scratch { data: std::ptr::null_mut(), bytes: 0, align: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_reused_and_never_shared() {
        let first = Scratch::new(1000);
        let second = Scratch::new(1000);
        assert!(first.pointer() != second.pointer());
        assert_eq!(first.pointer() as usize % LINE, 0);
        let was = first.pointer();
        drop(first);
        assert_eq!(Scratch::new(900).pointer(), was);
        assert_eq!(Scratch::new(3 << 20).pointer() as usize % HUGE, 0);
        for _ in 0..3 {
            let many: Vec<Scratch> = (0..20).map(|i| Scratch::new(100 << i)).collect();
            drop(many);
        }
        assert!(FREE.with_borrow(|f| f.len()) <= KEPT);
    }
}

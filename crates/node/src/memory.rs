//! The process-wide table of buffers, and the arena they come from.
//!
//! JavaScript holds a buffer as a number: a slot's index and the generation of its present owner, so that a stale handle
//! is told from a live one. A number belongs to the JavaScript thread that got it, whose end frees it. Threads that share a
//! block have a number each, and the last one freed gives the block back. Freed blocks are reused, small ones from a list of their size class, large ones from
//! whatever space they leave together: a steady training step asks the operating system for nothing. Memory comes in large regions advised to use huge pages,
//! because page faults and TLB misses cost a training step 5 to 40 %.

use crate::napi::{Call, Exports, sys};
use groundup_kernels::spaces::Spaces;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

const SLOTS_PER_CHUNK: usize = 4096;
const CHUNKS: usize = 1024;
const INDEX_BITS: u32 = 22;
const REGION: usize = 64 << 20;
/// Up to here blocks have size classes, and each free one stays what it is.
const SMALL: usize = 64 << 10;
/// Small blocks are cut from pieces of so many bytes.
const PIECE: usize = 1 << 20;
/// Larger blocks are whole pages.
const PAGE: usize = 4096;
/// The thread of a buffer that was shared and waits for whoever claims it.
const NOBODY: usize = 0;

#[derive(Default)]
struct Slot {
    pointer: AtomicPtr<u8>,
    bytes: AtomicUsize,
    generation: AtomicU64,
    thread: AtomicUsize,
    shared: AtomicBool,
}

static TABLE: [AtomicPtr<Slot>; CHUNKS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS];

#[derive(Default)]
struct Arena {
    slots: usize,
    free_slots: Vec<usize>,
    /// Free small blocks by size class.
    free_blocks: HashMap<usize, Vec<usize>>,
    /// All other free memory.
    spaces: Spaces,
    /// How many buffers lie over a block beyond the first, for blocks that are shared.
    further: HashMap<usize, usize>,
    /// How many of the buffers over a block nobody has claimed yet, where there are such.
    unclaimed: HashMap<usize, usize>,
    /// What the blocks in `unclaimed` hold.
    unclaimed_bytes: usize,
    piece: usize,
    piece_left: usize,
    live_bytes: usize,
    live_buffers: usize,
    peak_bytes: usize,
    reserved_bytes: usize,
}

static ARENA: Mutex<Option<Arena>> = Mutex::new(None);

/// The size of the block for so many bytes. Small ones have classes: eight a doubling, so at most an eighth is wasted.
fn block_size(bytes: usize) -> usize {
    let bytes = bytes.max(64);
    let step = if bytes > SMALL { PAGE } else { (bytes.next_power_of_two() >> 4).max(64) };
    bytes.div_ceil(step) * step
}

fn reserve(bytes: usize) -> Option<usize> {
    #[cfg(unix)]
    {
        // SAFETY: an anonymous mapping that overlaps nothing; the advice may fail without harm.
        unsafe {
            const HUGE: usize = 2 << 20;
            let p = libc::mmap(
                std::ptr::null_mut(),
                bytes + HUGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if p == libc::MAP_FAILED {
                return None;
            }
            let start = (p as usize).next_multiple_of(HUGE);
            #[cfg(target_os = "linux")]
            libc::madvise(start as *mut libc::c_void, bytes, libc::MADV_HUGEPAGE);
            Some(start)
        }
    }
    #[cfg(not(unix))]
    {
        let layout = std::alloc::Layout::from_size_align(bytes, 4096).ok()?;
        // SAFETY: the layout is not empty.
        let p = unsafe { std::alloc::alloc_zeroed(layout) };
        if p.is_null() { None } else { Some(p as usize) }
    }
}

fn slot(index: usize) -> Option<&'static Slot> {
    let chunk = TABLE.get(index / SLOTS_PER_CHUNK)?.load(Ordering::Acquire);
    if chunk.is_null() {
        return None;
    }
    // SAFETY: a chunk has SLOTS_PER_CHUNK slots and is never freed.
    Some(unsafe { &*chunk.add(index % SLOTS_PER_CHUNK) })
}

fn index_of(handle: f64) -> usize {
    (handle as u64 & ((1 << INDEX_BITS) - 1)) as usize
}

/// The memory behind a handle.
pub fn lookup(handle: f64) -> Result<(*mut u8, usize), String> {
    let h = handle as u64;
    match slot(index_of(handle)) {
        Some(s) if s.generation.load(Ordering::Acquire) == h >> INDEX_BITS => {
            let p = s.pointer.load(Ordering::Relaxed);
            if p.is_null() { Err(format!("buffer {handle} was freed")) } else { Ok((p, s.bytes.load(Ordering::Relaxed))) }
        }
        _ => Err(format!("buffer {handle} does not exist or was freed")),
    }
}

/// Whether another thread may write to a live buffer at any time.
pub fn is_shared(handle: f64) -> bool {
    slot(index_of(handle)).is_some_and(|s| s.shared.load(Ordering::Relaxed))
}

/// A new buffer of at least `bytes` bytes for this thread, 64-byte aligned, contents undefined (memory of a freed buffer or zeros).
pub fn allocate(bytes: usize, thread: usize) -> Result<f64, String> {
    let mut guard = ARENA.lock().map_err(|_| "the arena's lock is poisoned")?;
    let a = guard.get_or_insert_with(Arena::default);
    let size = block_size(bytes);
    let block = if size > SMALL { large_block(a, size)? } else { small_block(a, size)? };
    let handle = new_handle(a, block, bytes, thread)?;
    a.live_bytes += size;
    a.live_buffers += 1;
    a.peak_bytes = a.peak_bytes.max(a.live_bytes);
    Ok(handle)
}

fn small_block(a: &mut Arena, class: usize) -> Result<usize, String> {
    if let Some(block) = a.free_blocks.get_mut(&class).and_then(Vec::pop) {
        return Ok(block);
    }
    if a.piece_left < class {
        // What is left of the last piece is less than a block, and stays unused.
        (a.piece, a.piece_left) = (large_block(a, PIECE)?, PIECE);
    }
    let block = a.piece;
    a.piece += class;
    a.piece_left -= class;
    Ok(block)
}

/// Whole pages, from free space or the operating system.
fn large_block(a: &mut Arena, size: usize) -> Result<usize, String> {
    if let Some(block) = a.spaces.take(size) {
        return Ok(block);
    }
    // A large block gets a region of its own; the space of the others stays open.
    let region_size = if size > REGION / 4 { size } else { REGION };
    let region = reserve(region_size)
        .ok_or_else(|| format!("out of memory: the operating system gave no {region_size} bytes ({} are live)", a.live_bytes))?;
    a.reserved_bytes += region_size;
    if region_size > size {
        a.spaces.give(region + size, region_size - size);
    }
    Ok(region)
}

fn new_handle(a: &mut Arena, block: usize, bytes: usize, thread: usize) -> Result<f64, String> {
    let index = match a.free_slots.pop() {
        Some(i) => i,
        None => {
            // Slot 0 is never used: handle 0 means "none".
            a.slots += 1;
            let i = a.slots;
            let chunk = TABLE.get(i / SLOTS_PER_CHUNK).ok_or("more than four million live buffers")?;
            if chunk.load(Ordering::Acquire).is_null() {
                let slots: Vec<Slot> = (0..SLOTS_PER_CHUNK).map(|_| Slot::default()).collect();
                chunk.store(Box::leak(slots.into_boxed_slice()).as_mut_ptr(), Ordering::Release);
            }
            i
        }
    };
    let s = slot(index).ok_or("internal: a slot without its chunk")?;
    s.bytes.store(bytes, Ordering::Relaxed);
    s.thread.store(thread, Ordering::Relaxed);
    s.shared.store(thread == NOBODY, Ordering::Relaxed);
    s.pointer.store(block as *mut u8, Ordering::Relaxed);
    Ok(next_generation(s, index))
}

impl Arena {
    /// A buffer over the block waits for whoever claims it.
    fn waits(&mut self, block: usize, bytes: usize) {
        let waiting = self.unclaimed.entry(block).or_default();
        *waiting += 1;
        if *waiting == 1 {
            self.unclaimed_bytes += block_size(bytes);
        }
    }

    /// It waits no longer.
    fn waited(&mut self, block: usize, bytes: usize) {
        if let Some(waiting) = self.unclaimed.get_mut(&block) {
            *waiting -= 1;
            if *waiting == 0 {
                self.unclaimed.remove(&block);
                self.unclaimed_bytes -= block_size(bytes);
            }
        }
    }
}

/// Makes every former number of the slot stale; the new one.
fn next_generation(s: &Slot, index: usize) -> f64 {
    let generation = (s.generation.load(Ordering::Relaxed) + 1) & 0x3fff_ffff;
    s.generation.store(generation, Ordering::Release);
    ((generation << INDEX_BITS) | index as u64) as f64
}

/// A further buffer over the same block. It is no thread's until one claims it, so it outlives the thread that shares.
fn share(handle: f64) -> Result<f64, String> {
    let mut guard = ARENA.lock().map_err(|_| "the arena's lock is poisoned")?;
    let a = guard.get_or_insert_with(Arena::default);
    let (pointer, bytes) = lookup(handle)?;
    let shared = new_handle(a, pointer as usize, bytes, NOBODY)?;
    if let Some(s) = slot(index_of(handle)) {
        s.shared.store(true, Ordering::Relaxed);
    }
    *a.further.entry(pointer as usize).or_default() += 1;
    a.waits(pointer as usize, bytes);
    Ok(shared)
}

/// Makes what was shared a buffer of this thread; its number, or 0 where nothing of so many bytes waits under it.
fn claim(shared: f64, bytes: f64, thread: usize) -> Result<f64, String> {
    // Held to the end, so that of two threads that claim the same number one is refused.
    let mut guard = ARENA.lock().map_err(|_| "the arena's lock is poisoned")?;
    match (lookup(shared), slot(index_of(shared))) {
        (Ok((pointer, size)), Some(s)) if shared.fract() == 0.0 && size as f64 == bytes && s.thread.load(Ordering::Relaxed) == NOBODY => {
            s.thread.store(thread, Ordering::Relaxed);
            guard.get_or_insert_with(Arena::default).waited(pointer as usize, size);
            Ok(shared)
        }
        _ => Ok(0.0),
    }
}

/// Frees a buffer; the last one over a block gives the block back.
pub fn free(handle: f64) -> Result<(), String> {
    let mut guard = ARENA.lock().map_err(|_| "the arena's lock is poisoned")?;
    let a = guard.get_or_insert_with(Arena::default);
    let (pointer, bytes) = lookup(handle)?;
    let index = index_of(handle);
    let s = slot(index).ok_or("internal: a slot without its chunk")?;
    s.pointer.store(std::ptr::null_mut(), Ordering::Relaxed);
    if s.thread.swap(NOBODY, Ordering::Relaxed) == NOBODY {
        a.waited(pointer as usize, bytes);
    }
    next_generation(s, index);
    a.free_slots.push(index);
    let block = pointer as usize;
    if let Some(further) = a.further.get_mut(&block) {
        *further -= 1;
        if *further == 0 {
            a.further.remove(&block);
        }
        return Ok(());
    }
    let size = block_size(bytes);
    if size > SMALL {
        a.spaces.give(block, size);
    } else {
        a.free_blocks.entry(size).or_default().push(block);
    }
    a.live_bytes -= size;
    a.live_buffers -= 1;
    Ok(())
}

/// Frees every buffer of a thread that ends.
pub fn free_all_of(thread: usize) {
    let slots = ARENA.lock().map_or(0, |guard| guard.as_ref().map_or(0, |a| a.slots));
    for index in 1..=slots {
        // No other thread makes buffers for this one, so what is found stays until it is freed here.
        if let Some(s) = slot(index).filter(|s| s.thread.load(Ordering::Relaxed) == thread) {
            let _ = free(((s.generation.load(Ordering::Relaxed) << INDEX_BITS) | index as u64) as f64);
        }
    }
}

/// Names this process, and no other one: the system's number for it comes again, in another container at the same time.
fn process_name() -> String {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| format!("{}-{:016x}", std::process::id(), RandomState::new().build_hasher().finish())).clone()
}

pub fn register(x: &mut Exports) -> Result<(), String> {
    let process = x.string(&process_name())?;
    x.value("process", process)?;
    x.function("alloc", |c| c.from_number(allocate(size(c, 0)?, c.thread())?))?;
    x.function("free", |c| {
        free(c.number(0)?)?;
        Ok(c.undefined())
    })?;
    x.function("share", |c| c.from_number(share(c.number(0)?)?))?;
    x.function("claim", |c| c.from_number(claim(c.number(0)?, c.number(1)?, c.thread())?))?;
    x.function("write", |c| copy(c, true))?;
    x.function("read", |c| copy(c, false))?;
    x.function("memory", |c| {
        let guard = ARENA.lock().map_err(|_| "the arena's lock is poisoned")?;
        let (live, buffers, peak, reserved, unclaimed) =
            guard.as_ref().map_or((0, 0, 0, 0, 0), |a| (a.live_bytes, a.live_buffers, a.peak_bytes, a.reserved_bytes, a.unclaimed_bytes));
        c.from_string(&format!(
            "{{\"liveBytes\":{live},\"liveBuffers\":{buffers},\"peakBytes\":{peak},\"reservedBytes\":{reserved},\"unclaimedBytes\":{unclaimed}}}"
        ))
    })
}

fn size(c: &Call, i: usize) -> Result<usize, String> {
    let x = c.number(i)?;
    if x < 0.0 || x.fract() != 0.0 || x > 9e15 {
        return Err(format!("argument {i}: expected a size in bytes, got {x}"));
    }
    Ok(x as usize)
}

/// `write(handle, byteOffset, view)` and `read(handle, byteOffset, view)`: copies between a buffer and a typed array.
fn copy(c: &Call, into_buffer: bool) -> Result<sys::napi_value, String> {
    let (pointer, bytes) = lookup(c.number(0)?)?;
    let offset = size(c, 1)?;
    let view = c.view(2)?;
    if offset.checked_add(view.bytes).is_none_or(|end| end > bytes) {
        return Err(format!("copy of {} bytes at offset {offset}: expected at most {bytes} bytes in the buffer", view.bytes));
    }
    if view.bytes > 0 {
        // SAFETY: both ranges were just checked, and a buffer of ours never overlaps memory of the engine.
        unsafe {
            if into_buffer {
                std::ptr::copy_nonoverlapping(view.pointer, pointer.add(offset), view.bytes);
            } else {
                std::ptr::copy_nonoverlapping(pointer.add(offset), view.pointer, view.bytes);
            }
        }
    }
    Ok(c.undefined())
}

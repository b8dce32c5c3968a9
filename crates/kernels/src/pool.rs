//! One pool of threads for the process: the caller and `threads() - 1` workers share the tasks of one job.
//!
//! Tasks must write disjoint memory and must not depend on who runs them, so that results are the same bytes for any
//! number of threads. Workers spin for a fraction of a millisecond after a job (a training step is a chain of short jobs
//! with JavaScript between them, and waking a thread takes longer), then sleep: the cores are shared with other programs.
//! A second caller, or a task that itself calls [`parallel_for`], finds the pool taken and runs its tasks alone.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// What each thread does with the tasks that it is given one after the other.
type Body<'a> = dyn Fn(&mut dyn FnMut() -> Option<usize>) + Sync + 'a;

const OPEN: u32 = 1 << 31;
/// Rounds that a caller waits for workers before it lets others have its core.
const SPINS: u32 = 4000;
/// How long a worker stays awake without a job.
const AWAKE: Duration = Duration::from_micros(200);
/// Rounds between two looks at the clock.
const ROUNDS: u32 = 64;
/// Ranges into which a job's tasks are cut at most: one for each thread that may have one to itself.
const RANGES: usize = 64;

/// The next task of a range, on cache lines of its own: another thread's counting does not slow this one's.
#[repr(align(128))]
struct Next(AtomicUsize);

struct Pool {
    /// Set while a job owns the pool.
    taken: AtomicBool,
    /// OPEN while workers may join, plus the number of workers inside.
    state: AtomicU32,
    /// Counts jobs; a worker that sees it change looks for work.
    epoch: AtomicU32,
    task: AtomicPtr<&'static Body<'static>>,
    tasks: AtomicUsize,
    ranges: AtomicUsize,
    next: [Next; RANGES],
    panicked: AtomicBool,
    threads: AtomicUsize,
    spawned: AtomicUsize,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool {
        taken: AtomicBool::new(false),
        state: AtomicU32::new(0),
        epoch: AtomicU32::new(0),
        task: AtomicPtr::new(std::ptr::null_mut()),
        tasks: AtomicUsize::new(0),
        ranges: AtomicUsize::new(1),
        next: [const { Next(AtomicUsize::new(0)) }; RANGES],
        panicked: AtomicBool::new(false),
        threads: AtomicUsize::new(std::thread::available_parallelism().map_or(1, |n| n.get())),
        spawned: AtomicUsize::new(0),
        sleepers: AtomicUsize::new(0),
        lock: Mutex::new(()),
        wake: Condvar::new(),
    })
}

/// Threads that share a job, the caller included.
pub fn threads() -> usize {
    pool().threads.load(Ordering::Relaxed)
}

/// Sets the number of threads (at least 1). Results do not depend on it.
pub fn set_threads(n: usize) {
    pool().threads.store(n.max(1), Ordering::Relaxed);
}

/// Runs `task(0)`, …, `task(n - 1)`, in any order, on all threads; returns when all are done.
/// A panic in a task reaches the caller after the others have finished.
pub fn parallel_for(n: usize, task: impl Fn(usize) + Sync) {
    parallel_threads(n, |next| {
        while let Some(i) = next() {
            task(i);
        }
    });
}

/// Runs `body(next)` on all threads; `next()` gives each of the tasks 0 … n - 1 to one of them. For tasks that share what their thread has
/// made for the first of them. Otherwise as [`parallel_for`].
pub fn parallel_threads(n: usize, body: impl Fn(&mut dyn FnMut() -> Option<usize>) + Sync) {
    let p = pool();
    let threads = p.threads.load(Ordering::Relaxed);
    if n <= 1 || threads <= 1 || p.taken.swap(true, Ordering::Acquire) {
        let mut tasks = 0..n;
        body(&mut || tasks.next());
        return;
    }
    spawn_up_to(p, threads - 1);
    let borrowed: &Body = &body;
    // SAFETY: the lifetime is stretched only until this function returns: it closes the job and waits until no worker
    // is inside before it returns or unwinds.
    let mut stretched: &'static Body<'static> = unsafe { std::mem::transmute(borrowed) };
    p.task.store(&raw mut stretched, Ordering::Relaxed);
    p.tasks.store(n, Ordering::Relaxed);
    let ranges = threads.min(RANGES);
    for (i, next) in p.next[..ranges].iter().enumerate() {
        next.0.store(i * n / ranges, Ordering::Relaxed);
    }
    p.ranges.store(ranges, Ordering::Relaxed);
    p.panicked.store(false, Ordering::Relaxed);
    p.state.store(OPEN, Ordering::Release);
    p.epoch.fetch_add(1, Ordering::SeqCst);
    if p.sleepers.load(Ordering::SeqCst) > 0 {
        let _guard = p.lock.lock();
        p.wake.notify_all();
    }
    let mine = catch_unwind(AssertUnwindSafe(|| work(p, borrowed, 0)));
    p.state.fetch_and(!OPEN, Ordering::AcqRel);
    let mut spins = 0u32;
    while p.state.load(Ordering::Acquire) != 0 {
        spins += 1;
        if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
    let theirs = p.panicked.load(Ordering::Relaxed);
    p.taken.store(false, Ordering::Release);
    if let Err(panic) = mine {
        resume_unwind(panic);
    }
    assert!(!theirs, "a task panicked on a worker thread");
}

/// Splits `0..n` into blocks of at most `block` and runs `task(start, end)` for each, in parallel.
/// The blocks do not depend on the number of threads.
pub fn parallel_blocks(n: usize, block: usize, task: impl Fn(usize, usize) + Sync) {
    let block = block.max(1);
    parallel_for(n.div_ceil(block), |i| task(i * block, ((i + 1) * block).min(n)));
}

/// Gives thread `who` the tasks of its own range, then what is left of the others'. Jobs over the same rows thus give a thread the same
/// rows again, which its caches still hold.
fn work(p: &Pool, body: &Body, who: usize) {
    let (n, ranges) = (p.tasks.load(Ordering::Relaxed), p.ranges.load(Ordering::Relaxed));
    let mut d = 0;
    body(&mut || {
        while d < ranges {
            let range = (who + d) % ranges;
            let i = p.next[range].0.fetch_add(1, Ordering::Relaxed);
            if i < (range + 1) * n / ranges {
                return Some(i);
            }
            d += 1;
        }
        None
    });
}

fn spawn_up_to(p: &'static Pool, wanted: usize) {
    while p.spawned.load(Ordering::Relaxed) < wanted {
        let index = p.spawned.fetch_add(1, Ordering::Relaxed);
        let seen = p.epoch.load(Ordering::SeqCst);
        let made = std::thread::Builder::new().name(format!("groundup-{}", index + 1)).spawn(move || worker(p, index, seen));
        if made.is_err() {
            // The operating system gives no more: go on with those there are.
            p.spawned.fetch_sub(1, Ordering::Relaxed);
            p.threads.store(index + 1, Ordering::Relaxed);
            return;
        }
    }
}

fn worker(p: &'static Pool, index: usize, mut seen: u32) -> ! {
    loop {
        let mut spins = 0u32;
        let since = Instant::now();
        while p.epoch.load(Ordering::SeqCst) == seen {
            spins = spins.wrapping_add(1);
            if !spins.is_multiple_of(ROUNDS) || since.elapsed() < AWAKE {
                std::hint::spin_loop();
                continue;
            }
            let mut guard = p.lock.lock().expect("no thread panics while it holds this lock");
            p.sleepers.fetch_add(1, Ordering::SeqCst);
            while p.epoch.load(Ordering::SeqCst) == seen {
                guard = p.wake.wait(guard).expect("no thread panics while it holds this lock");
            }
            p.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
        seen = p.epoch.load(Ordering::SeqCst);
        if index + 1 >= p.threads.load(Ordering::Relaxed) {
            continue;
        }
        let mut state = p.state.load(Ordering::Acquire);
        while state & OPEN != 0 {
            match p.state.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    // SAFETY: inside the job, so its owner is waiting and the task is alive.
                    let task = unsafe { *p.task.load(Ordering::Relaxed) };
                    if catch_unwind(AssertUnwindSafe(|| work(p, task, index + 1))).is_err() {
                        p.panicked.store(true, Ordering::Relaxed);
                    }
                    p.state.fetch_sub(1, Ordering::Release);
                    break;
                }
                Err(now) => state = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_and_nested_jobs_do_not_deadlock() {
        set_threads(3);
        for n in [0usize, 1, 2, 7, 1000] {
            let hits: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
            parallel_for(n, |i| {
                parallel_for(3, |_| {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                });
            });
            assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 3));
        }
    }

    #[test]
    fn callers_at_the_same_time_each_get_all_their_tasks_done() {
        set_threads(3);
        std::thread::scope(|s| {
            for caller in 1..=4usize {
                s.spawn(move || {
                    for job in 0..2000 {
                        let n = 2 + job % 40;
                        let sum = AtomicUsize::new(0);
                        parallel_for(n, |i| {
                            sum.fetch_add(caller * (i + 1), Ordering::Relaxed);
                        });
                        assert_eq!(sum.load(Ordering::Relaxed), caller * n * (n + 1) / 2);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_survives() {
        set_threads(2);
        let caught = catch_unwind(|| parallel_for(50, |i| assert!(i != 31, "boom")));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        parallel_for(100, |i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 4950);
    }
}

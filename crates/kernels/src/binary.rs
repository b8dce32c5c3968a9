//! Functions of two numbers and choice, over strided operands.

use crate::dispatch;
use crate::math;
use crate::pool::parallel_blocks;
use crate::shared::Shared;
use crate::simd::{LANES, Simd};
use crate::strided::Walk;

/// Items of one parallel task.
const BLOCK: usize = 16_384;

/// The functions, by the codes of `BINARY` in `src/tensor/kernels.ts`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Maximum,
    Minimum,
    Remainder,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Binary {
    pub const ALL: [Binary; 14] = {
        use Binary::*;
        [Add, Sub, Mul, Div, Pow, Maximum, Minimum, Remainder, Eq, Ne, Lt, Le, Gt, Ge]
    };

    pub fn from_code(code: i64) -> Option<Binary> {
        Binary::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// Comparisons write bool, one byte an item.
    pub fn compares(self) -> bool {
        self >= Binary::Eq
    }
}

/// `out = f(a, b)` over `shape`; `out` is contiguous: float32, or bool bytes for comparisons. It may be `a` or `b` where
/// that one is contiguous.
///
/// # Safety
/// The operands hold what shape and strides reach, `out` an item for each place of the shape.
pub unsafe fn binary(kind: Binary, a: *const f32, a_strides: &[usize], b: *const f32, b_strides: &[usize], out: *mut u8, shape: &[usize]) {
    let walk = Walk::new(shape, [a_strides, b_strides]);
    let (a, b, out) = (Shared::new(a), Shared::new(b), Shared::new(out));
    let item = if kind.compares() { 1 } else { 4 };
    // SAFETY: blocks are disjoint parts of the shape.
    parallel_blocks(walk.items, BLOCK, |from, to| unsafe {
        walk.visit(from, to, |[i, j], place, n| float_run(kind, a.at(i), walk.steps[0], b.at(j), walk.steps[1], out.at(place * item), n));
    });
}

/// As [`binary`], for int32 operands and results; sums and products wrap. Division and remainder by zero are an error,
/// found before anything is written. `pow` is not defined.
///
/// # Safety
/// As [`binary`].
pub unsafe fn binary_int(
    kind: Binary,
    a: *const i32,
    a_strides: &[usize],
    b: *const i32,
    b_strides: &[usize],
    out: *mut u8,
    shape: &[usize],
) -> Result<(), String> {
    let walk = Walk::new(shape, [a_strides, b_strides]);
    let (a, b, out) = (Shared::new(a), Shared::new(b), Shared::new(out));
    let item = if kind.compares() { 1 } else { 4 };
    if kind == Binary::Pow {
        return Err("not defined for i32, expected f32. Cast first".to_string());
    }
    if matches!(kind, Binary::Div | Binary::Remainder) {
        let mut zero = None;
        walk.visit(0, walk.items, |[_, j], place, n| {
            // SAFETY: places that the walk reaches.
            let found = (0..n).find(|&i| unsafe { *b.at(j + i * walk.steps[1]) } == 0);
            zero = zero.or(found.map(|i| place + i));
        });
        if let Some(place) = zero {
            return Err(format!(
                "division of an integer by zero, expected a divisor that is not 0, got 0 at place {place}. Divide floats, or mask the zeros"
            ));
        }
    }
    // SAFETY: blocks are disjoint parts of the shape.
    parallel_blocks(walk.items, BLOCK, |from, to| unsafe {
        walk.visit(from, to, |[i, j], place, n| int_run(kind, a.at(i), walk.steps[0], b.at(j), walk.steps[1], out.at(place * item), n));
    });
    Ok(())
}

/// `out = condition ? a : b` over `shape`, for items of four bytes.
///
/// # Safety
/// As [`binary`].
pub unsafe fn choose(
    condition: *const u8,
    c_strides: &[usize],
    a: *const u32,
    a_strides: &[usize],
    b: *const u32,
    b_strides: &[usize],
    out: *mut u32,
    shape: &[usize],
) {
    let walk = Walk::new(shape, [c_strides, a_strides, b_strides]);
    let (c, a, b, out) = (Shared::new(condition), Shared::new(a), Shared::new(b), Shared::new(out));
    // SAFETY: blocks are disjoint parts of the shape.
    parallel_blocks(walk.items, BLOCK, |from, to| unsafe {
        walk.visit(from, to, |[k, i, j], place, n| {
            let [cs, sa, sb] = walk.steps;
            choose_run(c.at(k), cs, a.at(i), sa, b.at(j), sb, out.at(place), n);
        });
    });
}

dispatch! { unsafe fn float_run(kind: Binary, a: *const f32, sa: usize, b: *const f32, sb: usize, out: *mut u8, n: usize) = float_run_on }
dispatch! { unsafe fn int_run(kind: Binary, a: *const i32, sa: usize, b: *const i32, sb: usize, out: *mut u8, n: usize) = int_run_on }
dispatch! { unsafe fn choose_run(c: *const u8, cs: usize, a: *const u32, sa: usize, b: *const u32, sb: usize, out: *mut u32, n: usize) = choose_run_on }

/// Sixteen (or the first n) items that lie `step` apart.
#[inline(always)]
unsafe fn load_apart<S: Simd>(p: *const f32, step: usize, n: usize) -> S::F {
    let mut lanes = [0f32; LANES];
    for (i, v) in lanes.iter_mut().enumerate().take(n) {
        // SAFETY: the caller promises n items.
        *v = unsafe { *p.add(i * step) };
    }
    // SAFETY: 16 values.
    unsafe { S::load(lanes.as_ptr()) }
}

#[inline(always)]
unsafe fn float_run_on<S: Simd>(kind: Binary, a: *const f32, sa: usize, b: *const f32, sb: usize, out: *mut u8, n: usize) {
    let f = out.cast::<f32>();
    // SAFETY: the caller promises n items at these steps.
    unsafe {
        macro_rules! each {
            (|$x:ident, $y:ident| $value:expr) => {{
                let whole = n - n % LANES;
                let tail = n - whole;
                // Only the loads differ between the four cases.
                macro_rules! run {
                    ($load_a:expr, $load_b:expr, $part_a:expr, $part_b:expr) => {{
                        let mut i = 0;
                        while i < whole {
                            let ($x, $y) = ($load_a(i), $load_b(i));
                            S::store(f.add(i), $value);
                            i += LANES;
                        }
                        if tail > 0 {
                            let ($x, $y) = ($part_a, $part_b);
                            S::store_n(f.add(whole), $value, tail);
                        }
                    }};
                }
                match (sa, sb) {
                    (1, 1) => {
                        run!(|i| S::load(a.add(i)), |i| S::load(b.add(i)), S::load_n(a.add(whole), tail), S::load_n(b.add(whole), tail))
                    }
                    (1, 0) => {
                        let y = S::splat(*b);
                        run!(|i| S::load(a.add(i)), |_| y, S::load_n(a.add(whole), tail), y)
                    }
                    (0, 1) => {
                        let x = S::splat(*a);
                        run!(|_| x, |i| S::load(b.add(i)), x, S::load_n(b.add(whole), tail))
                    }
                    _ => run!(
                        |i: usize| load_apart::<S>(a.add(i * sa), sa, LANES),
                        |i: usize| load_apart::<S>(b.add(i * sb), sb, LANES),
                        load_apart::<S>(a.add(whole * sa), sa, tail),
                        load_apart::<S>(b.add(whole * sb), sb, tail)
                    ),
                }
            }};
        }
        match kind {
            Binary::Add => each!(|x, y| S::add(x, y)),
            Binary::Sub => each!(|x, y| S::sub(x, y)),
            Binary::Mul => each!(|x, y| S::mul(x, y)),
            Binary::Div => each!(|x, y| S::div(x, y)),
            // `max` and `min` give y where either is NaN; where that is x, x is the answer.
            Binary::Maximum => each!(|x, y| S::select_eq(x, x, S::max(x, y), x)),
            Binary::Minimum => each!(|x, y| S::select_eq(x, x, S::min(x, y), x)),
            Binary::Pow => plain(a, sa, b, sb, f, n, math::pow),
            Binary::Remainder => plain(a, sa, b, sb, f, n, remainder),
            Binary::Eq => plain(a, sa, b, sb, out, n, |x, y| u8::from(x == y)),
            Binary::Ne => plain(a, sa, b, sb, out, n, |x, y| u8::from(x != y)),
            Binary::Lt => plain(a, sa, b, sb, out, n, |x, y| u8::from(x < y)),
            Binary::Le => plain(a, sa, b, sb, out, n, |x, y| u8::from(x <= y)),
            Binary::Gt => plain(a, sa, b, sb, out, n, |x, y| u8::from(x > y)),
            Binary::Ge => plain(a, sa, b, sb, out, n, |x, y| u8::from(x >= y)),
        }
    }
}

/// The loop item by item, which the compiler turns into vectors for the steps that it knows.
#[inline(always)]
unsafe fn plain<T: Copy, U>(a: *const T, sa: usize, b: *const T, sb: usize, out: *mut U, n: usize, f: impl Fn(T, T) -> U) {
    // SAFETY: the caller promises n items at these steps.
    unsafe {
        match (sa, sb) {
            (1, 1) => (0..n).for_each(|i| *out.add(i) = f(*a.add(i), *b.add(i))),
            (1, 0) if n > 0 => {
                let y = *b;
                (0..n).for_each(|i| *out.add(i) = f(*a.add(i), y));
            }
            _ => (0..n).for_each(|i| *out.add(i) = f(*a.add(i * sa), *b.add(i * sb))),
        }
    }
}

/// As Python's `%`: the result has the divisor's sign.
fn remainder(a: f32, b: f32) -> f32 {
    let r = a % b;
    if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
}

#[inline(always)]
unsafe fn int_run_on<S: Simd>(kind: Binary, a: *const i32, sa: usize, b: *const i32, sb: usize, out: *mut u8, n: usize) {
    let o = out.cast::<i32>();
    // SAFETY: the caller promises n items at these steps.
    unsafe {
        match kind {
            Binary::Add => plain(a, sa, b, sb, o, n, i32::wrapping_add),
            Binary::Sub => plain(a, sa, b, sb, o, n, i32::wrapping_sub),
            Binary::Mul => plain(a, sa, b, sb, o, n, i32::wrapping_mul),
            Binary::Div => plain(a, sa, b, sb, o, n, |x, y| x.checked_div(y).unwrap_or(i32::MIN)),
            Binary::Maximum => plain(a, sa, b, sb, o, n, i32::max),
            Binary::Minimum => plain(a, sa, b, sb, o, n, i32::min),
            Binary::Remainder => plain(a, sa, b, sb, o, n, |x, y| {
                let r = x.checked_rem(y).unwrap_or(0);
                if r != 0 && (r < 0) != (y < 0) { r + y } else { r }
            }),
            Binary::Eq => plain(a, sa, b, sb, out, n, |x, y| u8::from(x == y)),
            Binary::Ne => plain(a, sa, b, sb, out, n, |x, y| u8::from(x != y)),
            Binary::Lt => plain(a, sa, b, sb, out, n, |x, y| u8::from(x < y)),
            Binary::Le => plain(a, sa, b, sb, out, n, |x, y| u8::from(x <= y)),
            Binary::Gt => plain(a, sa, b, sb, out, n, |x, y| u8::from(x > y)),
            Binary::Ge => plain(a, sa, b, sb, out, n, |x, y| u8::from(x >= y)),
            Binary::Pow => {}
        }
    }
}

#[inline(always)]
unsafe fn choose_run_on<S: Simd>(c: *const u8, cs: usize, a: *const u32, sa: usize, b: *const u32, sb: usize, out: *mut u32, n: usize) {
    // SAFETY: the caller promises n items at these steps.
    unsafe {
        let pick = |i: usize, cs: usize, sa: usize, sb: usize| {
            let (x, y) = (*a.add(i * sa), *b.add(i * sb));
            *out.add(i) = if *c.add(i * cs) != 0 { x } else { y };
        };
        match (cs, sa, sb) {
            (1, 1, 1) => (0..n).for_each(|i| pick(i, 1, 1, 1)),
            (1, 1, 0) => (0..n).for_each(|i| pick(i, 1, 1, 0)),
            (1, 0, 1) => (0..n).for_each(|i| pick(i, 1, 0, 1)),
            _ => (0..n).for_each(|i| pick(i, cs, sa, sb)),
        }
    }
}

#[cfg(test)]
mod tests;

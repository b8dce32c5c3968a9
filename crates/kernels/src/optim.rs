//! Optimiser steps: one pass over the memory of parameters, gradients and states, for many tensors at once.

use crate::dispatch;
use crate::pool::parallel_for;
use crate::simd::{LANES, Simd};

/// Items of one parallel task.
const BLOCK: usize = 16_384;

/// One tensor of a step: parameters, gradients, the optimiser's states (`a` and `b`; the same pointer again where there is
/// none), and its own learning rate and weight decay.
#[derive(Clone, Copy)]
pub struct Tensor {
    pub p: *mut f32,
    pub g: *const f32,
    pub a: *mut f32,
    pub b: *mut f32,
    pub n: usize,
    pub learning_rate: f64,
    pub weight_decay: f64,
}

/// A part of a tensor: where it starts in the tensor's memory, and how long it is.
struct Part<'a> {
    tensor: &'a Tensor,
    from: usize,
    n: usize,
}

// SAFETY: parts of a step are disjoint and each belongs to one task.
unsafe impl Sync for Part<'_> {}

/// Runs `task` for every block of every tensor, in parallel.
fn each_part(tensors: &[Tensor], task: impl Fn(&Part) + Sync) {
    let parts: Vec<Part> = tensors
        .iter()
        .flat_map(|tensor| (0..tensor.n).step_by(BLOCK).map(move |from| Part { tensor, from, n: BLOCK.min(tensor.n - from) }))
        .collect();
    // Many small tensors (biases, norms) are one task together.
    let mut borders = vec![0];
    let mut items = 0;
    for (i, part) in parts.iter().enumerate() {
        if items + part.n > BLOCK {
            borders.push(i);
            items = 0;
        }
        items += part.n;
    }
    borders.push(parts.len());
    parallel_for(borders.len() - 1, |t| parts[borders[t]..borders[t + 1]].iter().for_each(&task));
}

/// What AdamW does to every tensor.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Counts from 1.
    pub step: f64,
    pub grad_scale: f64,
    /// Decoupled weight decay (AdamW), or L2.
    pub decoupled: bool,
}

/// Adam (Kingma and Ba 2015, algorithm 1) with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2) or L2, in
/// PyTorch's order of operations; `a` is the first moment, `b` the second.
///
/// # Safety
/// Every pointer of every tensor holds its n items; no memory belongs to two tensors.
pub unsafe fn adamw(tensors: &[Tensor], adam: &Adam) {
    let correction1 = 1.0 - adam.beta1.powf(adam.step);
    let correction2 = 1.0 - adam.beta2.powf(adam.step);
    each_part(tensors, |part| {
        let t = part.tensor;
        let c = AdamPart {
            keep: if adam.decoupled { (1.0 - t.learning_rate * t.weight_decay) as f32 } else { 1.0 },
            l2: if adam.decoupled { 0.0 } else { t.weight_decay as f32 },
            scale: adam.grad_scale as f32,
            rest1: (1.0 - adam.beta1) as f32,
            beta2: adam.beta2 as f32,
            rest2: (1.0 - adam.beta2) as f32,
            root: (1.0 / correction2.sqrt()) as f32,
            eps: adam.eps as f32,
            size: (t.learning_rate / correction1) as f32,
        };
        // SAFETY: the caller's promise; the part lies inside the tensor.
        unsafe { adam_part(t.p.add(part.from), t.g.add(part.from), t.a.add(part.from), t.b.add(part.from), part.n, &c) };
    });
}

/// Constants of one tensor's step.
struct AdamPart {
    keep: f32,
    l2: f32,
    scale: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    root: f32,
    eps: f32,
    size: f32,
}

dispatch! { unsafe fn adam_part(p: *mut f32, g: *const f32, m: *mut f32, v: *mut f32, n: usize, c: &AdamPart) = adam_part_on }

#[inline(always)]
unsafe fn adam_part_on<S: Simd>(p: *mut f32, g: *const f32, m: *mut f32, v: *mut f32, n: usize, c: &AdamPart) {
    // SAFETY: the caller promises n items.
    unsafe {
        let [keep, l2, scale, rest1] = [S::splat(c.keep), S::splat(c.l2), S::splat(c.scale), S::splat(c.rest1)];
        let [beta2, rest2, root, eps, size] = [S::splat(c.beta2), S::splat(c.rest2), S::splat(c.root), S::splat(c.eps), S::splat(c.size)];
        // (p, m, v) after the step, from (p, g, m, v) before.
        macro_rules! step {
            ($p:expr, $g:expr, $m:expr, $v:expr) => {{
                let p = $p;
                let g = S::fma(l2, p, S::mul(scale, $g));
                let p = S::mul(p, keep);
                let m = S::fma(rest1, S::sub(g, $m), $m);
                let v = S::fma(S::mul(rest2, g), g, S::mul(beta2, $v));
                let denominator = S::fma(S::sqrt(v), root, eps);
                (S::fnma(size, S::div(m, denominator), p), m, v)
            }};
        }
        let whole = n - n % LANES;
        let mut i = 0;
        while i < whole {
            let (m0, v0) = (S::load(m.add(i)), S::load(v.add(i)));
            let (p1, m1, v1) = step!(S::load(p.add(i)), S::load(g.add(i)), m0, v0);
            S::store(p.add(i), p1);
            S::store(m.add(i), m1);
            S::store(v.add(i), v1);
            i += LANES;
        }
        if whole < n {
            let k = n - whole;
            let (m0, v0) = (S::load_n(m.add(i), k), S::load_n(v.add(i), k));
            let (p1, m1, v1) = step!(S::load_n(p.add(i), k), S::load_n(g.add(i), k), m0, v0);
            S::store_n(p.add(i), p1, k);
            S::store_n(m.add(i), m1, k);
            S::store_n(v.add(i), v1, k);
        }
    }
}

/// Stochastic gradient descent with momentum (dampening 0), L2 weight decay and optional Nesterov form; `a` is the
/// momentum's buffer, not touched where `momentum` is 0. At the `first` step the buffer becomes the gradient.
///
/// # Safety
/// As [`adamw`].
pub unsafe fn sgd(tensors: &[Tensor], momentum: f32, nesterov: bool, first: bool, grad_scale: f32) {
    each_part(tensors, |part| {
        let t = part.tensor;
        let c = [t.learning_rate as f32, t.weight_decay as f32, momentum, grad_scale];
        // SAFETY: the caller's promise; the part lies inside the tensor.
        unsafe { sgd_part(t.p.add(part.from), t.g.add(part.from), t.a.add(part.from), part.n, c, nesterov, first) };
    });
}

dispatch! { unsafe fn sgd_part(p: *mut f32, g: *const f32, buf: *mut f32, n: usize, c: [f32; 4], nesterov: bool, first: bool) = sgd_part_on }

#[inline(always)]
unsafe fn sgd_part_on<S: Simd>(p: *mut f32, g: *const f32, buf: *mut f32, n: usize, c: [f32; 4], nesterov: bool, first: bool) {
    // SAFETY: the caller promises n items.
    unsafe {
        let [rate, decay, momentum, scale] = c.map(|v| S::splat(v));
        let has_momentum = c[2] != 0.0;
        let mut i = 0;
        while i < n {
            let k = (n - i).min(LANES);
            let w = S::load_n(p.add(i), k);
            let g = S::fma(decay, w, S::mul(scale, S::load_n(g.add(i), k)));
            let mut direction = g;
            if has_momentum {
                let velocity = if first { g } else { S::fma(momentum, S::load_n(buf.add(i), k), g) };
                S::store_n(buf.add(i), velocity, k);
                direction = if nesterov { S::fma(momentum, velocity, g) } else { velocity };
            }
            S::store_n(p.add(i), S::fnma(rate, direction, w), k);
            i += LANES;
        }
    }
}

/// RMSprop (Hinton 2012): `a` = αa + (1 − α)g²; p −= lr·g/(√a + eps).
///
/// # Safety
/// As [`adamw`].
pub unsafe fn rmsprop(tensors: &[Tensor], alpha: f64, eps: f32, grad_scale: f32) {
    each_part(tensors, |part| {
        let t = part.tensor;
        let c = [t.learning_rate as f32, t.weight_decay as f32, alpha as f32, (1.0 - alpha) as f32, eps, grad_scale];
        // SAFETY: the caller's promise; the part lies inside the tensor.
        unsafe { rmsprop_part(t.p.add(part.from), t.g.add(part.from), t.a.add(part.from), part.n, c) };
    });
}

dispatch! { unsafe fn rmsprop_part(p: *mut f32, g: *const f32, v: *mut f32, n: usize, c: [f32; 6]) = rmsprop_part_on }

#[inline(always)]
unsafe fn rmsprop_part_on<S: Simd>(p: *mut f32, g: *const f32, v: *mut f32, n: usize, c: [f32; 6]) {
    // SAFETY: the caller promises n items.
    unsafe {
        let [rate, decay, alpha, rest, eps, scale] = c.map(|x| S::splat(x));
        let mut i = 0;
        while i < n {
            let k = (n - i).min(LANES);
            let w = S::load_n(p.add(i), k);
            let g = S::fma(decay, w, S::mul(scale, S::load_n(g.add(i), k)));
            let square = S::fma(S::mul(rest, g), g, S::mul(alpha, S::load_n(v.add(i), k)));
            S::store_n(v.add(i), square, k);
            let step = S::div(g, S::add(S::sqrt(square), eps));
            S::store_n(p.add(i), S::fnma(rate, step, w), k);
            i += LANES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, noise, same_everywhere};

    const SIZES: [usize; 6] = [1, 40_000, 16, 0, 17, 300];

    struct State {
        p: Vec<f32>,
        g: Vec<f32>,
        a: Vec<f32>,
        b: Vec<f32>,
    }

    fn states() -> Vec<State> {
        let fresh = |(i, &n): (usize, &usize)| {
            let v = |seed| noise(n, 10 * i as u64 + seed);
            State { p: v(1), g: v(2), a: v(3), b: v(4).iter().map(|x| x * x).collect() }
        };
        SIZES.iter().enumerate().map(fresh).collect()
    }

    const RATE: [f64; 6] = [1e-2, 3e-3, 0.1, 0.5, 1e-2, 2e-2];
    const DECAY: [f64; 6] = [0.1, 0.0, 0.01, 0.3, 0.2, 0.1];

    fn step(run: impl Fn(&[Tensor])) -> Vec<f32> {
        same_everywhere(|| {
            let mut s = states();
            let tensors: Vec<Tensor> = s
                .iter_mut()
                .enumerate()
                .map(|(i, s)| Tensor {
                    p: s.p.as_mut_ptr(),
                    g: s.g.as_ptr(),
                    a: s.a.as_mut_ptr(),
                    b: s.b.as_mut_ptr(),
                    n: SIZES[i],
                    learning_rate: RATE[i],
                    weight_decay: DECAY[i],
                })
                .collect();
            run(&tensors);
            s.into_iter().flat_map(|s| [s.p, s.a, s.b].concat()).collect()
        })
    }

    /// The same in float64: `update(p, g, a, b, learning rate, weight decay)` gives the new p, a, b.
    fn twin(update: impl Fn([f64; 4], f64, f64) -> [f64; 3]) -> Vec<f64> {
        let one = |(i, s): (usize, State)| {
            let rows: Vec<[f64; 3]> =
                (0..s.p.len()).map(|k| update([s.p[k], s.g[k], s.a[k], s.b[k]].map(f64::from), RATE[i], DECAY[i])).collect();
            (0..3).flat_map(|w| rows.iter().map(|r| r[w]).collect::<Vec<_>>()).collect::<Vec<f64>>()
        };
        states().into_iter().enumerate().flat_map(one).collect()
    }

    #[test]
    fn adam_agrees_with_float64() {
        for decoupled in [true, false] {
            for steps in [1.0, 7.0] {
                let adam = Adam { beta1: 0.9, beta2: 0.95, eps: 1e-8, step: steps, grad_scale: 0.5, decoupled };
                // SAFETY: the tensors' vectors hold their items.
                let got = step(|t| unsafe { adamw(t, &adam) });
                let want = twin(|[p, g, m, v], lr, wd| {
                    let g = g * 0.5 + if decoupled { 0.0 } else { wd * p };
                    let p = if decoupled { p - lr * wd * p } else { p };
                    let (m, v) = (0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g);
                    let (c1, c2) = (1.0 - 0.9f64.powf(steps), 1.0 - 0.95f64.powf(steps));
                    [p - lr * (m / c1) / ((v / c2).sqrt() + 1e-8), m, v]
                });
                assert_close(&got, &want, 1e-6, "adamw");
            }
        }
    }

    #[test]
    fn sgd_agrees_with_float64() {
        for (momentum, nesterov, first) in
            [(0.0, false, false), (0.9, false, true), (0.9, false, false), (0.9, true, false), (0.9, true, true)]
        {
            // SAFETY: the tensors' vectors hold their items.
            let got = step(|t| unsafe { sgd(t, momentum, nesterov, first, 2.0) });
            let momentum = f64::from(momentum);
            let want = twin(|[p, g, a, b], lr, wd| {
                let g = g * 2.0 + wd * p;
                let buf = if momentum == 0.0 {
                    a
                } else if first {
                    g
                } else {
                    momentum * a + g
                };
                let d = if momentum == 0.0 {
                    g
                } else if nesterov {
                    g + momentum * buf
                } else {
                    buf
                };
                [p - lr * d, buf, b]
            });
            assert_close(&got, &want, 1e-6, "sgd");
        }
    }

    #[test]
    fn rmsprop_agrees_with_float64() {
        // SAFETY: the tensors' vectors hold their items.
        let got = step(|t| unsafe {
            for t in t {
                // The running mean of squares is not negative.
                std::slice::from_raw_parts_mut(t.a, t.n).iter_mut().for_each(|v| *v = v.abs());
            }
            rmsprop(t, 0.99, 1e-6, 1.0);
        });
        let want = twin(|[p, g, a, b], lr, wd| {
            let g = g + wd * p;
            let a = 0.99 * a.abs() + 0.01 * g * g;
            [p - lr * g / (a.sqrt() + 1e-6), a, b]
        });
        assert_close(&got, &want, 1e-6, "rmsprop");
    }
}

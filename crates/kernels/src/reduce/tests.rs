use super::*;
use crate::testing::{assert_close, noise, same_everywhere};

const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (7, 0, 1),
    (3, 0, 5),
    (0, 4, 2),
    (5, 17, 1),
    (40, 1000, 1),
    (1, 70_001, 1),
    (2, 33, 7),
    (1, 300, 700),
    (9, 5, 16),
    (3, 64, 257),
    (2, 131_073, 1),
];

fn twin(kind: Reduction, x: &[f32], o: usize, i: usize, n: usize, inner: usize) -> f64 {
    let items = (0..n).map(|j| f64::from(x[(o * n + j) * inner + i]));
    let nan = items.clone().any(f64::is_nan);
    match kind {
        Reduction::Sum => items.sum(),
        Reduction::Prod => items.product(),
        Reduction::Max => {
            if nan {
                f64::NAN
            } else {
                items.fold(f64::NEG_INFINITY, f64::max)
            }
        }
        Reduction::Min => {
            if nan {
                f64::NAN
            } else {
                items.fold(f64::INFINITY, f64::min)
            }
        }
    }
}

#[test]
fn reductions_agree_with_float64() {
    for (outer, n, inner) in SHAPES {
        for kind in [Reduction::Sum, Reduction::Max, Reduction::Min, Reduction::Prod] {
            for with_nan in [false, true] {
                let mut x = noise(outer * n * inner, 11);
                if kind == Reduction::Prod {
                    x.iter_mut().for_each(|v| *v = 1.0 + *v * 1e-3);
                }
                if with_nan && x.len() > 3 {
                    let middle = x.len() / 3;
                    x[middle] = f32::NAN;
                }
                let got = same_everywhere(|| {
                    let mut out = vec![-5.0; outer * inner];
                    // SAFETY: the sizes are those of the vectors.
                    unsafe { reduce(kind, x.as_ptr(), out.as_mut_ptr(), outer, n, inner) };
                    out
                });
                let want: Vec<f64> = (0..outer * inner).map(|p| twin(kind, &x, p / inner, p % inner, n, inner)).collect();
                assert_close(&got, &want, 1e-4, &format!("{kind:?} of ({outer}, {n}, {inner})"));
            }
        }
    }
}

#[test]
fn places_are_the_first_of_equals_and_nan_wins() {
    for (outer, n, inner) in SHAPES.into_iter().filter(|s| s.1 > 0) {
        // Few distinct values, so that there are ties.
        let mut x: Vec<f32> = noise(outer * n * inner, 12).iter().map(|v| (v * 3.0).round()).collect();
        if x.len() > 100 {
            let len = x.len();
            x[len / 2] = f32::NAN;
            x[len / 2 + 1] = f32::NAN;
        }
        for least in [false, true] {
            let mut out = vec![-1i32; outer * inner];
            // SAFETY: the sizes are those of the vectors.
            unsafe { arg_reduce(least, x.as_ptr(), out.as_mut_ptr(), outer, n, inner) };
            for (p, got) in out.iter().enumerate() {
                let item = |j: usize| x[(p / inner * n + j) * inner + p % inner];
                let mut best = 0;
                for j in 1..n {
                    let better = if least { item(j) < item(best) } else { item(j) > item(best) };
                    if better || (item(j).is_nan() && !item(best).is_nan()) {
                        best = j;
                    }
                }
                assert_eq!(*got, best as i32, "({outer}, {n}, {inner}) least {least} at {p}");
            }
        }
    }
}

#[test]
fn running_sums_both_ways() {
    for (outer, n, inner) in SHAPES {
        let x = noise(outer * n * inner, 13);
        for reverse in [false, true] {
            let got = same_everywhere(|| {
                let mut out = vec![0.0; x.len()];
                // SAFETY: the sizes are those of the vectors.
                unsafe { cumsum(x.as_ptr(), out.as_mut_ptr(), outer, n, inner, reverse) };
                out
            });
            let mut want = vec![0f64; x.len()];
            for o in 0..outer {
                for i in 0..inner {
                    let mut sum = 0.0;
                    for step in 0..n {
                        let p = (o * n + if reverse { n - 1 - step } else { step }) * inner + i;
                        sum += f64::from(x[p]);
                        want[p] = sum;
                    }
                }
            }
            assert_close(&got, &want, 3e-3, &format!("cumsum of ({outer}, {n}, {inner})"));
        }
    }
}

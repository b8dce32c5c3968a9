use super::*;
use crate::testing::{noise, same_everywhere};

fn scalar(kind: Binary, x: f32, y: f32) -> f32 {
    match kind {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Div => x / y,
        Binary::Pow => f64::from(x).powf(f64::from(y)) as f32,
        Binary::Maximum => {
            if x.is_nan() || y.is_nan() {
                f32::NAN
            } else {
                x.max(y)
            }
        }
        Binary::Minimum => {
            if x.is_nan() || y.is_nan() {
                f32::NAN
            } else {
                x.min(y)
            }
        }
        Binary::Remainder => {
            let r = f64::from(x) - f64::from(y) * (f64::from(x) / f64::from(y)).floor();
            r as f32
        }
        Binary::Eq => f32::from(x == y),
        Binary::Ne => f32::from(x != y),
        Binary::Lt => f32::from(x < y),
        Binary::Le => f32::from(x <= y),
        Binary::Gt => f32::from(x > y),
        Binary::Ge => f32::from(x >= y),
    }
}

fn run(kind: Binary, a: &[f32], sa: &[usize], b: &[f32], sb: &[usize], shape: &[usize]) -> Vec<f32> {
    let items = shape.iter().product();
    let (mut floats, mut bytes) = (vec![0f32; items], vec![0u8; items]);
    let out = if kind.compares() { bytes.as_mut_ptr() } else { floats.as_mut_ptr().cast() };
    // SAFETY: the cases below pass operands that their strides reach.
    unsafe { binary(kind, a.as_ptr(), sa, b.as_ptr(), sb, out, shape) };
    if kind.compares() { bytes.iter().map(|&v| f32::from(v)).collect() } else { floats }
}

#[test]
fn every_function_with_every_kind_of_broadcast() {
    let (mut a, mut b) = (noise(40_000, 1), noise(40_000, 2));
    (a[3], b[5], a[7], b[7]) = (f32::NAN, f32::NAN, 1.5, 1.5);
    let cases: [(&[usize], &[usize], &[usize]); 8] = [
        (&[33_333], &[1], &[1]),
        (&[100, 331], &[331, 1], &[0, 1]),
        (&[100, 331], &[331, 1], &[1, 0]),
        (&[100, 331], &[0, 1], &[331, 1]),
        (&[37, 19], &[1, 37], &[0, 0]),
        (&[5, 4, 3], &[1, 5, 20], &[3, 0, 1]),
        (&[], &[], &[]),
        (&[4, 0], &[1, 1], &[0, 1]),
    ];
    for kind in Binary::ALL {
        for (shape, sa, sb) in cases {
            let got = same_everywhere(|| run(kind, &a, sa, &b, sb, shape));
            for (flat, g) in got.iter().enumerate() {
                let (mut rest, mut i, mut j) = (flat, 0, 0);
                for d in (0..shape.len()).rev() {
                    i += rest % shape[d] * sa[d];
                    j += rest % shape[d] * sb[d];
                    rest /= shape[d];
                }
                let want = scalar(kind, a[i], b[j]);
                let exact = g.to_bits() == want.to_bits() || (g.is_nan() && want.is_nan());
                assert!(
                    exact || (kind == Binary::Remainder && (g - want).abs() < 1e-6),
                    "{kind:?} {shape:?} at {flat}: {g} expected {want}"
                );
            }
        }
    }
}

#[test]
fn integers_wrap_truncate_and_refuse_zero() {
    let run = |kind, a: [i32; 4], b: [i32; 4]| {
        let mut out = [0i32; 4];
        // SAFETY: four items each.
        unsafe { binary_int(kind, a.as_ptr(), &[1], b.as_ptr(), &[1], out.as_mut_ptr().cast(), &[4]) }.map(|()| out)
    };
    assert_eq!(run(Binary::Add, [i32::MAX, 1, 2, 3], [1, 1, 1, 1]).unwrap(), [i32::MIN, 2, 3, 4]);
    assert_eq!(run(Binary::Mul, [65_536, 3, -4, 5], [65_536, 2, 2, -2]).unwrap(), [0, 6, -8, -10]);
    assert_eq!(run(Binary::Div, [7, -7, 7, i32::MIN], [2, 2, -2, -1]).unwrap(), [3, -3, -3, i32::MIN]);
    assert_eq!(run(Binary::Remainder, [7, -7, 7, i32::MIN], [3, 3, -3, -1]).unwrap(), [1, 2, -2, 0]);
    assert!(run(Binary::Div, [1; 4], [1, 1, 0, 1]).unwrap_err().contains("place 2"));
    assert!(run(Binary::Pow, [1; 4], [1; 4]).is_err());
}

#[test]
fn choice_takes_bits_unchanged() {
    let (c, a, b) = ([1u8, 0, 2, 0, 1], [10u32, 11, 12, 13, 14], [0x7f80_0001u32]);
    let mut out = [0u32; 5];
    // SAFETY: five items, b repeated.
    unsafe { choose(c.as_ptr(), &[1], a.as_ptr(), &[1], b.as_ptr(), &[0], out.as_mut_ptr(), &[5]) };
    assert_eq!(out, [10, b[0], 12, b[0], 14]);
    let mut out = [0u32; 10];
    // SAFETY: a 2 × 5 shape over rows of the same operands.
    unsafe { choose(c.as_ptr(), &[1, 0], a.as_ptr(), &[0, 1], a.as_ptr().add(4), &[0, 0], out.as_mut_ptr(), &[2, 5]) };
    assert_eq!(out, [10, 11, 12, 13, 14, 14, 14, 14, 14, 14]);
}

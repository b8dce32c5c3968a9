use super::*;

/// The same copy, item by item in index order.
fn plain(x: &[i32], xs: &[usize], out: &mut [i32], os: &[usize], shape: &[usize]) {
    let items: usize = shape.iter().product();
    for flat in 0..items {
        let (mut rest, mut a, mut b) = (flat, 0, 0);
        for d in (0..shape.len()).rev() {
            a += rest % shape[d] * xs[d];
            b += rest % shape[d] * os[d];
            rest /= shape[d];
        }
        out[b] = x[a];
    }
}

#[test]
fn copies_agree_with_the_plain_loop() {
    let cases: [(&[usize], &[usize], &[usize]); 9] = [
        (&[], &[], &[]),
        (&[5], &[1], &[1]),
        (&[70, 90], &[1, 70], &[90, 1]),
        (&[3, 70, 45, 8], &[25_200, 8, 560, 1], &[25_200, 360, 8, 1]),
        (&[4, 33, 65], &[2_145, 1, 33], &[2_145, 65, 1]),
        (&[300, 200], &[0, 1], &[200, 1]),
        (&[300, 200], &[1, 0], &[200, 1]),
        (&[7, 9], &[18, 2], &[3, 40]),
        (&[4, 0, 3], &[0, 3, 1], &[0, 3, 1]),
    ];
    for (shape, xs, os) in cases {
        let reach = |s: &[usize]| shape.iter().zip(s).map(|(n, s)| n.saturating_sub(1) * s).sum::<usize>() + 1;
        let x: Vec<i32> = (0..reach(xs) as i32).collect();
        let (mut got, mut want) = (vec![-1; reach(os)], vec![-1; reach(os)]);
        plain(&x, xs, &mut want, os, shape);
        // SAFETY: both hold what the strides reach.
        unsafe { copy(x.as_ptr(), xs, got.as_mut_ptr(), os, shape) };
        assert!(got == want, "shape {shape:?} strides {xs:?} to {os:?}");
    }
}

fn cast_all<T: Copy, U: Default + Clone>(x: &[T], from: DType, to: DType) -> Vec<U> {
    let mut out = vec![U::default(); x.len()];
    // SAFETY: the dtypes are those of T and U.
    unsafe { cast(x.as_ptr().cast(), from, out.as_mut_ptr().cast(), to, x.len()) };
    out
}

#[test]
fn casts_round_truncate_and_clamp() {
    let x = [1.9f32, -1.9, f32::NAN, 1e20, -1e20, 300.0, -0.0, 0.5];
    assert_eq!(cast_all::<_, i32>(&x, DType::F32, DType::I32), [1, -1, 0, i32::MAX, i32::MIN, 300, 0, 0]);
    assert_eq!(cast_all::<_, u8>(&x, DType::F32, DType::U8), [1, 0, 0, 255, 0, 255, 0, 0]);
    assert_eq!(cast_all::<_, u8>(&x, DType::F32, DType::Bool), [1, 1, 1, 1, 1, 1, 0, 1]);
    assert_eq!(cast_all::<_, u8>(&[-1i32, 256, 257], DType::I32, DType::U8), [255, 0, 1]);
    assert_eq!(cast_all::<_, u8>(&[-1i32, 256, 0], DType::I32, DType::Bool), [1, 1, 0]);
    assert_eq!(cast_all::<_, i32>(&[16_777_217i32], DType::I32, DType::I32), [16_777_217]);
    assert_eq!(cast_all::<_, f32>(&[0u8, 1, 255], DType::U8, DType::F32), [0.0, 1.0, 255.0]);
    assert_eq!(cast_all::<_, u16>(&[1.0f32, -2.0], DType::F32, DType::F16), [0x3c00, 0xc000]);
    assert_eq!(cast_all::<_, f32>(&[0x3f80u16, 0xc000], DType::Bf16, DType::F32), [1.0, -2.0]);
    assert_eq!(cast_all::<_, u16>(&[0x3c00u16], DType::F16, DType::Bf16), [0x3f80]);
}

#[test]
fn casts_are_the_same_everywhere() {
    let x = crate::testing::noise(70_001, 3);
    crate::testing::same_everywhere(|| {
        let half: Vec<u16> = cast_all(&x, DType::F32, DType::F16);
        let brain: Vec<u16> = cast_all(&half, DType::F16, DType::Bf16);
        cast_all(&brain, DType::Bf16, DType::F32)
    });
}

#[test]
fn fills_convert_their_value() {
    let mut out = [0u16; 9];
    // SAFETY: room for 9 items of two bytes.
    unsafe { fill(out.as_mut_ptr().cast(), DType::Bf16, 9, -2.0) };
    assert_eq!(out, [0xc000; 9]);
    let mut out = vec![1i32; 100_001];
    // SAFETY: room for 100 000 items of four bytes.
    unsafe { fill(out.as_mut_ptr().cast(), DType::I32, 100_000, -7.0) };
    assert!(out[..100_000].iter().all(|&v| v == -7) && out[100_000] == 1);
}

use super::*;

/// What one instruction set makes of two vectors, as bits, over every operation.
#[inline(always)]
unsafe fn everything<S: Simd>(a: *const f32, b: *const f32, out: *mut u32) {
    // SAFETY: the test passes 16 readable values and room for 21 vectors.
    unsafe {
        let (x, y) = (S::load(a), S::load(b));
        let z = S::splat(0.375);
        let mut at = out.cast::<f32>();
        let mut put = |v: S::F| {
            S::store(at, v);
            at = at.add(LANES);
        };
        put(S::add(x, y));
        put(S::sub(x, y));
        put(S::mul(x, y));
        put(S::div(x, y));
        put(S::fma(x, y, z));
        put(S::fnma(x, y, z));
        put(S::min(x, y));
        put(S::max(x, y));
        put(S::sqrt(x));
        put(S::round(x));
        put(S::floor(x));
        put(S::select_gt(x, y, z, x));
        put(S::select_eq(x, y, z, x));
        put(S::to_float(S::to_int(x)));
        put(S::from_bits(S::iadd(S::bits(x), S::isplat(7))));
        put(S::from_bits(S::isub(S::bits(x), S::bits(y))));
        put(S::from_bits(S::iand(S::bits(x), S::bits(y))));
        put(S::from_bits(S::ior(S::bits(x), S::ixor(S::bits(x), S::bits(y)))));
        put(S::from_bits(S::shl::<3>(S::bits(x))));
        put(S::from_bits(S::shr::<5>(S::bits(x))));
        let (low, high) = S::multiply_wide(S::bits(x), 0xd251_1f53);
        put(S::from_bits(low));
        put(S::from_bits(high));
        put(S::splat(S::sum(x) + S::max_lane(y)));
        for n in 0..=LANES {
            let part = S::load_n(a, n);
            S::store_n(at, part, n);
            at = at.add(LANES);
        }
        S::store_interleaved(at.cast(), [S::bits(x), S::bits(y), S::bits(z), S::isplat(5)]);
    }
}

crate::dispatch! { unsafe fn run_everything(a: *const f32, b: *const f32, out: *mut u32) = everything }

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let a: Vec<f32> = (0..16).map(|i| [0.5, -1.5, 2.5, 1e-40, 3e9, -7.25, 0.0, -0.0][i % 8] * (1.0 + i as f32)).collect();
    let b: Vec<f32> = (0..16).map(|i| if i == 3 { f32::NAN } else { 0.7 * i as f32 - 3.0 }).collect();
    let mut seen: Vec<(Isa, Vec<u32>)> = Vec::new();
    let was = isa();
    for set in available() {
        assert!(force(set));
        let mut out = vec![0u32; 64 * LANES];
        // SAFETY: 16 values in, 64 vectors of room.
        unsafe { run_everything(a.as_ptr(), b.as_ptr(), out.as_mut_ptr()) };
        // The sign and payload of a NaN are not part of the contract.
        for x in &mut out {
            if f32::from_bits(*x).is_nan() {
                *x = f32::NAN.to_bits();
            }
        }
        seen.push((set, out));
    }
    force(was);
    assert!(seen[0].1[0] != 0);
    for (set, out) in &seen[1..] {
        for (i, (x, y)) in out.iter().zip(&seen[0].1).enumerate() {
            assert_eq!(x, y, "{set:?} differs from {:?} in operation {} lane {}", seen[0].0, i / LANES, i % LANES);
        }
    }
}

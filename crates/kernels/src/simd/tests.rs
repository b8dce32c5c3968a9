use super::*;

/// What one instruction set makes of two vectors, as bits, over every operation.
#[inline(always)]
unsafe fn everything<S: Simd>(a: *const f32, b: *const f32, out: *mut u32) {
    // SAFETY: the test passes 16 readable values and room for 64 vectors.
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
        put(S::lookup(&std::array::from_fn(|i| i as f32 - 0.5), S::bits(S::add(y, S::splat(3_145_728.0)))));
        put(S::splat(S::sum(x) + S::max_lane(y)));
        let whole = S::to_float(S::iand(S::bits(x), S::isplat(255)));
        for four in [S::fold4::<true>([x, whole, z, S::sub(z, x)]), S::fold4::<false>([whole, z, S::sub(z, whole), S::mul(whole, whole)])] {
            for lane in four {
                put(S::splat(lane));
            }
        }
        put(S::load_f16(a.cast()));
        put(S::load_f16(b.cast()));
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

#[test]
fn a_lookup_goes_by_the_last_five_bits() {
    #[inline(always)]
    unsafe fn look<S: Simd>(table: &[f32; 24], at: &[i32; 64], out: *mut f32) {
        for i in (0..64).step_by(LANES) {
            // SAFETY: 64 readable integers and as many places.
            unsafe { S::store(out.add(i), S::lookup(table, S::bits(S::load(at.as_ptr().add(i).cast())))) };
        }
    }
    crate::dispatch! { unsafe fn run_look(table: &[f32; 24], at: &[i32; 64], out: *mut f32) = look }
    let table = std::array::from_fn(|i| 100.0 + i as f32);
    let at = std::array::from_fn(|i| i as i32 * 0x0101_0101);
    let got = crate::testing::same_everywhere(|| {
        let mut out = vec![0f32; 64];
        // SAFETY: room for 64 floats.
        unsafe { run_look(&table, &at, out.as_mut_ptr()) };
        out
    });
    let want: Vec<f32> = (0..64).map(|i| i % 32).map(|i| 100.0 + if i < 24 { i } else { i - 8 } as f32).collect();
    assert_eq!(got, want);
}

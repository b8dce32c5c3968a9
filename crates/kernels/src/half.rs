//! The 16-bit floats, item by item and without branches, so that loops over them become vector code.

/// bfloat16 is the upper half of a float32.
#[inline(always)]
pub fn bf16_to_f32(h: u16) -> f32 {
    f32::from_bits(u32::from(h) << 16)
}

/// To the nearest bfloat16, ties to even; NaN stays NaN.
#[inline(always)]
pub fn f32_to_bf16(x: f32) -> u16 {
    let b = x.to_bits();
    let rounded = (b.wrapping_add(0x7fff + ((b >> 16) & 1))) >> 16;
    let quiet = (b >> 16) | 0x40;
    (if x.is_nan() { quiet } else { rounded }) as u16
}

/// IEEE 754 binary16 to float32, exact.
#[inline(always)]
pub fn f16_to_f32(h: u16) -> f32 {
    let h = u32::from(h);
    // The 15 bits below the sign, read with float32's exponent width, are the value times 2⁻¹¹²; subnormals too.
    let scaled = f32::from_bits((h & 0x7fff) << 13) * f32::from_bits((254 - 15) << 23);
    let special = 0x7f80_0000 | ((h & 0x3ff) << 13);
    let magnitude = if h & 0x7c00 == 0x7c00 { special } else { scaled.to_bits() };
    f32::from_bits(magnitude | ((h & 0x8000) << 16))
}

/// To the nearest binary16, ties to even; beyond 65519 it is infinite; NaN stays NaN.
#[inline(always)]
pub fn f32_to_f16(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16) & 0x8000;
    let a = x.to_bits() & 0x7fff_ffff;
    // Normal results: rebias the exponent and round the 13 lost bits to even.
    let normal = a.wrapping_add(0xc800_0fff).wrapping_add((a >> 13) & 1) >> 13;
    // Subnormal results: adding ½ aligns the last kept bit (2⁻²⁴) with float32's own rounding.
    let small = (f32::from_bits(a) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let finite = if a < 0x3880_0000 { small } else { normal };
    let bounded = if a >= 0x4780_0000 { 0x7c00 } else { finite };
    let quiet = 0x7e00 | ((a >> 13) & 0x1ff);
    (sign | if a > 0x7f80_0000 { quiet } else { bounded }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a binary16, from its fields.
    fn value(h: u16) -> f64 {
        let (e, m) = (i32::from(h >> 10 & 31), f64::from(h & 1023));
        let size = match e {
            0 => m * 2f64.powi(-24),
            31 => {
                if m == 0.0 {
                    f64::INFINITY
                } else {
                    f64::NAN
                }
            }
            _ => (1024.0 + m) * 2f64.powi(e - 25),
        };
        if h >> 15 == 1 { -size } else { size }
    }

    #[test]
    fn every_binary16_survives_the_round_trip() {
        for h in 0..=u16::MAX {
            let x = f16_to_f32(h);
            if value(h).is_nan() {
                assert!(x.is_nan() && f16_to_f32(f32_to_f16(x)).is_nan());
            } else {
                assert_eq!(f64::from(x), value(h));
                assert_eq!(f32_to_f16(x), h);
            }
        }
    }

    #[test]
    fn rounding_to_binary16_takes_the_nearest_and_even_of_two() {
        for h in 0..0x7bffu16 {
            let (low, high) = (value(h), value(h + 1));
            let middle = ((low + high) / 2.0) as f32;
            assert_eq!(f32_to_f16(middle), if h % 2 == 0 { h } else { h + 1 }, "{middle}");
            assert_eq!(f32_to_f16(f32::from_bits(middle.to_bits() - 1)), h);
            assert_eq!(f32_to_f16(-f32::from_bits(middle.to_bits() + 1)), (h + 1) | 0x8000);
        }
        assert_eq!(f32_to_f16(65519.0), 0x7bff);
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
        assert_eq!(f32_to_f16(1e-30), 0);
        assert_eq!(f32_to_f16(f32::NEG_INFINITY), 0xfc00);
    }

    #[test]
    fn rounding_to_bfloat16_takes_the_nearest_and_even_of_two() {
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f80_8001)), 0x3f81);
        assert_eq!(f32_to_bf16(f32::MAX), 0x7f80);
        assert!(bf16_to_f32(f32_to_bf16(f32::from_bits(0x7f80_0001))).is_nan());
        assert_eq!(bf16_to_f32(0xc049), -3.140625);
    }
}

//! The tail of the normal distribution from a table of polynomials.
//!
//! A polynomial of degree 5 for each quarter of u needs a third of the multiplications of one fit of the whole tail with an exponential,
//! and its own derivative serves as φ: value and slope share everything.

// SAFETY of every block here: operations of `Simd` on values alone; the caller has checked that the CPU has S.
#![allow(clippy::undocumented_unsafe_blocks)]

use crate::simd::Simd;

/// Adding this to u rounds it to whole quarters, and leaves their number in the last bits.
const QUARTERS: f32 = 3_145_728.0;

/// From here on [`tail`] is 0, as is its slope.
const END: f32 = 5.843_75;

/// u as [`tail`] wants it; NaN stays.
#[inline(always)]
pub unsafe fn limited<S: Simd>(u: S::F) -> S::F {
    unsafe { S::min(S::splat(END), u) }
}

/// Φ(−u) and its derivative −φ(u) for 0 ≤ u ≤ [`END`]. Φ(−u) is within 2⁻²⁴ of the truth, Φ(−u) − u·φ(u) within 2⁻²³, φ(u) alone
/// within 2⁻²².
#[inline(always)]
pub unsafe fn tail<S: Simd>(u: S::F) -> (S::F, S::F) {
    unsafe {
        let quarters = S::add(u, S::splat(QUARTERS));
        let at = S::bits(quarters);
        let t = S::sub(u, S::sub(quarters, S::splat(QUARTERS)));
        // Horner's rule for value and derivative together.
        let mut slope = S::lookup(&COEFFICIENTS[5], at);
        let mut value = S::fma(slope, t, S::lookup(&COEFFICIENTS[4], at));
        for k in [3, 2, 1, 0] {
            slope = S::fma(slope, t, value);
            value = S::fma(value, t, S::lookup(&COEFFICIENTS[k], at));
        }
        (value, slope)
    }
}

/// COEFFICIENTS[k][i] belongs to tᵏ in segment i.
static COEFFICIENTS: [[f32; 24]; 6] = {
    let mut turned = [[0.0; 24]; 6];
    let mut at = 0;
    while at < 6 * 24 {
        turned[at % 6][at / 6] = SEGMENTS[at / 6][at % 6];
        at += 1;
    }
    turned
};

/// Segment i is a polynomial of t = u − i/4, |t| ≤ 1/8: fits of our own that make the largest error of Φ(−u), u·Φ(−u) and
/// Φ(−u) − u·φ(u) least. The first is ½ exactly at 0; the last is a·(t − 3/32)², so that all ends at [`END`] in exact zeros.
const SEGMENTS: [[f32; 6]; 24] = [
    [0.5, -0.398_942_3, 5.4515124e-7, 0.066_481_456, 0.000_057_059_387, -0.010_073_118],
    [0.401_293_67, -0.386_668_12, 0.048_333_332, 0.060_417_395, -0.011_787_822, -0.008_432_638],
    [0.308_537_5, -0.352_065_32, 0.088_016_026, 0.044_009_686, -0.020_099_318, -0.004_579_526],
    [0.226_627_32, -0.301_137_4, 0.112_925_81, 0.021_957_198, -0.022_849_71, 0.000_170_542_32],
    [0.158_655_24, -0.241_970_7, 0.120_984_934, -5.155695e-7, -0.020_107_072, 0.004_032_076_3],
    [0.105_649_78, -0.182_649_09, 0.114_155_546, -0.017_123_083, -0.013_658_009, 0.005_960_282],
    [0.066_807_2, -0.129_517_6, 0.097_138_345, -0.026_982_475, -0.006_090_236_4, 0.005_843_539],
    [0.040_059_17, -0.086_277_33, 0.075_492_95, -0.029_657_608, 0.000_355_304_74, 0.004_298_347],
    [0.022_750_14, -0.053_990_97, 0.053_991_277, -0.026_995_381, 0.004_459_796, 0.002_248_048_3],
    [0.012_224_481, -0.031_739_656, 0.035_707_336, -0.021_490_408, 0.006_108_141_5, 0.000_467_940_7],
    [0.006_209_671, -0.017_528_303, 0.021_910_492, -0.015_337_317, 0.005_919_075_6, -0.000_658_755_25],
    [0.002_979_764_5, -0.009_093_563, 0.012_503_674, -0.009_946_135, 0.004_750_544_7, -0.001_116_848_4],
    [0.001_349_898_6, -0.004_431_848_4, 0.006_647_748, -0.005_909_179, 0.003_327_099_4, -0.001_104_401_5],
    [0.000_577_023_14, -0.002_029_047_3, 0.003_297_159_2, -0.003_233_815_5, 0.002_083_525_5, -0.000_864_510_6],
    [0.000_232_627_12, -0.000_872_682_1, 0.001_527_153_3, -0.001_636_282_8, 0.001_182_495_2, -0.000_578_939_45],
    [0.000_088_416_295, -0.000_352_595_4, 0.000_661_086_5, -0.000_767_624_5, 0.000_613_347_4, -0.000_342_793_53],
    [0.000_031_670_337, -0.000_133_83, 0.000_267_641_47, -0.000_334_568_58, 0.000_292_385_7, -0.000_182_576_45],
    [0.000_010_689_045, -0.000_047_718_768, 0.000_101_391_76, -0.000_135_694_59, 0.000_128_608_59, -0.000_088_387_125],
    [0.000_003_397_928_8, -0.000_015_983_805, 0.000_035_958_32, -0.000_051_277_875, 0.000_052_350_74, -0.000_039_160_8],
    [0.000_001_017_197_3, -0.000_005_029_535_7, 0.000_011_942_807, -0.000_018_073_046, 0.000_019_764_218, -0.000_015_954_79],
    [2.866662e-7, -0.000_001_486_724_7, 0.000_003_715_871_1, -0.000_005_946_058_5, 0.000_006_932_708, -0.000_005_998_215],
    [7.6066975e-8, -4.1285142e-7, 0.000_001_083_377_6, -0.000_001_827_364_8, 0.000_002_262_530_9, -0.000_002_086_345_4],
    [1.8986517e-8, -1.0769744e-7, 2.9604897e-7, -5.2489554e-7, 6.87785e-7, -6.7278427e-7],
    [1.2441888e-9, -2.6542693e-8, 1.4156103e-7, 0.0, 0.0, 0.0],
];

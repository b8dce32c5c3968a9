//! Elementary functions over 16 lanes, and the activations made of them with their derivatives.
//!
//! Each is a fixed chain of exact IEEE operations, so its bytes are the same on every instruction set. The polynomials
//! are minimax fits of our own (Remez exchange, coefficients rounded to float32 one after the other). Errors below are
//! the largest seen over millions of arguments against float64 (the tests hold them).

// SAFETY of every block here: operations of `Simd` on values alone; the caller has checked that the CPU has S.
#![allow(clippy::undocumented_unsafe_blocks)]

use crate::simd::{LANES, Simd};

const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
const SIGN: i32 = i32::MIN;

/// `c[0] + c[1]·x + …` by Horner's rule.
#[inline(always)]
pub unsafe fn polynomial<S: Simd, const N: usize>(x: S::F, c: [f32; N]) -> S::F {
    // SAFETY: the caller runs on a CPU with the features of `S`; so below.
    unsafe {
        let mut y = S::splat(c[N - 1]);
        let mut i = N - 1;
        while i > 0 {
            i -= 1;
            y = S::fma(y, x, S::splat(c[i]));
        }
        y
    }
}

#[inline(always)]
pub unsafe fn abs<S: Simd>(x: S::F) -> S::F {
    unsafe { S::from_bits(S::iand(S::bits(x), S::isplat(!SIGN))) }
}

#[inline(always)]
pub unsafe fn neg<S: Simd>(x: S::F) -> S::F {
    unsafe { S::from_bits(S::ixor(S::bits(x), S::isplat(SIGN))) }
}

/// The size of `x` with the sign of `s`; `x` must not be negative.
#[inline(always)]
unsafe fn with_sign<S: Simd>(x: S::F, s: S::F) -> S::F {
    unsafe { S::from_bits(S::ior(S::bits(x), S::iand(S::bits(s), S::isplat(SIGN)))) }
}

/// To the nearest bfloat16, ties to even; NaN stays as it is.
#[inline(always)]
pub unsafe fn rounded_to_bf16<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let b = S::bits(x);
        let odd = S::iand(S::shr::<16>(b), S::isplat(1));
        let up = S::iadd(b, S::iadd(S::isplat(0x7fff), odd));
        S::select_eq(x, x, S::from_bits(S::iand(up, S::isplat(-0x1_0000))), x)
    }
}

/// 2ⁿ for whole n in −126 … 127.
#[inline(always)]
unsafe fn power_of_two<S: Simd>(n: S::F) -> S::F {
    unsafe { S::from_bits(S::shl::<23>(S::iadd(S::to_int(n), S::isplat(127)))) }
}

/// Splits x into n·ln 2 + r, |r| ≤ ln 2 / 2, and gives (n, eʳ − 1).
#[inline(always)]
unsafe fn exp_parts<S: Simd>(x: S::F) -> (S::F, S::F) {
    unsafe {
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fnma(n, S::splat(LN2_LOW), S::fnma(n, S::splat(LN2_HIGH), x));
        let q = polynomial::<S, 5>(r, [0.499_999_94, 0.166_665_17, 0.041_668_102, 0.008_369_192, 0.001_383_890_3]);
        (n, S::fma(S::mul(r, r), q, r))
    }
}

/// eˣ within 1 ulp; overflows to ∞, underflows through the subnormals to 0.
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S::F) -> S::F {
    unsafe {
        // NaN is the second operand, so it passes both limits.
        let x = S::max(S::splat(-104.0), S::min(S::splat(89.0), x));
        let (n, p) = exp_parts::<S>(x);
        let p = S::add(p, S::splat(1.0));
        // Two factors: one alone cannot hold 2⁻¹⁵⁰ or 2¹²⁸.
        let half = S::floor(S::mul(n, S::splat(0.5)));
        S::mul(S::mul(p, power_of_two::<S>(half)), power_of_two::<S>(S::sub(n, half)))
    }
}

/// eˣ for x ≤ 0: the softmax's exponential, cheaper than [`exp`] and the same bytes down to −87; 0 below.
#[inline(always)]
pub unsafe fn exp_nonpositive<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let (n, p) = exp_parts::<S>(S::max(S::splat(-87.0), x));
        let y = S::mul(S::add(p, S::splat(1.0)), power_of_two::<S>(n));
        S::select_gt(S::splat(-87.0), x, S::splat(0.0), y)
    }
}

/// eˣ − 1 within 2 ulp, also near 0.
#[inline(always)]
pub unsafe fn expm1<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let clamped = S::max(S::splat(-18.0), S::min(S::splat(89.0), x));
        let (n, p) = exp_parts::<S>(clamped);
        // Half of everything, doubled at the end: 2¹²⁸ is no float32.
        let s = power_of_two::<S>(S::sub(n, S::splat(1.0)));
        let y = S::fma(s, p, S::sub(s, S::splat(0.5)));
        // There eˣ − 1 is x itself, down to the subnormals and −0, where s·p would lose bits.
        S::select_gt(S::splat(1e-9), abs::<S>(x), x, S::add(y, y))
    }
}

/// ln x within 1 ulp; −∞ at 0, NaN below.
#[inline(always)]
pub unsafe fn log<S: Simd>(x: S::F) -> S::F {
    unsafe {
        // Subnormals are scaled up first.
        let least = S::splat(f32::MIN_POSITIVE);
        let scaled = S::select_gt(least, x, S::mul(x, S::splat(8_388_608.0)), x);
        let shift = S::select_gt(least, x, S::splat(-23.0), S::splat(0.0));
        // x = 2ⁿ·m with m in √½ … √2: adding the distance from √½ to 1 makes the exponent field round that way.
        let raised = S::iadd(S::bits(scaled), S::isplat(0x3f80_0000 - 0x3f35_04f3));
        let n = S::isub(S::shr::<23>(raised), S::isplat(127));
        let m = S::from_bits(S::isub(S::bits(scaled), S::shl::<23>(n)));
        let n = S::add(S::to_float(n), shift);
        let f = S::sub(m, S::splat(1.0));
        let q = polynomial::<S, 8>(
            f,
            [0.333_333_31, -0.250_008_23, 0.200_012_55, -0.166_233_97, 0.142_012_86, -0.131_548_72, 0.127_651_77, -0.076_691_66],
        );
        let f2 = S::mul(f, f);
        let tail = S::fma(n, S::splat(LN2_LOW), S::mul(S::mul(f2, f), q));
        let y = S::add(S::fnma(S::splat(0.5), f2, tail), f);
        let y = S::fma(n, S::splat(LN2_HIGH), y);
        let y = S::select_eq(x, S::splat(0.0), S::splat(f32::NEG_INFINITY), y);
        let y = S::select_gt(S::splat(0.0), x, S::splat(f32::NAN), y);
        // ∞ and NaN: x itself is the answer.
        let finite = S::select_gt(S::splat(f32::INFINITY), x, S::splat(1.0), S::splat(0.0));
        S::select_eq(finite, S::splat(1.0), y, x)
    }
}

/// ln(1 + x) within 2 ulp, also near 0 (Kahan's correction of ln of the rounded sum).
#[inline(always)]
pub unsafe fn log1p<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let one = S::splat(1.0);
        let u = S::add(one, x);
        let y = log::<S>(u);
        let lost = S::div(S::sub(x, S::sub(u, one)), u);
        // At u = 0 and u = ∞ nothing was lost, and the quotient is NaN.
        let lost = S::select_gt(u, S::splat(f32::MAX), S::splat(0.0), S::select_eq(u, S::splat(0.0), S::splat(0.0), lost));
        let y = S::add(y, lost);
        S::select_eq(u, one, x, y)
    }
}

/// tanh x within 2 ulp.
#[inline(always)]
pub unsafe fn tanh<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let a = abs::<S>(x);
        let z = S::mul(x, x);
        let q = polynomial::<S, 5>(z, [-0.333_332_93, 0.133_316_65, -0.053_755_197, 0.020_682_942, -0.005_748_667]);
        let near = S::fma(S::mul(z, x), q, x);
        // From 10 on, tanh is 1; the limit keeps the exponential simple.
        let e = {
            let (n, p) = exp_parts::<S>(S::min(S::splat(20.0), S::add(a, a)));
            S::mul(S::add(p, S::splat(1.0)), power_of_two::<S>(n))
        };
        let one = S::splat(1.0);
        let far = S::sub(one, S::div(S::splat(2.0), S::add(e, one)));
        S::select_gt(a, S::splat(0.625), with_sign::<S>(far, x), near)
    }
}

/// 1 / (1 + e⁻ˣ) within 2.5 ulp, down to the subnormals.
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let e = exp::<S>(S::from_bits(S::ior(S::bits(x), S::isplat(SIGN))));
        let over = S::select_gt(S::splat(0.0), x, e, S::splat(1.0));
        S::div(over, S::add(S::splat(1.0), e))
    }
}

/// The error function within 2 ulp.
#[inline(always)]
pub unsafe fn erf<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let a = abs::<S>(x);
        let near = S::fma(x, polynomial::<S, 7>(S::mul(x, x), ERF_NEAR), x);
        // Beyond 1: 1 − e^p with p a fit of ln erfc; from 4 on, erf is 1.
        let t = S::sub(S::min(S::splat(4.0), a), S::splat(1.0));
        let p = polynomial::<S, 8>(
            t,
            [-1.849_605_6, -2.638_961_8, -0.843_202_1, -0.041_021_474, 0.008_681_708, -0.000_362_029_5, -0.000_642_012_5, 0.000_173_980_92],
        );
        let (n, e) = exp_parts::<S>(p);
        let e = S::mul(S::add(e, S::splat(1.0)), power_of_two::<S>(n));
        let far = with_sign::<S>(S::sub(S::splat(1.0), e), x);
        S::select_gt(a, S::splat(1.0), far, near)
    }
}

const ERF_NEAR: [f32; 7] = [0.128_379_17, -0.376_126_26, 0.112_835_79, -0.026_853_347, 0.005_187_162, -0.000_799_785_3, 0.000_078_069_04];

/// sin and cos of |x| ≤ π/4.
#[inline(always)]
unsafe fn sin_cos_octant<S: Simd>(x: S::F) -> (S::F, S::F) {
    unsafe {
        let z = S::mul(x, x);
        let s = polynomial::<S, 3>(z, [-0.166_666_55, 0.008_332_191, -0.000_195_186_05]);
        let c = polynomial::<S, 3>(z, [0.041_666_653, -0.001_388_761_9, 0.000_024_463_417]);
        let sine = S::fma(S::mul(z, x), s, x);
        let cosine = S::fma(S::mul(z, z), c, S::fnma(S::splat(0.5), z, S::splat(1.0)));
        (sine, cosine)
    }
}

/// (cos 2πu, sin 2πu) for u in [0, 1): the turn is reduced exactly.
#[inline(always)]
pub unsafe fn cos_sin_turn<S: Simd>(u: S::F) -> (S::F, S::F) {
    unsafe {
        let quarters = S::mul(u, S::splat(4.0));
        let q = S::round(quarters);
        let (s, c) = sin_cos_octant::<S>(S::mul(S::sub(quarters, q), S::splat(std::f32::consts::FRAC_PI_2)));
        quadrant::<S>(s, c, S::to_int(q))
    }
}

/// (cos, sin) of an angle that is q quarter turns beyond the one whose sine and cosine are given.
#[inline(always)]
unsafe fn quadrant<S: Simd>(s: S::F, c: S::F, q: S::I) -> (S::F, S::F) {
    unsafe {
        let odd = S::to_float(S::iand(q, S::isplat(1)));
        let half = S::splat(0.5);
        let cosine = S::select_gt(odd, half, s, c);
        let sine = S::select_gt(odd, half, c, s);
        // The cosine is negative in quadrants 1 and 2, the sine in 2 and 3.
        let flip_cosine = S::shl::<30>(S::iand(S::iadd(q, S::isplat(1)), S::isplat(2)));
        let flip_sine = S::shl::<30>(S::iand(q, S::isplat(2)));
        (S::from_bits(S::ixor(S::bits(cosine), flip_cosine)), S::from_bits(S::ixor(S::bits(sine), flip_sine)))
    }
}

/// ln(1 + eˣ) within 3 ulp.
#[inline(always)]
pub unsafe fn softplus<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let e = exp::<S>(S::from_bits(S::ior(S::bits(x), S::isplat(SIGN))));
        // The second operand of `max` wins when x is NaN; e then carries it.
        S::add(S::max(x, S::splat(0.0)), log1p::<S>(e))
    }
}

#[inline(always)]
pub unsafe fn relu<S: Simd>(x: S::F) -> S::F {
    unsafe { S::max(S::splat(0.0), x) }
}

/// x·σ(x) (Elfwing et al. 2018).
#[inline(always)]
pub unsafe fn silu<S: Simd>(x: S::F) -> S::F {
    unsafe { S::mul(x, sigmoid::<S>(x)) }
}

#[inline(always)]
pub unsafe fn silu_grad<S: Simd>(x: S::F) -> S::F {
    unsafe {
        // 1 − σ(x) = σ(−x) from the same exponential: the difference would lose it to rounding.
        let one = S::splat(1.0);
        let e = exp::<S>(S::from_bits(S::ior(S::bits(x), S::isplat(SIGN))));
        let scale = S::div(one, S::add(one, e));
        let small = S::mul(e, scale);
        let s = S::select_gt(S::splat(0.0), x, small, scale);
        let rest = S::select_gt(S::splat(0.0), x, scale, small);
        S::mul(s, S::fma(x, rest, one))
    }
}

/// x·Φ(x) (Hendrycks and Gimpel 2016); NaN at −∞, as the formula has it.
#[inline(always)]
pub unsafe fn gelu<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let (q, _) = normal::tail::<S>(normal::limited::<S>(abs::<S>(x)));
        S::mul(x, S::select_gt(x, S::splat(0.0), S::sub(S::splat(1.0), q), q))
    }
}

/// Φ(x) + x·φ(x): Φ(−u) − u·φ(u) for u = −x, and its complement to 1 for u = x.
#[inline(always)]
pub unsafe fn gelu_grad<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let u = normal::limited::<S>(abs::<S>(x));
        let (q, slope) = normal::tail::<S>(u);
        let left = S::fma(u, slope, q);
        S::select_gt(x, S::splat(0.0), S::sub(S::splat(1.0), left), left)
    }
}

const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBE: f32 = 0.044_715;

/// ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
#[inline(always)]
pub unsafe fn gelu_tanh<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let inner = S::mul(S::mul(x, S::splat(GELU_SCALE)), S::fma(S::mul(x, x), S::splat(GELU_CUBE), S::splat(1.0)));
        let half = S::splat(0.5);
        S::mul(x, S::fma(half, tanh::<S>(inner), half))
    }
}

#[inline(always)]
pub unsafe fn gelu_tanh_grad<S: Simd>(x: S::F) -> S::F {
    unsafe {
        let (half, one) = (S::splat(0.5), S::splat(1.0));
        // Bounded, so that ∞·0 never arises; tanh is ±1 long before.
        let b = S::max(S::splat(-20.0), S::min(S::splat(20.0), x));
        let z = S::mul(b, b);
        let t = tanh::<S>(S::mul(S::mul(b, S::splat(GELU_SCALE)), S::fma(z, S::splat(GELU_CUBE), one)));
        let slope = S::mul(S::splat(GELU_SCALE), S::fma(z, S::splat(3.0 * GELU_CUBE), one));
        let left = S::fma(half, t, half);
        S::fma(S::mul(S::mul(half, b), S::fnma(t, t, one)), slope, left)
    }
}

/// A scalar function on each lane.
#[inline(always)]
pub unsafe fn each_lane<S: Simd>(x: S::F, f: impl Fn(f32) -> f32) -> S::F {
    unsafe {
        let mut a = [0f32; LANES];
        S::store(a.as_mut_ptr(), x);
        for v in &mut a {
            *v = f(*v);
        }
        S::load(a.as_ptr())
    }
}

/// sin x: float64 of the platform's library, rounded; the same bytes on every instruction set of one machine.
#[inline(always)]
pub unsafe fn sin<S: Simd>(x: S::F) -> S::F {
    unsafe { each_lane::<S>(x, |v| f64::from(v).sin() as f32) }
}

/// cos x, as [`sin`].
#[inline(always)]
pub unsafe fn cos<S: Simd>(x: S::F) -> S::F {
    unsafe { each_lane::<S>(x, |v| f64::from(v).cos() as f32) }
}

/// x to the power y: float64 of the platform's library, rounded, as [`sin`].
pub fn pow(x: f32, y: f32) -> f32 {
    f64::from(x).powf(f64::from(y)) as f32
}

mod normal;

#[cfg(test)]
mod tests;

use super::*;

type Lane16 = unsafe fn(*const f32, *mut f32, usize);

/// Makes a slice function of a lane function, so that it can be run under every instruction set.
macro_rules! over_slices {
    ($($name:ident = $function:path),* $(,)?) => {
        $(
            mod $name {
                use super::*;
                #[inline(always)]
                unsafe fn generic<S: Simd>(x: *const f32, y: *mut f32, n: usize) {
                    let mut i = 0;
                    while i < n {
                        // SAFETY: the test passes slices of n values.
                        unsafe { S::store_n(y.add(i), $function(S::load_n(x.add(i), (n - i).min(LANES))), (n - i).min(LANES)) };
                        i += LANES;
                    }
                }
                crate::dispatch! { pub unsafe fn run(x: *const f32, y: *mut f32, n: usize) = generic }
            }
        )*
    };
}

over_slices! {
    exp_all = exp::<S>, exp_nonpositive_all = exp_nonpositive::<S>, expm1_all = expm1::<S>, log_all = log::<S>, log1p_all = log1p::<S>,
    tanh_all = tanh::<S>, sigmoid_all = sigmoid::<S>, erf_all = erf::<S>, softplus_all = softplus::<S>, gelu_all = gelu::<S>,
    gelu_grad_all = gelu_grad::<S>, gelu_tanh_all = gelu_tanh::<S>, gelu_tanh_grad_all = gelu_tanh_grad::<S>, silu_all = silu::<S>,
    silu_grad_all = silu_grad::<S>, sin_all = sin::<S>, cos_all = cos::<S>,
}

fn run(f: Lane16, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    // SAFETY: both slices hold x.len() values.
    unsafe { f(x.as_ptr(), y.as_mut_ptr(), x.len()) };
    y
}

/// Arguments: every exponent with several mantissas and both signs, a fine grid over −110 … 110, and the special values.
fn arguments() -> Vec<f32> {
    let mut x: Vec<f32> = (0..=0x7f80_0000u32 / 40_009).flat_map(|i| [f32::from_bits(i * 40_009), -f32::from_bits(i * 40_009)]).collect();
    x.extend((-220_000..=220_000).map(|i| i as f32 * 0.000_5));
    x.extend((-20_000..=20_000).map(|i| i as f32 * 0.000_1));
    x.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, -1e-45]);
    x
}

/// One unit in the last place of the float32 nearest `y`.
fn ulp(y: f64) -> f64 {
    let a = (y.abs() as f32).clamp(f32::MIN_POSITIVE, f32::MAX);
    f64::from(f32::from_bits(a.to_bits() + 1)) - f64::from(a)
}

fn unit(x: f32, y: f32, want: f64, floor: f64) -> f64 {
    let rounded = want as f32;
    if want.is_nan() || y.is_nan() || rounded.is_infinite() || y.is_infinite() {
        let same = (want.is_nan() && y.is_nan())
            || y == rounded
            || (y.abs() == f32::INFINITY && rounded.abs() >= f32::MAX)
            || (rounded.is_infinite() && y.abs() == f32::MAX);
        assert!(same, "f({x}) is {y}, expected {want}");
        return 0.0;
    }
    (f64::from(y) - want).abs() / ulp(want).max(floor)
}

#[track_caller]
fn check(f: Lane16, twin: impl Fn(f64) -> f64, domain: std::ops::RangeInclusive<f32>, ulps: f64, floor: f64) {
    let x: Vec<f32> = arguments().into_iter().filter(|v| domain.contains(v) || v.is_nan()).collect();
    let y = run(f, &x);
    let mut worst = (0.0, 0.0, 0.0);
    for (&x, &y) in x.iter().zip(&y) {
        let e = unit(x, y, twin(f64::from(x)), floor);
        if e > worst.0 {
            worst = (e, x, y);
        }
    }
    assert!(worst.0 <= ulps, "{:.2} ulp at {} (got {})", worst.0, worst.1, worst.2);
}

const ALL: std::ops::RangeInclusive<f32> = f32::NEG_INFINITY..=f32::INFINITY;

/// erf in float64: its series below 3, its continued fraction beyond (Abramowitz and Stegun 7.1.6 and 7.1.14).
fn erf64(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    if a > 6.0 {
        return x.signum();
    }
    if a < 3.0 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term > sum * 1e-18 {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        return x.signum() * sum * (-a * a).exp() * std::f64::consts::FRAC_2_SQRT_PI;
    }
    let mut f = a;
    for k in (1..200).rev() {
        f = a + 0.5 * f64::from(k) / f;
    }
    x.signum() * (1.0 - (-a * a).exp() / f / std::f64::consts::PI.sqrt())
}

fn cdf(x: f64) -> f64 {
    0.5 * (1.0 + erf64(x * std::f64::consts::FRAC_1_SQRT_2))
}

#[test]
fn exponentials_and_logarithms_are_within_their_bounds() {
    check(exp_all::run, f64::exp, ALL, 1.0, 0.0);
    check(exp_nonpositive_all::run, f64::exp, -87.0..=0.0, 1.0, 0.0);
    check(expm1_all::run, f64::exp_m1, ALL, 2.0, 0.0);
    check(log_all::run, f64::ln, ALL, 1.0, 0.0);
    check(log1p_all::run, f64::ln_1p, ALL, 2.0, 0.0);
}

#[test]
fn activations_are_within_their_bounds() {
    check(tanh_all::run, f64::tanh, ALL, 2.0, 0.0);
    check(sigmoid_all::run, |x| 1.0 / (1.0 + (-x).exp()), ALL, 2.5, 0.0);
    check(softplus_all::run, |x| if x > 40.0 { x } else { x.exp().ln_1p() }, ALL, 3.0, 0.0);
    check(erf_all::run, erf64, ALL, 2.0, 0.0);
    let eps = f64::from(f32::EPSILON);
    // The two forms of gelu lose relative accuracy in the left tail, as their formula does; absolutely they hold.
    check(gelu_all::run, |x| x * cdf(x), -1e4..=3e38, 1.2, eps);
    check(gelu_all::run, |x| x * cdf(x), -1e4..=0.0, 0.4, eps);
    check(silu_all::run, |x| x / (1.0 + (-x).exp()), -1e4..=3e38, 3.0, eps * 1e-3);
    let inner = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
    check(gelu_tanh_all::run, |x| 0.5 * x * (1.0 + inner(x).tanh()), -1e4..=3e38, 4.0, eps);
}

#[test]
fn derivatives_are_within_their_bounds() {
    let eps = f64::from(f32::EPSILON);
    check(
        gelu_grad_all::run,
        |x| cdf(x) + if x.abs() > 50.0 { 0.0 } else { x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt() },
        ALL,
        1.0,
        eps,
    );
    check(
        silu_grad_all::run,
        |x| {
            let s = 1.0 / (1.0 + (-x).exp());
            s * (1.0 + x / (1.0 + x.exp()))
        },
        -1e4..=1e38,
        4.0,
        eps,
    );
    check(
        gelu_tanh_grad_all::run,
        |x| {
            if x.abs() > 30.0 {
                return if x > 0.0 { 1.0 } else { 0.0 };
            }
            let k = (2.0 / std::f64::consts::PI).sqrt();
            let t = (k * (x + 0.044715 * x.powi(3))).tanh();
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * k * (1.0 + 3.0 * 0.044715 * x * x)
        },
        ALL,
        6.0,
        eps,
    );
}

#[test]
fn special_values() {
    let f = |f: Lane16, x: f32| run(f, &[x])[0];
    assert_eq!(f(exp_all::run, f32::NEG_INFINITY), 0.0);
    assert_eq!(f(exp_all::run, 88.722_83), 3.402_798_5e38);
    assert_eq!(f(exp_all::run, -103.0), 1.4e-45);
    assert_eq!(f(exp_nonpositive_all::run, f32::NEG_INFINITY), 0.0);
    assert_eq!(f(exp_nonpositive_all::run, 0.0), 1.0);
    assert_eq!(f(log_all::run, 1e-45), (1e-45f32 as f64).ln() as f32);
    assert_eq!(f(log_all::run, 1.0), 0.0);
    assert!(f(expm1_all::run, -0.0).is_sign_negative());
    assert!(f(log_all::run, -1.0).is_nan());
    assert_eq!(f(sigmoid_all::run, f32::NEG_INFINITY), 0.0);
    assert!(f(sigmoid_all::run, -100.0) > 0.0);
    // Far left 0 even times the largest number; near 0 a half, to the last bit.
    assert_eq!((f(gelu_all::run, f32::MIN), f(gelu_all::run, f32::INFINITY)), (0.0, f32::INFINITY));
    assert!(f(gelu_all::run, f32::NEG_INFINITY).is_nan());
    assert_eq!((f(gelu_all::run, 1e-20), f(gelu_all::run, -1e-20)), (5e-21, -5e-21));
    assert!(f(gelu_all::run, -0.0).is_sign_negative());
    assert_eq!(f(gelu_grad_all::run, 0.0), 0.5);
    for g in [gelu_grad_all::run as Lane16, gelu_tanh_grad_all::run] {
        assert_eq!((f(g, f32::INFINITY), f(g, f32::NEG_INFINITY)), (1.0, 0.0));
    }
}

#[test]
fn a_turn_is_reduced_exactly() {
    #[inline(always)]
    unsafe fn turn<S: Simd>(u: *const f32, c: *mut f32, s: *mut f32) {
        // SAFETY: 16 values each.
        unsafe {
            let (x, y) = cos_sin_turn::<S>(S::load(u));
            S::store(c, x);
            S::store(s, y);
        }
    }
    crate::dispatch! { unsafe fn run_turn(u: *const f32, c: *mut f32, s: *mut f32) = turn }
    for block in 0..4096 {
        let u: Vec<f32> = (0..16).map(|i| (block * 16 + i) as f32 / 65536.0).collect();
        let (mut c, mut s) = ([0f32; 16], [0f32; 16]);
        // SAFETY: 16 values each.
        unsafe { run_turn(u.as_ptr(), c.as_mut_ptr(), s.as_mut_ptr()) };
        for i in 0..16 {
            let angle = f64::from(u[i]) * std::f64::consts::TAU;
            assert!((f64::from(c[i]) - angle.cos()).abs() < 1.2e-7 && (f64::from(s[i]) - angle.sin()).abs() < 1.2e-7, "u = {}", u[i]);
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let x = arguments();
    let all: [Lane16; 17] = [
        exp_all::run,
        exp_nonpositive_all::run,
        expm1_all::run,
        log_all::run,
        log1p_all::run,
        tanh_all::run,
        sigmoid_all::run,
        erf_all::run,
        softplus_all::run,
        gelu_all::run,
        gelu_grad_all::run,
        gelu_tanh_all::run,
        gelu_tanh_grad_all::run,
        silu_all::run,
        silu_grad_all::run,
        sin_all::run,
        cos_all::run,
    ];
    for f in all {
        crate::testing::same_everywhere(|| run(f, &x));
    }
}

//! The inner product: groups of 16 rows of the weight with a few rows of activations, block after block.

use super::activations::Tile;
use super::dots::{Dots, Shape};
use super::layout::{Form, Planes, Scale};
use crate::simd::{LANES, Simd};

/// [`Shape`] by its constants, in their order.
#[derive(Clone, Copy)]
pub struct Of<const NIBBLES: bool, const TABLE: bool, const HALF: bool, const MINIMUM: bool, const SMALL: bool>;

impl<const NIBBLES: bool, const TABLE: bool, const HALF: bool, const MINIMUM: bool, const SMALL: bool> Shape
    for Of<NIBBLES, TABLE, HALF, MINIMUM, SMALL>
{
    const NIBBLES: bool = NIBBLES;
    const TABLE: bool = TABLE;
    const HALF: bool = HALF;
    const MINIMUM: bool = MINIMUM;
    const SMALL: bool = SMALL;
}

/// Groups of 16 rows of the weight, one behind the other.
#[derive(Clone, Copy)]
pub struct Groups<'a> {
    /// Where the first begins, and from one to the next.
    pub start: *const u8,
    pub bytes: usize,
    /// Where its codes begin, from its start, and its bytes for each block of 32 items, codes and scales together.
    pub codes: usize,
    pub stride: usize,
    /// [groups][k / sub][16] scales and minima as float32.
    pub scales: *const f32,
    pub minima: *const f32,
    /// k / sub · 16
    pub scale_items: usize,
    pub table: &'a [u8; 16],
}

/// Bytes that the processor fetches at a time.
pub const LINE: usize = 64;

/// Memory that a tile asks for: `step` bytes from `at` on for each block, one behind the other.
#[derive(Clone, Copy)]
pub struct Ahead {
    pub at: *const u8,
    pub step: usize,
    /// For what other tiles take first: it goes to the second-level cache.
    pub far: bool,
}

/// sums (R, G · 16) = the products of G groups and a tile of R rows of activations, part after part.
///
/// # Safety
/// The tile has R rows, it and the groups are of the same k; `sums` has room.
#[inline(always)]
pub unsafe fn tile<D: Dots, H: Shape, const R: usize, const G: usize>(groups: &Groups, x: &Tile, ahead: Ahead, sums: *mut f32) {
    let halves = if H::HALF { 2 } else { 1 };
    // SAFETY: as promised above.
    unsafe {
        let mut all = [[D::S::splat(0.0); R]; G];
        for i in 0..x.parts {
            let b = *x.blocks.add(i) as usize;
            let mut codes = [groups.start.add(groups.codes + b * H::BYTES); G];
            for g in 1..G {
                codes[g] = codes[0].add(g * groups.bytes);
            }
            for at in (0..ahead.step).step_by(LINE) {
                let line = ahead.at.wrapping_add(b * ahead.step + at).cast();
                if ahead.far {
                    D::S::prefetch_far(line);
                } else {
                    D::S::prefetch(line);
                }
            }
            let x = x.part(i, R, halves);
            let dots = D::block::<H, R, G>(&codes, groups.table, x.bytes, x.corrections);
            for half in 0..halves {
                for g in 0..G {
                    let at = g * groups.scale_items + (halves * b + half) * LANES;
                    let scale = D::S::load(groups.scales.add(at));
                    for r in 0..R {
                        let scale = D::S::mul(scale, D::S::splat(*x.scales.add(r)));
                        all[g][r] = D::S::fma(D::float(dots[half][g][r]), scale, all[g][r]);
                        if H::MINIMUM {
                            let minimum = D::S::load(groups.minima.add(at));
                            all[g][r] = D::S::fma(minimum, D::S::splat(*x.sums.add(half * R + r)), all[g][r]);
                        }
                    }
                }
            }
        }
        for r in 0..R {
            for g in 0..G {
                D::S::store(sums.add((r * G + g) * LANES), all[g][r]);
            }
        }
    }
}

/// Writes a group's scales and minima as float32: [k / sub][16] each.
///
/// # Safety
/// `group` is one of a packed weight of k items, `scales` and (where there are minima) `minima` have room.
#[inline(always)]
pub unsafe fn spread<D: Dots>(form: &Form, planes: &Planes, group: *const u8, k: usize, scales: *mut f32, minima: *mut f32) {
    let each = form.items / form.sub;
    // SAFETY: as promised above.
    unsafe {
        for unit in 0..k / form.items {
            let wide = |plane: usize| group.add(plane + 2 * unit * LANES);
            let scale =
                if form.scale == Scale::Power { D::S::load_bf16(wide(planes.scales).cast()) } else { D::halves(wide(planes.scales)) };
            let least = if form.minimum { D::halves(wide(planes.minima)) } else { scale };
            if !form.is_super() {
                D::S::store(scales.add(unit * LANES), scale);
                if form.minimum {
                    D::S::store(minima.add(unit * LANES), least);
                }
                continue;
            }
            let least = D::S::sub(D::S::splat(0.0), least);
            for sub in unit * each..(unit + 1) * each {
                let small = group.add(planes.small_scales + sub * LANES);
                let small = if form.scale == Scale::Signed { D::signed(small) } else { D::unsigned(small) };
                D::S::store(scales.add(sub * LANES), D::S::mul(scale, small));
                if form.minimum {
                    let small = D::unsigned(group.add(planes.small_minima + sub * LANES));
                    D::S::store(minima.add(sub * LANES), D::S::mul(least, small));
                }
            }
        }
    }
}

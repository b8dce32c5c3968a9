//! From the file's blocks to groups of 16 rows, and back: the same bits in another order.

use super::layout::{BLOCK, Form, KINDS, Kind, Planes, SUPER};
use crate::pool::parallel_for;
use crate::shared::Shared;
use crate::simd::LANES;

/// The parts of one block of a file, for 256 items (or the first 32): codes as [`Form`] means them.
struct Parts {
    codes: [u8; SUPER],
    scale: u16,
    minimum: u16,
    small_scales: [u8; 16],
    small_minima: [u8; 16],
}

impl Parts {
    const EMPTY: Parts = Parts { codes: [0; SUPER], scale: 0, minimum: 0, small_scales: [0; 16], small_minima: [0; 16] };
}

/// Bytes of a row of k items in the file's layout; None where k is not whole blocks.
pub fn block_bytes(kind: Kind, k: usize) -> Option<usize> {
    let form = kind.form();
    if k.is_multiple_of(form.items) { (k / form.items).checked_mul(form.bytes) } else { None }
}

/// Bytes of a packed weight; None where k is not whole blocks, or the size overflows.
pub fn packed_bytes(kind: Kind, n: usize, k: usize) -> Option<usize> {
    let form = kind.form();
    // No plane takes more than four bytes an item.
    let fits = k.is_multiple_of(form.items) && k.checked_mul(LANES * 8).is_some();
    if fits { n.div_ceil(LANES).checked_mul(Planes::of(&form, k).group) } else { None }
}

fn half(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

fn put_half(b: &mut [u8], at: usize, value: u16) {
    b[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Four codes at a time.
fn word(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn put_word(b: &mut [u8], at: usize, four: u32) {
    b[at..at + 4].copy_from_slice(&four.to_le_bytes());
}

/// 32 codes in bits of 32 bytes: those from bit `at` on.
#[inline(always)]
fn bits(b: &[u8], at: usize, mask: u8, codes: &mut [u8]) {
    let (b, codes) = (&b[..BLOCK], &mut codes[..BLOCK]);
    for i in 0..BLOCK {
        codes[i] = b[i] >> at & mask;
    }
}

/// The same bits above the codes that are there.
#[inline(always)]
fn more_bits(b: &[u8], at: usize, mask: u8, to: usize, codes: &mut [u8]) {
    let (b, codes) = (&b[..BLOCK], &mut codes[..BLOCK]);
    for i in 0..BLOCK {
        codes[i] |= (b[i] >> at & mask) << to;
    }
}

/// Codes of less than eight bits as [`Form`] means them.
#[inline(always)]
fn lift(codes: &mut [u8], by: u8) {
    for code in codes {
        *code += by;
    }
}

/// 32 codes of four bits: the low halves of 16 bytes come first.
#[inline(always)]
fn nibbles(b: &[u8], codes: &mut [u8]) {
    let (b, codes) = (&b[..16], &mut codes[..BLOCK]);
    for i in (0..16).step_by(4) {
        let both = word(b, i);
        put_word(codes, i, both & 0x0f0f_0f0f);
        put_word(codes, 16 + i, both >> 4 & 0x0f0f_0f0f);
    }
}

fn put_nibbles(codes: &[u8], b: &mut [u8]) {
    for i in 0..16 {
        b[i] = (codes[i] & 15) | (codes[16 + i] << 4);
    }
}

/// Codes of five bits become eight, which stand for `code + add − 128`.
const FIVE_SIGNED: u8 = 112;
const FIVE: u8 = 128;

#[inline(always)]
fn five_bits(high: &[u8], low: &[u8], add: u8, codes: &mut [u8]) {
    nibbles(low, codes);
    let high = word(high, 0);
    for i in 0..BLOCK {
        codes[i] = (codes[i] | ((high >> i & 1) as u8) << 4) + add;
    }
}

fn put_five_bits(codes: &[u8], add: u8, high: &mut [u8], low: &mut [u8]) {
    let mut four = [0; BLOCK];
    high.fill(0);
    for (i, code) in codes.iter().enumerate().take(BLOCK) {
        let code = code.wrapping_sub(add);
        four[i] = code & 15;
        high[i / 8] |= (code >> 4 & 1) << (i % 8);
    }
    put_nibbles(&four, low);
}

/// The eight six-bit scales and minima of Q4_K and Q5_K, in twelve bytes.
fn six_bits(b: &[u8], p: &mut Parts) {
    for i in 0..4 {
        let (s, m, both) = (b[i], b[4 + i], b[8 + i]);
        p.small_scales[i] = s & 63;
        p.small_minima[i] = m & 63;
        p.small_scales[4 + i] = (both & 15) | (s >> 2 & 48);
        p.small_minima[4 + i] = (both >> 4) | (m >> 2 & 48);
    }
}

fn put_six_bits(p: &Parts, b: &mut [u8]) {
    for i in 0..4 {
        let (s, m) = (p.small_scales[4 + i], p.small_minima[4 + i]);
        b[i] = p.small_scales[i] | (s & 48) << 2;
        b[4 + i] = p.small_minima[i] | (m & 48) << 2;
        b[8 + i] = (s & 15) | (m & 15) << 4;
    }
}

/// The exponents 0 and 1 of E8M0 are subnormal halves of a power of two.
fn power(e: u8) -> u16 {
    if e < 2 { 0x20 << e } else { (u16::from(e) - 1) << 7 }
}

fn exponent(power: u16) -> u8 {
    if power < 0x80 { (power >> 6) as u8 } else { ((power >> 7) as u8).wrapping_add(1) }
}

/// Reads one block of the file.
#[inline(always)]
fn read(kind: Kind, b: &[u8], p: &mut Parts) {
    match kind {
        Kind::Q8_0 => {
            p.scale = half(b, 0);
            for i in 0..BLOCK {
                p.codes[i] = b[2 + i] ^ 0x80;
            }
        }
        Kind::Q4_0 | Kind::Iq4Nl => {
            p.scale = half(b, 0);
            nibbles(&b[2..], &mut p.codes);
        }
        Kind::Q4_1 => {
            (p.scale, p.minimum) = (half(b, 0), half(b, 2));
            nibbles(&b[4..], &mut p.codes);
        }
        Kind::Q5_0 => {
            p.scale = half(b, 0);
            five_bits(&b[2..], &b[6..], FIVE_SIGNED, &mut p.codes);
        }
        Kind::Q5_1 => {
            (p.scale, p.minimum) = (half(b, 0), half(b, 2));
            five_bits(&b[4..], &b[8..], FIVE, &mut p.codes);
        }
        Kind::Q2K => {
            (p.scale, p.minimum) = (half(b, 80), half(b, 82));
            for i in 0..16 {
                (p.small_scales[i], p.small_minima[i]) = (b[i] & 15, b[i] >> 4);
            }
            for part in 0..8 {
                bits(&b[16 + two_bits_at(BLOCK * part)..], 2 * (part & 3), 3, &mut p.codes[BLOCK * part..]);
            }
        }
        Kind::Q3K => {
            p.scale = half(b, 108);
            for i in 0..16 {
                let low = if i < 8 { b[96 + i] & 15 } else { b[96 + i - 8] >> 4 };
                let high = b[104 + (i & 3)] >> (2 * (i >> 2)) & 3;
                p.small_scales[i] = (low | high << 4).wrapping_sub(32);
            }
            for part in 0..8 {
                let codes = &mut p.codes[BLOCK * part..];
                bits(&b[32 + two_bits_at(BLOCK * part)..], 2 * (part & 3), 3, codes);
                more_bits(b, part, 1, 2, codes);
            }
        }
        Kind::Q4K => {
            (p.scale, p.minimum) = (half(b, 0), half(b, 2));
            six_bits(&b[4..], p);
            for part in 0..8 {
                bits(&b[16 + BLOCK * (part >> 1)..], 4 * (part & 1), 15, &mut p.codes[BLOCK * part..]);
            }
        }
        Kind::Q5K => {
            (p.scale, p.minimum) = (half(b, 0), half(b, 2));
            six_bits(&b[4..], p);
            for part in 0..8 {
                let codes = &mut p.codes[BLOCK * part..];
                bits(&b[48 + BLOCK * (part >> 1)..], 4 * (part & 1), 15, codes);
                more_bits(&b[16..], part, 1, 4, codes);
            }
            lift(&mut p.codes, FIVE);
        }
        Kind::Q6K => {
            p.scale = half(b, 208);
            p.small_scales.copy_from_slice(&b[192..208]);
            for part in 0..8 {
                let codes = &mut p.codes[BLOCK * part..];
                let (half, place) = (part >> 2, part & 3);
                bits(&b[64 * half + BLOCK * (place & 1)..], 4 * (place >> 1), 15, codes);
                more_bits(&b[128 + BLOCK * half..], 2 * place, 3, 4, codes);
            }
            lift(&mut p.codes, 96);
        }
        Kind::Iq4Xs => {
            p.scale = half(b, 0);
            let high = half(b, 2);
            for sub in 0..8 {
                let low = b[4 + (sub >> 1)] >> (4 * (sub & 1)) & 15;
                p.small_scales[sub] = (low | ((high >> (2 * sub) & 3) as u8) << 4).wrapping_sub(32);
                nibbles(&b[8 + 16 * sub..], &mut p.codes[BLOCK * sub..]);
            }
        }
        Kind::Mxfp4 => {
            p.scale = power(b[0]);
            nibbles(&b[1..], &mut p.codes);
        }
    }
}

/// Where the two low bits of item i of Q2_K and Q3_K lie: a byte holds those of items i, 32 + i, 64 + i and 96 + i of its 128.
fn two_bits_at(i: usize) -> usize {
    (i >> 7 << 5) + (i & 31)
}

/// Writes one block of the file.
fn write(kind: Kind, p: &Parts, b: &mut [u8]) {
    b.fill(0);
    match kind {
        Kind::Q8_0 => {
            put_half(b, 0, p.scale);
            for i in 0..BLOCK {
                b[2 + i] = p.codes[i] ^ 0x80;
            }
        }
        Kind::Q4_0 | Kind::Iq4Nl => {
            put_half(b, 0, p.scale);
            put_nibbles(&p.codes, &mut b[2..]);
        }
        Kind::Q4_1 => {
            put_half(b, 0, p.scale);
            put_half(b, 2, p.minimum);
            put_nibbles(&p.codes, &mut b[4..]);
        }
        Kind::Q5_0 => {
            put_half(b, 0, p.scale);
            let (high, low) = b[2..].split_at_mut(4);
            put_five_bits(&p.codes, FIVE_SIGNED, high, low);
        }
        Kind::Q5_1 => {
            put_half(b, 0, p.scale);
            put_half(b, 2, p.minimum);
            let (high, low) = b[4..].split_at_mut(4);
            put_five_bits(&p.codes, FIVE, high, low);
        }
        Kind::Q2K => {
            put_half(b, 80, p.scale);
            put_half(b, 82, p.minimum);
            for i in 0..16 {
                b[i] = p.small_scales[i] | p.small_minima[i] << 4;
            }
            for i in 0..SUPER {
                b[16 + two_bits_at(i)] |= p.codes[i] << (2 * (i >> 5 & 3));
            }
        }
        Kind::Q3K => {
            put_half(b, 108, p.scale);
            for i in 0..16 {
                let s = p.small_scales[i].wrapping_add(32);
                b[96 + (i & 7)] |= (s & 15) << (4 * (i >> 3));
                b[104 + (i & 3)] |= (s >> 4) << (2 * (i >> 2));
            }
            for i in 0..SUPER {
                b[32 + two_bits_at(i)] |= (p.codes[i] & 3) << (2 * (i >> 5 & 3));
                b[i & 31] |= (p.codes[i] >> 2) << (i >> 5);
            }
        }
        Kind::Q4K => {
            put_half(b, 0, p.scale);
            put_half(b, 2, p.minimum);
            put_six_bits(p, &mut b[4..]);
            for i in 0..SUPER {
                b[16 + (i >> 6 << 5) + (i & 31)] |= p.codes[i] << (4 * (i >> 5 & 1));
            }
        }
        Kind::Q5K => {
            put_half(b, 0, p.scale);
            put_half(b, 2, p.minimum);
            put_six_bits(p, &mut b[4..]);
            for i in 0..SUPER {
                let code = p.codes[i].wrapping_sub(FIVE);
                b[48 + (i >> 6 << 5) + (i & 31)] |= (code & 15) << (4 * (i >> 5 & 1));
                b[16 + (i & 31)] |= (code >> 4) << (i >> 5);
            }
        }
        Kind::Q6K => {
            put_half(b, 208, p.scale);
            b[192..208].copy_from_slice(&p.small_scales);
            for i in 0..SUPER {
                let (group, place, code) = (i >> 7, i & 127, p.codes[i].wrapping_sub(96));
                b[(group << 6) + (place & 63)] |= (code & 15) << (4 * (place >> 6));
                b[128 + (group << 5) + (place & 31)] |= (code >> 4) << (2 * (place >> 5));
            }
        }
        Kind::Iq4Xs => {
            put_half(b, 0, p.scale);
            let mut high = 0;
            for sub in 0..8 {
                let s = p.small_scales[sub].wrapping_add(32);
                b[4 + (sub >> 1)] |= (s & 15) << (4 * (sub & 1));
                high |= u16::from(s >> 4) << (2 * sub);
                put_nibbles(&p.codes[BLOCK * sub..], &mut b[8 + 16 * sub..]);
            }
            put_half(b, 2, high);
        }
        Kind::Mxfp4 => {
            b[0] = exponent(p.scale);
            put_nibbles(&p.codes, &mut b[1..]);
        }
    }
}

/// One row's places in a group.
struct Lane<'a> {
    form: &'a Form,
    planes: &'a Planes,
    lane: usize,
}

impl Lane<'_> {
    /// Where the four codes from item 4·v of a block begin; of nibbles, v below 4 names the low halves.
    fn codes(&self, block: usize, v: usize) -> usize {
        self.planes.codes + block * self.form.code_bytes() + v * 64 + 4 * self.lane
    }

    #[inline(always)]
    fn put(&self, group: &mut [u8], unit: usize, p: &Parts) {
        let f = self.form;
        for block in 0..f.items / BLOCK {
            let codes = &p.codes[block * BLOCK..][..BLOCK];
            for v in 0..f.code_bytes() / 64 {
                let at = self.codes(unit * f.items / BLOCK + block, v);
                let four = if f.nibbles { word(codes, 4 * v) | word(codes, 16 + 4 * v) << 4 } else { word(codes, 4 * v) };
                put_word(group, at, four);
            }
        }
        let wide = 2 * (unit * LANES + self.lane);
        put_half(group, self.planes.scales + wide, p.scale);
        if f.minimum {
            put_half(group, self.planes.minima + wide, p.minimum);
        }
        if f.is_super() {
            for sub in 0..f.items / f.sub {
                let at = (unit * (f.items / f.sub) + sub) * LANES + self.lane;
                group[self.planes.small_scales + at] = p.small_scales[sub];
                if f.minimum {
                    group[self.planes.small_minima + at] = p.small_minima[sub];
                }
            }
        }
    }

    fn get(&self, group: &[u8], unit: usize, p: &mut Parts) {
        let f = self.form;
        for block in 0..f.items / BLOCK {
            let codes = &mut p.codes[block * BLOCK..][..BLOCK];
            for v in 0..f.code_bytes() / 64 {
                let at = self.codes(unit * f.items / BLOCK + block, v);
                for i in 0..4 {
                    codes[4 * v + i] = if f.nibbles { group[at + i] & 15 } else { group[at + i] };
                    if f.nibbles {
                        codes[16 + 4 * v + i] = group[at + i] >> 4;
                    }
                }
            }
        }
        let wide = 2 * (unit * LANES + self.lane);
        p.scale = half(group, self.planes.scales + wide);
        if f.minimum {
            p.minimum = half(group, self.planes.minima + wide);
        }
        if f.is_super() {
            for sub in 0..f.items / f.sub {
                let at = (unit * (f.items / f.sub) + sub) * LANES + self.lane;
                p.small_scales[sub] = group[self.planes.small_scales + at];
                if f.minimum {
                    p.small_minima[sub] = group[self.planes.small_minima + at];
                }
            }
        }
    }
}

/// Packs n rows of k items from the file's blocks.
///
/// # Safety
/// `blocks` holds n · [`block_bytes`] bytes, `out` has room for [`packed_bytes`], and they do not overlap.
pub unsafe fn pack(kind: Kind, blocks: *const u8, out: *mut u8, n: usize, k: usize) {
    // A loop for each layout: compiled with the layout known, it is several times as fast.
    const PACK: [unsafe fn(*const u8, *mut u8, usize, usize); KINDS.len()] = [
        pack_as::<0>,
        pack_as::<1>,
        pack_as::<2>,
        pack_as::<3>,
        pack_as::<4>,
        pack_as::<5>,
        pack_as::<6>,
        pack_as::<7>,
        pack_as::<8>,
        pack_as::<9>,
        pack_as::<10>,
        pack_as::<11>,
        pack_as::<12>,
    ];
    // SAFETY: the caller's promise.
    unsafe { PACK[kind as usize](blocks, out, n, k) }
}

/// [`pack`] for the layout of this code.
unsafe fn pack_as<const CODE: usize>(blocks: *const u8, out: *mut u8, n: usize, k: usize) {
    let planes = Planes::of(const { &KINDS[CODE].form() }, k);
    let (blocks, out) = (Shared::new(blocks), Shared::new(out));
    parallel_for(n.div_ceil(LANES), |g| {
        // Made in here: what a closure is given is no constant to the compiler.
        let form = const { &KINDS[CODE].form() };
        let units = k / form.items;
        let row_bytes = units * form.bytes;
        // SAFETY: groups are disjoint parts of `out`, as large as promised.
        let group = unsafe { std::slice::from_raw_parts_mut(out.at(g * planes.group), planes.group) };
        let rows = LANES.min(n - g * LANES);
        // Rows that are not there have codes and scales of 0, and so has what lies between the planes.
        group[..if rows < LANES { planes.group } else { planes.codes }].fill(0);
        let mut parts = Parts::EMPTY;
        for lane in 0..rows {
            for unit in 0..units {
                let at = (g * LANES + lane) * row_bytes + unit * form.bytes;
                // SAFETY: the block lies inside of `blocks`.
                let block = unsafe { std::slice::from_raw_parts(blocks.at(at).cast_const(), form.bytes) };
                read(KINDS[CODE], block, &mut parts);
                Lane { form, planes: &planes, lane }.put(group, unit, &parts);
            }
        }
    });
}

/// The file's blocks of `count` rows from `from` on: what [`pack`] read.
///
/// # Safety
/// `packed` is what `pack` wrote for at least from + count rows of k items, `out` has room for their blocks.
pub unsafe fn unpack_rows(kind: Kind, packed: *const u8, from: usize, out: *mut u8, count: usize, k: usize) {
    let form = kind.form();
    let planes = Planes::of(&form, k);
    let units = k / form.items;
    let row_bytes = units * form.bytes;
    let (packed, out) = (Shared::new(packed), Shared::new(out));
    parallel_for(count.div_ceil(LANES), |part| {
        let mut parts = Parts::EMPTY;
        for i in part * LANES..((part + 1) * LANES).min(count) {
            let row = from + i;
            // SAFETY: the row's group is part of `packed`.
            let group = unsafe { std::slice::from_raw_parts(packed.at(row / LANES * planes.group).cast_const(), planes.group) };
            let place = Lane { form: &form, planes: &planes, lane: row % LANES };
            for unit in 0..units {
                place.get(group, unit, &mut parts);
                // SAFETY: tasks write their own rows of `out`.
                let block = unsafe { std::slice::from_raw_parts_mut(out.at(i * row_bytes + unit * form.bytes), form.bytes) };
                write(kind, &parts, block);
            }
        }
    });
}

//! Rows of a packed weight as float32, with ggml's roundings: `scale · (code − zero)`, then `+ minimum`; a small scale is first multiplied by its
//! large one, a small minimum by the large one, and taken off.

use super::layout::{BLOCK, Form, Kind, Planes, Scale};
use crate::half::{bf16_to_f32, f16_to_f32};
use crate::pool::parallel_blocks;
use crate::shared::Shared;
use crate::simd::LANES;

/// Rows of one task.
const ROWS: usize = 16;

/// Writes row `row` of a packed weight of k items.
///
/// # Safety
/// The row is part of `packed`, and `out` has room for k items.
unsafe fn row(form: &Form, planes: &Planes, packed: *const u8, row: usize, out: *mut f32, k: usize) {
    let lane = row % LANES;
    // SAFETY: the row's group is part of `packed`, and its planes lie inside of it.
    unsafe {
        let group = packed.add(row / LANES * planes.group);
        let half = |plane: usize, unit: usize| group.add(plane + 2 * (unit * LANES + lane)).cast::<u16>().read_unaligned();
        let byte = |plane: usize, sub: usize| *group.add(plane + sub * LANES + lane);
        for sub in 0..k / form.sub {
            let unit = sub * form.sub / form.items;
            let scale = match form.scale {
                Scale::Half => f16_to_f32(half(planes.scales, unit)),
                Scale::Power => bf16_to_f32(half(planes.scales, unit)),
                Scale::Unsigned => f16_to_f32(half(planes.scales, unit)) * f32::from(byte(planes.small_scales, sub)),
                Scale::Signed => f16_to_f32(half(planes.scales, unit)) * f32::from(byte(planes.small_scales, sub) as i8),
            };
            let minimum = match (form.minimum, form.is_super()) {
                (false, _) => 0.0,
                (true, false) => f16_to_f32(half(planes.minima, unit)),
                (true, true) => -(f16_to_f32(half(planes.minima, unit)) * f32::from(byte(planes.small_minima, sub))),
            };
            let (block, from) = (sub * form.sub / BLOCK, sub * form.sub % BLOCK);
            for i in from..from + form.sub {
                let v = if form.nibbles { i % 16 / 4 } else { i / 4 };
                let code = *group.add(planes.codes + block * form.code_bytes() + v * 64 + 4 * lane + i % 4);
                let code = if form.nibbles { code >> (i / 16 * 4) & 15 } else { code };
                let code = form.table.map_or(code, |table| table[usize::from(code)]);
                let value = scale * (i32::from(code) - form.zero) as f32;
                *out.add(block * BLOCK + i) = if form.minimum { value + minimum } else { value };
            }
        }
    }
}

/// out (count, k) = the rows from `from` on.
///
/// # Safety
/// `packed` is what `pack` wrote for at least from + count rows of k items, and `out` has room for count · k items.
pub unsafe fn dequantize_rows(kind: Kind, packed: *const u8, from: usize, out: *mut f32, count: usize, k: usize) {
    let form = kind.form();
    let planes = Planes::of(&form, k);
    let (packed, out) = (Shared::new(packed), Shared::new(out));
    parallel_blocks(count, ROWS, |start, end| {
        for i in start..end {
            // SAFETY: tasks write their own rows.
            unsafe { row(&form, &planes, packed.at(0), from + i, out.at(i * k), k) };
        }
    });
}

/// out (count, k) = the rows that `ids` name.
///
/// # Safety
/// As [`dequantize_rows`]; every id names a row of `packed`.
pub unsafe fn embedding(kind: Kind, packed: *const u8, ids: *const i32, out: *mut f32, count: usize, k: usize) {
    let form = kind.form();
    let planes = Planes::of(&form, k);
    let (packed, ids, out) = (Shared::new(packed), Shared::new(ids), Shared::new(out));
    let rows = |start: usize, end: usize| {
        for i in start..end {
            // SAFETY: tasks write their own rows.
            unsafe { row(&form, &planes, packed.at(0), *ids.at(i) as usize, out.at(i * k), k) };
        }
    };
    if count * k >= 1 << 14 { parallel_blocks(count, ROWS, rows) } else { rows(0, count) }
}

//! Glue of filling, converting and copying.

use crate::kernel::{Table, distinct, product, reach};
use groundup_kernels::moving::{DType, cast, copy, fill};

/// The storage type with this code.
pub fn dtype(code: i64) -> Result<DType, String> {
    DType::from_code(code).ok_or_else(|| format!("the dtype's code, expected 0 to 5, got {code}"))
}

pub fn register(t: &mut Table) {
    t.push(("fill", |a| {
        let (out, kind, n, value) = (a.place()?, dtype(a.int()?)?, a.size()?, a.f64()?);
        let out = bytes(out, n, kind)?;
        // SAFETY: room for n items was checked.
        unsafe { fill(out, kind, n, value) };
        Ok(())
    }));
    t.push(("cast", |a| {
        let (x, from, out, to, n) = (a.place()?, dtype(a.int()?)?, a.place()?, dtype(a.int()?)?, a.size()?);
        let (x, out) = (bytes(x, n, from)?, bytes(out, n, to)?);
        // SAFETY: room for n items of both dtypes was checked.
        unsafe { cast(x, from, out, to, n) };
        Ok(())
    }));
    t.push(("copy", |a| {
        let (x, xs, out, os, shape, item) = (a.place()?, a.sizes()?, a.place()?, a.sizes()?, a.sizes()?, a.size()?);
        product(&shape)?;
        let (n, m) = (reach(&shape, &xs)?, reach(&shape, &os)?);
        distinct("out", &shape, &os)?;
        // SAFETY: room for what shape and strides reach is checked in each arm.
        unsafe {
            match item {
                1 => copy::<u8>(x.room(n)?, &xs, out.room(m)?, &os, &shape),
                2 => copy::<u16>(x.room(n)?, &xs, out.room(m)?, &os, &shape),
                4 => copy::<u32>(x.room(n)?, &xs, out.room(m)?, &os, &shape),
                _ => return Err(format!("the size of an item, expected 1, 2 or 4 bytes, got {item}")),
            }
        }
        Ok(())
    }));
}

/// An operand with room for `n` items of `dtype`, as bytes: offsets count items of the dtype.
pub fn bytes(place: crate::kernel::Place, n: usize, dtype: DType) -> Result<*mut u8, String> {
    match dtype.bytes() {
        1 => place.room::<u8>(n),
        2 => place.room::<u16>(n).map(|p| p.cast()),
        _ => place.room::<u32>(n).map(|p| p.cast()),
    }
}

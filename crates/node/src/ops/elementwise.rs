//! Glue of the elementwise kernels.

use crate::kernel::{Table, product, reach};
use crate::ops::moving::dtype;
use groundup_kernels::binary::{Binary, binary, binary_int, choose};
use groundup_kernels::moving::DType;
use groundup_kernels::unary::{Unary, axpby, reads_result, unary, unary_grad};
use std::ptr;

fn function(code: i64) -> Result<Unary, String> {
    Unary::from_code(code).ok_or_else(|| format!("the function's code, expected 0 to {}, got {code}", Unary::ALL.len() - 1))
}

pub fn register(t: &mut Table) {
    t.push(("unary", |a| {
        let (kind, x, out, n) = (function(a.int()?)?, a.place()?, a.place()?, a.size()?);
        // SAFETY: room for n items is checked.
        unsafe { unary(kind, x.room(n)?, out.room(n)?, n) };
        Ok(())
    }));
    t.push(("unaryGrad", |a| {
        let (kind, x, y, gy, gx, n) = (function(a.int()?)?, a.place()?, a.place()?, a.place()?, a.place()?, a.size()?);
        // Only one of x and y is read; the other may be a tensor that was freed.
        let (x, y) = if reads_result(kind) { (ptr::null_mut(), y.room(n)?) } else { (x.room(n)?, ptr::null_mut()) };
        // SAFETY: room for n items is checked.
        unsafe { unary_grad(kind, x, y, gy.room(n)?, gx.room(n)?, n) };
        Ok(())
    }));
    t.push(("binary", |a| {
        let code = a.int()?;
        let kind =
            Binary::from_code(code).ok_or_else(|| format!("the function's code, expected 0 to {}, got {code}", Binary::ALL.len() - 1))?;
        let (dtype, x, xs, y, ys, out, shape) = (dtype(a.int()?)?, a.place()?, a.sizes()?, a.place()?, a.sizes()?, a.place()?, a.sizes()?);
        let (n, nx, ny) = (product(&shape)?, reach(&shape, &xs)?, reach(&shape, &ys)?);
        let out = if kind.compares() { out.room::<u8>(n)? } else { out.room::<u32>(n)?.cast() };
        // SAFETY: room for what shape and strides reach is checked.
        unsafe {
            match dtype {
                DType::F32 => binary(kind, x.room(nx)?, &xs, y.room(ny)?, &ys, out, &shape),
                DType::I32 => binary_int(kind, x.room(nx)?, &xs, y.room(ny)?, &ys, out, &shape)?,
                other => return Err(format!("dtype not supported, expected f32 or i32, got {other:?}")),
            }
        }
        Ok(())
    }));
    t.push(("where", |a| {
        let (c, cs, x, xs, y, ys) = (a.place()?, a.sizes()?, a.place()?, a.sizes()?, a.place()?, a.sizes()?);
        let (out, shape) = (a.place()?, a.sizes()?);
        let n = product(&shape)?;
        let (c, x, y) = (c.room(reach(&shape, &cs)?)?, x.room(reach(&shape, &xs)?)?, y.room(reach(&shape, &ys)?)?);
        // SAFETY: room for what shape and strides reach is checked.
        unsafe { choose(c, &cs, x, &xs, y, &ys, out.room(n)?, &shape) };
        Ok(())
    }));
    t.push(("axpby", |a| {
        let (alpha, x, beta, y, out, n) = (a.f32()?, a.place()?, a.f32()?, a.place()?, a.place()?, a.size()?);
        let y = y.optional(n)?.map(<*mut f32>::cast_const);
        // SAFETY: room for n items is checked.
        unsafe { axpby(alpha, x.room(n)?, beta, y, out.room(n)?, n) };
        Ok(())
    }));
}

//! Glue of the norms.

use crate::kernel::{Table, product};
use groundup_kernels::norm::{Norm, NormGrad, norm, norm_grad};

pub fn register(t: &mut Table) {
    t.push(("layerNorm", |a| {
        let [x, weight, bias, out, mean, rstd] = [a.place()?, a.place()?, a.place()?, a.place()?, a.place()?, a.place()?];
        let (rows, n, eps) = (a.size()?, a.size()?, a.f32()?);
        let items = product(&[rows, n])?;
        let job = Norm {
            x: x.room(items)?,
            weight: weight.optional(n)?.map(<*mut f32>::cast_const),
            bias: bias.optional(n)?.map(<*mut f32>::cast_const),
            out: out.room(items)?,
            mean: Some(mean.room(rows)?),
            rstd: rstd.room(rows)?,
            rows,
            n,
            eps,
        };
        // SAFETY: every operand has the room that the job names.
        unsafe { norm(&job) };
        Ok(())
    }));
    t.push(("layerNormGrad", |a| {
        let [x, weight, mean, rstd, gy] = [a.place()?, a.place()?, a.place()?, a.place()?, a.place()?];
        let [gx, gw, gb] = [a.place()?, a.place()?, a.place()?];
        let (rows, n, accumulate) = (a.size()?, a.size()?, a.flag()?);
        let items = product(&[rows, n])?;
        let job = NormGrad {
            x: x.room(items)?,
            weight: weight.optional(n)?.map(<*mut f32>::cast_const),
            mean: Some(mean.room::<f32>(rows)?.cast_const()),
            rstd: rstd.room(rows)?,
            gy: gy.room(items)?,
            gx: gx.optional(items)?,
            gw: gw.optional(n)?,
            gb: gb.optional(n)?,
            rows,
            n,
            accumulate,
        };
        // SAFETY: as above.
        unsafe { norm_grad(&job) };
        Ok(())
    }));
    t.push(("rmsNorm", |a| {
        let [x, weight, out, rstd] = [a.place()?, a.place()?, a.place()?, a.place()?];
        let (rows, n, eps) = (a.size()?, a.size()?, a.f32()?);
        let items = product(&[rows, n])?;
        let job = Norm {
            x: x.room(items)?,
            weight: weight.optional(n)?.map(<*mut f32>::cast_const),
            bias: None,
            out: out.room(items)?,
            mean: None,
            rstd: rstd.room(rows)?,
            rows,
            n,
            eps,
        };
        // SAFETY: as above.
        unsafe { norm(&job) };
        Ok(())
    }));
    t.push(("rmsNormGrad", |a| {
        let [x, weight, rstd, gy, gx, gw] = [a.place()?, a.place()?, a.place()?, a.place()?, a.place()?, a.place()?];
        let (rows, n, accumulate) = (a.size()?, a.size()?, a.flag()?);
        let items = product(&[rows, n])?;
        let job = NormGrad {
            x: x.room(items)?,
            weight: weight.optional(n)?.map(<*mut f32>::cast_const),
            mean: None,
            rstd: rstd.room(rows)?,
            gy: gy.room(items)?,
            gx: gx.optional(items)?,
            gw: gw.optional(n)?,
            gb: None,
            rows,
            n,
            accumulate,
        };
        // SAFETY: as above.
        unsafe { norm_grad(&job) };
        Ok(())
    }));
}

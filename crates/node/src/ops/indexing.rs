//! Glue of the kernels that take indices.

use crate::kernel::{Table, apart, product};
use crate::ops::moving::{bytes, dtype};
use groundup_kernels::indexing::{embedding, embedding_grad, gather, out_of_range, scatter_add};
use groundup_kernels::moving::DType;

/// Every index must lie in 0 … bound − 1.
pub fn check(index: *const i32, count: usize, bound: usize) -> Result<(), String> {
    // SAFETY: the caller has checked that `count` items are there.
    match out_of_range(unsafe { std::slice::from_raw_parts(index, count) }, bound) {
        None => Ok(()),
        Some((place, value)) => Err(format!(
            "index out of range, expected 0 <= index < {bound}, got {value} at place {place}. Check the ids and the size of the table"
        )),
    }
}

pub fn register(t: &mut Table) {
    t.push(("gather", |a| {
        let (x, index, out, outer, n, k, inner) = (a.place()?, a.place()?, a.place()?, a.size()?, a.size()?, a.size()?, a.size()?);
        let taken = product(&[outer, k, inner])?;
        let (x, index, out) = (x.room(product(&[outer, n, inner])?)?, a.indices(index, taken)?, out.room(taken)?);
        check(index, taken, n)?;
        apart(index, taken, out, taken)?;
        if taken == 0 {
            return Ok(());
        }
        // SAFETY: room for the sizes and the range of the indices are checked.
        unsafe { gather(x, index, out, outer, n, k, inner) };
        Ok(())
    }));
    t.push(("scatterAdd", |a| {
        let (src, index, out, outer, n, k, inner) = (a.place()?, a.place()?, a.place()?, a.size()?, a.size()?, a.size()?, a.size()?);
        let taken = product(&[outer, k, inner])?;
        let all = product(&[outer, n, inner])?;
        let (src, index, out) = (src.room(taken)?, a.indices(index, taken)?, out.room(all)?);
        check(index, taken, n)?;
        apart(index, taken, out, all)?;
        if taken == 0 {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { scatter_add(src, index, out, outer, n, k, inner) };
        Ok(())
    }));
    t.push(("embedding", |a| {
        let (weight, kind, ids, out) = (a.place()?, dtype(a.int()?)?, a.place()?, a.place()?);
        let (count, rows, dim) = (a.size()?, a.size()?, a.size()?);
        if !matches!(kind, DType::F32 | DType::Bf16 | DType::F16) {
            return Err(format!("not a float, expected f32, bf16 or f16, got {kind:?}"));
        }
        let taken = product(&[count, dim])?;
        let (weight, ids, out) = (bytes(weight, product(&[rows, dim])?, kind)?, a.indices(ids, count)?, out.room(taken)?);
        check(ids, count, rows)?;
        apart(ids, count, out, taken)?;
        // SAFETY: as above.
        unsafe { embedding(weight, kind, ids, out, count, dim) };
        Ok(())
    }));
    t.push(("embeddingGrad", |a| {
        let (ids, gy, gw, count, rows, dim) = (a.place()?, a.place()?, a.place()?, a.size()?, a.size()?, a.size()?);
        let (given, all) = (product(&[count, dim])?, product(&[rows, dim])?);
        let (ids, gy, gw) = (a.indices(ids, count)?, gy.room(given)?, gw.room(all)?);
        check(ids, count, rows)?;
        apart(ids, count, gw, all)?;
        if given == 0 {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { embedding_grad(ids, gy, gw, count, rows, dim) };
        Ok(())
    }));
}

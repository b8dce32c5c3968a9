//! Glue of the reductions and of sorting.

use crate::kernel::{Table, product};
use groundup_kernels::reduce::{Reduction, arg_reduce, cumsum, reduce};
use groundup_kernels::sort::{sort, topk};

/// Places are int32, so a dimension that is searched has fewer than 2³¹ items.
fn placed(n: usize) -> Result<usize, String> {
    if n <= i32::MAX as usize { Ok(n) } else { Err(format!("the dimension's size, expected at most {}, got {n}", i32::MAX)) }
}

pub fn register(t: &mut Table) {
    t.push(("reduce", |a| {
        let code = a.int()?;
        let kind = Reduction::from_code(code).ok_or_else(|| format!("the reduction's code, expected 0 to 3, got {code}"))?;
        let (x, out, outer, n, inner) = (a.place()?, a.place()?, a.size()?, a.size()?, a.size()?);
        let results = product(&[outer, inner])?;
        let (x, out) = (x.room(product(&[outer, n, inner])?)?, out.room(results)?);
        if results > 0 {
            // SAFETY: room for the sizes is checked.
            unsafe { reduce(kind, x, out, outer, n, inner) };
        }
        Ok(())
    }));
    t.push(("argReduce", |a| {
        let (least, x, out, outer, n, inner) = (a.flag()?, a.place()?, a.place()?, a.size()?, placed(a.size()?)?, a.size()?);
        if n == 0 && outer > 0 && inner > 0 {
            return Err("nothing to choose from, expected at least one item, got none".to_string());
        }
        let results = product(&[outer, inner])?;
        let (x, out) = (x.room(product(&[outer, n, inner])?)?, out.room(results)?);
        if results > 0 {
            // SAFETY: room for the sizes is checked.
            unsafe { arg_reduce(least, x, out, outer, n, inner) };
        }
        Ok(())
    }));
    t.push(("cumsum", |a| {
        let (x, out, outer, n, inner, reverse) = (a.place()?, a.place()?, a.size()?, a.size()?, a.size()?, a.flag()?);
        let items = product(&[outer, n, inner])?;
        let (x, out) = (x.room(items)?, out.room(items)?);
        if items > 0 {
            // SAFETY: room for the sizes is checked.
            unsafe { cumsum(x, out, outer, n, inner, reverse) };
        }
        Ok(())
    }));
    t.push(("sort", |a| {
        let (x, values, places, rows, n, descending) = (a.place()?, a.place()?, a.place()?, a.size()?, placed(a.size()?)?, a.flag()?);
        let items = product(&[rows, n])?;
        // SAFETY: room for the sizes is checked.
        unsafe { sort(x.room(items)?, values.room(items)?, places.room(items)?, rows, n, descending) };
        Ok(())
    }));
    t.push(("topk", |a| {
        let (x, values, places, rows, n, k) = (a.place()?, a.place()?, a.place()?, a.size()?, placed(a.size()?)?, a.size()?);
        if k > n {
            return Err(format!("too many wanted, expected k <= {n}, got {k}"));
        }
        let kept = product(&[rows, k])?;
        // SAFETY: room for the sizes is checked.
        unsafe { topk(x.room(product(&[rows, n])?)?, values.room(kept)?, places.room(kept)?, rows, n, k) };
        Ok(())
    }));
}

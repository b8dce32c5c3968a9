//! Glue of the losses.

use crate::kernel::{Table, apart, product};
use groundup_kernels::loss::{CrossEntropy, CrossEntropyGrad, bad_target, cross_entropy, cross_entropy_grad};

/// Targets must be classes or the value that is ignored.
fn check_targets(targets: *const i32, rows: usize, n: usize, ignore: i32) -> Result<(), String> {
    // SAFETY: the caller has checked that `rows` targets are there.
    match unsafe { bad_target(targets, rows, n, ignore) } {
        None => Ok(()),
        Some((row, target)) => Err(format!("the target of row {row}, expected 0 to {} or {ignore} (ignored), got {target}", n as i64 - 1)),
    }
}

fn i32_of(x: i64) -> Result<i32, String> {
    i32::try_from(x).map_err(|_| format!("the ignored target, expected an int32, got {x}"))
}

pub fn register(t: &mut Table) {
    t.push(("crossEntropy", |a| {
        let [logits, targets, losses, lse] = [a.place()?, a.place()?, a.place()?, a.place()?];
        let (rows, n, ignore, smoothing) = (a.size()?, a.size()?, i32_of(a.int()?)?, a.f32()?);
        let job = CrossEntropy {
            logits: logits.room(product(&[rows, n])?)?,
            targets: a.indices(targets, rows)?,
            losses: losses.room(rows)?,
            lse: lse.room(rows)?,
            rows,
            n,
            ignore,
            smoothing,
        };
        check_targets(job.targets, rows, n, ignore)?;
        apart(job.targets, rows, job.losses, rows)?;
        apart(job.targets, rows, job.lse, rows)?;
        // SAFETY: every operand has the room that the job names, and the targets are in range.
        unsafe { cross_entropy(&job) };
        Ok(())
    }));
    t.push(("crossEntropyGrad", |a| {
        let [logits, targets, lse, scale] = [a.place()?, a.place()?, a.place()?, a.place()?];
        let scale_stride = a.size()?;
        let gx = a.place()?;
        let (rows, n, ignore, smoothing) = (a.size()?, a.size()?, i32_of(a.int()?)?, a.f32()?);
        let items = product(&[rows, n])?;
        let job = CrossEntropyGrad {
            logits: logits.room(items)?,
            targets: a.indices(targets, rows)?,
            lse: lse.room(rows)?,
            scale: scale.room(if rows == 0 { 0 } else { product(&[rows - 1, scale_stride])? + 1 })?,
            scale_stride,
            gx: gx.room(items)?,
            rows,
            n,
            ignore,
            smoothing,
        };
        check_targets(job.targets, rows, n, ignore)?;
        apart(job.targets, rows, job.gx, items)?;
        // SAFETY: as above.
        unsafe { cross_entropy_grad(&job) };
        Ok(())
    }));
}

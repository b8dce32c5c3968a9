//! Glue of the softmax.

use crate::kernel::{Table, product};
use groundup_kernels::softmax::{Softmax, SoftmaxGrad, softmax, softmax_grad};

pub fn register(t: &mut Table) {
    t.push(("softmax", |a| {
        let [x, out] = [a.place()?, a.place()?];
        let (rows, n, log) = (a.size()?, a.size()?, a.flag()?);
        let items = product(&[rows, n])?;
        let job = Softmax { x: x.room(items)?, out: out.room(items)?, rows, n, log };
        if items == 0 {
            return Ok(());
        }
        // SAFETY: every operand has the room that the job names.
        unsafe { softmax(&job) };
        Ok(())
    }));
    t.push(("softmaxGrad", |a| {
        let [y, gy, gx] = [a.place()?, a.place()?, a.place()?];
        let (rows, n, log) = (a.size()?, a.size()?, a.flag()?);
        let items = product(&[rows, n])?;
        let job = SoftmaxGrad { y: y.room(items)?, gy: gy.room(items)?, gx: gx.room(items)?, rows, n, log };
        if items == 0 {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { softmax_grad(&job) };
        Ok(())
    }));
}

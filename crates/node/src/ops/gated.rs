//! Glue of the gated activations.

use crate::kernel::Table;
use groundup_kernels::gated::{Activation, Gated, GatedGrad, gated, gated_grad};

fn activation(code: usize) -> Result<Activation, String> {
    Activation::from_code(code).ok_or_else(|| format!("the activation, expected a code below 5, got {code}"))
}

pub fn register(t: &mut Table) {
    t.push(("gated", |a| {
        let activation = activation(a.size()?)?;
        let [gate, up, out] = [a.place()?, a.place()?, a.place()?];
        let n = a.size()?;
        let job = Gated { activation, gate: gate.room(n)?, up: up.room(n)?, out: out.room(n)?, n };
        // SAFETY: every operand has room for n items.
        unsafe { gated(&job) };
        Ok(())
    }));
    t.push(("gatedGrad", |a| {
        let activation = activation(a.size()?)?;
        let [gate, up, gy, ggate, gup] = [a.place()?, a.place()?, a.place()?, a.place()?, a.place()?];
        let n = a.size()?;
        let job =
            GatedGrad { activation, gate: gate.room(n)?, up: up.room(n)?, gy: gy.room(n)?, ggate: ggate.room(n)?, gup: gup.room(n)?, n };
        // SAFETY: as above.
        unsafe { gated_grad(&job) };
        Ok(())
    }));
}

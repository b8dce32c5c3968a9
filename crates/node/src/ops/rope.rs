//! Glue of the rotary embedding.

use crate::kernel::{Table, apart, product, reach};
use groundup_kernels::rope::{Rope, rope};

pub fn register(t: &mut Table) {
    t.push(("rope", |a| {
        let (x, x_row, out, out_row) = (a.place()?, a.size()?, a.place()?, a.size()?);
        let [cos, sin, positions] = [a.place()?, a.place()?, a.place()?];
        let [rows, heads, head_dim, rotary] = [a.size()?, a.size()?, a.size()?, a.size()?];
        let (interleaved, inverse) = (a.flag()?, a.flag()?);
        if !rotary.is_multiple_of(2) || rotary > head_dim {
            return Err(format!("the rotated part of a head, expected an even number up to {head_dim}, got {rotary}"));
        }
        let width = product(&[heads, head_dim])?;
        let positions = a.indices(positions, rows)?;
        let mut most = -1i32;
        for r in 0..rows {
            // SAFETY: `rows` positions are there, as just checked.
            let p = unsafe { *positions.add(r) };
            if p < 0 {
                return Err(format!("the position of row {r}, expected 0 or more, got {p}"));
            }
            most = most.max(p);
        }
        let table = product(&[(i64::from(most) + 1) as usize, rotary / 2])?;
        let beyond = |e: String| format!("position {most}, expected a row of it in the cos and sin tables: {e}");
        let job = Rope {
            x: x.room(reach(&[rows, width], &[x_row, 1])?)?,
            x_row,
            out: out.room(reach(&[rows, width], &[out_row, 1])?)?,
            out_row,
            cos: cos.room(table).map_err(beyond)?,
            sin: sin.room(table).map_err(beyond)?,
            positions,
            rows,
            heads,
            head_dim,
            rotary,
            interleaved,
            inverse,
        };
        if out_row < width {
            return Err(format!("the distance of the output's rows, expected at least {width}, got {out_row}"));
        }
        if rows == 0 || width == 0 {
            return Ok(());
        }
        apart(positions, rows, job.out, reach(&[rows, width], &[out_row, 1])?)?;
        // SAFETY: every operand has the room that the job names, and every position a row in the tables.
        unsafe { rope(&job) };
        Ok(())
    }));
}

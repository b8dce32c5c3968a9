//! Glue of the random numbers.

use crate::kernel::{Args, Table};
use groundup_kernels::random::{Stream, dropout, normal, randint, uniform};

fn word(a: &mut Args) -> Result<u32, String> {
    let x = a.int()?;
    u32::try_from(x).map_err(|_| format!("a word of the key or the stream, expected 0 to 4294967295, got {x}"))
}

fn stream(a: &mut Args) -> Result<Stream, String> {
    Ok(Stream { key: [word(a)?, word(a)?], stream: word(a)?, block: a.size()? as u64 })
}

pub fn register(t: &mut Table) {
    t.push(("uniform", |a| {
        let (out, n, s, low, high) = (a.place()?, a.size()?, stream(a)?, a.f32()?, a.f32()?);
        // SAFETY: room for n items is checked.
        unsafe { uniform(out.room(n)?, n, s, low, high) };
        Ok(())
    }));
    t.push(("normal", |a| {
        let (out, n, s, mean, std) = (a.place()?, a.size()?, stream(a)?, a.f32()?, a.f32()?);
        // SAFETY: room for n items is checked.
        unsafe { normal(out.room(n)?, n, s, mean, std) };
        Ok(())
    }));
    t.push(("randint", |a| {
        let (out, n, s, low, high) = (a.place()?, a.size()?, stream(a)?, a.int()?, a.int()?);
        let bounds = -(1i64 << 31)..=1i64 << 31;
        if !bounds.contains(&low) || !bounds.contains(&high) || low >= high {
            return Err(format!("the range, expected int32 bounds with low < high, got low {low} and high {high}"));
        }
        // SAFETY: room for n items is checked.
        unsafe { randint(out.room(n)?, n, s, low as i32, (high - low) as u64) };
        Ok(())
    }));
    t.push(("dropout", |a| {
        let (x, out, n, p, s) = (a.place()?, a.place()?, a.size()?, a.f64()?, stream(a)?);
        if !(0.0..1.0).contains(&p) {
            return Err(format!("the probability, expected 0 <= p < 1, got {p}"));
        }
        // SAFETY: room for n items is checked.
        unsafe { dropout(x.room(n)?, out.room(n)?, n, s, p) };
        Ok(())
    }));
}

//! Glue of the optimisers and of the looks at gradients.

use crate::kernel::{Args, Place, Table};
use groundup_kernels::health::{first_non_finite, sum_squares};
use groundup_kernels::optim::{Adam, Tensor, adamw, rmsprop, sgd};

/// Reads `states + 2` arrays of operands (parameters, gradients, states), the sizes, and an array each of learning rates
/// and weight decays.
fn tensors(a: &mut Args, states: usize) -> Result<Vec<Tensor>, String> {
    let lists: Vec<Vec<Place>> = (0..states + 2).map(|_| a.places()).collect::<Result<_, _>>()?;
    let (sizes, rates, decays) = (a.sizes()?, floats(a)?, floats(a)?);
    for length in lists.iter().map(Vec::len).chain([rates.len(), decays.len()]) {
        if length != sizes.len() {
            return Err(format!("lists of different lengths, expected {} entries, got {length}", sizes.len()));
        }
    }
    (0..sizes.len())
        .map(|i| {
            let n = sizes[i];
            let p = lists[0][i].room(n)?;
            let state = |s: usize| if s < states { lists[2 + s][i].room(n) } else { Ok(p) };
            Ok(Tensor { p, g: lists[1][i].room(n)?, a: state(0)?, b: state(1)?, n, learning_rate: rates[i], weight_decay: decays[i] })
        })
        .collect()
}

fn floats(a: &mut Args) -> Result<Vec<f64>, String> {
    let n = a.size()?;
    let mut list = Vec::new();
    for _ in 0..n {
        list.push(a.f64()?);
    }
    Ok(list)
}

pub fn register(t: &mut Table) {
    t.push(("adamw", |a| {
        let tensors = tensors(a, 2)?;
        let adam = Adam { beta1: a.f64()?, beta2: a.f64()?, eps: a.f64()?, step: a.f64()?, grad_scale: a.f64()?, decoupled: a.flag()? };
        // SAFETY: room for every tensor's items is checked.
        unsafe { adamw(&tensors, &adam) };
        Ok(())
    }));
    t.push(("sgd", |a| {
        let tensors = tensors(a, 1)?;
        let (momentum, nesterov, first, scale) = (a.f32()?, a.flag()?, a.flag()?, a.f32()?);
        // SAFETY: as above.
        unsafe { sgd(&tensors, momentum, nesterov, first, scale) };
        Ok(())
    }));
    t.push(("rmsprop", |a| {
        let tensors = tensors(a, 1)?;
        let (alpha, eps, scale) = (a.f64()?, a.f32()?, a.f32()?);
        // SAFETY: as above.
        unsafe { rmsprop(&tensors, alpha, eps, scale) };
        Ok(())
    }));
    t.push(("sumSquares", |a| {
        let (places, sizes) = (a.places()?, a.sizes()?);
        if places.len() != sizes.len() {
            return Err(format!("lists of different lengths, expected {} tensors, got {}", sizes.len(), places.len()));
        }
        let tensors =
            places.iter().zip(&sizes).map(|(p, &n)| Ok((p.room::<f32>(n)?.cast_const(), n))).collect::<Result<Vec<_>, String>>()?;
        // SAFETY: as above.
        a.answer = Some(unsafe { sum_squares(&tensors) });
        Ok(())
    }));
    t.push(("firstNonFinite", |a| {
        let (x, n) = (a.place()?, a.size()?);
        // SAFETY: as above.
        a.answer = Some(unsafe { first_non_finite(x.room(n)?, n) }.map_or(-1.0, |i| i as f64));
        Ok(())
    }));
}

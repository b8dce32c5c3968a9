//! Glue of the matrix products.

use crate::kernel::{Args, Table, apart, distinct, product as size_of_all, reach};
use crate::ops::indexing::check;
use groundup_kernels::gated::Activation;
use groundup_kernels::gemm::{
    Batch, Finish, Matrix, Product, Right, pack_weight, pack_weight_in_place, packed_size, product, product_bf16, products, products_bf16,
};
use groundup_kernels::indexing::embedding_packed;
use groundup_kernels::reduce::{Reduction, reduce};
use groundup_kernels::simd::LANES;

/// `gemm` and `gemmBf16`, which differ in the product.
fn gemm(a: &mut Args, multiply: unsafe fn(&Product, Batch)) -> Result<(), String> {
    let (left, left_strides) = (a.place()?, [a.size()?, a.size()?, a.size()?]);
    let (right, right_strides) = (a.place()?, [a.size()?, a.size()?, a.size()?]);
    let (out, out_row, out_batch) = (a.place()?, a.size()?, a.size()?);
    let [count, m, n, k] = [a.size()?, a.size()?, a.size()?, a.size()?];
    let (alpha, accumulate) = (a.f32()?, a.flag()?);
    let outer = |s: [usize; 3]| [s[2], s[0], s[1]];
    let x = left.room::<f32>(reach(&[count, m, k], &outer(left_strides))?)?;
    let y = right.room::<f32>(reach(&[count, k, n], &outer(right_strides))?)?;
    let c = out.room::<f32>(reach(&[count, m, n], &[out_batch, out_row, 1])?)?;
    size_of_all(&[2, count, m, n, k.max(1)])?;
    if count == 0 || m == 0 || n == 0 {
        return Ok(());
    }
    distinct("c", &[count, m, n], &[out_batch, out_row, 1])?;
    if k > 1 && left_strides[1] == 0 && right_strides[0] == 0 {
        return Err(format!("k, expected its items to differ in a or b, got a step of 0 in both for k = {k}"));
    }
    let p = Product {
        a: Matrix { data: x, row: left_strides[0], col: left_strides[1] },
        b: Right::Plain(Matrix { data: y, row: right_strides[0], col: right_strides[1] }),
        out: c,
        out_row,
        m,
        n,
        k,
        finish: Finish { alpha, accumulate, ..Finish::PLAIN },
    };
    // SAFETY: every operand has room for what its strides reach.
    unsafe { multiply(&p, Batch { count, a: left_strides[2], b: right_strides[2], out: out_batch }) };
    Ok(())
}

/// `linear`, `linearPacked` and `linearBf16`, which differ in how the weight comes and in the product.
fn linear(a: &mut Args, packed: bool, multiply: unsafe fn(&Product)) -> Result<(), String> {
    let (x, weight) = (a.place()?, a.place()?);
    let strides = if packed { [0, 0] } else { [a.size()?, a.size()?] };
    let [bias, residual, out, slope] = [a.place()?, a.place()?, a.place()?, a.place()?];
    let [m, n, k, code] = [a.size()?, a.size()?, a.size()?, a.size()?];
    let activation = Activation::from_code(code).ok_or_else(|| format!("the activation, expected a code below 5, got {code}"))?;
    size_of_all(&[2, m, n.next_multiple_of(64), k.max(1)])?;
    let b = if packed {
        Right::Packed(weight.room(packed_size(n, k))?)
    } else {
        Right::Plain(Matrix { data: weight.room(reach(&[n, k], &strides)?)?, row: strides[1], col: strides[0] })
    };
    let none = std::ptr::null_mut();
    let p = Product {
        a: Matrix { data: x.room(m * k)?, row: k, col: 1 },
        b,
        out: out.room(m * n)?,
        out_row: n,
        m,
        n,
        k,
        finish: Finish {
            bias: bias.optional(n)?.unwrap_or(none),
            residual: residual.optional(m * n)?.unwrap_or(none),
            slope: slope.optional(m * n)?.unwrap_or(none),
            activation,
            ..Finish::PLAIN
        },
    };
    // SAFETY: every operand has room for what its sizes and strides reach.
    unsafe { multiply(&p) };
    Ok(())
}

/// `linearInputGrad` and `linearInputGradBf16`, which differ in the product.
fn input_grad(a: &mut Args, multiply: unsafe fn(&Product)) -> Result<(), String> {
    let (gy, weight, strides) = (a.place()?, a.place()?, [a.size()?, a.size()?]);
    let (slope, gx) = (a.place()?, a.place()?);
    let [m, n, k] = [a.size()?, a.size()?, a.size()?];
    let accumulate = a.flag()?;
    size_of_all(&[2, m, n.max(1), k.next_multiple_of(64)])?;
    let p = Product {
        a: Matrix { data: gy.room(m * n)?, row: n, col: 1 },
        b: Right::Plain(Matrix { data: weight.room(reach(&[n, k], &strides)?)?, row: strides[0], col: strides[1] }),
        out: gx.room(m * k)?,
        out_row: k,
        m,
        n: k,
        k: n,
        finish: Finish { factor: slope.optional(m * k)?.unwrap_or(std::ptr::null_mut()), accumulate, ..Finish::PLAIN },
    };
    // SAFETY: every operand has room for what its sizes and strides reach.
    unsafe { multiply(&p) };
    Ok(())
}

/// `linearWeightGrad` and `linearWeightGradBf16`, which differ in the product and in whether it may sum gy on its way.
fn weight_grad(a: &mut Args, multiply: unsafe fn(&Product), sums: bool) -> Result<(), String> {
    let [x, gy, gw, gb] = [a.place()?, a.place()?, a.place()?, a.place()?];
    let [m, n, k] = [a.size()?, a.size()?, a.size()?];
    let (transposed, accumulate) = (a.flag()?, a.flag()?);
    size_of_all(&[2, m.max(1), n.next_multiple_of(64), k.next_multiple_of(64)])?;
    let (x, gy, gw, gb) = (x.room(m * k)?, gy.room(m * n)?, gw.room(n * k)?, gb.optional(n)?);
    let (x, gy) = (Matrix { data: x, row: k, col: 1 }, Matrix { data: gy, row: n, col: 1 });
    let turned = |x: Matrix| Matrix { row: x.col, col: x.row, ..x };
    let (left, right, rows, columns) = if transposed { (turned(x), gy, k, n) } else { (turned(gy), x, n, k) };
    let inside = gb.filter(|_| sums && transposed && m > 0 && k > 0);
    let finish = Finish { accumulate, column_sums: inside.unwrap_or(std::ptr::null_mut()), ..Finish::PLAIN };
    let p = Product { a: left, b: Right::Plain(right), out: gw, out_row: columns, m: rows, n: columns, k: m, finish };
    // SAFETY: every operand has room for its sizes.
    unsafe {
        multiply(&p);
        if let (Some(gb), None) = (gb, inside) {
            reduce(Reduction::Sum, gy.data, gb, 1, m, n);
        }
    }
    Ok(())
}

pub fn register(t: &mut Table) {
    t.push(("gemm", |a| gemm(a, products)));
    t.push(("gemmBf16", |a| gemm(a, products_bf16)));
    t.push(("linear", |a| linear(a, false, product)));
    t.push(("linearBf16", |a| linear(a, false, product_bf16)));
    t.push(("linearInputGrad", |a| input_grad(a, product)));
    t.push(("linearInputGradBf16", |a| input_grad(a, product_bf16)));
    t.push(("linearWeightGrad", |a| weight_grad(a, product, true)));
    t.push(("linearWeightGradBf16", |a| weight_grad(a, product_bf16, false)));
    t.push(("linearPacked", |a| linear(a, true, product)));
    t.push(("packWeight", |a| {
        let (weight, strides) = (a.place()?, [a.size()?, a.size()?]);
        let (out, n, k) = (a.place()?, a.size()?, a.size()?);
        size_of_all(&[n.next_multiple_of(64), k.max(1)])?;
        let b = Matrix { data: weight.room(reach(&[n, k], &strides)?)?, row: strides[1], col: strides[0] };
        let out = out.room(packed_size(n, k))?;
        if n == 0 || k == 0 {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { pack_weight(b, n, k, out) };
        Ok(())
    }));
    t.push(("packWeightInPlace", |a| {
        let (weight, n, k) = (a.place()?, a.size()?, a.size()?);
        if !n.is_multiple_of(LANES) {
            return Err(format!("the rows, expected whole groups of {LANES}, got {n}"));
        }
        let weight = weight.room(size_of_all(&[n, k])?)?;
        if n == 0 || k == 0 {
            return Ok(());
        }
        // SAFETY: room for the rows is checked.
        unsafe { pack_weight_in_place(weight, n, k) };
        Ok(())
    }));
    t.push(("embeddingPacked", |a| {
        let (packed, ids, out) = (a.place()?, a.place()?, a.place()?);
        let (count, rows, dim) = (a.size()?, a.size()?, a.size()?);
        size_of_all(&[rows.next_multiple_of(64), dim.max(1)])?;
        let taken = size_of_all(&[count, dim])?;
        let (packed, ids, out) = (packed.room(packed_size(rows, dim))?, a.indices(ids, count)?, out.room(taken)?);
        check(ids, count, rows)?;
        apart(ids, count, out, taken)?;
        // SAFETY: room for the sizes and the range of the ids are checked.
        unsafe { embedding_packed(packed, ids, out, count, dim) };
        Ok(())
    }));
}

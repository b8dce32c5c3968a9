//! Glue of the kernels on block-quantised weights.

use crate::kernel::{Args, Table, apart, product};
use crate::ops::indexing::check;
use groundup_kernels::gated::Activation;
use groundup_kernels::gemm::Finish;
use groundup_kernels::quant::{
    KINDS, Kind, QuantProduct, block_bytes, dequantize_rows, embedding, linear, linears, pack, packed_bytes, unpack_rows,
};
use groundup_kernels::simd::LANES;

fn kind(a: &mut Args) -> Result<Kind, String> {
    let code = a.size()?;
    Kind::from_code(code).ok_or_else(|| format!("the layout, expected a code below {}, got {code}", KINDS.len()))
}

/// Bytes of a packed weight.
fn packed(kind: Kind, n: usize, k: usize) -> Result<usize, String> {
    packed_bytes(kind, n, k).ok_or_else(|| format!("the size, expected rows of whole blocks of {kind:?}, got ({n}, {k})"))
}

/// Bytes of rows in the file's layout.
fn blocks(kind: Kind, n: usize, k: usize) -> Result<usize, String> {
    let row = block_bytes(kind, k).ok_or_else(|| format!("the size, expected rows of whole blocks of {kind:?}, got {k} items"))?;
    product(&[n, row])
}

/// That rows `first` to `first` + `count` are among n.
fn range(first: usize, count: usize, n: usize) -> Result<(), String> {
    if first.checked_add(count).is_none_or(|end| end > n) {
        return Err(format!("the rows, expected a range inside 0 … {n}, got {count} from {first}"));
    }
    Ok(())
}

pub fn register(t: &mut Table) {
    t.push(("packQuantized", |a| {
        let (from, to, kind) = (a.place()?, a.place()?, kind(a)?);
        let (first, count, n, k) = (a.size()?, a.size()?, a.size()?, a.size()?);
        range(first, count, n)?;
        if !first.is_multiple_of(LANES) || !(count.is_multiple_of(LANES) || first + count == n) {
            return Err(format!("the rows, expected whole groups of {LANES}, got {count} from {first}"));
        }
        let (bytes, room) = (blocks(kind, count, k)?, packed(kind, n, k)?);
        let (from, to) = (from.room::<u8>(bytes)?, to.room::<u8>(room)?);
        if (from as usize) < to as usize + room && (to as usize) < from as usize + bytes {
            return Err("the packed weight lies over its blocks, expected memory of its own".into());
        }
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: groups before the first row are part of what there is room for.
        let to = unsafe { to.add(packed(kind, first, k)?) };
        // SAFETY: both have room for their sizes and do not overlap.
        unsafe { pack(kind, from, to, count, k) };
        Ok(())
    }));
    t.push(("unpackQuantized", |a| {
        let (from, to, kind) = (a.place()?, a.place()?, kind(a)?);
        let (first, count, n, k) = (a.size()?, a.size()?, a.size()?, a.size()?);
        range(first, count, n)?;
        let (room, bytes) = (packed(kind, n, k)?, blocks(kind, count, k)?);
        let (from, to) = (from.room::<u8>(room)?, to.room::<u8>(bytes)?);
        if (from as usize) < to as usize + bytes && (to as usize) < from as usize + room {
            return Err("the blocks lie over the packed weight, expected memory of their own".into());
        }
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: as above, and the rows are among n.
        unsafe { unpack_rows(kind, from, first, to, count, k) };
        Ok(())
    }));
    t.push(("dequantizeRows", |a| {
        let (from, out, kind) = (a.place()?, a.place()?, kind(a)?);
        let (first, count, n, k) = (a.size()?, a.size()?, a.size()?, a.size()?);
        range(first, count, n)?;
        let taken = product(&[count, k])?;
        let (from, out) = (from.room::<u8>(packed(kind, n, k)?)?, out.room::<f32>(taken)?);
        if taken == 0 {
            return Ok(());
        }
        // SAFETY: as above. Numbers written over the codes they come from make other numbers, and no worse.
        unsafe { dequantize_rows(kind, from, first, out, count, k) };
        Ok(())
    }));
    t.push(("embeddingQuantized", |a| {
        let (weight, kind, ids, out) = (a.place()?, kind(a)?, a.place()?, a.place()?);
        let (count, rows, dim) = (a.size()?, a.size()?, a.size()?);
        let taken = product(&[count, dim])?;
        let (weight, ids, out) = (weight.room::<u8>(packed(kind, rows, dim)?)?, a.indices(ids, count)?, out.room(taken)?);
        check(ids, count, rows)?;
        apart(ids, count, out, taken)?;
        if taken == 0 {
            return Ok(());
        }
        // SAFETY: as above; every id names a row.
        unsafe { embedding(kind, weight, ids, out, count, dim) };
        Ok(())
    }));
    t.push(("linearQuantized", |a| {
        let (x, weight, kind) = (a.place()?, a.place()?, kind(a)?);
        let [bias, residual, out, slope] = [a.place()?, a.place()?, a.place()?, a.place()?];
        let [m, n, k, code] = [a.size()?, a.size()?, a.size()?, a.size()?];
        let activation = Activation::from_code(code).ok_or_else(|| format!("the activation, expected a code below 5, got {code}"))?;
        product(&[4, m, n.next_multiple_of(64), k.max(1)])?;
        let none = std::ptr::null_mut();
        let p = QuantProduct {
            kind,
            x: x.room(product(&[m, k])?)?,
            weight: weight.room(packed(kind, n, k)?)?,
            out: out.room(product(&[m, n])?)?,
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
        // SAFETY: every operand has room for its sizes.
        unsafe { linear(&p) };
        Ok(())
    }));
    t.push(("linearsQuantized", |a| {
        let (x, weights, kinds, biases) = (a.place()?, a.places()?, a.sizes()?, a.places()?);
        let (outs, sizes) = (a.places()?, a.sizes()?);
        let [m, k] = [a.size()?, a.size()?];
        let layers = weights.len();
        if [kinds.len(), outs.len(), sizes.len()] != [layers; 3] || ![0, layers].contains(&biases.len()) {
            return Err(format!(
                "the layers, expected a layout, a result and a size for each of {layers} weights, and a bias for each or for none"
            ));
        }
        let x = x.room(product(&[m, k])?)?;
        let mut products = Vec::with_capacity(layers);
        for i in 0..layers {
            let n = sizes[i];
            let kind =
                Kind::from_code(kinds[i]).ok_or_else(|| format!("the layout, expected a code below {}, got {}", KINDS.len(), kinds[i]))?;
            product(&[4, m, n.next_multiple_of(64), k.max(1)])?;
            let bias = biases.get(i).map_or(Ok(std::ptr::null_mut()), |bias| bias.room(n))?;
            let (weight, out) = (weights[i].room(packed(kind, n, k)?)?, outs[i].room::<f32>(product(&[m, n])?)?);
            let lies_over = |p: &QuantProduct| (p.out as usize) < out as usize + 4 * m * n && (out as usize) < p.out as usize + 4 * m * p.n;
            if products.iter().any(lies_over) {
                return Err("a result lies over another, expected memory of its own".into());
            }
            products.push(QuantProduct { kind, x, weight, out, m, n, k, finish: Finish { bias, ..Finish::PLAIN } });
        }
        // SAFETY: every operand has room for its sizes, and results have memory of their own.
        unsafe { linears(&products) };
        Ok(())
    }));
}

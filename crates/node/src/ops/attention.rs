//! Glue of attention: everything that names a row is checked here.

use crate::kernel::{Args, Place, Table, apart, product, reach};
use groundup_kernels::attention::{Attention, AttentionGrad, BLOCK, Pages, Problem, WritePages, attention, attention_grad, write_pages};
use groundup_kernels::moving::DType;

/// An operand seen as rows, some items apart.
struct RowsOf {
    place: Place,
    row: usize,
}

impl RowsOf {
    fn read(a: &mut Args) -> Result<Self, String> {
        Ok(RowsOf { place: a.place()?, row: a.size()? })
    }

    /// Rows must not overlap: those that are written for their own sake, the others so that their number is bounded by memory.
    fn room(&self, what: &str, rows: usize, width: usize) -> Result<*mut f32, String> {
        if rows > 1 && self.row < width {
            return Err(format!("the rows of {what}, expected them at least {width} items apart, got {}", self.row));
        }
        self.place.room(reach(&[rows, width], &[self.row, 1])?)
    }

    /// As `room`, for rows that are written: not over what says which rows those are.
    fn out(&self, p: &Problem, what: &str, rows: usize, width: usize) -> Result<*mut f32, String> {
        let out = self.room(what, rows, width)?;
        keep_indices(p, out, reach(&[rows, width], &[self.row, 1])?)?;
        Ok(out)
    }
}

/// Writing these items must change no row number, length or page.
fn keep_indices(p: &Problem, out: *const f32, items: usize) -> Result<(), String> {
    apart(p.cu_q, p.sequences + 1, out, items)?;
    apart(p.len_k, p.sequences, out, items)?;
    match &p.pages {
        Some(pages) => apart(pages.table, p.sequences * pages.max_pages, out, items),
        None => apart(p.start_k, p.sequences, out, items),
    }
}

/// The arguments that both passes share, as they stand in the signature.
struct Sizes {
    cu_q: Place,
    start_k: Place,
    len_k: Place,
    sequences: usize,
    rows_q: usize,
    rows_k: usize,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    scale: f32,
    causal: bool,
    window: usize,
    softcap: f32,
    slopes: Place,
    mask: Place,
    mask_strides: Vec<usize>,
}

impl Sizes {
    fn read(a: &mut Args) -> Result<Self, String> {
        let [cu_q, start_k, len_k] = [a.place()?, a.place()?, a.place()?];
        let [sequences, rows_q, rows_k] = [a.size()?, a.size()?, a.size()?];
        let [heads, kv_heads, dim] = [a.size()?, a.size()?, a.size()?];
        let (scale, causal, window, softcap) = (a.f32()?, a.flag()?, a.size()?, a.f32()?);
        let (slopes, mask, mask_strides) = (a.place()?, a.place()?, a.sizes()?);
        Ok(Sizes {
            cu_q,
            start_k,
            len_k,
            sequences,
            rows_q,
            rows_k,
            heads,
            kv_heads,
            dim,
            scale,
            causal,
            window,
            softcap,
            slopes,
            mask,
            mask_strides,
        })
    }

    fn problem(&self, a: &mut Args, q: &RowsOf, k: &RowsOf, v: &RowsOf, bf16: bool) -> Result<Problem, String> {
        let Sizes { mut sequences, rows_q, rows_k, heads, kv_heads, dim, .. } = *self;
        check_heads(heads, kv_heads, dim)?;
        // Before anything is made for so many rows: they must be there.
        let q_at = q.room("q", rows_q, product(&[heads, dim])?)?;
        let k_at = k.room("k", rows_k, product(&[kv_heads, dim])?)?;
        let v_at = v.room("v", rows_k, product(&[kv_heads, dim])?)?;
        let alike = self.cu_q.is_none() && self.start_k.is_none() && self.len_k.is_none();
        let (cu_q, start_k, len_k) = if alike {
            if rows_q == 0 && rows_k == 0 {
                // However many there are, they have nothing.
                sequences = 0;
            }
            let (queries, keys) = (share("queries", rows_q, sequences)?, share("keys", rows_k, sequences)?);
            let multiples = |n: i32, up_to: usize| (0..=up_to).map(|s| s as i32 * n).collect();
            (a.hold(multiples(queries, sequences)), a.hold(multiples(keys, sequences)), a.hold(vec![keys; sequences]))
        } else {
            (a.indices(self.cu_q, sequences + 1)?, a.indices(self.start_k, sequences)?, a.indices(self.len_k, sequences)?)
        };
        // SAFETY: as many items as the sequences were found behind each pointer.
        let (longest_q, longest_k) = unsafe { check_sequences(sequences, rows_q, cu_q, len_k, |s, len| in_rows(rows_k, start_k, s, len))? };
        let mut strides = [0; 4];
        let mut mask = None;
        if !self.mask.is_none() {
            strides = <[usize; 4]>::try_from(self.mask_strides.as_slice())
                .map_err(|_| format!("the mask's strides, expected 4, got {}", self.mask_strides.len()))?;
            mask = self.mask.optional::<f32>(reach(&[sequences, heads, longest_q, longest_k], &strides)?)?.map(<*mut f32>::cast_const);
        }
        Ok(Problem {
            q: q_at,
            q_row: q.row,
            k: k_at,
            k_row: k.row,
            v: v_at,
            v_row: v.row,
            cu_q,
            start_k,
            len_k,
            pages: None,
            sequences,
            rows_q,
            heads,
            kv_heads,
            dim,
            scale: self.scale,
            causal: self.causal,
            window: self.window,
            softcap: self.softcap,
            slopes: self.slopes.optional::<f32>(heads)?.map(<*mut f32>::cast_const),
            mask,
            mask_strides: strides,
            bf16,
        })
    }
}

/// The rows of one of `sequences` sequences alike.
fn share(what: &str, rows: usize, sequences: usize) -> Result<i32, String> {
    let each = rows / sequences.max(1);
    match i32::try_from(rows) {
        Ok(_) if each * sequences == rows => Ok(each as i32),
        _ => Err(format!("the {what} without boundaries, expected a multiple of {sequences} sequences below 2³¹, got {rows} rows")),
    }
}

fn check_heads(heads: usize, kv_heads: usize, dim: usize) -> Result<(), String> {
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(format!("the heads, expected a multiple of the {kv_heads} kv heads, got {heads}"));
    }
    if heads == 0 || dim == 0 {
        return Err(format!("the heads, expected at least one of at least one item, got {heads} of {dim}"));
    }
    Ok(())
}

/// The rows of a sequence's keys must exist.
unsafe fn in_rows(rows_k: usize, start_k: *const i32, s: usize, len: usize) -> Result<(), String> {
    // SAFETY: the caller promises the sequence.
    let start = unsafe { *start_k.add(s) };
    if start < 0 || start as usize + len > rows_k {
        return Err(format!("the keys of sequence {s}, expected rows up to {rows_k}, got {len} from row {start}"));
    }
    Ok(())
}

/// The pages of a sequence's keys must exist, of `count` pages.
unsafe fn in_pages(count: usize, pages: &Pages, s: usize, len: usize) -> Result<(), String> {
    let Pages { table, max_pages, .. } = *pages;
    if len.div_ceil(BLOCK) > max_pages {
        return Err(format!("lenK of sequence {s}, expected at most {} for {max_pages} pages, got {len}", max_pages * BLOCK));
    }
    for b in 0..len.div_ceil(BLOCK) {
        // SAFETY: the caller promises the sequence's pages.
        let page = unsafe { *table.add(s * max_pages + b) };
        if page < 0 || page as usize >= count {
            return Err(format!("page {b} of sequence {s}, expected a page below {count}, got {page}"));
        }
    }
    Ok(())
}

/// Every sequence's rows and keys must exist, the latter as `keys` says; gives the longest queries and keys.
unsafe fn check_sequences(
    sequences: usize,
    rows_q: usize,
    cu_q: *const i32,
    len_k: *const i32,
    keys: impl Fn(usize, usize) -> Result<(), String>,
) -> Result<(usize, usize), String> {
    let (mut longest_q, mut longest_k) = (0, 0);
    for s in 0..sequences {
        // SAFETY: the caller's promise.
        let (from, to, len) = unsafe { (*cu_q.add(s), *cu_q.add(s + 1), *len_k.add(s)) };
        if from < 0 || to < from || to as usize > rows_q {
            return Err(format!("cuQ of sequence {s}, expected ascending rows up to {rows_q}, got {from} to {to}"));
        }
        if len < 0 {
            return Err(format!("lenK of sequence {s}, expected 0 or more, got {len}"));
        }
        longest_q = longest_q.max((to - from) as usize);
        longest_k = longest_k.max(len as usize);
        keys(s, len as usize)?;
    }
    Ok((longest_q, longest_k))
}

/// The gradient stores the rows of each sequence's keys, so no two sequences may share one.
unsafe fn check_disjoint(p: &Problem) -> Result<(), String> {
    // SAFETY: the sequences' items were checked.
    let mut spans: Vec<(i32, i32)> =
        (0..p.sequences).map(|s| unsafe { (*p.start_k.add(s), *p.len_k.add(s)) }).filter(|x| x.1 > 0).collect();
    spans.sort_unstable();
    match spans.windows(2).find(|w| w[0].0 + w[0].1 > w[1].0) {
        Some(w) => Err(format!(
            "the keys of two sequences, expected rows of their own, got {} rows from {} and others from {}",
            w[0].1, w[0].0, w[1].0
        )),
        None => Ok(()),
    }
}

/// `attention` and `attentionBf16`.
fn forward(a: &mut Args, bf16: bool) -> Result<(), String> {
    let [q, k, v, out] = [RowsOf::read(a)?, RowsOf::read(a)?, RowsOf::read(a)?, RowsOf::read(a)?];
    let lse = a.place()?;
    let problem = Sizes::read(a)?.problem(a, &q, &k, &v, bf16)?;
    run(problem, &out, lse)
}

/// The forward pass of a problem whose inputs are there.
fn run(problem: Problem, out: &RowsOf, lse: Place) -> Result<(), String> {
    let sums = product(&[problem.heads, problem.rows_q])?;
    let job = Attention {
        problem,
        out: out.out(&problem, "out", problem.rows_q, product(&[problem.heads, problem.dim])?)?,
        o_row: out.row,
        lse: lse.optional(sums)?,
    };
    if let Some(lse) = job.lse {
        keep_indices(&problem, lse, sums)?;
    }
    if problem.rows_q == 0 {
        return Ok(());
    }
    // SAFETY: every operand has the room that the job names; rows, keys and pages were checked.
    unsafe { attention(&job) };
    Ok(())
}

/// Whether a dtype code that pages may have is that of binary16.
fn is_half(code: i64) -> Result<bool, String> {
    match DType::from_code(code) {
        Some(DType::F32) => Ok(false),
        Some(DType::F16) => Ok(true),
        _ => Err(format!("the pages' dtype, expected f32 or f16, got code {code}")),
    }
}

/// Pages of float32 or binary16.
fn pages_of(place: Place, half: bool, shape: &[usize]) -> Result<*mut f32, String> {
    let items = product(shape)?;
    if half { Ok(place.room::<u16>(items)?.cast()) } else { place.room::<f32>(items) }
}

/// `pagedAttention` and `pagedAttentionBf16`.
fn paged(a: &mut Args, bf16: bool) -> Result<(), String> {
    let q = RowsOf::read(a)?;
    let (k, v, half) = (a.place()?, a.place()?, is_half(a.int()?)?);
    let (out, lse) = (RowsOf::read(a)?, a.place()?);
    let [cu_q, len_k, table] = [a.place()?, a.place()?, a.place()?];
    let [max_pages, sequences, rows_q, count] = [a.size()?, a.size()?, a.size()?, a.size()?];
    let [heads, kv_heads, dim] = [a.size()?, a.size()?, a.size()?];
    let (scale, causal, window, softcap, slopes) = (a.f32()?, a.flag()?, a.size()?, a.f32()?, a.place()?);
    check_heads(heads, kv_heads, dim)?;
    let q_at = q.room("q", rows_q, product(&[heads, dim])?)?;
    let shape = [count, kv_heads, dim, BLOCK];
    let (k, v) = (pages_of(k, half, &shape)?, pages_of(v, half, &shape)?);
    let (cu_q, len_k) = (a.indices(cu_q, sequences + 1)?, a.indices(len_k, sequences)?);
    let pages = Pages { table: a.indices(table, product(&[sequences, max_pages])?)?, max_pages, half };
    // SAFETY: as many items as the sequences were found behind each pointer.
    unsafe { check_sequences(sequences, rows_q, cu_q, len_k, |s, len| in_pages(count, &pages, s, len))? };
    let problem = Problem {
        q: q_at,
        q_row: q.row,
        k,
        k_row: 0,
        v,
        v_row: 0,
        cu_q,
        start_k: std::ptr::null(),
        len_k,
        pages: Some(pages),
        sequences,
        rows_q,
        heads,
        kv_heads,
        dim,
        scale,
        causal,
        window,
        softcap,
        slopes: slopes.optional::<f32>(heads)?.map(<*mut f32>::cast_const),
        mask: None,
        mask_strides: [0; 4],
        bf16,
    };
    run(problem, &out, lse)
}

/// `writePages`.
fn write(a: &mut Args) -> Result<(), String> {
    let (x, out, half, keys) = (RowsOf::read(a)?, a.place()?, is_half(a.int()?)?, a.flag()?);
    let slots = a.place()?;
    let [rows, count, kv_heads, dim] = [a.size()?, a.size()?, a.size()?, a.size()?];
    let x_at = x.room("x", rows, product(&[kv_heads, dim])?)?;
    let shape = [count, kv_heads, dim, BLOCK];
    let pages = pages_of(out, half, &shape)?;
    let slots = a.indices(slots, rows)?;
    apart(slots, rows, pages.cast_const().cast::<u16>(), product(&shape)? * if half { 1 } else { 2 })?;
    for r in 0..rows {
        // SAFETY: as many items as there are rows.
        let slot = unsafe { *slots.add(r) };
        if slot < 0 || slot as usize / BLOCK >= count {
            return Err(format!("the place of row {r}, expected one in {count} pages of {BLOCK}, got {slot}"));
        }
    }
    // With nothing to write there may be any number of heads.
    if rows == 0 || dim == 0 {
        return Ok(());
    }
    let job = WritePages { x: x_at, x_row: x.row, pages, half, keys, slots, rows, kv_heads, dim };
    // SAFETY: every operand has the room that the job names, and the slots were checked.
    unsafe { write_pages(&job) };
    Ok(())
}

/// `attentionGrad` and `attentionGradBf16`.
fn backward(a: &mut Args, bf16: bool) -> Result<(), String> {
    let [q, k, v, out] = [RowsOf::read(a)?, RowsOf::read(a)?, RowsOf::read(a)?, RowsOf::read(a)?];
    let lse = a.place()?;
    let [gout, gq, gk, gv] = [RowsOf::read(a)?, RowsOf::read(a)?, RowsOf::read(a)?, RowsOf::read(a)?];
    let sizes = Sizes::read(a)?;
    let (width, kv_width) = (product(&[sizes.heads, sizes.dim])?, product(&[sizes.kv_heads, sizes.dim])?);
    let problem = sizes.problem(a, &q, &k, &v, bf16)?;
    let job = AttentionGrad {
        problem,
        out: out.room("out", sizes.rows_q, width)?,
        o_row: out.row,
        lse: lse.room(product(&[sizes.heads, sizes.rows_q])?)?,
        gout: gout.room("gout", sizes.rows_q, width)?,
        go_row: gout.row,
        gq: gq.out(&problem, "gq", sizes.rows_q, width)?,
        gq_row: gq.row,
        gk: gk.out(&problem, "gk", sizes.rows_k, kv_width)?,
        gk_row: gk.row,
        gv: gv.out(&problem, "gv", sizes.rows_k, kv_width)?,
        gv_row: gv.row,
        rows_k: sizes.rows_k,
    };
    if sizes.rows_q == 0 && sizes.rows_k == 0 {
        return Ok(());
    }
    // SAFETY: as above.
    unsafe {
        check_disjoint(&job.problem)?;
        attention_grad(&job);
    }
    Ok(())
}

pub fn register(t: &mut Table) {
    t.push(("attention", |a| forward(a, false)));
    t.push(("attentionBf16", |a| forward(a, true)));
    t.push(("pagedAttention", |a| paged(a, false)));
    t.push(("pagedAttentionBf16", |a| paged(a, true)));
    t.push(("writePages", write));
    t.push(("attentionGrad", |a| backward(a, false)));
    t.push(("attentionGradBf16", |a| backward(a, true)));
}

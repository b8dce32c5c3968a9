//! What each layout of GGUF is made of, and where its parts lie in a group of 16 packed rows.

use crate::simd::LANES;

/// Items of k in one block of codes, and in one block of quantised activations.
pub const BLOCK: usize = 32;
/// Items of a layout whose scales have scales.
pub const SUPER: usize = 256;

/// GGUF's layouts, in the order of their codes (`QUANTIZED` of `src/tensor/kernels.ts`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Iq4Nl,
    Iq4Xs,
    Mxfp4,
}

pub const KINDS: [Kind; 13] = [
    Kind::Q8_0,
    Kind::Q4_0,
    Kind::Q4_1,
    Kind::Q5_0,
    Kind::Q5_1,
    Kind::Q2K,
    Kind::Q3K,
    Kind::Q4K,
    Kind::Q5K,
    Kind::Q6K,
    Kind::Iq4Nl,
    Kind::Iq4Xs,
    Kind::Mxfp4,
];

/// How a block's scale is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// One float16 for each block of 32.
    Half,
    /// A power of two for each block of 32, kept as a bfloat16.
    Power,
    /// A float16 for 256 items, times an unsigned byte for each sub-block.
    Unsigned,
    /// The same with a signed byte.
    Signed,
}

/// The parts of a layout.
#[derive(Clone, Copy)]
pub struct Form {
    /// Bytes of a file's block.
    pub bytes: usize,
    /// Items of a file's block: 32 or 256.
    pub items: usize,
    /// Whether a code has four bits (two to a byte) rather than eight.
    pub nibbles: bool,
    /// The code that stands for 0.
    pub zero: i32,
    /// Items that share a scale: 32 or 16.
    pub sub: usize,
    pub scale: Scale,
    /// Whether a block also has a minimum.
    pub minimum: bool,
    /// What a code of four bits stands for, plus `zero`.
    pub table: Option<&'static [u8; 16]>,
    /// Whether what a code stands for is from −32 to 31.
    pub small: bool,
}

/// Codes of eight bits stand for themselves less 128, so that every signed byte has one.
pub const ZERO: i32 = 128;

/// ggml's `kvalues_iq4nl`, each + 128: denser around zero.
static IQ4: [u8; 16] = [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241];
/// Twice the values of E2M1 (OCP Microscaling Formats 1.0, section 5.3.3), each + 128.
static E2M1: [u8; 16] = [128, 129, 130, 131, 132, 134, 136, 140, 128, 127, 126, 125, 124, 122, 120, 116];

impl Kind {
    pub fn from_code(code: usize) -> Option<Kind> {
        KINDS.get(code).copied()
    }

    pub const fn form(self) -> Form {
        let small = Form {
            bytes: 0,
            items: BLOCK,
            nibbles: true,
            zero: 0,
            sub: BLOCK,
            scale: Scale::Half,
            minimum: false,
            table: None,
            small: true,
        };
        let large = Form { items: SUPER, scale: Scale::Unsigned, ..small };
        match self {
            Kind::Q8_0 => Form { bytes: 34, nibbles: false, zero: ZERO, small: false, ..small },
            Kind::Q4_0 => Form { bytes: 18, zero: 8, ..small },
            Kind::Q4_1 => Form { bytes: 20, minimum: true, ..small },
            Kind::Q5_0 => Form { bytes: 22, nibbles: false, zero: ZERO, ..small },
            Kind::Q5_1 => Form { bytes: 24, nibbles: false, zero: ZERO, minimum: true, ..small },
            Kind::Q2K => Form { bytes: 84, sub: 16, minimum: true, ..large },
            Kind::Q3K => Form { bytes: 110, zero: 4, sub: 16, scale: Scale::Signed, ..large },
            Kind::Q4K => Form { bytes: 144, minimum: true, ..large },
            Kind::Q5K => Form { bytes: 176, nibbles: false, zero: ZERO, minimum: true, ..large },
            Kind::Q6K => Form { bytes: 210, nibbles: false, zero: ZERO, sub: 16, scale: Scale::Signed, ..large },
            Kind::Iq4Nl => Form { bytes: 18, zero: ZERO, table: Some(&IQ4), small: false, ..small },
            Kind::Iq4Xs => Form { bytes: 136, zero: ZERO, scale: Scale::Signed, table: Some(&IQ4), small: false, ..large },
            Kind::Mxfp4 => Form { bytes: 17, zero: ZERO, scale: Scale::Power, table: Some(&E2M1), ..small },
        }
    }
}

impl Form {
    /// Bytes of the 16 rows' codes in a block of 32 items.
    pub const fn code_bytes(&self) -> usize {
        if self.nibbles { LANES * BLOCK / 2 } else { LANES * BLOCK }
    }

    /// Whether scales have scales.
    pub const fn is_super(&self) -> bool {
        matches!(self.scale, Scale::Unsigned | Scale::Signed)
    }
}

/// Where the planes of one group of 16 rows of k items begin, in bytes from its start. Small planes come first: so a group is read from front to back.
#[derive(Clone, Copy)]
pub struct Planes {
    /// 16-bit scales: [k / items][16].
    pub scales: usize,
    /// 16-bit minima, likewise.
    pub minima: usize,
    /// Small scales of sub-blocks: [k / sub][16] bytes.
    pub small_scales: usize,
    /// Small minima, likewise.
    pub small_minima: usize,
    /// Codes: [k / 32] blocks of 16 rows.
    pub codes: usize,
    /// From one group to the next.
    pub group: usize,
}

impl Planes {
    pub const fn of(form: &Form, k: usize) -> Planes {
        let wide = k / form.items * LANES * 2;
        let small = if form.is_super() { k / form.sub * LANES } else { 0 };
        let minima = wide;
        let small_scales = minima + if form.minimum { wide } else { 0 };
        let small_minima = small_scales + small;
        let end = small_minima + if form.minimum { small } else { 0 };
        // Codes lie on cache lines.
        let codes = end.next_multiple_of(64);
        Planes { scales: 0, minima, small_scales, small_minima, codes, group: codes + k / BLOCK * form.code_bytes() }
    }
}

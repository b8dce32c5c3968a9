//! The byte work of groundup: pre-tokenisers, byte-level BPE encoding, decoding and training. No N-API in it.
//!
//! Everything here is safe Rust. Speed comes from touching each byte few times: a hand-written scanner cuts the text into
//! words, one look-up in a small cache yields most words' ids, and only what misses both is merged.
#![forbid(unsafe_code)]

mod cache;
mod count;
mod encode;
mod error;
mod hash;
mod merge;
mod pattern;
mod scan;
mod split;
mod train;
mod unicode;
mod utf;
mod vocab;

pub use encode::{Encoded, Encoder};
pub use error::TextError;
pub use pattern::Pattern;
pub use train::{TrainOptions, Trained, Trainer};
pub use utf::{utf8_from_bytes, utf8_from_utf16};
pub use vocab::{MergeRule, Spec, Vocab};

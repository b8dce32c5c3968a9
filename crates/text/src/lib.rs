//! The byte work of groundup: pre-tokenisers, byte-level BPE encoding, decoding and training. No N-API in it.
//!
//! Everything here is safe Rust. Speed comes from touching each byte few times: a hand-written scanner cuts the text into
//! words, one look-up in a small cache yields most words' ids, and only what misses both is merged.
#![forbid(unsafe_code)]

mod added;
mod cache;
mod chars;
mod charsmap;
mod count;
mod cuts;
mod encode;
mod error;
mod hash;
mod index;
mod joints;
mod merge;
mod models;
mod normal;
mod pattern;
mod pipeline;
mod points;
mod recipe;
mod scan;
mod sentencepiece;
mod split;
mod steps;
mod train;
mod trie;
mod unicode;
mod unigram;
mod units;
mod utf;
mod vocab;
mod vocab_file;

pub use encode::{Encoded, Encoder};
pub use error::TextError;
pub use models::Tokens;
pub use pattern::Pattern;
pub use pipeline::Pipeline;
pub use recipe::Recipe;
pub use train::{TrainOptions, Trained, Trainer};
pub use utf::{utf8_from_bytes, utf8_from_utf16};
pub use vocab::{AddedBytes, MergeRule, Spec, Vocab};
pub use vocab_file::{VocabFile, read_vocab_file};

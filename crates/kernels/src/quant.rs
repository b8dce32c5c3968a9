//! Block-quantised weights: GGUF's layouts held in rows of sixteen side by side, and the integer products on them.
//!
//! A weight (n outputs, k inputs) lies in groups of 16 rows. A group holds planes: the scales of all its blocks, then
//! minima, then the small scales of the "K" layouts, then the codes of all its blocks. In a plane the 16 rows are neighbours: a vector of 64 bytes is 16 rows by 4 items of k,
//! which is what `vpdpbusd` multiplies in one step. Nothing is lost: [`unpack_rows`] gives the file's bytes back.
//!
//! What a code stands for is `scale · (code − zero) + minimum`, with float32 roundings in ggml's order ([`rows`]). A product first rounds each
//! row of activations to 8 bits in blocks of 32 ([`activations`]), multiplies integers exactly, and adds up the blocks in ascending k by one float32
//! FMA each (and one more for a minimum). Integer sums are exact whatever instruction adds them, and the float chain of an element depends on its own
//! row and column only: that is the row contract.

pub use layout::{KINDS, Kind};
pub use product::{QuantProduct, linear, linears};
pub use repack::{block_bytes, pack, packed_bytes, unpack_rows};
pub use rows::{dequantize_rows, embedding};

mod activations;
mod dots;
mod layout;
mod product;
mod repack;
mod rows;
#[cfg(test)]
mod tests;
mod tile;

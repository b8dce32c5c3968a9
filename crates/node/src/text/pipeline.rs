//! Whole tokenizers that give ids only. Every function is declared in `src/tokenizers/byte-level/native-text.ts`.

use super::input::{Documents, documents, new_list};
use super::table::Handles;
use super::{Answer, ENCODERS, handle, ints, joined, signed, threads};
use crate::napi::{Call, Exports};
use groundup_text::{Pipeline, Recipe, Tokens};

static PIPELINES: Handles<Pipeline> = Handles::new();

pub fn register(x: &mut Exports) -> Result<(), String> {
    x.function("textPipelineNew", pipeline_new)?;
    x.function("textPipelineFree", |call| call.from_boolean(PIPELINES.remove(handle(call, 0)?).is_some()))?;
    x.function("textPipelineEncode", encode)?;
    x.function("textPipelineCount", count)
}

pub fn free_all_of(thread: usize) {
    PIPELINES.free_all_of(thread);
}

/// `textPipelineNew(words, bytes, lengths, numbers, scores, charsmap, encoder)`; an encoder of 0 is none.
fn pipeline_new(call: &Call) -> Answer {
    let (bytes, lengths, numbers, charsmap) = (call.view(1)?, ints(call, 2)?, ints(call, 3)?, call.view(5)?);
    let scores = call.view(4)?;
    let eight = |b: &[u8]| f64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]);
    let scores: Vec<f64> = scores.bytes().chunks_exact(8).map(eight).collect();
    let vocab = if call.number(6)? == 0.0 { None } else { Some(ENCODERS.get(handle(call, 6)?, "tokenizer")?.vocab().clone()) };
    documents(call, 0, |d| {
        let text = std::str::from_utf8(d.text).map_err(|e| e.to_string())?;
        let starts = std::iter::once(0).chain(d.ends.iter().copied());
        let words: Option<Vec<&str>> = starts.zip(d.ends).map(|(start, &end)| text.get(start..end)).collect();
        let recipe = Recipe {
            words: &words.ok_or("argument 0: words end within a character")?,
            tokens: Tokens { bytes: bytes.bytes(), lengths: &lengths },
            numbers: &numbers,
            scores: &scores,
            charsmap: charsmap.bytes(),
            vocab: vocab.clone(),
        };
        let pipeline = recipe.build().map_err(|e| e.to_string())?;
        call.from_number(PIPELINES.add(pipeline, call.thread()).into())
    })
}

fn run<R>(call: &Call, work: impl FnOnce(&Pipeline, &Documents<'_>, &str, &[bool], usize) -> Result<R, String>) -> Result<R, String> {
    let pipeline = PIPELINES.get(handle(call, 0)?, "tokenizer")?;
    let allowed: Vec<bool> = call.view(2)?.bytes().iter().map(|&byte| byte != 0).collect();
    let threads = threads(call, 3)?;
    documents(call, 1, |d| {
        let text = std::str::from_utf8(d.text).map_err(|e| e.to_string())?;
        work(&pipeline, &d, text, &allowed, threads)
    })
}

/// `textPipelineEncode(pipeline, texts, allowed, threads)`: `[ids of all, count of each, replaced]`.
fn encode(call: &Call) -> Answer {
    run(call, |pipeline, d, text, allowed, threads| {
        let encoded = pipeline.encode(text, d.ends, allowed, threads).map_err(|e| e.to_string())?;
        let ids = joined(call, &encoded)?;
        new_list(call, &[ids, call.from_i32(&signed(&encoded.counts))?, call.from_number(d.replaced as f64)?])
    })
}

/// `textPipelineCount(pipeline, texts, allowed, threads)`: the number of ids of each.
fn count(call: &Call) -> Answer {
    run(call, |pipeline, d, text, allowed, threads| {
        call.from_i32(&signed(&pipeline.count(text, d.ends, allowed, threads).map_err(|e| e.to_string())?))
    })
}

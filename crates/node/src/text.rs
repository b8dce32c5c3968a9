//! Tokenizers: handles to vocabularies, encode, count, decode, train. Every function is declared in
//! `src/tokenizers/byte-level/native-text.ts`.

mod input;
mod pipeline;
mod table;

use crate::napi::{Call, Exports, sys};
use groundup_text::{AddedBytes, Encoded, Encoder, MergeRule, Pattern, Spec, TrainOptions, Trainer, Vocab, VocabFile, read_vocab_file};
use input::{Documents, documents, list, new_list};
use std::sync::Mutex;
use table::Handles;

static ENCODERS: Handles<Encoder> = Handles::new();
static FILES: Handles<VocabFile> = Handles::new();
static TRAINERS: Handles<Mutex<Trainer>> = Handles::new();

type Answer = Result<sys::napi_value, String>;

pub fn register(x: &mut Exports) -> Result<(), String> {
    x.function("textVocabRead", vocab_read)?;
    x.function("textVocabFind", vocab_find)?;
    x.function("textVocabEncoder", vocab_encoder)?;
    x.function("textVocabFree", |call| call.from_boolean(FILES.remove(handle(call, 0)?).is_some()))?;
    x.function("textEncoderNew", encoder_new)?;
    x.function("textEncoderFree", |call| call.from_boolean(ENCODERS.remove(handle(call, 0)?).is_some()))?;
    x.function("textEncode", encode)?;
    x.function("textEncodeBatch", encode_batch)?;
    x.function("textCount", count)?;
    x.function("textDecode", decode)?;
    pipeline::register(x)?;
    x.function("textTrainerNew", trainer_new)?;
    x.function("textTrainerFeed", trainer_feed)?;
    x.function("textTrainerFinish", trainer_finish)?;
    x.function("textTrainerFree", |call| call.from_boolean(TRAINERS.remove(handle(call, 0)?).is_some()))
}

/// Frees the vocabularies and trainers of a thread that ends.
pub fn free_all_of(thread: usize) {
    FILES.free_all_of(thread);
    ENCODERS.free_all_of(thread);
    pipeline::free_all_of(thread);
    TRAINERS.free_all_of(thread);
}

fn handle(call: &Call, i: usize) -> Result<u32, String> {
    let x = call.number(i)?;
    if x.fract() == 0.0 && (1.0..4e9).contains(&x) { Ok(x as u32) } else { Err(format!("argument {i}: expected a handle, got {x}")) }
}

fn size(call: &Call, i: usize) -> Result<usize, String> {
    let x = call.number(i)?;
    if x.fract() == 0.0 && (0.0..9e15).contains(&x) {
        Ok(x as usize)
    } else {
        Err(format!("argument {i}: expected a whole number from 0, got {x}"))
    }
}

/// An argument of 0 threads means as many as the machine offers.
fn threads(call: &Call, i: usize) -> Result<usize, String> {
    match size(call, i)? {
        0 => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
        n => Ok(n.min(256)),
    }
}

fn pattern(call: &Call, i: usize) -> Result<Pattern, String> {
    let code = size(call, i)?;
    u32::try_from(code).ok().and_then(Pattern::from_code).ok_or_else(|| format!("argument {i}: no split pattern has the number {code}"))
}

/// The values of an `Int32Array` argument.
fn ints(call: &Call, i: usize) -> Result<Vec<i32>, String> {
    let view = call.view(i)?;
    if view.bytes % 4 != 0 {
        return Err(format!("argument {i}: expected an Int32Array, got {} bytes", view.bytes));
    }
    Ok(view.bytes().chunks_exact(4).map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// `textVocabRead(file)`: `[vocabulary, rest, bytes, lengths, merges, idsOfOthers, other, other …]` of a tokenizer.json; an empty list where it must be
/// read otherwise.
fn vocab_read(call: &Call) -> Answer {
    let Some(found) = read_vocab_file(call.view(0)?.bytes()) else { return new_list(call, &[]) };
    let ids: Vec<i32> = found.others.iter().map(|(id, _)| *id as i32).collect();
    let (rest, bytes) = (call.from_bytes(&found.rest)?, call.from_bytes(&found.tokens.bytes)?);
    let others: Vec<_> = found.others.iter().map(|(_, text)| call.from_string(text)).collect::<Result<_, _>>()?;
    let (lengths, pairs) = (call.from_i32(&found.lengths())?, call.from_i32(&found.pairs())?);
    let vocab = call.from_number(FILES.add(found, call.thread()).into())?;
    new_list(call, &[&[vocab, rest, bytes, lengths, pairs, call.from_i32(&ids)?], others.as_slice()].concat())
}

/// Argument `i` cut at the lengths of argument `i + 1`.
fn byte_strings<R>(call: &Call, i: usize, work: impl FnOnce(&[&[u8]]) -> Result<R, String>) -> Result<R, String> {
    let (bytes, lengths) = (call.view(i)?, ints(call, i + 1)?);
    let mut rest = bytes.bytes();
    let mut found = Vec::with_capacity(lengths.len());
    for length in lengths {
        let length = usize::try_from(length).map_err(|_| format!("argument {}: a length is below 0", i + 1))?;
        let (own, after) =
            rest.split_at_checked(length).ok_or_else(|| format!("argument {}: lengths add up to more than the bytes", i + 1))?;
        found.push(own);
        rest = after;
    }
    work(&found)
}

/// `textVocabFind(vocabulary, bytes, lengths)`: the id of each token, -1 for what is none.
fn vocab_find(call: &Call) -> Answer {
    let file = FILES.get(handle(call, 0)?, "vocabulary")?;
    byte_strings(call, 1, |tokens| {
        let ids: Vec<i32> = tokens.iter().map(|token| file.find(token).map_or(-1, |id| id as i32)).collect();
        call.from_i32(&ids)
    })
}

/// `textVocabEncoder(vocabulary, ids, contents, lengths, spelled, lengths, wholeWords, pattern)`: an encoder with these added tokens, or 0 where they are
/// not as the file has them.
fn vocab_encoder(call: &Call) -> Answer {
    let file = FILES.get(handle(call, 0)?, "vocabulary")?;
    let (ids, whole_words, pattern) = (ints(call, 1)?, call.boolean(6)?, pattern(call, 7)?);
    let vocab = byte_strings(call, 2, |contents| {
        byte_strings(call, 4, |spelled| {
            if contents.len() != ids.len() || spelled.len() != ids.len() {
                return Err("expected as many contents and spellings as ids".into());
            }
            let tokens = ids.iter().zip(contents.iter().zip(spelled));
            let added: Option<Vec<_>> = tokens
                .map(|(&id, (content, spelled))| {
                    Some(AddedBytes { id: u32::try_from(id).ok().filter(|id| *id < 1 << 24)?, content, spelled })
                })
                .collect();
            Vocab::of_file(&file, &added.ok_or("argument 1: expected ids from 0 to 2^24 - 1")?, whole_words).map_err(|e| e.to_string())
        })
    })?;
    match vocab {
        None => call.from_number(0.0),
        Some(vocab) => call.from_number(ENCODERS.add(Encoder::new(vocab, pattern), call.thread()).into()),
    }
}

/// `textEncoderNew(bytes, lengths, merges, byRank, hidden, wholeWords, pattern)`
fn encoder_new(call: &Call) -> Answer {
    let (bytes, lengths, merges, hidden) = (call.view(0)?, ints(call, 1)?, ints(call, 2)?, ints(call, 4)?);
    let merges = if call.boolean(3)? { MergeRule::Ranks } else { MergeRule::Listed(&merges) };
    let spec = Spec { bytes: bytes.bytes(), lengths: &lengths, merges, hidden: &hidden, whole_words: call.boolean(5)? };
    let vocab = Vocab::new(spec).map_err(|e| e.to_string())?;
    call.from_number(ENCODERS.add(Encoder::new(vocab, pattern(call, 6)?), call.thread()).into())
}

/// `textEncode(encoder, text, threads)`: the ids of one text.
fn encode(call: &Call) -> Answer {
    let encoder = ENCODERS.get(handle(call, 0)?, "tokenizer")?;
    documents(call, 1, |d| joined(call, &encoder.encode(d.text, d.ends, threads(call, 2)?).map_err(|e| e.to_string())?))
}

/// `textEncodeBatch(encoder, texts, threads)`: `[ids of all, count of each, replaced]`.
fn encode_batch(call: &Call) -> Answer {
    let encoder = ENCODERS.get(handle(call, 0)?, "tokenizer")?;
    documents(call, 1, |d| {
        let encoded = encoder.encode(d.text, d.ends, threads(call, 2)?).map_err(|e| e.to_string())?;
        let ids = joined(call, &encoded)?;
        let counts = call.from_i32(&signed(&encoded.counts))?;
        new_list(call, &[ids, counts, call.from_number(d.replaced as f64)?])
    })
}

/// `textCount(encoder, texts, threads)`: the number of ids of each.
fn count(call: &Call) -> Answer {
    let encoder = ENCODERS.get(handle(call, 0)?, "tokenizer")?;
    documents(call, 1, |d: Documents<'_>| {
        call.from_i32(&signed(&encoder.count(d.text, d.ends, threads(call, 2)?).map_err(|e| e.to_string())?))
    })
}

/// `textDecode(encoder, ids)`: the bytes that the ids spell.
fn decode(call: &Call) -> Answer {
    let encoder = ENCODERS.get(handle(call, 0)?, "tokenizer")?;
    call.from_bytes(&encoder.decode(&ints(call, 1)?).map_err(|e| e.to_string())?)
}

fn trainer_new(call: &Call) -> Answer {
    call.from_number(TRAINERS.add(Mutex::new(Trainer::new(pattern(call, 0)?)), call.thread()).into())
}

/// `textTrainerFeed(trainer, texts, threads)`: counts words; the answer is how many malformed parts became U+FFFD.
fn trainer_feed(call: &Call) -> Answer {
    let trainer = TRAINERS.get(handle(call, 0)?, "trainer")?;
    documents(call, 1, |d| {
        let mut trainer = trainer.lock().map_err(|_| "the trainer failed in an earlier call".to_string())?;
        trainer.feed(d.text, d.ends, threads(call, 2)?).map_err(|e| e.to_string())?;
        call.from_number(d.replaced as f64)
    })
}

/// `textTrainerFinish(trainer, vocabSize, minFrequency, specialBytes, specialLengths)`: `[bytes, lengths, merges]`. A special
/// token of length -1 can't be spelled by text. The trainer is gone afterwards.
fn trainer_finish(call: &Call) -> Answer {
    let trainer = TRAINERS.remove(handle(call, 0)?).ok_or("no trainer has this handle")?;
    let trainer = std::sync::Arc::into_inner(trainer).ok_or("the trainer is in use on another thread")?;
    let trainer = trainer.into_inner().map_err(|_| "the trainer failed in an earlier call".to_string())?;
    let (bytes, lengths) = (call.view(3)?, ints(call, 4)?);
    let mut rest = bytes.bytes();
    let mut specials = Vec::with_capacity(lengths.len());
    for length in lengths {
        let Ok(length) = usize::try_from(length) else {
            specials.push(None);
            continue;
        };
        let (own, after) = rest.split_at_checked(length).ok_or("argument 4: lengths add up to more than the bytes")?;
        specials.push(Some(own.to_vec()));
        rest = after;
    }
    let options = TrainOptions { vocab_size: size(call, 1)?, min_frequency: size(call, 2)? as u64, specials };
    let trained = trainer.finish(&options).map_err(|e| e.to_string())?;
    let lengths: Vec<i32> = trained.tokens.iter().map(|t| t.len() as i32).collect();
    let merges: Vec<i32> = trained.merges.iter().flatten().map(|&id| id as i32).collect();
    new_list(call, &[call.from_bytes(&trained.tokens.concat())?, call.from_i32(&lengths)?, call.from_i32(&merges)?])
}

fn signed(counts: &[u32]) -> Vec<i32> {
    counts.iter().map(|&n| n as i32).collect()
}

/// All parts as one new `Int32Array`.
fn joined(call: &Call, encoded: &Encoded) -> Answer {
    list(call, encoded.total(), encoded.parts.iter().map(Vec::as_slice))
}

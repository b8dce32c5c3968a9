//! A pipeline from its description, a list of words with arrays beside it: what `src/tokenizers/pipeline-recipe.ts` writes.

use crate::added::Added;
use crate::chars::{CharBpe, CharOptions};
use crate::charsmap::Charsmap;
use crate::cuts::{Behavior, Cut, Prepend};
use crate::error::TextError;
use crate::joints::Units;
use crate::models::{PieceModel, Tokens};
use crate::normal::Form;
use crate::pattern::Pattern;
use crate::pipeline::{Model, Pipeline, Token};
use crate::sentencepiece::{SentencePiece, SentencePieceSpec};
use crate::steps::Step;
use crate::trie::{NONE, ROOT, Trie};
use crate::unigram::Unigram;
use crate::vocab::Vocab;
use std::sync::Arc;

/// What a pipeline is made from. What a model does not need is empty.
pub struct Recipe<'a> {
    /// Parts one after the other: each its name, then its settings.
    pub words: &'a [&'a str],
    pub tokens: Tokens<'a>,
    /// `left, right, result` of each merge by rank; or the type of each SentencePiece piece.
    pub numbers: &'a [i32],
    /// By id.
    pub scores: &'a [f64],
    pub charsmap: &'a [u8],
    /// The vocabulary of a byte-level BPE.
    pub vocab: Option<Arc<Vocab>>,
}

struct Words<'a> {
    rest: std::slice::Iter<'a, &'a str>,
}

fn wrong(what: &str, got: &str) -> TextError {
    TextError(format!("bad part of a tokenizer, expected {what}, got {got:?}"))
}

impl<'a> Words<'a> {
    fn text(&mut self) -> Result<&'a str, TextError> {
        self.rest.next().copied().ok_or_else(|| wrong("another word", "the end"))
    }

    fn number(&mut self) -> Result<usize, TextError> {
        let word = self.text()?;
        word.parse().map_err(|_| wrong("a whole number", word))
    }

    /// An id, or nothing.
    fn id(&mut self) -> Result<Option<u32>, TextError> {
        let word = self.text()?;
        if word.is_empty() { Ok(None) } else { word.parse().map(Some).map_err(|_| wrong("an id", word)) }
    }

    fn yes(&mut self) -> Result<bool, TextError> {
        match self.text()? {
            "yes" => Ok(true),
            "no" => Ok(false),
            other => Err(wrong("yes or no", other)),
        }
    }

    fn character(&mut self) -> Result<char, TextError> {
        let word = self.text()?;
        let mut characters = word.chars();
        characters.next().filter(|_| characters.next().is_none()).ok_or_else(|| wrong("one character", word))
    }

    fn behavior(&mut self) -> Result<Behavior, TextError> {
        Ok(match self.text()? {
            "Removed" => Behavior::Removed,
            "Isolated" => Behavior::Isolated,
            "MergedWithPrevious" => Behavior::MergedWithPrevious,
            "MergedWithNext" => Behavior::MergedWithNext,
            "Contiguous" => Behavior::Contiguous,
            other => return Err(wrong("a behaviour", other)),
        })
    }

    fn pattern(&mut self) -> Result<Pattern, TextError> {
        let code = self.number()?;
        u32::try_from(code).ok().and_then(Pattern::from_code).ok_or_else(|| wrong("the number of a split pattern", &code.to_string()))
    }
}

impl Recipe<'_> {
    /// Makes the pipeline.
    ///
    /// # Errors
    /// A part that is not known, is cut off or does not fit the arrays.
    pub fn build(&self) -> Result<Pipeline, TextError> {
        let mut words = Words { rest: self.words.iter() };
        let (mut tokens, mut steps, mut cuts) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let name = words.text()?;
            if name == "Model" {
                break;
            } else if name == "Token" {
                tokens.push(token(&mut words)?);
            } else if let Some(step) = self.step(name, &mut words)? {
                steps.push(step);
            } else if let Some(cut) = cut(name, &mut words)? {
                cuts.push(cut);
            } else {
                return Err(wrong("the name of a part", name));
            }
        }
        let (model, units) = self.model(&mut words)?;
        match words.rest.next() {
            None => Ok(Pipeline::new(tokens, steps, cuts, model, units)),
            Some(more) => Err(wrong("the end", more)),
        }
    }

    fn step(&self, name: &str, words: &mut Words<'_>) -> Result<Option<Step>, TextError> {
        Ok(Some(match name {
            "NFC" => Step::Form(Form::Nfc),
            "NFD" => Step::Form(Form::Nfd),
            "NFKC" => Step::Form(Form::Nfkc),
            "NFKD" => Step::Form(Form::Nfkd),
            "Nmt" => Step::Nmt,
            "Lowercase" => Step::Lowercase,
            "StripAccents" => Step::StripAccents,
            "Strip" => Step::Strip { left: words.yes()?, right: words.yes()? },
            "Replace" => {
                let (pattern, content) = (words.text()?, words.text()?.to_string());
                if pattern.is_empty() {
                    return Err(wrong("a text to replace", pattern));
                }
                Step::Replace { pattern: pattern.to_string(), content }
            }
            "ReplaceRun" => {
                let of = words.text()?;
                let of = if of.is_empty() { None } else { of.chars().next() };
                Step::ReplaceRun { of, least: words.number()?.max(1), content: words.text()?.to_string() }
            }
            "Prepend" => Step::Prepend(words.text()?.to_string()),
            "Precompiled" => Step::Charsmap(Charsmap::new(self.charsmap)?),
            "BertClean" => Step::BertClean,
            "BertChinese" => Step::BertChinese,
            "BertAccents" => Step::BertAccents,
            _ => return Ok(None),
        }))
    }

    fn model(&self, words: &mut Words<'_>) -> Result<(Model, Option<Units>), TextError> {
        let kind = words.text()?;
        if kind == "Bytes" {
            return match &self.vocab {
                Some(vocab) => Ok((Model::Bytes(vocab.clone()), None)),
                None => Err(wrong("a byte-level vocabulary", "none")),
            };
        }
        let list = self.tokens.list()?;
        if kind == "SentencePiece" {
            return Ok((Model::SentencePiece(Box::new(self.sentencepiece(&list, words)?)), None));
        }
        let tokens = Trie::new(list.iter().copied());
        let bytes_of = |tokens: &Trie, wanted: bool| {
            wanted.then(|| Box::new(std::array::from_fn(|byte| tokens.get(format!("<0x{byte:02X}>").as_bytes()).unwrap_or(NONE))))
        };
        let mut units = None;
        let model = match kind {
            "WordLevel" => PieceModel::WordLevel { tokens, unknown: words.id()? },
            "WordPiece" => {
                let unknown = words.id()?;
                let inside = tokens.walk(ROOT, words.text()?.as_bytes());
                PieceModel::WordPiece { tokens, inside, unknown, most: words.number()? }
            }
            "Unigram" => {
                let unknown = words.id()?;
                let bytes = bytes_of(&tokens, words.yes()?);
                if self.scores.len() != self.tokens.lengths.len() || !self.scores.iter().all(|score| score.is_finite()) {
                    return Err(wrong("a finite score for each token", &self.scores.len().to_string()));
                }
                PieceModel::Unigram(Unigram::new(tokens, self.scores.to_vec(), unknown, bytes))
            }
            "BPE" => {
                let options = CharOptions {
                    prefix: words.text()?.to_string(),
                    suffix: words.text()?.to_string(),
                    names_unknown: words.yes()?,
                    unknown: words.id()?,
                    fuse_unknown: words.yes()?,
                    bytes: bytes_of(&tokens, words.yes()?),
                    whole_pieces: words.yes()?,
                };
                let bpe = CharBpe::new(tokens, self.tokens.lengths.len(), self.numbers, options)?;
                units = bpe.units('▁', &list, self.numbers);
                PieceModel::Bpe(bpe)
            }
            other => return Err(wrong("the name of a model", other)),
        };
        Ok((Model::Pieces(model), units))
    }

    fn sentencepiece(&self, list: &[(&[u8], u32)], words: &mut Words<'_>) -> Result<SentencePiece, TextError> {
        let types: Vec<u8> = self.numbers.iter().map(|&kind| u8::try_from(kind).unwrap_or(0)).collect();
        let mut bytes = words.yes()?.then(|| Box::new([NONE; 256]));
        let mut pieces = Vec::with_capacity(list.len());
        for &(piece, id) in list {
            match types.get(id as usize).copied() {
                // Normal, user-defined, unused.
                Some(1 | 4 | 5) if piece != b"\0" => pieces.push((piece, id)),
                Some(6) => {
                    let digits = piece.strip_prefix(b"<0x").and_then(|rest| rest.strip_suffix(b">"));
                    let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
                    if let (Some(bytes), Some(byte)) = (&mut bytes, byte) {
                        bytes[usize::from(byte)] = id;
                    }
                }
                _ => {}
            }
        }
        if bytes.as_ref().is_some_and(|bytes| bytes.contains(&NONE)) {
            return Err(wrong("256 byte pieces", "fewer"));
        }
        SentencePiece::new(SentencePieceSpec {
            pieces,
            types: &types,
            scores: self.scores.iter().map(|&score| score as f32).collect(),
            charsmap: if self.charsmap.is_empty() { None } else { Some(Charsmap::new(self.charsmap)?) },
            bytes,
            bpe: words.yes()?,
            dummy_prefix: words.yes()?,
            remove_extra: words.yes()?,
            escape: words.yes()?,
            suffix: words.yes()?,
        })
    }
}

fn token(words: &mut Words<'_>) -> Result<Token, TextError> {
    let id = words.id()?.ok_or_else(|| wrong("an id", ""))?;
    let content = words.text()?.to_string();
    let added = Added { id, content, single_word: words.yes()?, left: words.yes()?, right: words.yes()? };
    Ok(Token { added, normalized: words.yes()? })
}

fn cut(name: &str, words: &mut Words<'_>) -> Result<Option<Cut>, TextError> {
    Ok(Some(match name {
        "Pattern" => Cut::Pattern { pattern: words.pattern()?, prefix: words.yes()? },
        "BertPreTokenizer" => Cut::Bert,
        "Whitespace" => Cut::Whitespace,
        "WhitespaceSplit" => Cut::WhitespaceSplit,
        "Punctuation" => Cut::Punctuation(words.behavior()?),
        "Digits" => Cut::Digits { each: words.yes()? },
        "Literal" => {
            let text = words.text()?;
            if text.is_empty() {
                return Err(wrong("a text to cut at", text));
            }
            Cut::Literal { text: text.to_string(), behavior: words.behavior()?, invert: words.yes()? }
        }
        "Metaspace" => {
            let mark = words.character()?;
            let prepend = match words.text()? {
                "always" => Prepend::Always,
                "first" => Prepend::First,
                "never" => Prepend::Never,
                other => return Err(wrong("always, first or never", other)),
            };
            Cut::Metaspace { mark, prepend, split: words.yes()? }
        }
        _ => return Ok(None),
    }))
}

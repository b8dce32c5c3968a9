//! What Hugging Face adds to Jinja: `tojson` in Python's spelling, and the time.

use crate::json::{Layout, dumps};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use std::collections::HashMap;

fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// `value | tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`, as `json.dumps` reads them.
pub fn tojson(state: &mut State, value: &Value, first: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    // The first of the positional arguments is `ensure_ascii`.
    let ascii = match first {
        Some(first) => first.is_true(),
        None => options.get::<Option<Value>>("ensure_ascii")?.is_some_and(|v| v.is_true()),
    };
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(v) if v.is_none() => None,
        Some(v) => Some(match (v.as_str(), v.as_i64()) {
            (Some(text), _) if text.len() <= 64 => text.to_string(),
            (_, Some(n)) if n <= 64 => " ".repeat(n.max(0) as usize),
            _ => return Err(wrong("tojson: bad indent, expected a text or a number up to 64")),
        }),
    };
    let (mut item_separator, mut key_separator) = (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string());
    if let Some(separators) = options.get::<Option<Value>>("separators")?.filter(|v| !v.is_none()) {
        let both: Vec<Value> =
            if matches!(separators.kind(), ValueKind::Seq) { separators.try_iter()?.take(3).collect() } else { Vec::new() };
        let [item, key] = both.as_slice() else {
            return Err(wrong("tojson: bad separators, expected two texts"));
        };
        (item_separator, key_separator) = (item.to_string(), key.to_string());
    }
    let sort_keys = options.get::<Option<Value>>("sort_keys")?.is_some_and(|v| v.is_true());
    options.assert_all_used()?;
    Ok(Value::from(dumps(state, value, &Layout { ascii, indent, item_separator, key_separator, sort_keys })?))
}

/// The time in the letters of `strftime`; one that is not known stays as it is.
pub fn strftime(clock: &HashMap<char, String>, format: &str) -> String {
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(c) = letters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match letters.next() {
            Some('-') => match letters.next() {
                Some(letter) => match clock.get(&letter) {
                    Some(text) => out.push_str(unpadded(text)),
                    None => out.extend(['%', '-', letter]),
                },
                None => out.push_str("%-"),
            },
            Some('%') => out.push('%'),
            Some(letter) => match clock.get(&letter) {
                Some(text) => out.push_str(text),
                None => out.extend(['%', letter]),
            },
            None => out.push('%'),
        }
    }
    out
}

/// `%-d`: without the zeros before it.
fn unpadded(text: &str) -> &str {
    let rest = text.trim_start_matches('0');
    if rest.is_empty() && !text.is_empty() { &text[text.len() - 1..] } else { rest }
}

//! JSON as Python's `json.dumps` writes it, which is what templates were written for: `, ` and `: ` between things, keys in their own order.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};
use std::fmt::Write;

/// Lists and objects in each other, at most: as deep as messages may be.
const DEEPEST: usize = 200;

/// How it is laid out.
pub struct Layout {
    pub ascii: bool,
    /// What a level is indented by; none, and all stands in one line.
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
}

/// A value's text. It is paid for as it grows: a few nested lists may spell a text without an end.
pub fn dumps(state: &State, value: &Value, layout: &Layout) -> Result<String, Error> {
    let mut writer = Writer { state, layout, out: String::new(), paid: 0 };
    writer.value(value, 0)?;
    writer.pay()?;
    Ok(writer.out)
}

struct Writer<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    layout: &'a Layout,
    out: String,
    paid: usize,
}

fn bad(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadSerialization, format!("tojson: {}", what.into()))
}

impl Writer<'_, '_, '_> {
    fn pay(&mut self) -> Result<(), Error> {
        let grown = self.out.len() - self.paid;
        self.paid = self.out.len();
        self.state.consume_fuel(1 + grown as u64 / 64)
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(bad(format!("nested too deep, expected at most {DEEPEST} levels")));
        }
        if self.out.len() - self.paid >= 1024 {
            self.pay()?;
        }
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => match f64::try_from(value.clone()) {
                Ok(x) if !value.is_integer() => self.float(x),
                _ => self.out.push_str(&value.to_string()),
            },
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            ValueKind::Map => self.object(value, depth)?,
            other => return Err(bad(format!("{other} has no form in JSON"))),
        }
        Ok(())
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut any = false;
        self.out.push('[');
        for item in value.try_iter()? {
            self.between(any, depth + 1);
            any = true;
            self.value(&item, depth + 1)?;
        }
        self.close(any, depth, ']');
        Ok(())
    }

    fn object(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let object = value.as_object().ok_or_else(|| bad("a mapping without entries"))?;
        let mut entries: Vec<(Value, Value)> = object.try_iter_pairs().into_iter().flatten().collect();
        if self.layout.sort_keys {
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        self.out.push('{');
        for (i, (key, item)) in entries.iter().enumerate() {
            self.between(i > 0, depth + 1);
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default()),
                ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                    self.out.push('"');
                    self.value(key, depth + 1)?;
                    self.out.push('"');
                }
                other => return Err(bad(format!("{other} can't be a key"))),
            }
            self.out.push_str(&self.layout.key_separator);
            self.value(item, depth + 1)?;
        }
        self.close(!entries.is_empty(), depth, '}');
        Ok(())
    }

    fn between(&mut self, more: bool, depth: usize) {
        if more {
            self.out.push_str(&self.layout.item_separator);
        }
        self.line(depth);
    }

    fn close(&mut self, any: bool, depth: usize, bracket: char) {
        if any {
            self.line(depth);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.layout.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    /// As Python's `repr`: the fewest digits that are this number, with an exponent from 1e16 and below 1e-4.
    fn float(&mut self, x: f64) {
        let size = x.abs();
        if x.is_nan() {
            self.out.push_str("NaN");
        } else if x.is_infinite() {
            self.out.push_str(if x > 0.0 { "Infinity" } else { "-Infinity" });
        } else if size != 0.0 && !(1e-4..1e16).contains(&size) {
            let text = format!("{x:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
            let _ = write!(self.out, "{digits}e{sign}{exponent:0>2}");
        } else {
            let _ = write!(self.out, "{x:?}");
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.layout.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.out, "\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

//! Chat templates. The one function is declared in `src/tokenizers/chat-template/native-template.ts`.

use crate::napi::{Call, Exports, sys};
use groundup_template::{Kind, render};
use std::collections::HashMap;

pub fn register(x: &mut Exports) -> Result<(), String> {
    x.function("templateRender", template_render)
}

/// `templateRender(source, variables, clock, fuel)`: `=` and the text, or a letter for the kind of error, the line and a blank, and the message.
///
/// `variables` is JSON; `clock` has a line for each letter of `strftime`, the letter first.
fn template_render(call: &Call) -> Result<sys::napi_value, String> {
    let (source, variables, clock) = (call.string(0)?, call.string(1)?, call.string(2)?);
    let fuel = call.number(3)?;
    let entry = |line: &str| {
        let mut letters = line.chars();
        Some((letters.next()?, letters.collect()))
    };
    let clock: HashMap<char, String> = clock.lines().filter_map(entry).collect();
    // A number that is no count of fuel becomes 0, which is none.
    match render(&source, &variables, clock, fuel as u64) {
        Ok(text) => call.from_string(&format!("={text}")),
        Err(error) => {
            let kind = match error.kind {
                Kind::Syntax => 'S',
                Kind::Raised => 'R',
                Kind::Limit => 'L',
                Kind::Failed => 'F',
            };
            call.from_string(&format!("{kind}{} {}", error.line, error.message))
        }
    }
}

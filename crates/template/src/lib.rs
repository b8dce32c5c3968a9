//! Chat templates: Jinja with the settings, filters and functions that Hugging Face's `apply_chat_template` gives it. A template comes
//! from outside: every instruction, byte and item costs fuel, so that none can run, grow or recurse without an end.

mod addition;
mod filters;
mod json;

use minijinja::machinery::{eval, get_compiled_template, make_string_output};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value, syntax::SyntaxConfig};
use std::collections::HashMap;
use std::fmt;

/// Macros that call each other, at most. Each level takes some kilobytes of the thread's stack.
const DEEPEST: usize = 100;

/// Stack of the thread that renders: only what is used is taken. A template may nest lists as deep as its fuel lasts, and each level takes a
/// frame where they are freed.
const STACK: usize = 256 << 20;

/// The longest template, in bytes. Known ones have up to 40,000; operators may stand in each other as often as there is room.
pub const LONGEST: usize = 1 << 18;

/// Why nothing was rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The template is not Jinja.
    Syntax,
    /// The template called `raise_exception`.
    Raised,
    /// The fuel is used up.
    Limit,
    /// Something else that it asked for can't be done.
    Failed,
}

/// What went wrong, and where in the template.
#[derive(Debug)]
pub struct TemplateError {
    pub kind: Kind,
    pub message: String,
    /// Counted from 1; 0 where it is not known.
    pub line: usize,
}

/// What `raise_exception` leaves behind an error.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Renders `source` with the variables of the JSON object `variables`.
///
/// `clock` has the text of each letter that `strftime_now` may ask for. One fuel pays for an instruction, for 64 bytes, or for two items.
pub fn render(source: &str, variables: &str, clock: HashMap<char, String>, fuel: u64) -> Result<String, TemplateError> {
    let failed = |message: String| TemplateError { kind: Kind::Failed, message, line: 0 };
    if source.len() > LONGEST {
        return Err(failed(format!("the template is too long, expected at most {LONGEST} bytes, got {}", source.len())));
    }
    let work = || {
        let values: Value = serde_json::from_str(variables).map_err(|e| failed(e.to_string()))?;
        let source = without_generation(source);
        let environment = environment(clock, fuel);
        let template = environment.template_from_str(&source).map_err(told)?;
        let compiled = get_compiled_template(&template);
        let program = addition::with_paid_additions(&compiled.instructions);
        let mut text = String::new();
        eval(&environment, &program, values, &compiled.blocks, &mut make_string_output(&mut text), AutoEscape::None).map_err(told)?;
        Ok(text)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|e| failed(format!("no thread for the template: {e}")))?;
        thread.join().unwrap_or_else(|_| Err(failed("internal: the template engine panicked".into())))
    })
}

fn environment(clock: HashMap<char, String>, fuel: u64) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.unwrap_or_default());
    environment.set_fuel(Some(fuel));
    environment.set_recursion_limit(DEEPEST);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", filters::tojson);
    environment.add_filter("sum", addition::sum);
    environment.add_function(addition::NAME, addition::add);
    // Joins lists as the engine's `+` does; Jinja has no such filter.
    environment.remove_filter("chain");
    environment.add_function("raise_exception", |message: Value| -> Result<Value, Error> {
        let message = message.to_string();
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
    });
    environment.add_function("strftime_now", move |format: &str| filters::strftime(&clock, format));
    environment
}

fn told(error: Error) -> TemplateError {
    let line = error.line().unwrap_or(0);
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(found) = cause {
        if let Some(Raised(message)) = found.downcast_ref::<Raised>() {
            return TemplateError { kind: Kind::Raised, message: message.clone(), line };
        }
        if let Some(inner) = found.downcast_ref::<Error>()
            && inner.kind() == ErrorKind::OutOfFuel
        {
            return TemplateError { kind: Kind::Limit, message: String::new(), line };
        }
        cause = found.source();
    }
    let kind = if error.kind() == ErrorKind::SyntaxError { Kind::Syntax } else { Kind::Failed };
    let message = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    TemplateError { kind, message, line }
}

/// `{% generation %}` marks what the assistant wrote, for training. Here it is only a block, as `with` is.
fn without_generation(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        rest = tag;
        let word = tag.trim_start_matches(['-', '+']).trim_start();
        let (name, with) = if word.starts_with("generation") { ("generation", "with") } else { ("endgeneration", "endwith") };
        let Some(behind) = word.strip_prefix(name) else { continue };
        if behind.trim_start().trim_start_matches(['-', '+']).starts_with("%}") {
            out.push_str(&tag[..tag.len() - word.len()]);
            out.push_str(with);
            rest = behind;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;

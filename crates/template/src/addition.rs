//! `+` with its costs. The engine's own joins lists lazily and pays for nothing until it copies them, which a list that is added to itself forty times never
//! survives; it has no place to put a limit. So each addition becomes a call of [`add`], which pays before it copies.

use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// What additions call. No template can name it.
pub const NAME: &str = "+";

/// The same program with calls for additions. One instruction for one, so jumps lead where they led.
pub fn with_paid_additions<'a>(program: &Instructions<'a>) -> Instructions<'a> {
    let mut paid = Instructions::new(program.name(), program.source());
    let mut at = 0;
    while let Some(instruction) = program.get(at) {
        let instruction =
            if matches!(instruction, Instruction::Add) { Instruction::CallFunction(NAME, Some(2)) } else { instruction.clone() };
        paid.add_with_line(instruction, program.get_line(at).and_then(|line| u16::try_from(line).ok()).unwrap_or(0));
        at += 1;
    }
    paid
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// `a + b` of texts, numbers and lists, as Python adds them.
pub fn add(state: &mut State, a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(left), Some(right)) = (a.as_str(), b.as_str()) {
        state.consume_fuel((left.len() + right.len()) as u64 / 64)?;
        return Ok(Value::from([left, right].concat()));
    }
    if is_list(a) && is_list(b) {
        let mut items = Vec::new();
        for list in [a, b] {
            for item in list.try_iter()? {
                if items.len() % 64 == 0 {
                    state.consume_fuel(64)?;
                }
                items.push(item);
            }
        }
        let tuples = [a, b].iter().all(|v| v.downcast_object_ref::<Tuple>().is_some());
        return Ok(if tuples { Value::from(Tuple::from(items)) } else { Value::from(items) });
    }
    let number = |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool);
    if number(a) && number(b) {
        let whole = |v: &Value| {
            if v.kind() == ValueKind::Bool {
                Some(i128::from(v.is_true()))
            } else {
                v.is_integer().then(|| i128::try_from(v.clone()).ok()).flatten()
            }
        };
        let sum = match (whole(a), whole(b)) {
            (Some(x), Some(y)) => x.checked_add(y).map(|sum| i64::try_from(sum).map_or_else(|_| Value::from(sum), Value::from)),
            _ => {
                let real =
                    |v: &Value| if v.kind() == ValueKind::Bool { Ok(f64::from(u8::from(v.is_true()))) } else { f64::try_from(v.clone()) };
                Some(Value::from(real(a)? + real(b)?))
            }
        };
        return sum.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the sum is too large"));
    }
    Err(Error::new(ErrorKind::InvalidOperation, format!("{} and {} can't be added", a.kind(), b.kind())))
}

/// `values | sum(start=0)`.
pub fn sum(state: &mut State, values: &Value, start: Option<Value>) -> Result<Value, Error> {
    let mut total = start.unwrap_or_else(|| Value::from(0));
    for value in values.try_iter()? {
        total = add(state, &total, &value)?;
    }
    Ok(total)
}

//! The thin N-API layer: checks arguments, looks up buffers, calls a kernel. No arithmetic lives here.
//!
//! There are two kinds of exports. *Functions* ([`napi::Exports::function`]) take ordinary JavaScript values: buffers,
//! tokenizers, information. *Kernels* ([`kernel::Table`]) take numbers only: JavaScript writes a kernel's arguments into
//! one shared array of float64 and calls `exec(id)`, which costs tens of nanoseconds where wrapped objects cost hundreds; `replay(calls)`
//! makes many calls again whose arguments it kept.
//! A panic never crosses the border: both kinds run under `catch_unwind` and become JavaScript exceptions.

mod kernel;
mod machine;
mod memory;
mod napi;
mod ops;
mod template;
mod text;

use napi::{Call, Exports, sys};
use std::sync::Mutex;
use std::sync::atomic::AtomicPtr;

/// Slots of the shared argument array; the longest call (an optimiser step over many tensors) is split by its caller.
const ARGUMENT_SLOTS: usize = 65_536;

/// Argument arrays of threads that have ended, for the next ones.
static SPARE_ARGUMENTS: Mutex<Vec<AtomicPtr<f64>>> = Mutex::new(Vec::new());

/// Each JavaScript thread that loads this library has an argument array of its own. What a thread holds is freed when it ends.
#[unsafe(no_mangle)]
unsafe extern "C" fn napi_register_module_v1(env: sys::napi_env, exports: sys::napi_value) -> sys::napi_value {
    napi::find_symbols();
    napi::stay_loaded();
    let register = || -> Result<(), String> {
        let mut x = Exports::new(env, exports);
        // Ours, not the engine's, and never freed: a JavaScript buffer could be transferred away and collected while `exec` reads it.
        let spare = SPARE_ARGUMENTS.lock().ok().and_then(|mut spare| spare.pop());
        let data = spare.map_or_else(|| vec![0f64; ARGUMENT_SLOTS].leak().as_mut_ptr(), AtomicPtr::into_inner);
        let thread = x.thread();
        x.at_end(move || {
            memory::free_all_of(thread);
            text::free_all_of(thread);
            if let Ok(mut spare) = SPARE_ARGUMENTS.lock() {
                spare.push(AtomicPtr::new(data));
            }
        })?;
        let arguments = x.array_buffer(data, ARGUMENT_SLOTS)?;
        x.value("args", arguments)?;
        x.keep(arguments)?;
        x.function_with("exec", exec, data.cast())?;
        x.function("replay", replay)?;
        let names = kernel::table().iter().map(|k| k.0).collect::<Vec<_>>().join("\n");
        let names = x.string(&names)?;
        x.value("kernels", names)?;
        memory::register(&mut x)?;
        machine::register(&mut x)?;
        template::register(&mut x)?;
        text::register(&mut x)
    };
    if let Err(message) = register() {
        napi::throw(env, &message);
    }
    exports
}

/// `exec(id)`: runs kernel `id` on the arguments in the shared array; a kernel's number, if it has one, is left in slot 0.
fn exec(call: &Call) -> Result<sys::napi_value, String> {
    let data: *mut f64 = call.data().cast();
    let mut args = kernel::Args::new(data, ARGUMENT_SLOTS);
    let _same_instructions = machine::running();
    run(call.number(0)?, &mut args)?;
    if let Some(answer) = args.answer {
        // SAFETY: the shared array has a slot 0, and nobody else writes to it during the call.
        unsafe { *data = answer };
    }
    Ok(call.undefined())
}

/// `replay(calls)`: runs one kernel after the other, as `exec` would, from a `Float64Array` that holds for each its number, the count of its
/// argument slots, and those. What they answer is nobody's.
fn replay(call: &Call) -> Result<sys::napi_value, String> {
    let calls = call.view(0)?;
    let data: *const f64 = calls.pointer.cast_const().cast();
    let slots = calls.bytes / size_of::<f64>();
    if !data.is_aligned() {
        return Err("replay: expected a Float64Array, got an array of something else".into());
    }
    let _same_instructions = machine::running();
    let mut at = 0;
    while at < slots {
        let rest = slots - at;
        // SAFETY: slot `at` lies in the array; the one behind it is read only where it does too.
        let (id, count) = unsafe { (*data.add(at), if rest > 1 { *data.add(at + 1) } else { -1.0 }) };
        if !(count >= 0.0 && count.fract() == 0.0 && count <= (rest.max(2) - 2) as f64) {
            return Err(format!("replay: expected a count of slots within the {rest} that are left at slot {at}, got {count}"));
        }
        // SAFETY: as many slots as `count` says lie behind the two, as just checked.
        let mut args = kernel::Args::new(unsafe { data.add(at + 2) }, count as usize);
        run(id, &mut args)?;
        at += 2 + count as usize;
    }
    Ok(call.undefined())
}

/// Runs the kernel of this number.
fn run(id: f64, args: &mut kernel::Args) -> Result<(), String> {
    let kernel = if id >= 0.0 && id.fract() == 0.0 { kernel::table().get(id as usize) } else { None };
    let (name, kernel) = kernel.ok_or_else(|| format!("exec: no kernel has the number {id}"))?;
    kernel(args).map_err(|message| format!("{name}: {message}"))
}

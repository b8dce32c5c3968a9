//! The thin N-API layer: checks arguments, looks up buffers, calls a kernel. No arithmetic lives here.
//!
//! There are two kinds of exports. *Functions* ([`napi::Exports::function`]) take ordinary JavaScript values: buffers,
//! tokenizers, information. *Kernels* ([`kernel::Table`]) take numbers only: JavaScript writes a kernel's arguments into
//! one shared array of float64 and calls `exec(id)`, which costs tens of nanoseconds where wrapped objects cost hundreds.
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
    let id = call.number(0)?;
    let kernel = if id >= 0.0 && id.fract() == 0.0 { kernel::table().get(id as usize) } else { None };
    let (name, run) = kernel.ok_or_else(|| format!("exec: no kernel has the number {id}"))?;
    let mut args = kernel::Args::new(call.data().cast(), ARGUMENT_SLOTS);
    let _same_instructions = machine::running();
    match run(&mut args) {
        Ok(()) => Ok(call.undefined()),
        Err(message) => Err(format!("{name}: {message}")),
    }
}

//! The few N-API calls that groundup needs, as small safe functions. Errors are strings that become JavaScript exceptions.

pub use napi_sys as sys;
use std::ffi::CString;
use std::os::raw::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What an exported function looks like on the Rust side.
pub type Function = fn(&Call) -> Result<sys::napi_value, String>;

const MOST_ARGUMENTS: usize = 8;

/// Looks up the engine's N-API functions in the process; once, before the first of them is called.
pub fn find_symbols() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: the library that the symbols come from is the process itself; its handle is never closed.
    ONCE.call_once(|| std::mem::forget(unsafe { sys::setup() }));
}

/// Keeps this library in the process, once. Node unloads it when the last thread that loaded it ends, where the system lets it: with
/// a worker that alone used it would go what the worker has shared, and the code under the threads of the pool.
pub fn stay_loaded() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let inside: *const c_void = (stay_loaded as fn()) as *const c_void;
        // SAFETY: the address lies in this library, whose loaded file is opened once more and never closed.
        #[cfg(unix)]
        unsafe {
            let mut found: libc::Dl_info = std::mem::zeroed();
            if libc::dladdr(inside, &mut found) != 0 {
                libc::dlopen(found.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            }
        }
        // SAFETY: as above; the flags say that the name is an address inside of the library, and that it is never unloaded.
        #[cfg(windows)]
        unsafe {
            const PIN_BY_ADDRESS: u32 = 1 | 4;
            unsafe extern "system" {
                fn GetModuleHandleExW(flags: u32, name: *const u16, module: *mut *mut c_void) -> i32;
            }
            let mut module = std::ptr::null_mut();
            GetModuleHandleExW(PIN_BY_ADDRESS, inside.cast(), &mut module);
        }
    });
}

fn check(status: sys::napi_status, what: &str) -> Result<(), String> {
    if status == sys::Status::napi_ok { Ok(()) } else { Err(format!("{what}: the JavaScript engine answered with status {status}")) }
}

/// Throws a JavaScript `Error` with this message.
pub fn throw(env: sys::napi_env, message: &str) {
    let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
    // SAFETY: env is the live environment of the current call; the text ends in NUL.
    unsafe { sys::napi_throw_error(env, std::ptr::null(), text.as_ptr()) };
}

/// One call from JavaScript: its arguments and the values to answer with.
pub struct Call {
    env: sys::napi_env,
    args: [sys::napi_value; MOST_ARGUMENTS],
    count: usize,
    data: *mut c_void,
}

/// The bytes behind a typed array, `Buffer` or `DataView` argument.
pub struct View {
    pub pointer: *mut u8,
    pub bytes: usize,
}

impl View {
    pub fn bytes(&self) -> &[u8] {
        if self.bytes == 0 {
            return &[];
        }
        // SAFETY: the engine gave this range, and keeps it alive for the length of the call.
        unsafe { std::slice::from_raw_parts(self.pointer, self.bytes) }
    }
}

impl Call {
    pub fn env(&self) -> sys::napi_env {
        self.env
    }
    /// The JavaScript thread that calls.
    pub fn thread(&self) -> usize {
        self.env as usize
    }
    /// The number of arguments given.
    pub fn count(&self) -> usize {
        self.count
    }
    /// The pointer the function was registered with.
    pub fn data(&self) -> *mut c_void {
        self.data
    }
    fn argument(&self, i: usize) -> Result<sys::napi_value, String> {
        if i < self.count {
            Ok(self.args[i])
        } else {
            Err(format!("argument {i} is missing, expected at least {}, got {}", i + 1, self.count))
        }
    }
    pub fn raw(&self, i: usize) -> Result<sys::napi_value, String> {
        self.argument(i)
    }
    pub fn number(&self, i: usize) -> Result<f64, String> {
        let mut x = 0.0;
        // SAFETY: env and value belong to the current call.
        let status = unsafe { sys::napi_get_value_double(self.env, self.argument(i)?, &mut x) };
        if status == sys::Status::napi_ok { Ok(x) } else { Err(format!("argument {i}: expected a number, got something else")) }
    }
    pub fn boolean(&self, i: usize) -> Result<bool, String> {
        let mut x = false;
        // SAFETY: env and value belong to the current call.
        let status = unsafe { sys::napi_get_value_bool(self.env, self.argument(i)?, &mut x) };
        if status == sys::Status::napi_ok { Ok(x) } else { Err(format!("argument {i}: expected a boolean, got something else")) }
    }
    /// A string argument as UTF-8 (lone surrogates become U+FFFD).
    pub fn string(&self, i: usize) -> Result<String, String> {
        let value = self.argument(i)?;
        let mut length = 0;
        // SAFETY: env and value belong to the current call; a null buffer asks for the length.
        let status = unsafe { sys::napi_get_value_string_utf8(self.env, value, std::ptr::null_mut(), 0, &mut length) };
        if status != sys::Status::napi_ok {
            return Err(format!("argument {i}: expected a string, got something else"));
        }
        let mut bytes = vec![0u8; length + 1];
        // SAFETY: the buffer has room for the length asked for and the closing NUL.
        let status =
            unsafe { sys::napi_get_value_string_utf8(self.env, value, bytes.as_mut_ptr().cast::<c_char>(), bytes.len(), &mut length) };
        check(status, "string argument")?;
        bytes.truncate(length);
        String::from_utf8(bytes).map_err(|_| format!("argument {i}: the engine gave a string that is not UTF-8"))
    }
    /// A typed array, `Buffer` or `DataView` argument. `None` for undefined and null.
    pub fn view(&self, i: usize) -> Result<View, String> {
        let value = self.argument(i)?;
        let (mut pointer, mut length, mut kind) = (std::ptr::null_mut(), 0usize, 0);
        let (mut owner, mut offset) = (std::ptr::null_mut(), 0usize);
        let mut is = false;
        // SAFETY: env and value belong to the current call; every out-pointer is a live local.
        unsafe {
            check(sys::napi_is_typedarray(self.env, value, &mut is), "view")?;
            if is {
                let status = sys::napi_get_typedarray_info(self.env, value, &mut kind, &mut length, &mut pointer, &mut owner, &mut offset);
                check(status, "typed array")?;
                let item = match kind {
                    sys::TypedarrayType::int16_array | sys::TypedarrayType::uint16_array => 2,
                    sys::TypedarrayType::int32_array | sys::TypedarrayType::uint32_array | sys::TypedarrayType::float32_array => 4,
                    sys::TypedarrayType::float64_array | sys::TypedarrayType::bigint64_array | sys::TypedarrayType::biguint64_array => 8,
                    _ => 1,
                };
                return Ok(View { pointer: pointer.cast(), bytes: length * item });
            }
        }
        Err(format!("argument {i}: expected a typed array, got something else"))
    }
    pub fn undefined(&self) -> sys::napi_value {
        std::ptr::null_mut()
    }
    pub fn from_number(&self, x: f64) -> Result<sys::napi_value, String> {
        let mut v = std::ptr::null_mut();
        // SAFETY: env belongs to the current call.
        check(unsafe { sys::napi_create_double(self.env, x, &mut v) }, "number")?;
        Ok(v)
    }
    pub fn from_boolean(&self, x: bool) -> Result<sys::napi_value, String> {
        let mut v = std::ptr::null_mut();
        // SAFETY: env belongs to the current call.
        check(unsafe { sys::napi_get_boolean(self.env, x, &mut v) }, "boolean")?;
        Ok(v)
    }
    pub fn from_string(&self, s: &str) -> Result<sys::napi_value, String> {
        let mut v = std::ptr::null_mut();
        // SAFETY: env belongs to the current call; the text is as long as said.
        check(unsafe { sys::napi_create_string_utf8(self.env, s.as_ptr().cast(), s.len() as isize, &mut v) }, "string")?;
        Ok(v)
    }
    /// A new `Int32Array` with these values.
    pub fn from_i32(&self, values: &[i32]) -> Result<sys::napi_value, String> {
        let (mut data, mut buffer, mut v) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the new buffer has room for every value; env belongs to the current call.
        unsafe {
            check(sys::napi_create_arraybuffer(self.env, values.len() * 4, &mut data, &mut buffer), "array buffer")?;
            if !values.is_empty() {
                std::ptr::copy_nonoverlapping(values.as_ptr(), data.cast::<i32>(), values.len());
            }
            let status = sys::napi_create_typedarray(self.env, sys::TypedarrayType::int32_array, values.len(), buffer, 0, &mut v);
            check(status, "Int32Array")?;
        }
        Ok(v)
    }
    /// A new `Uint8Array` with these bytes.
    pub fn from_bytes(&self, values: &[u8]) -> Result<sys::napi_value, String> {
        let (mut data, mut buffer, mut v) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: as above.
        unsafe {
            check(sys::napi_create_arraybuffer(self.env, values.len(), &mut data, &mut buffer), "array buffer")?;
            if !values.is_empty() {
                std::ptr::copy_nonoverlapping(values.as_ptr(), data.cast::<u8>(), values.len());
            }
            let status = sys::napi_create_typedarray(self.env, sys::TypedarrayType::uint8_array, values.len(), buffer, 0, &mut v);
            check(status, "Uint8Array")?;
        }
        Ok(v)
    }
}

/// What the library hands to JavaScript.
pub struct Exports {
    env: sys::napi_env,
    exports: sys::napi_value,
}

struct Registered {
    function: Function,
    data: *mut c_void,
}

impl Exports {
    pub fn new(env: sys::napi_env, exports: sys::napi_value) -> Self {
        Exports { env, exports }
    }

    /// Exports a function under this name.
    pub fn function(&mut self, name: &str, function: Function) -> Result<(), String> {
        self.function_with(name, function, std::ptr::null_mut())
    }

    /// Exports a function that is given `data` at each call.
    pub fn function_with(&mut self, name: &str, function: Function, data: *mut c_void) -> Result<(), String> {
        let registered = Box::into_raw(Box::new(Registered { function, data }));
        let mut v = std::ptr::null_mut();
        // SAFETY: env is live; `registered` is never freed, as long-lived as the function.
        let status = unsafe {
            sys::napi_create_function(self.env, name.as_ptr().cast(), name.len() as isize, Some(trampoline), registered.cast(), &mut v)
        };
        check(status, name)?;
        self.value(name, v)
    }

    pub fn value(&mut self, name: &str, value: sys::napi_value) -> Result<(), String> {
        let key = CString::new(name).map_err(|e| e.to_string())?;
        // SAFETY: env, exports and value belong to the current registration.
        check(unsafe { sys::napi_set_named_property(self.env, self.exports, key.as_ptr(), value) }, name)
    }

    pub fn string(&mut self, s: &str) -> Result<sys::napi_value, String> {
        let mut v = std::ptr::null_mut();
        // SAFETY: the text is as long as said.
        check(unsafe { sys::napi_create_string_utf8(self.env, s.as_ptr().cast(), s.len() as isize, &mut v) }, "string")?;
        Ok(v)
    }

    /// The JavaScript thread that loads the library.
    pub fn thread(&self) -> usize {
        self.env as usize
    }

    /// Runs `end` when the thread ends: at the end of its program, by `process.exit()`, or by `terminate()`. No JavaScript of the
    /// thread runs at that time or later.
    pub fn at_end(&mut self, end: impl FnOnce() + 'static) -> Result<(), String> {
        let end: Box<Box<dyn FnOnce()>> = Box::new(Box::new(end));
        let end = Box::into_raw(end);
        // SAFETY: env is live; `run_end` gets its box back.
        check(unsafe { sys::napi_add_env_cleanup_hook(self.env, Some(run_end), end.cast()) }, "cleanup hook")
    }

    /// An `ArrayBuffer` over `items` numbers that are never freed.
    pub fn array_buffer(&mut self, data: *mut f64, items: usize) -> Result<sys::napi_value, String> {
        let mut v = std::ptr::null_mut();
        // SAFETY: env is live; the memory is as long as said and outlives everything.
        let status = unsafe {
            sys::napi_create_external_arraybuffer(self.env, data.cast(), items * size_of::<f64>(), None, std::ptr::null_mut(), &mut v)
        };
        check(status, "array buffer")?;
        Ok(v)
    }

    /// Keeps a value alive as long as the library.
    pub fn keep(&mut self, value: sys::napi_value) -> Result<(), String> {
        let mut reference = std::ptr::null_mut();
        // SAFETY: env and value are live.
        check(unsafe { sys::napi_create_reference(self.env, value, 1, &mut reference) }, "reference")
    }
}

unsafe extern "C" fn run_end(end: *mut c_void) {
    // SAFETY: the box that `at_end` gave away; the engine calls this once.
    let end = unsafe { Box::from_raw(end.cast::<Box<dyn FnOnce()>>()) };
    // There is nobody left to tell.
    let _ = catch_unwind(AssertUnwindSafe(end));
}

unsafe extern "C" fn trampoline(env: sys::napi_env, info: sys::napi_callback_info) -> sys::napi_value {
    let mut call = Call { env, args: [std::ptr::null_mut(); MOST_ARGUMENTS], count: MOST_ARGUMENTS, data: std::ptr::null_mut() };
    let mut data = std::ptr::null_mut();
    // SAFETY: env and info belong to this call; args has room for `count` values.
    let status = unsafe { sys::napi_get_cb_info(env, info, &mut call.count, call.args.as_mut_ptr(), std::ptr::null_mut(), &mut data) };
    if status != sys::Status::napi_ok {
        throw(env, "the JavaScript engine gave no call information");
        return std::ptr::null_mut();
    }
    call.count = call.count.min(MOST_ARGUMENTS);
    // SAFETY: data is the `Registered` that this function was created with, never freed.
    let registered = unsafe { &*data.cast::<Registered>() };
    call.data = registered.data;
    match catch_unwind(AssertUnwindSafe(|| (registered.function)(&call))) {
        Ok(Ok(value)) => value,
        Ok(Err(message)) => {
            throw(env, &message);
            std::ptr::null_mut()
        }
        Err(panic) => {
            let what = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            throw(env, &format!("internal: {}", what.unwrap_or("a panic without words")));
            std::ptr::null_mut()
        }
    }
}

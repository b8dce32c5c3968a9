//! Text from JavaScript as one UTF-8 buffer, and lists back to it.

use crate::napi::{Call, sys};
use groundup_text::{utf8_from_bytes, utf8_from_utf16};
use std::cell::RefCell;
use std::ptr;

/// Documents one after the other, with where each ends, and how many malformed parts became U+FFFD.
pub struct Documents<'a> {
    pub text: &'a [u8],
    pub ends: &'a [usize],
    pub replaced: usize,
}

#[derive(Default)]
struct Buffers {
    units: Vec<u16>,
    text: Vec<u8>,
    ends: Vec<usize>,
}

/// Buffers above this are given back after the call.
const KEPT: usize = 1 << 22;

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

fn check(status: sys::napi_status, i: usize) -> Result<(), String> {
    if status == sys::Status::napi_ok { Ok(()) } else { Err(format!("argument {i}: expected a string, a Uint8Array or an array of these")) }
}

/// Runs `work` on argument `i`: a string, a `Uint8Array`, or an array of these (each a document).
pub fn documents<R>(call: &Call, i: usize, work: impl FnOnce(Documents<'_>) -> Result<R, String>) -> Result<R, String> {
    // Taken, not borrowed: a call that comes in while this one runs just gets empty buffers.
    let mut buffers = BUFFERS.with(RefCell::take);
    buffers.text.clear();
    buffers.ends.clear();
    let result = gather(call, i, &mut buffers).and_then(|replaced| work(Documents { text: &buffers.text, ends: &buffers.ends, replaced }));
    if buffers.text.capacity() > KEPT {
        buffers = Buffers::default();
    }
    BUFFERS.with(|kept| kept.replace(buffers));
    result
}

fn gather(call: &Call, i: usize, buffers: &mut Buffers) -> Result<usize, String> {
    let value = call.raw(i)?;
    let (mut is_array, mut length) = (false, 0u32);
    // SAFETY: env and value belong to the current call; the out-pointer is a live local.
    check(unsafe { sys::napi_is_array(call.env(), value, &mut is_array) }, i)?;
    if !is_array {
        return append(call.env(), value, i, buffers);
    }
    // SAFETY: as above, and the value is an array.
    check(unsafe { sys::napi_get_array_length(call.env(), value, &mut length) }, i)?;
    let mut replaced = 0;
    for at in 0..length {
        let scope = HandleScope::open(call.env())?;
        let mut item = ptr::null_mut();
        // SAFETY: as above; a handle scope keeps a long array from holding every item's handle at once.
        check(unsafe { sys::napi_get_element(call.env(), value, at, &mut item) }, i)?;
        replaced += append(call.env(), item, i, buffers)?;
        drop(scope);
    }
    Ok(replaced)
}

struct HandleScope(sys::napi_env, sys::napi_handle_scope);

impl HandleScope {
    fn open(env: sys::napi_env) -> Result<Self, String> {
        let mut scope = ptr::null_mut();
        // SAFETY: env is live; the scope is closed on drop, in reverse order of opening.
        let status = unsafe { sys::napi_open_handle_scope(env, &mut scope) };
        if status == sys::Status::napi_ok { Ok(Self(env, scope)) } else { Err("no handle scope could be opened".into()) }
    }
}

impl Drop for HandleScope {
    fn drop(&mut self) {
        // SAFETY: this scope was opened on this environment and not closed yet.
        unsafe { sys::napi_close_handle_scope(self.0, self.1) };
    }
}

/// Appends one document; returns how many parts were replaced.
fn append(env: sys::napi_env, value: sys::napi_value, i: usize, buffers: &mut Buffers) -> Result<usize, String> {
    let mut length = 0usize;
    // SAFETY: env and value belong to the current call; a null buffer asks for the length.
    let status = unsafe { sys::napi_get_value_string_utf16(env, value, ptr::null_mut(), 0, &mut length) };
    let replaced = if status == sys::Status::napi_ok {
        buffers.units.clear();
        buffers.units.reserve(length + 1);
        // SAFETY: there is room for the length asked for and the closing zero; the engine fills `length` units.
        unsafe {
            check(sys::napi_get_value_string_utf16(env, value, buffers.units.as_mut_ptr(), length + 1, &mut length), i)?;
            buffers.units.set_len(length);
        }
        let replaced = utf8_from_utf16(&buffers.units, &mut buffers.text);
        if buffers.units.capacity() * 2 > KEPT {
            buffers.units = Vec::new();
        }
        replaced
    } else {
        let mut is_view = false;
        // SAFETY: env and value belong to the current call.
        check(unsafe { sys::napi_is_typedarray(env, value, &mut is_view) }, i)?;
        if !is_view {
            return Err(format!("argument {i}: expected a string, a Uint8Array or an array of these"));
        }
        let (mut kind, mut bytes, mut data, mut owner, mut offset) = (0, 0usize, ptr::null_mut(), ptr::null_mut(), 0usize);
        // SAFETY: the value is a typed array; every out-pointer is a live local.
        check(unsafe { sys::napi_get_typedarray_info(env, value, &mut kind, &mut bytes, &mut data, &mut owner, &mut offset) }, i)?;
        if kind != sys::TypedarrayType::uint8_array {
            return Err(format!("argument {i}: expected text as a Uint8Array of UTF-8, got another typed array"));
        }
        if bytes == 0 {
            0
        } else {
            // SAFETY: the engine gave this range and keeps it alive for the length of the call.
            let (text, replaced) = utf8_from_bytes(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), bytes) });
            buffers.text.extend_from_slice(&text);
            replaced
        }
    };
    buffers.ends.push(buffers.text.len());
    Ok(replaced)
}

/// A new `Int32Array` with the values of all parts, `total` in number.
pub fn list<'a>(call: &Call, total: usize, parts: impl Iterator<Item = &'a [u32]>) -> Result<sys::napi_value, String> {
    let (mut data, mut buffer, mut array) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let failed = |status| format!("an Int32Array of {total} items could not be made (status {status})");
    // SAFETY: env belongs to the current call; the out-pointers are live locals.
    let status = unsafe { sys::napi_create_arraybuffer(call.env(), total * 4, &mut data, &mut buffer) };
    if status != sys::Status::napi_ok {
        return Err(failed(status));
    }
    let mut at = 0;
    for part in parts {
        assert!(at + part.len() <= total, "parts hold more than their total");
        // SAFETY: the buffer has room for `total` items and this part ends within them; an empty part copies nothing.
        unsafe { ptr::copy_nonoverlapping(part.as_ptr(), data.cast::<u32>().wrapping_add(at), part.len()) };
        at += part.len();
    }
    // SAFETY: the buffer holds `total` items of four bytes.
    let status = unsafe { sys::napi_create_typedarray(call.env(), sys::TypedarrayType::int32_array, total, buffer, 0, &mut array) };
    if status == sys::Status::napi_ok { Ok(array) } else { Err(failed(status)) }
}

/// A new JavaScript array of these values.
pub fn new_list(call: &Call, values: &[sys::napi_value]) -> Result<sys::napi_value, String> {
    let mut array = ptr::null_mut();
    // SAFETY: env and values belong to the current call.
    unsafe {
        let mut status = sys::napi_create_array_with_length(call.env(), values.len(), &mut array);
        for (at, &value) in values.iter().enumerate() {
            if status == sys::Status::napi_ok {
                status = sys::napi_set_element(call.env(), array, at as u32, value);
            }
        }
        if status == sys::Status::napi_ok { Ok(array) } else { Err(format!("an array could not be made (status {status})")) }
    }
}

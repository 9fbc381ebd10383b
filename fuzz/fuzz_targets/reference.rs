//! Fuzzes image references; what must hold is in `src/reference.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rbuild_fuzz::reference::check(bytes));

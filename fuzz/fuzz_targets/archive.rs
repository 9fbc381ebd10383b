//! Fuzzes the readers of archives; what must hold is in `src/archive.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rbuild_fuzz::archive::check(bytes));

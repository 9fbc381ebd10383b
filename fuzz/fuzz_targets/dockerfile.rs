//! Fuzzes the parser; what must hold is in `src/dockerfile.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rbuild_fuzz::dockerfile::check(bytes));

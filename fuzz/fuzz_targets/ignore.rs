//! Fuzzes file name patterns and ignore rules; what must hold is in `src/ignore.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rbuild_fuzz::ignore::check(bytes));

//! Fuzzes expansion; what must hold is in `src/words.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rbuild_fuzz::words::check(bytes));

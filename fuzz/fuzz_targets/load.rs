//! Fuzzes the readers of archives of images; what must hold is in `src/load.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rbuild_fuzz::load::check(bytes));

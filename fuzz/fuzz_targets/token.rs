#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tallyd::fuzzing::token::run(bytes));

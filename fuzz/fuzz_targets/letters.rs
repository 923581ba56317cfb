#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tallyd_fuzz_readers::letters::run(bytes));

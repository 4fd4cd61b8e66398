//! The query of every list, and of the events.
#![no_main]

libfuzzer_sys::fuzz_target!(|query: &str| wharf_manager::fuzzing::lists(query));

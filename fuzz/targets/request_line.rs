//! The head of a request, as a client may write it: method, path and query.
#![no_main]

libfuzzer_sys::fuzz_target!(|head: &[u8]| wharf_manager::fuzzing::request_line(head));

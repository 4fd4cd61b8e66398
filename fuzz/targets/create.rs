//! The body of a create: what an engine gets is what the client sent, but for what Wharf has to say.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| wharf_manager::fuzzing::create(body));

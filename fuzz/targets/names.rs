//! A datagram that asks for a name, or answers for a server outside: no panic, and no answer that is longer than it may be.
#![no_main]

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| wharf_agent::names::fuzz(datagram));

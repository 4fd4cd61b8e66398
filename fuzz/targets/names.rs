//! A datagram at the DNS server, and what a server that was asked answers to the question in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| wharf_agent::names::fuzz(datagram));

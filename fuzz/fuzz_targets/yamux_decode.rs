#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| controlplane_world::fuzz::yamux_decode(data));

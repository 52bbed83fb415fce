//! Fuzzes the function of this name in `entry.rs`.
#![no_main]

#[allow(dead_code)] // Each target has one of the entry points.
#[path = "../entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::running(data));

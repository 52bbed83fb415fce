//! Text output on COM1. QEMU's needs no setup. Nothing orders the output of several CPUs.

use core::fmt::{self, Write};

use crate::cpu;

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;

struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: reading the line status and sending a byte do nothing to memory.
            unsafe {
                while cpu::in_8(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {}
                cpu::out_8(COM1, byte);
            }
        }
        Ok(())
    }
}

/// For [`println!`](crate::println).
pub fn print_line(text: fmt::Arguments<'_>) {
    // `Serial` never fails, and a `Display` that does has no better place to say so.
    let _ = Serial.write_fmt(text);
    let _ = Serial.write_str("\n");
}

#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::serial::print_line(format_args!($($argument)*))
    };
}

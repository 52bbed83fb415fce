//! Text output on COM1, which needs no setup in QEMU. Lines of several CPUs are not mixed.

use core::{
    fmt::{self, Write},
    hint,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{cpu, segments};

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
const DATA_READY: u8 = 1 << 0;
const TRANSMITTER_EMPTY: u8 = 1 << 5;

struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        print(text);
        Ok(())
    }
}

/// Prints a text, without waiting for other CPUs and without `core::fmt`.
pub fn print(text: &str) {
    text.bytes().for_each(print_byte);
}

/// Prints a byte likewise.
pub fn print_byte(byte: u8) {
    // SAFETY: reading the line status and sending a byte do not change memory.
    unsafe {
        while cpu::in_8(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {}
        cpu::out_8(COM1, byte);
    }
}

/// Returns a byte that has come in, if there is one.
pub fn read() -> Option<u8> {
    // SAFETY: reading the line status, and the byte, does not change memory.
    unsafe { (cpu::in_8(LINE_STATUS) & DATA_READY != 0).then(|| cpu::in_8(COM1)) }
}

/// The number of the CPU that prints a line, plus 1; 0 if none does.
static PRINTING: AtomicUsize = AtomicUsize::new(0);

/// Prints a line for [`println!`](crate::println).
///
/// Waits for its turn for a limited time: the CPU that has the turn may have been stopped for good,
/// and then a mixed line is better than none. A handler that interrupts a line of its own CPU does
/// not wait at all.
pub fn print_line(text: fmt::Arguments<'_>) {
    const PATIENCE: usize = 1_000_000;

    let this = segments::current_cpu() + 1;
    let taken = (PRINTING.load(Ordering::Relaxed) != this)
        && (0..PATIENCE).any(|_| {
            let free =
                PRINTING.compare_exchange(0, this, Ordering::Acquire, Ordering::Relaxed).is_ok();
            if !free {
                hint::spin_loop();
            }
            free
        });

    // `Serial` never fails. If a `Display` fails, there is no other place to report it.
    let _ = Serial.write_fmt(text);
    let _ = Serial.write_str("\n");

    if taken {
        PRINTING.store(0, Ordering::Release);
    }
}

#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::serial::print_line(format_args!($($argument)*))
    };
}

//! Text output on COM1. QEMU's needs no setup. The lines of several CPUs come one after the other.

use core::{
    fmt::{self, Write},
    hint,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{cpu, segments};

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

/// The number of the CPU that prints a line, + 1; 0 if none does.
static PRINTING: AtomicUsize = AtomicUsize::new(0);

/// For [`println!`](crate::println).
///
/// Waits for its turn, but not for ever: the CPU that has it may have been stopped for good, and
/// two lines in one say more than none. A handler that prints into the line of its own CPU does not
/// wait at all.
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

    // `Serial` never fails, and a `Display` that does has no better place to say so.
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

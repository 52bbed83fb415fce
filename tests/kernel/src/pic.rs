//! The two 8259 interrupt controllers: all lines off, for the firmware has left the
//! timer's on, with a vector that is an exception's.

use crate::cpu;

/// The interrupt mask registers of the first and the second one.
const MASKS: [u16; 2] = [0x21, 0xa1];

/// Lets no interrupt of theirs through.
pub fn mask_all() {
    for port in MASKS {
        // SAFETY: a mask has no other effect than to hold interrupts off.
        unsafe { cpu::out_8(port, 0xff) };
    }
}

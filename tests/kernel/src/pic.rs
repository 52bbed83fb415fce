//! The two 8259 interrupt controllers. All their lines are masked, because the firmware leaves the
//! timer's line on, with a vector that is also an exception's.

use crate::cpu;

/// The ports of the interrupt mask registers of both controllers.
const MASKS: [u16; 2] = [0x21, 0xa1];

/// Masks all interrupts of both controllers.
pub fn mask_all() {
    for port in MASKS {
        // SAFETY: the write only masks interrupts, and no code relies on these.
        unsafe { cpu::out_8(port, 0xff) };
    }
}

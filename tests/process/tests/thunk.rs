//! The test that the thunk of a Rust function in a callee-save slot keeps the vector registers. The
//! test kernel, whose code uses no vector registers, checks the other registers.

use std::arch::asm;

/// The area that FXSAVE writes (Intel SDM vol. 1, "FXSAVE Area").
#[repr(align(16))]
struct State([u8; 512]);

/// The offset of XMM0 in this area, in bytes, and the number of XMM registers.
const XMM: usize = 160;
const REGISTERS: usize = if cfg!(target_arch = "x86_64") { 16 } else { 8 };

impl State {
    /// Returns a state in which every byte of every vector register is `byte`, and control words
    /// have the values that Rust code needs.
    const fn of(byte: u8) -> Self {
        let mut area = [0; 512];
        (area[0], area[1]) = (0x7f, 0x03); // FCW
        (area[24], area[25]) = (0x80, 0x1f); // MXCSR
        let mut at = XMM;
        while at < XMM + 16 * REGISTERS {
            area[at] = byte;
            at += 1;
        }
        Self(area)
    }

    fn vectors(&self) -> &[u8] {
        &self.0[XMM..][..16 * REGISTERS]
    }
}

static CALLERS: State = State::of(0x11);
static FUNCTIONS: State = State::of(0x22);

patchlet::slot_fn! {
    const CHANGES_VECTORS = callee_save fn() {
        // SAFETY: the control words keep their values. All other registers that change are among
        // those that C may change, which are declared as clobbered.
        unsafe { asm!("fxrstor [{}]", in(reg) &FUNCTIONS, clobber_abi("C")) }
    };
}

#[test]
fn vector_registers_survive_a_callee_save_call() {
    let mut after = State::of(0);
    // SAFETY: the thunk changes only the flags. The control words keep their values.
    unsafe {
        asm!(
            "fxrstor [{before}]",
            "call {thunk}",
            "fxsave [{after}]",
            before = in(reg) &CALLERS,
            thunk = in(reg) CHANGES_VECTORS.target().address(),
            after = in(reg) &mut after,
            clobber_abi("C"),
        );
    }
    assert_eq!(after.vectors(), CALLERS.vectors());
}

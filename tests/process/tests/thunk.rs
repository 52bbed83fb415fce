//! The thunk of a Rust function in a callee-save slot keeps the vector registers. The
//! test kernel, which has none, checks the others.

use std::arch::asm;

/// What FXSAVE stores (Intel SDM vol. 1, "FXSAVE Area").
#[repr(align(16))]
struct State([u8; 512]);

/// Where XMM0 is in it, and how many there are.
const XMM: usize = 160;
const REGISTERS: usize = if cfg!(target_arch = "x86_64") { 16 } else { 8 };

impl State {
    /// Every byte of every vector register is this one; the rest is as Rust wants it.
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
        // SAFETY: the control words stay, and what else changes C may change.
        unsafe { asm!("fxrstor [{}]", in(reg) &FUNCTIONS, clobber_abi("C")) }
    };
}

#[test]
fn vector_registers_survive_a_callee_save_call() {
    let mut after = State::of(0);
    // SAFETY: the thunk changes nothing but the flags; control words as above.
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

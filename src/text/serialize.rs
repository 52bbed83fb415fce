//! Serializing: after code was written, a CPU may still have the old instructions in its pipeline,
//! until it executes an instruction that serializes (Intel SDM vol. 3A, "Handling Self- and
//! Cross-Modifying Code").
//!
//! Unsafe code here executes IRET to the next instruction, with the stack and flags that it was
//! entered with.
#![allow(unsafe_code)]

/// The instruction by which a CPU serializes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Serializer {
    /// IRET to the next instruction, which serializes in every mode and at every privilege level
    /// (Intel SDM vol. 3A, "Serializing Instructions") and causes no exit to a hypervisor.
    ///
    /// Not for these two, which take [`Cpuid`](Self::Cpuid):
    /// - code that an NMI handler executes: IRET lets the next NMI in (Intel SDM vol. 3A,
    ///   "Handling Multiple NMIs");
    /// - code that runs with shadow stacks on (CET): IRET to the same privilege level pops the
    ///   return address from the shadow stack as well, where this one pushed none (Intel SDM
    ///   vol. 2A, "IRET"), and faults.
    #[default]
    Iret,
    /// CPUID, which serializes likewise. Under a hypervisor it causes an exit, which takes some
    /// microseconds, and in a confidential guest a #VC or #VE, which the kernel must be able to
    /// handle by then.
    Cpuid,
}

impl Serializer {
    /// Serializes this CPU.
    #[inline]
    pub fn serialize(self) {
        match self {
            Self::Iret => iret_to_next(),
            Self::Cpuid => cpuid(),
        }
    }
}

/// Executes IRET to the next instruction.
#[cfg(target_arch = "x86_64")]
fn iret_to_next() {
    // SAFETY: the five words are the frame that IRETQ pops: the stack segment and pointer,
    // flags and code segment that are in use, and the address behind it. The stack is the
    // caller's (no `nostack`), so that the compiler keeps nothing below the stack pointer.
    unsafe {
        core::arch::asm!(
            "mov {stack}, rsp",
            "mov {word:e}, ss",
            "push {word}",
            "push {stack}",
            "pushfq",
            "mov {word:e}, cs",
            "push {word}",
            "lea {word}, [rip + 2f]",
            "push {word}",
            "iretq",
            "2:",
            stack = out(reg) _,
            word = out(reg) _,
        );
    }
}

/// Executes IRET to the next instruction.
#[cfg(target_arch = "x86")]
fn iret_to_next() {
    // SAFETY: the three words are the frame that IRETD pops where the privilege level stays the
    // same: the flags and code segment that are in use, and the address behind the CALL, which
    // the CALL pushes, so that position-independent code needs no relocation. The stack is the
    // caller's, as there is no `nostack`. AT&T syntax, since in the other one `push cs` pushes
    // two bytes.
    unsafe {
        core::arch::asm!(
            "pushfl",
            "pushl %cs",
            "call 2f",
            "jmp 3f",
            "2:",
            "iretl",
            "3:",
            options(att_syntax)
        );
    }
}

/// Executes CPUID.
fn cpuid() {
    #[cfg(target_arch = "x86")]
    use core::arch::x86::__cpuid;
    #[cfg(target_arch = "x86_64")]
    use core::arch::x86_64::__cpuid;
    // The result is of no use. The instruction stays all the same, since it is an `asm!` without
    // the option `pure`. SAFETY: every CPU since the Pentium has CPUID.
    #[allow(unused_unsafe, reason = "newer libraries call it safe")]
    let _ = unsafe { __cpuid(0) };
}

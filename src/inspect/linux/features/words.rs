//! The words of features: which register of CPUID each is.

use crate::cpu::CpuidRegister;

/// The origin of a word of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WordSource {
    /// A register of CPUID: leaf, sub-leaf, register.
    Cpuid(u32, u32, CpuidRegister),
    /// The kernel decides about each bit.
    Kernel,
}

/// The words of features of 5.10 to 7.3, by their numbers. Older ones of these have fewer words,
/// in the same order.
pub(super) const WORDS: [WordSource; 22] = {
    use CpuidRegister::{Eax, Ebx, Ecx, Edx};
    use WordSource::{Cpuid, Kernel};
    [
        Cpuid(1, 0, Edx),
        Cpuid(0x8000_0001, 0, Edx),
        // Of Transmeta.
        Cpuid(0x8086_0001, 0, Edx),
        Kernel,
        Cpuid(1, 0, Ecx),
        // Of VIA.
        Cpuid(0xc000_0001, 0, Edx),
        Cpuid(0x8000_0001, 0, Ecx),
        Kernel,
        Kernel,
        Cpuid(7, 0, Ebx),
        Cpuid(0xd, 1, Eax),
        Kernel,
        Cpuid(7, 1, Eax),
        Cpuid(0x8000_0008, 0, Ebx),
        Cpuid(6, 0, Eax),
        Cpuid(0x8000_000a, 0, Edx),
        Cpuid(7, 0, Ecx),
        Cpuid(0x8000_0007, 0, Ebx),
        Cpuid(7, 0, Edx),
        Cpuid(0x8000_001f, 0, Eax),
        Cpuid(0x8000_0021, 0, Eax),
        Kernel,
    ]
};

/// Returns the number that a bit of a register of CPUID has.
pub(super) fn number_of_place(
    leaf: u32,
    sub_leaf: u32,
    register: CpuidRegister,
    bit: u32,
) -> Option<u16> {
    let source = WordSource::Cpuid(leaf, sub_leaf, register);
    let word = WORDS.iter().position(|word| *word == source)?;
    u16::try_from(word * 32 + bit as usize).ok()
}

/// Returns the register and the bit of CPUID that a number stands for.
pub(super) fn place(number: u16) -> Option<(u32, u32, CpuidRegister, u32)> {
    match WORDS.get(usize::from(number / 32))? {
        WordSource::Cpuid(leaf, sub_leaf, register) => {
            Some((*leaf, *sub_leaf, *register, u32::from(number % 32)))
        }
        WordSource::Kernel => None,
    }
}

//! The test of the hypercall page: it is filled, put where it can be executed, and each entry of this
//! width is called. On a CPU without a hypervisor the instruction of the entry raises #UD, which
//! shows which instruction was executed, where, and with which number.

use core::arch::asm;
#[cfg(target_arch = "x86")]
use core::arch::x86::__cpuid;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::__cpuid;

use crate::{own::hypervisor::hypercall_page, println, scratch, traps};

/// The number of a hypercall, and the bits that the entries add to it.
const NUMBER: u32 = 0x12;
const INTEL: u64 = 0x8000_0100;
const AMD: u64 = 0x8000_0200;

/// The bytes of `orl` before VMCALL or VMMCALL.
const BEFORE: usize = 5;

const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];
const VMMCALL: [u8; 3] = [0x0f, 0x01, 0xd9];

/// Fills the page and makes a hypercall by each entry.
pub fn entries_are_executed() {
    let holes = hypercall_page::Holes {
        intel_64_interface: INTEL,
        amd_64_interface: AMD,
        intel_32_interface: INTEL,
        amd_32_interface: AMD,
    };
    let mut copy = [0; 256];
    let page = scratch::load(holes.fill(&mut copy).expect("the holes can be filled").bytes());
    let (intel, amd) = if cfg!(target_arch = "x86_64") {
        (hypercall_page::offset::intel_64(), hypercall_page::offset::amd_64())
    } else {
        (hypercall_page::offset::intel_32(), hypercall_page::offset::amd_32())
    };
    assert_ne!(intel, amd);
    for (offset, interface, instruction) in [(intel, INTEL, VMCALL), (amd, AMD, VMMCALL)] {
        let entry = page.addr() + offset;
        // SAFETY: the closure has nothing to drop. The entry changes EAX and flags, and returns
        // unless its instruction traps. KVM changes no other register.
        let trap = unsafe {
            traps::catch(traps::INVALID_OPCODE, || {
                asm!("call {}", in(reg) entry, inout("eax") NUMBER => _, clobber_abi("C"));
            })
        };
        let Some(trap) = trap else {
            assert!(is_kvm(), "no #UD by the entry at {offset:#x}");
            println!("  the hypervisor answered at {offset:#x}");
            continue;
        };
        let at = trap.frame.ip;
        assert_eq!(at, entry + BEFORE);
        // SAFETY: the address is in the scratch buffer, which is readable.
        let executed = unsafe { core::ptr::with_exposed_provenance::<[u8; 3]>(at).read() };
        assert_eq!(executed, instruction);
        assert_eq!(trap.frame.accumulator() as u32, NUMBER | interface as u32);
    }
}

/// Returns whether KVM runs this kernel (Linux, Documentation/virt/kvm/x86/cpuid.rst).
fn is_kvm() -> bool {
    #[allow(unused_unsafe, reason = "a safe function in later versions of Rust")]
    // SAFETY: the CPU has PAE paging and therefore CPUID.
    let leaf = unsafe { __cpuid(0x4000_0000) };
    leaf.ebx == u32::from_le_bytes(*b"KVMK")
}

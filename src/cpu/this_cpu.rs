//! The detection of the features of the CPU that executes this.
//!
//! Unsafe code here executes CPUID, which returns values and changes nothing else, and reads control
//! registers where the caller has said that this is ring 0.
#![allow(unsafe_code)]

use core::arch::asm;

use super::detect::CpuidResult;
use super::feature::Feature;
use super::features::Features;

impl Features {
    /// Returns the features that CPUID tells of this CPU; none on a CPU without CPUID. Of what the
    /// operating system has switched on, it tells only [`OSXSAVE`](Feature::OSXSAVE) and
    /// [`OSPKE`](Feature::OSPKE).
    ///
    /// Under a hypervisor each CPUID causes an exit, and this executes some fifteen. In a confidential
    /// guest (SEV-ES, SEV-SNP, TDX) each raises #VC or #VE: before the kernel can handle these, use
    /// [`from_cpuid`](Self::from_cpuid).
    #[must_use]
    pub fn detect() -> Self {
        if has_cpuid() { Self::from_cpuid(cpuid) } else { Self::EMPTY }
    }

    /// Returns the features that CPUID, CR4 and XCR0 tell of this CPU: also those that the operating
    /// system has switched on. Call it when the kernel has set these registers.
    ///
    /// # Safety
    /// - this is ring 0.
    #[must_use]
    pub unsafe fn detect_with_control_registers() -> Self {
        let features = Self::detect();
        // A CPU without CPUID may have no CR4 either (SDM vol. 3A, "Control Registers").
        if features == Self::EMPTY {
            return features;
        }
        let cr4: usize;
        // SAFETY: the caller says that this is ring 0, and a CPU with CPUID has CR4. Reading it
        // changes nothing.
        unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags)) };
        // CR4.OSXSAVE is what allows XGETBV, and CPUID shows it.
        let xcr0 = if features.has(Feature::OSXSAVE) { xcr0() } else { 0 };
        // The bits that have names are in the low halves.
        features.with_control_registers(cr4 as u32, xcr0)
    }
}

/// Returns the low half of XCR0. CR4.OSXSAVE must be set.
fn xcr0() -> u32 {
    let low;
    // SAFETY: the only caller has checked OSXSAVE, so the instruction exists and is switched on. It
    // reads a register and changes nothing else.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _,
            options(nomem, nostack, preserves_flags));
    }
    low
}

/// Executes CPUID.
fn cpuid(leaf: u32, sub_leaf: u32) -> CpuidResult {
    let ebx: usize;
    let (eax, ecx, edx);
    // SAFETY: `has_cpuid` was asked. RBX (32 bit: EBX), which LLVM keeps for itself, is put back.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("mov {ebx}, rbx", "cpuid", "xchg {ebx}, rbx", ebx = out(reg) ebx,
            inlateout("eax") leaf => eax, inlateout("ecx") sub_leaf => ecx, lateout("edx") edx,
            options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "x86")]
        asm!("mov {ebx}, ebx", "cpuid", "xchg {ebx}, ebx", ebx = out(reg) ebx,
            inlateout("eax") leaf => eax, inlateout("ecx") sub_leaf => ecx, lateout("edx") edx,
            options(nomem, nostack, preserves_flags));
    }
    [eax, ebx as u32, ecx, edx]
}

/// Returns whether this CPU has CPUID. Every 64-bit CPU has.
#[cfg(target_arch = "x86_64")]
const fn has_cpuid() -> bool {
    true
}

/// Returns whether this CPU has CPUID: it does if the flag ID can be changed (SDM vol. 1, "EFLAGS
/// Register").
#[cfg(target_arch = "x86")]
fn has_cpuid() -> bool {
    const ID: u32 = 1 << 21;
    let changed: u32;
    // SAFETY: only the flag ID changes, which no code looks at, and it is put back.
    unsafe {
        asm!(
            "pushfd",
            "pushfd",
            "xor dword ptr [esp], {id}",
            "popfd",
            "pushfd",
            "pop {changed}",
            "xor {changed}, [esp]",
            "popfd",
            id = const ID,
            changed = out(reg) changed,
        );
    }
    changed & ID != 0
}

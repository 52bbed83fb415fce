//! The GDT, which all CPUs share, and a TSS for each CPU.

use crate::{arch, cpu};

pub const MAX_CPUS: usize = 4;

// Selectors. SYSRET takes its selectors from two bases, so the user segments must lie in this order
// (SDM vol. 3A section 5.8.8, "Fast System Calls in 64-Bit Mode"). The low two bits are the ring.
pub const KERNEL_CODE: u16 = 0x08;
pub const KERNEL_DATA: u16 = 0x10;
pub const USER_CODE_32: u16 = 0x18 | 3;
pub const USER_DATA: u16 = 0x20 | 3;
#[cfg(target_arch = "x86_64")]
pub const USER_CODE_64: u16 = 0x28 | 3;
const FIRST_TSS: u16 = 0x30;

// Descriptors: SDM vol. 3A section 3.4.5, "Segment Descriptors". Base 0, limit 4 GiB, present,
// accessed.
const DATA: u64 = 0x00cf_9300_0000_ffff;
const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
const CODE_64: u64 = 0x00af_9b00_0000_ffff;
const RING_3: u64 = 3 << 45;
/// A descriptor of type "available TSS", present, with base and limit 0.
const TSS: u64 = 0x89 << 40;

const KERNEL_CODE_DESCRIPTOR: u64 = if cfg!(target_arch = "x86_64") { CODE_64 } else { CODE_32 };

/// The number of entries. A TSS descriptor takes two in 64-bit mode; in 32-bit mode the second is
/// null.
const GDT_ENTRIES: usize = 6 + 2 * MAX_CPUS;

static mut GDT: [u64; GDT_ENTRIES] = [0; GDT_ENTRIES];

/// A TSS: 104 bytes in both modes. Only the stack for traps is used.
pub type Tss = [u32; 26];

static mut TSSES: [Tss; MAX_CPUS] = [[0; 26]; MAX_CPUS];

#[repr(C, align(16))]
struct Stack([u8; 16 * 1024]);

static mut TRAP_STACKS: [Stack; MAX_CPUS] = [const { Stack([0; 16 * 1024]) }; MAX_CPUS];

/// Fills the GDT and the TSSes.
///
/// # Safety
/// - called once, by one CPU, before any CPU loads them.
pub unsafe fn build() {
    let (gdt, tsses) = (&raw mut GDT, &raw mut TSSES);
    // SAFETY: no other reference to them is made, and no CPU uses them yet.
    let (gdt, tsses) = unsafe { (&mut *gdt, &mut *tsses) };
    gdt[1] = KERNEL_CODE_DESCRIPTOR;
    gdt[2] = DATA;
    gdt[3] = CODE_32 | RING_3;
    gdt[4] = DATA | RING_3;
    gdt[5] = CODE_64 | RING_3;

    let stacks = (&raw const TRAP_STACKS).cast::<Stack>();
    for (number, tss) in tsses.iter_mut().enumerate() {
        arch::set_trap_stack(tss, stacks.wrapping_add(number + 1).addr());
        // An offset of the I/O permission bitmap at the limit means that there is none (SDM vol. 1
        // section 19.5.2, "I/O Permission Bit Map").
        tss[25] = (size_of::<Tss>() as u32) << 16;

        let base = (&raw const *tss).addr() as u64;
        let limit = size_of::<Tss>() as u64 - 1;
        let slot = usize::from(FIRST_TSS) / 8 + 2 * number;
        gdt[slot] = TSS | limit | (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56;
        gdt[slot + 1] = base >> 32;
    }
}

/// Makes this CPU, number `cpu`, use the GDT and its TSS.
///
/// # Safety
/// - [`build`] was called, and no other CPU has this number.
pub unsafe fn load(cpu: usize) {
    // SAFETY: `build` has filled the GDT with flat ring 0 segments, so the addresses of code and
    // stack stay the same. No other CPU has this number, so the TSS is available.
    unsafe {
        cpu::load_gdt(&raw const GDT);
        arch::load_segments();
        cpu::load_task_register(FIRST_TSS + 16 * cpu as u16);
    }
}

/// Returns the number that this CPU gave to [`load`]. It is found by the task register and not by a
/// per-CPU base, so a test may change GS.
pub fn current_cpu() -> usize {
    usize::from((cpu::task_register() - FIRST_TSS) / 16)
}

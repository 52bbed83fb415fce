//! The test of patchlets. Every patchlet is executed from a copy of its bytes in the scratch
//! buffer, and its effect is checked.

use core::arch::asm;

use patchlet::{Patchlet, native};

use crate::{apic, assembly, cpu, own, println, scratch, traps, user};

/// The opcode of `ret`, which is put behind a patchlet that does not leave by itself.
const RET: u8 = 0xc3;

/// Prints the name, length and bytes of each patchlet.
pub fn list() {
    for patchlet in native::ALL.iter().chain(own::patchlets::ALL) {
        println!(
            "patchlet {} {} {}",
            patchlet.name(),
            patchlet.bytes().len(),
            Hex(patchlet.bytes())
        );
    }
}

/// Bytes that print as hexadecimal digits without spaces, which a program can read.
pub struct Hex<'a>(pub &'a [u8]);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Executes each patchlet and prints its name.
pub fn execute() {
    type Test = fn(&Patchlet);
    let tests: &[(&Patchlet, Test)] = &[
        (&native::irq_enable, irq_enable),
        (&native::irq_disable, irq_disable),
        (&native::save_fl, save_fl),
        (&native::restore_fl, restore_fl),
        (&native::read_cr2, read_cr2),
        (&native::read_cr3, read_cr3),
        (&native::write_cr3, write_cr3),
        #[cfg(target_arch = "x86_64")]
        (&native::wbinvd, wbinvd),
        #[cfg(target_arch = "x86_64")]
        (&native::swapgs, swapgs),
        #[cfg(target_arch = "x86_64")]
        (&native::usergs_sysret64, leave_to_ring_3),
        #[cfg(target_arch = "x86")]
        (&native::iret, leave_to_ring_3),
        #[cfg(target_arch = "x86_64")]
        (&native::ident_64, ident),
        (&native::queued_spin_unlock, queued_spin_unlock),
        (&native::vcpu_is_preempted, vcpu_is_preempted),
        (&native::ud2, ud2),
        (&native::safe_halt, safe_halt),
        (&native::halt, halt),
        (&own::patchlets::invlpg, invlpg),
        (&own::patchlets::rdtsc, rdtsc),
    ];
    for (patchlet, test) in tests {
        test(patchlet);
        println!("executed {}", patchlet.name());
    }
    // Fails if a patchlet is added to a set and not to this list.
    assert_eq!(tests.len(), native::ALL.len() + own::patchlets::ALL.len());
}

/// Calls a copy of a patchlet, with argument and result in the registers of the callee-save class.
/// Returns the result and the flags.
fn call(patchlet: &Patchlet, argument: usize) -> (usize, usize) {
    let mut code = [0; 16];
    let bytes = patchlet.bytes();
    code[..bytes.len()].copy_from_slice(bytes);
    code[bytes.len()] = RET;
    let code = scratch::load(&code[..=bytes.len()]);
    let (result, flags);
    // SAFETY: the code is a patchlet and a return. All registers that C may change are declared as
    // changed. The test that calls this function answers for the effect on the machine.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("call {code}", "pushfq", "pop r12", code = in(reg) code, lateout("r12") flags,
            inlateout("rdi") argument => _, lateout("rax") result, clobber_abi("C"));
        #[cfg(target_arch = "x86")]
        asm!("call {code}", "pushfd", "pop {flags}", code = in(reg) code, flags = lateout(reg) flags,
            inlateout("eax") argument => result, lateout("edx") _, lateout("ecx") _);
    }
    (result, flags)
}

fn irq_enable(patchlet: &Patchlet) {
    let (_, flags) = call(patchlet, 0);
    cpu::disable_interrupts();
    assert_eq!(flags & cpu::FLAGS_IF, cpu::FLAGS_IF);
}

fn irq_disable(patchlet: &Patchlet) {
    cpu::enable_interrupts();
    let (_, flags) = call(patchlet, 0);
    cpu::disable_interrupts();
    assert_eq!(flags & cpu::FLAGS_IF, 0);
}

fn save_fl(patchlet: &Patchlet) {
    let (off, _) = call(patchlet, 0);
    cpu::enable_interrupts();
    let (on, _) = call(patchlet, 0);
    cpu::disable_interrupts();
    assert_eq!((off & cpu::FLAGS_IF, on & cpu::FLAGS_IF), (0, cpu::FLAGS_IF));
}

fn restore_fl(patchlet: &Patchlet) {
    // Change CF and SF, which do not affect the execution of code that follows.
    let wanted = cpu::flags() & !0xc5 | 0x81;
    let (_, flags) = call(patchlet, wanted | cpu::FLAGS_IF);
    cpu::disable_interrupts();
    assert_eq!(flags & (cpu::FLAGS_IF | 0xc5), cpu::FLAGS_IF | 0x81);
}

fn read_cr2(patchlet: &Patchlet) {
    let mut code = [0; 16];
    code[..3].copy_from_slice(patchlet.bytes());
    code[3] = RET;
    let code = scratch::load(&code[..4]);
    for value in [0x1234_5000, 0x7654_3000] {
        let result: usize;
        cpu::write_cr2(value);
        // SAFETY: the code reads CR2 and returns.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            asm!("call {}", in(reg) code, lateout("rax") result);
            #[cfg(target_arch = "x86")]
            asm!("call {}", in(reg) code, lateout("eax") result);
        }
        assert_eq!(result, value);
    }
}

fn read_cr3(patchlet: &Patchlet) {
    assert_eq!(call(patchlet, 0).0, cpu::read_cr3());
}

/// Returns the value of CR3 with the bit PWT inverted: it names the same page tables and is a
/// different value.
fn other_cr3() -> usize {
    const CR3_PWT: usize = 1 << 3;
    cpu::read_cr3() ^ CR3_PWT
}

fn write_cr3(patchlet: &Patchlet) {
    let before = cpu::read_cr3();
    let other = other_cr3();
    call(patchlet, other);
    assert_eq!(cpu::read_cr3(), other);
    call(patchlet, before);
    assert_eq!(cpu::read_cr3(), before);
}

#[cfg(target_arch = "x86_64")]
fn wbinvd(patchlet: &Patchlet) {
    // Software cannot see the effect of WBINVD. That the bytes are those of WBINVD is checked by
    // `tests/boot.rs`; here the patchlet only has to return.
    call(patchlet, 0);
}

#[cfg(target_arch = "x86_64")]
fn swapgs(patchlet: &Patchlet) {
    let (user, kernel) = (0x1111_0000, 0x2222_0000);
    cpu::write_gs_bases((user, kernel));
    call(patchlet, 0);
    assert_eq!(cpu::gs_bases(), (kernel, user));
    call(patchlet, 0);
    assert_eq!(cpu::gs_bases(), (user, kernel));
}

/// Leaves to ring 3 by `sysretq` or `iret`. The INT of the stub there comes back.
fn leave_to_ring_3(patchlet: &Patchlet) {
    let code = scratch::load(patchlet.bytes());
    // SAFETY: the frame is that of ring 3, the stub comes back with the expected vector, and the
    // closure has nothing to drop.
    let trap = unsafe {
        traps::catch(traps::USER_RETURN, || assembly::patchlet_to_ring_3(code.addr(), user::stub()))
    };
    let frame = trap.expect("only a trap comes back").frame;
    assert_eq!(frame.ip, user::stub() + user::STUB_LENGTH);
    assert_eq!(frame.cs & 3, 3);
}

#[cfg(target_arch = "x86_64")]
fn ident(patchlet: &Patchlet) {
    assert_eq!(call(patchlet, 0x1234_5678_9abc_def0).0, 0x1234_5678_9abc_def0);
}

fn queued_spin_unlock(patchlet: &Patchlet) {
    let mut lock = [1_u8, 2, 3];
    // Only the byte may change, and not its neighbours.
    call(patchlet, (&raw mut lock[1]).expose_provenance());
    // SAFETY: `lock` is alive. The read is volatile because the code above wrote to it unseen by
    // the compiler.
    assert_eq!(unsafe { (&raw const lock).read_volatile() }, [1, 0, 3]);
}

fn vcpu_is_preempted(patchlet: &Patchlet) {
    assert_eq!(call(patchlet, 3).0, 0);
}

fn ud2(patchlet: &Patchlet) {
    let code = scratch::load(patchlet.bytes());
    // SAFETY: the closure has nothing to drop, and ud2 changes nothing.
    let trap = unsafe {
        traps::catch(traps::INVALID_OPCODE, || asm!("call {}", in(reg) code, clobber_abi("C")))
    };
    assert_eq!(trap.expect("no #UD").frame.ip, code.addr());
}

/// Checks that a pending interrupt, the only one that comes, ends the sleep of `safe_halt`.
fn safe_halt(patchlet: &Patchlet) {
    let before = apic::ticks(0);
    apic::interrupt_self(traps::TIMER);
    assert!(apic::is_pending(traps::TIMER));
    let (_, flags) = call(patchlet, 0);
    cpu::disable_interrupts();
    assert_eq!((flags & cpu::FLAGS_IF, apic::ticks(0)), (cpu::FLAGS_IF, before + 1));
    // The interrupt was taken behind both instructions, one byte each: HLT had begun.
    assert_eq!(apic::ticked_at(0), scratch::load(patchlet.bytes()).addr() + 2);
}

/// Checks that an interrupt of the timer ends the sleep of `halt`.
fn halt(patchlet: &Patchlet) {
    let before = apic::ticks(0);
    apic::start_timer(100_000);
    cpu::with_interrupts_on(|| call(patchlet, 0));
    apic::stop_timer();
    assert_ne!(apic::ticks(0), before);
}

fn invlpg(patchlet: &Patchlet) {
    call(patchlet, scratch::load(&[RET]).addr());
}

fn rdtsc(patchlet: &Patchlet) {
    let (first, _) = call(patchlet, 0);
    let (second, _) = call(patchlet, 0);
    assert!((second as u32).wrapping_sub(first as u32) < 1 << 31, "{first:#x}, {second:#x}");
}

//! Tests of the kernel itself: of paging, traps and interrupts, on which the tests of patching
//! rely.

use core::arch::asm;

use crate::{
    arch, cpu, hypercall, image, paging, println, scratch,
    traps::{self, Trap},
    user,
};

pub type Test = fn();

pub const ALL: &[(&str, Test)] = &[
    ("interrupts are off", interrupts_are_off),
    ("text cannot be written", text_cannot_be_written),
    ("read-only data cannot be written", rodata_cannot_be_written),
    ("data cannot be executed", data_cannot_be_executed),
    ("text changes when its alias is written", text_changes_through_its_alias),
    ("the scratch buffer runs and is written elsewhere", scratch_buffer_runs),
    ("ud2 is caught", ud2_is_caught),
    ("an expected trap may be expected inside another", catch_nests),
    ("flags and stack survive a caught trap", flags_survive_a_catch),
    ("ring 3 is entered and left", ring_3_and_back),
    ("a filled hypercall page is executed", hypercall::entries_are_executed),
    ("the local APIC answers", local_apic_answers),
];

// SDM vol. 3A section 4.7, "Page-Fault Exceptions".
const FAULT_PRESENT: usize = 1 << 0;
const FAULT_WRITE: usize = 1 << 1;
const FAULT_FETCH: usize = 1 << 4;

// asm/probe.S
unsafe extern "C" {
    fn text_probe() -> u32;
}

fn interrupts_are_off() {
    assert_eq!(cpu::flags() & cpu::FLAGS_IF, 0);
}

pub fn text_cannot_be_written() {
    assert_write_faults(text_probe as *const () as usize);
}

fn rodata_cannot_be_written() {
    assert_write_faults(image::rodata().start);
}

fn data_cannot_be_executed() {
    const RET: u8 = 0xc3;
    static mut DATA: u8 = RET;
    assert_fetch_faults((&raw const DATA).addr());
}

fn text_changes_through_its_alias() {
    let operand = paging::alias(text_probe as *const () as usize + 1).cast::<u32>();
    for value in [2, 1] {
        // SAFETY: no CPU executes text_probe now, and its instructions are valid with any operand.
        let seen = unsafe {
            operand.write_unaligned(value);
            cpu::serialize();
            text_probe()
        };
        assert_eq!(seen, value);
    }
}

fn scratch_buffer_runs() {
    const RETURN_7: [u8; 6] = [0xb8, 7, 0, 0, 0, 0xc3]; // mov eax, 7; ret
    let code = scratch::load(&RETURN_7);
    // SAFETY: the buffer is executable and holds a function of this type, `RETURN_7`.
    let function = unsafe { core::mem::transmute::<*const u8, extern "C" fn() -> u32>(code) };
    assert_eq!(function(), 7);
    assert_write_faults(code.addr());
    assert_fetch_faults(paging::alias(code.addr()).addr());
}

fn ud2_is_caught() {
    // SAFETY: the closure has nothing to drop, and ud2 changes nothing.
    let trap =
        unsafe { traps::catch(traps::INVALID_OPCODE, || asm!("ud2", options(nomem, nostack))) };
    let trap = trap.expect("no #UD on ud2");
    assert_eq!(trap.frame.vector, traps::INVALID_OPCODE.into());
    assert_eq!(trap.frame.error_code, 0);
    assert!(image::text().contains(&trap.frame.ip));
}

fn catch_nests() {
    // SAFETY: the closures have nothing to drop, and ud2 changes nothing.
    let outer = unsafe {
        traps::catch(traps::INVALID_OPCODE, || {
            text_cannot_be_written();
            asm!("ud2", options(nostack));
        })
    };
    assert!(outer.is_some());
    // SAFETY: the closure does not trap, so no frame is lost.
    let none = unsafe { traps::catch(traps::INVALID_OPCODE, || ()) };
    assert!(none.is_none());
}

fn flags_survive_a_catch() {
    const FLAGS_DF: usize = 1 << 10;
    // SAFETY: the closure has nothing to drop. Rust code needs the direction flag clear; `catch`
    // restores it before any Rust code runs again.
    let trap = unsafe { traps::catch(traps::INVALID_OPCODE, || asm!("std", "ud2")) };
    let trap = trap.expect("no #UD on ud2");
    assert_eq!(trap.frame.flags & FLAGS_DF, FLAGS_DF);
    assert_eq!(cpu::flags() & FLAGS_DF, 0);
}

fn ring_3_and_back() {
    for entry in arch::USER_ENTRIES {
        println!("  {}", entry.name);
        // SAFETY: the closure has nothing to drop. The stub is code for ring 3 and comes back with
        // the expected vector.
        let trap = unsafe {
            traps::catch(traps::USER_RETURN, || {
                (entry.enter)(user::stub());
            })
        };
        let frame = trap.expect("only a trap comes back").frame;
        assert_eq!(frame.ip, user::stub() + user::STUB_LENGTH);
        assert_eq!(frame.cs, entry.code.into());
    }
}

fn local_apic_answers() {
    const VERSION: usize = 0x30; // SDM vol. 3A section 10.4.8, "Local APIC Version Register"
    let register = (paging::LOCAL_APIC + VERSION) as *const u32;
    // SAFETY: the register is mapped, and reading it has no effect.
    let version = unsafe { register.read_volatile() } & 0xff;
    assert!((0x10..=0x15).contains(&version), "version {version:#x}");
}

/// Writes the byte at `address` back to it, and checks that this causes a page fault for a write.
fn assert_write_faults(address: usize) {
    // SAFETY: the closure has nothing to drop. If the write does not fault, it changes nothing.
    let trap = unsafe {
        traps::catch(traps::PAGE_FAULT, || {
            asm!("mov al, [{0}]", "mov [{0}], al", in(reg) address, out("al") _,
                options(nostack, preserves_flags));
        })
    };
    assert_page_fault(trap, address, FAULT_PRESENT | FAULT_WRITE);
}

/// Calls `address`, and checks that this causes a page fault for an instruction fetch.
fn assert_fetch_faults(address: usize) {
    // SAFETY: the closure has nothing to drop. If the call does not fault, the code that the caller
    // has put there returns.
    let trap = unsafe {
        traps::catch(traps::PAGE_FAULT, || asm!("call {}", in(reg) address, clobber_abi("C")))
    };
    assert_page_fault(trap, address, FAULT_PRESENT | FAULT_FETCH);
    assert_eq!(trap.map(|trap| trap.frame.ip), Some(address));
}

#[track_caller]
fn assert_page_fault(trap: Option<Trap>, address: usize, error_code: usize) {
    let Some(trap) = trap else { panic!("no page fault at {address:#x}") };
    assert_eq!(trap.fault_address, address);
    assert_eq!(trap.frame.error_code, error_code);
}

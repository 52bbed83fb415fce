//! Code that the kernel makes at run time and to which patched text leads: copies of code for
//! probes, thunks for indirect branches. It is in no section; page tables say whether it can be
//! executed.

use patchlet::Width;
use patchlet::inspect::{Explanation, LinuxKernel, Verdict, explain_linux, unpack};

use crate::kernel::{Kernel, PHYSICAL, SLIDE, branch, core, relative};
use crate::memory::page_tables;

/// Where code is made: in a page behind the kernel; and the one behind that has data.
const MADE: u64 = 0x8_0000;
const PROBES: u64 = 0x8_1000;

/// The third page of the kernel, in which no section is.
const GAP: u64 = 0x2000;

/// Explains the kernel with page tables that map its first pages and those behind it; `executable` is
/// whether what is made can be executed. Between its sections the kernel has the same code.
fn explain(kernel: &mut Kernel, made: &[u8], probes: &[u8], executable: bool) -> Explanation {
    const TABLES: u64 = 0x10_0000;
    let (file, mut memory) = kernel.file_and_memory();
    memory.resize(PROBES as usize + 0x1000, 0);
    for (at, bytes) in [(MADE, made), (GAP, made), (PROBES, probes)] {
        memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }
    let address = kernel.base.wrapping_add(SLIDE);
    let mut pages = [true; 130];
    pages[3..128].fill(false);
    pages[128..].copy_from_slice(&[executable, false]);
    let tables = page_tables(TABLES, address, PHYSICAL, &pages);
    let dump = core(&[(TABLES, &tables), (PHYSICAL, &memory)], TABLES);
    let unpacked = unpack(&file).expect("an ELF file");
    let linux = LinuxKernel::new(&unpacked).expect("a kernel");
    explain_linux(&linux, &dump, None, true).unwrap_or_else(|error| panic!("{error}"))
}

fn verdict(explanation: &Explanation, site: u64) -> (Verdict, &'static str) {
    let of = explanation.list.iter().find(|of| of.address_in_file == site).expect("the site");
    (of.verdict, of.cause)
}

/// A probe is a breakpoint or, after a while, a jump to a copy of the code that calls it.
#[test]
fn probes_are_breakpoints_or_jumps_to_a_copy() {
    let mut kernel = Kernel::new(Width::Bits64);
    // PUSH $0x18; PUSH %rsp; PUSHF.
    let template = kernel.code(&[0x6a, 0x18, 0x54, 0x9c, 0x90, 0x90]);
    kernel.sample.symbol("optprobe_template_entry", template, 6, crate::sample::FUNC, ".text");
    let lock = kernel.code(&[0xf0, 0x90]);
    let record = move |at| relative(at, lock);
    kernel.table(".smp_locks", &[&record]);
    let code = [0x48, 0x89, 0xe5, 0x41, 0x54];
    let [probed, other] = [kernel.code(&code), kernel.code(&code)];
    // The first chain has one probe: links, a count, and the address as the sixth pointer.
    let base = kernel.base;
    let running = |address: u64| address.wrapping_add(SLIDE);
    let mut table = vec![0; 64 * 8];
    table[..8].copy_from_slice(&running(base + PROBES).to_le_bytes());
    kernel.variable("kprobe_table", &vec![0; 64 * 8], &table);
    let mut probe = vec![0; 64];
    probe[40..48].copy_from_slice(&running(probed).to_le_bytes());

    let copy = [0x6a, 0x18, 0x54, 0x9c];
    let mut try_out = |site: u64, seen: Vec<u8>, made: &[u8], executable: bool| {
        kernel.patched.retain(|&address, _| address != probed && address != other);
        kernel.patched.insert(site, seen);
        verdict(&explain(&mut kernel, made, &probe, executable), site)
    };
    let jump = |site| branch(0xe9, site, base + MADE);
    assert_eq!(try_out(probed, vec![0xcc], &[], true), (Verdict::Allowed, "kprobe"));
    assert_eq!(try_out(other, vec![0xcc], &[], true), (Verdict::Unexplained, "none"));
    assert_eq!(try_out(probed, jump(probed), &copy, true), (Verdict::Allowed, "kprobe"));
    assert_eq!(try_out(other, jump(other), &copy, true).0, Verdict::Unexplained);
    // Not to a copy; to one that cannot be executed; to the kernel itself.
    assert_eq!(try_out(probed, jump(probed), &[0x90; 4], true).0, Verdict::Unexplained);
    assert_eq!(try_out(probed, jump(probed), &copy, false).0, Verdict::Unexplained);
    let inside = branch(0xe9, probed, template);
    assert_eq!(try_out(probed, inside, &copy, true).0, Verdict::Unexplained);
    // To the kernel's own memory between its sections, where none is made.
    let gap = branch(0xe9, probed, base + GAP);
    assert_eq!(try_out(probed, gap, &copy, true).0, Verdict::Unexplained);
}

/// On CPUs that have the fault, the kernel makes a thunk for each indirect branch, and leads it
/// there.
#[test]
fn retpolines_can_lead_to_thunks_that_were_made() {
    let mut kernel = Kernel::new(Width::Bits64);
    // Without retpolines.
    let thunk = kernel.function("__x86_indirect_thunk_r11");
    let call = kernel.code(&[0x2e, 0xe8, 0, 0, 0, 0]);
    let jump = kernel.code(&[0xe9, 0, 0, 0, 0]);
    let conditional = kernel.code(&[0x0f, 0x84, 0, 0, 0, 0]);
    for (site, skipped) in [(call, 2), (jump, 1), (conditional, 2)] {
        let at = site + skipped;
        let distance = relative(at + 4, thunk);
        kernel.sample.at(at)[..4].copy_from_slice(&distance);
    }
    let sites = [call, jump, conditional];
    let records = sites.map(|site| move |at: u64| relative(at, site));
    let records: Vec<&dyn Fn(u64) -> Vec<u8>> = records.iter().map(|of| of as _).collect();
    kernel.table(".retpoline_sites", &records);
    let made = kernel.base + MADE;
    kernel.patched.insert(call, [&[0x2e][..], &branch(0xe8, call + 1, made)].concat());
    kernel.patched.insert(jump, branch(0xe9, jump, made));
    // Six bytes are too few for the opposite jump and a long one, so these stay as they were.
    let ok = [0x41, 0xff, 0xe3, 0xcc];
    let explanation = explain(&mut kernel, &ok, &[], true);
    assert_eq!(verdict(&explanation, call), (Verdict::Allowed, "retpoline"));
    assert_eq!(verdict(&explanation, jump), (Verdict::Allowed, "retpoline"));
    // In the kernel's own memory between its sections, where none is made.
    kernel.patched.insert(jump, branch(0xe9, jump, kernel.base + GAP));
    let explanation = explain(&mut kernel, &ok, &[], true);
    assert_eq!(verdict(&explanation, jump).0, Verdict::Unexplained);
    kernel.patched.insert(jump, branch(0xe9, jump, made));
    // Another register; a jump without REX; not executable.
    for (made, executable) in
        [(&[0x41, 0xff, 0xe2, 0xcc], true), (&[0xff, 0xe3, 0xcc, 0xcc], true), (&ok, false)]
    {
        let explanation = explain(&mut kernel, made, &[], executable);
        assert_eq!(verdict(&explanation, call).0, Verdict::Unexplained);
        assert_eq!(verdict(&explanation, jump).0, Verdict::Unexplained);
    }
}

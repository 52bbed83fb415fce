//! The test of patching in a process: sites are patched for every state of the slots, through a
//! second mapping of text, and executed on this CPU.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

use patchlet::{Goal, OneCpu, Patcher, SecondMapping, Sites, pv};
use patchlet_process::{PROCESS, own_ops, remap, sites};

type ProcessPatcher = Patcher<'static, SecondMapping>;

/// The number of calls that the made-up hypervisor counted.
static CALLS: AtomicUsize = AtomicUsize::new(0);
/// The virtual interrupt flag of the made-up hypervisor.
static VIRTUAL_IF: AtomicUsize = AtomicUsize::new(0x200);
/// EFLAGS bits that no instruction of the test changes: IF and the fixed bit 1.
const STEADY_FLAGS: usize = 0x202;

patchlet::slot_fn! {
    const HV_SAVE_FL = callee_save fn() -> usize {
        CALLS.fetch_add(1, Relaxed);
        VIRTUAL_IF.load(Relaxed)
    };
    const HV_IDENT = callee_save fn(value: u64) -> u64 {
        CALLS.fetch_add(1, Relaxed);
        value.wrapping_add(1)
    };
    const HV_UNLOCK = callee_save fn(lock: *mut u8) {
        CALLS.fetch_add(1, Relaxed);
        // SAFETY: by the contract of `queued_spin_unlock`, `lock` is valid for writes.
        unsafe { (*lock.cast::<AtomicU8>()).store(7, Relaxed) }
    };
    const HV_PREEMPTED = callee_save fn(cpu: usize) -> bool {
        CALLS.fetch_add(1, Relaxed);
        cpu == 3
    };
    const HV_RELAX = c fn() {
        CALLS.fetch_add(1, Relaxed);
    };
}

/// The visible effects of the ops.
#[derive(Debug, PartialEq)]
struct Effects {
    flags: usize,
    asm_flags: usize,
    ident: u64,
    tagged: [u64; 2],
    lock: u8,
    preempted: [bool; 2],
    swapped: [usize; 3],
    ticks: usize,
}

/// Uses every op that user mode may run, by every kind of site, and returns the effects.
#[inline(never)]
fn effects() -> Effects {
    let ticks = sites::TICKS.load(Relaxed);
    let mut lock = 1;
    // SAFETY: the byte is a local variable.
    unsafe { pv::queued_spin_unlock(&raw mut lock) };
    let (one, two) = sites::flags_twice();
    assert_eq!(one & STEADY_FLAGS, two & STEADY_FLAGS);
    own_ops::relax();
    own_ops::tick();
    sites::relax_with_room();
    Effects {
        flags: one & STEADY_FLAGS,
        asm_flags: sites::asm_save_fl() & STEADY_FLAGS,
        ident: pv::ident(0x1234_5678_9abc_def0),
        tagged: [sites::tagged::<1>(0xf_0000_0000), sites::tagged::<2>(0xf_0000_0000)],
        lock,
        preempted: [pv::vcpu_is_preempted(3), pv::vcpu_is_preempted(4)],
        swapped: [
            own_ops::swap_bytes(0x1234_5678),
            sites::asm_swap_bytes(0x1234_5678),
            sites::asm_tail_swap_bytes(0x1234_5678),
        ],
        ticks: sites::TICKS.load(Relaxed) - ticks,
    }
}

fn natively() -> Effects {
    Effects {
        flags: STEADY_FLAGS,
        asm_flags: STEADY_FLAGS,
        ident: 0x1234_5678_9abc_def0,
        tagged: [0xf_0000_0000, 0xf_0000_0000],
        lock: 0,
        preempted: [false, false],
        swapped: [0x1234_5678_usize.swap_bytes(); 3],
        ticks: 1,
    }
}

fn apply(patcher: &mut ProcessPatcher) -> patchlet::text::Report {
    // SAFETY: this is the only test of this file. The other thread of the test harness waits for it
    // and has no site. No signal handler is installed.
    unsafe { OneCpu::assume(|cpu| patcher.apply(cpu)) }.expect("apply")
}

fn revert(patcher: &mut ProcessPatcher) -> patchlet::text::Report {
    // SAFETY: as in `apply`.
    unsafe { OneCpu::assume(|cpu| patcher.revert(cpu)) }.expect("revert")
}

/// Returns all bytes of the pages with sites.
fn text() -> Vec<u8> {
    let range = remap::text_with_sites().expect("there are sites");
    // SAFETY: the pages are text of this program, and no thread writes to them meanwhile.
    unsafe {
        core::slice::from_raw_parts(core::ptr::with_exposed_provenance(range.start), range.len())
    }
    .to_vec()
}

/// Returns the bytes of the first site of an op, and the number of its sites.
fn bytes_of(patcher: &ProcessPatcher, op: &str) -> (Vec<u8>, usize) {
    let plan = patcher.plan(Goal::Patched).expect("plan");
    let mut found = plan.outcomes().filter(|outcome| outcome.name == op);
    let first =
        found.next().unwrap_or_else(|| panic!("no site of {op}")).old_bytes.bytes().to_vec();
    (first, 1 + found.count())
}

/// Checks the counts of each op, as a kernel prints them, and of each key, before anything is
/// patched.
fn counts_by_op(patcher: &ProcessPatcher, all: patchlet::text::Report) {
    let plan = patcher.plan(Goal::Patched).expect("plan");
    let mut sum = patchlet::text::Report::default();
    let mut lines = Vec::new();
    let tables = [&pv::TABLE, &own_ops::TABLE, &patchlet::cpu_ops::TABLE];
    for table in tables {
        for (op, report) in table.by_op(&plan) {
            sum += report;
            lines.push(format!("{op}: {report}"));
        }
    }
    println!("{}", lines.join("\n"));
    let is_key =
        |subject: &usize| tables.iter().all(|table| table.index_of_slot(*subject).is_none());
    let subjects = plan.outcomes().map(|outcome| outcome.subject);
    let keys: std::collections::BTreeSet<usize> = subjects.filter(is_key).collect();
    assert!(!keys.is_empty(), "no branch is linked");
    for key in keys {
        sum += plan.report_of(key);
    }
    assert_eq!(sum, all, "each site is of one op or of one key");
    for line in
        ["irq.save_fl: 3 sites, 3 changed: 3 patchlets", "irq.irq_enable: 0 sites, 0 changed"]
    {
        assert!(lines.iter().any(|printed| printed == line), "no {line:?} in {lines:#?}");
    }
}

fn no_page_is_writable_and_executable() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has /proc");
    for line in maps.lines() {
        let rights = line.split_whitespace().nth(1).expect("the rights are the second column");
        assert!(!(rights.contains('w') && rights.contains('x')), "writable and executable: {line}");
    }
}

/// Tests all states one after the other. It is one test, because it changes the text of the whole
/// process.
#[test]
fn ops_do_the_same_in_every_state_of_their_sites() {
    let range = remap::text_with_sites().expect("there are sites");
    // SAFETY: `range` consists of whole pages, and this is the only call in the process.
    let platform = unsafe { remap::second_mapping(range) }.expect("second mapping");
    let mut patcher = Patcher::new(&PROCESS, platform);
    let sites = Sites::linked().records().len();
    let before = text();
    no_page_is_writable_and_executable();

    // Unpatched, sites call through the table.
    assert_eq!(effects(), natively());

    // For bare metal, sites hold their op's instructions, except for the op without a patchlet.
    let planned = patcher.plan(Goal::Patched).expect("plan").report();
    counts_by_op(&patcher, planned);
    assert_eq!(text(), before, "a plan writes nothing");
    let report = apply(&mut patcher);
    assert_eq!(report, planned);
    // Branches have what their keys say from the start, so only the sites of ops change.
    assert_eq!((report.changed, report.indirect), (sites, 0));
    assert_eq!(report.calls, 1, "tick has no patchlet");
    no_page_is_writable_and_executable();
    assert_eq!(effects(), natively());
    for (op, bytes) in [
        ("save_fl", [0x9c, 0x58, 0x0f, 0x1f, 0x40, 0x00]),
        ("vcpu_is_preempted", [0x31, 0xc0, 0x0f, 0x1f, 0x40, 0x00]),
        #[cfg(target_arch = "x86_64")]
        ("queued_spin_unlock", [0xc6, 0x07, 0x00, 0x0f, 0x1f, 0x00]),
        #[cfg(target_arch = "x86")]
        ("queued_spin_unlock", [0xc6, 0x00, 0x00, 0x0f, 0x1f, 0x00]),
        #[cfg(target_arch = "x86_64")]
        ("ident", [0x48, 0x89, 0xf8, 0x0f, 0x1f, 0x00]),
        #[cfg(target_arch = "x86")]
        ("ident", [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00]),
    ] {
        assert_eq!(bytes_of(&patcher, op).0, bytes, "{op}");
    }
    assert_eq!(bytes_of(&patcher, "save_fl").1, 3, "flags_twice and asm_save_fl: a record each");
    assert_eq!(bytes_of(&patcher, "swap_bytes").1, 3, "one in Rust and two in assembly");

    // Patching again changes nothing.
    let patched = text();
    let report = apply(&mut patcher);
    assert_eq!((report.sites, report.changed, report.indirect), (planned.sites, 0, 0));
    assert_eq!(text(), patched);

    // For a guest, every site is a direct call, and each call is counted.
    let layer = [
        pv::slot::save_fl.holds(HV_SAVE_FL),
        pv::slot::ident.holds(HV_IDENT),
        pv::slot::queued_spin_unlock.holds(HV_UNLOCK),
        pv::slot::vcpu_is_preempted.holds(HV_PREEMPTED),
    ];
    // SAFETY: each function is of its op's class and signature, does what the op is for, and is
    // part of the program.
    unsafe {
        pv::install(&layer);
        own_ops::install(&[own_ops::slot::relax.holds(HV_RELAX)]);
    }
    assert_eq!(effects(), natively(), "patched sites stay until the patcher runs");
    assert_eq!(CALLS.load(Relaxed), 0);
    let report = apply(&mut patcher);
    assert_eq!(report.indirect, 0);
    assert_eq!(
        effects(),
        Effects {
            flags: 0x200,
            asm_flags: 0x200,
            ident: 0x1234_5678_9abc_def1,
            tagged: [0xf_0000_0003, 0xf_0000_0001],
            lock: 7,
            preempted: [true, false],
            ..natively()
        }
    );
    let counted = 3 + 3 + 1 + 2 + 2;
    assert_eq!(CALLS.load(Relaxed), counted, "save_fl, ident, unlock, preempted, relax");

    // Mixed: the no-op, the identity, and native functions again.
    // SAFETY: as above. The result of the op with the no-op is undefined; it is only compared.
    unsafe {
        pv::install(&[(pv::Id::queued_spin_unlock, patchlet::ops::Target::NOP)]);
        own_ops::install(&[(own_ops::Id::swap_bytes, patchlet::ops::Target::IDENT)]);
    }
    let report = apply(&mut patcher);
    assert_eq!(report.indirect, 0);
    assert!(report.nops > 0);
    let mixed = effects();
    assert_eq!((mixed.lock, mixed.swapped), (1, [0x1234_5678; 3]));

    // Reverted, text is as the linker made it, and sites call through the table.
    pv::reset();
    own_ops::reset();
    let report = revert(&mut patcher);
    assert_eq!((report.changed, report.indirect), (sites, sites));
    assert_eq!(text(), before);
    assert_eq!(effects(), natively());

    // Patching works again after a revert.
    apply(&mut patcher);
    assert_eq!(text(), patched);
    assert_eq!(effects(), natively());

    // With a null slot, the site is a trap. A child process executes it and crashes.
    // SAFETY: only the child uses `relax`, where it traps.
    unsafe { own_ops::install(&[(own_ops::Id::relax, patchlet::ops::Target::NULL)]) };
    let report = apply(&mut patcher);
    assert_eq!(report.traps, 3, "in effects, in relax_with_room, in the child below");
    // SAFETY: the child executes one site and nothing after it.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            own_ops::relax();
            libc::_exit(0);
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        status
    };
    assert!(libc::WIFSIGNALED(status), "ud2 was not executed: status {status:#x}");
    assert_eq!(libc::WTERMSIG(status), libc::SIGILL);
    own_ops::reset();
    apply(&mut patcher);
    assert_eq!(effects(), natively());
}

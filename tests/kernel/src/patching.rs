//! The test of patching. The sites of this kernel are patched for bare metal, for a guest, for a
//! mix, reverted and patched again. In each state every op is run and its effect is checked.

use core::sync::atomic::Ordering::Relaxed;

use patchlet::{
    Goal, OneCpu, Patcher, SecondMapping, Sites, WriteProtectOff, cpu_ops,
    ops::Target,
    pv,
    text::{Platform, Report},
};

use crate::{
    apic, assembly, command_line, cpu, guest, image, own, paging, patchlets::Hex, println,
    self_test, signatures, sites, stop, traps, user,
};

/// Returns the hash FNV-1a of all of text. `tests/kernel_files.rs` compares it with that of a file.
fn text_hash() -> u64 {
    let text = image::text();
    (text.start..text.end).fold(0xcbf2_9ce4_8422_2325, |hash, address| {
        // SAFETY: the address is in text, which is mapped, and no CPU writes to text now.
        let byte = unsafe { (address as *const u8).read_volatile() };
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

patchlet::site_set! {
    /// Every site of this kernel.
    pub static KERNEL = [pv, own::ops, cpu_ops];
}

type KernelPatcher<P> = Patcher<'static, P>;

fn patcher<P: Platform>(platform: P) -> KernelPatcher<P> {
    Patcher::new(&KERNEL, platform)
}

fn by_alias() -> KernelPatcher<SecondMapping> {
    // SAFETY: `paging` maps the whole image a second time, writable.
    patcher(unsafe { SecondMapping::new(image::text(), paging::DIRECT_MAP_OFFSET) })
}

fn by_write_protect_off() -> KernelPatcher<WriteProtectOff> {
    // SAFETY: text is mapped read-only at its own address; this is ring 0; and no code sets
    // CR4.CET, with which CR0.WP could not be cleared.
    patcher(unsafe { WriteProtectOff::new(image::text()) })
}

/// Patches all sites, and prints the first site of each op and the counts.
fn apply(state: &str, mut patcher: KernelPatcher<impl Platform>) -> Report {
    show(state, &patcher);
    // SAFETY: this is the only CPU that uses sites now; it is in ring 0; and no NMI comes in QEMU.
    let report = unsafe { OneCpu::with_interrupts_off(|cpu| patcher.apply(cpu)) };
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    println!(
        "report {state}: {} sites, {} changed: {} patchlets, {} calls, {} jumps, {} nops, \
         {} identities, {} zeros, {} traps, {} indirect",
        report.sites,
        report.changed,
        report.patchlets,
        report.calls,
        report.jumps,
        report.nops,
        report.identities,
        report.zeros,
        report.traps,
        report.indirect
    );
    assert_eq!(report.indirect, 0);
    self_test::text_cannot_be_written();
    report
}

fn show(state: &str, patcher: &KernelPatcher<impl Platform>) {
    let plan = patcher.plan(Goal::Patched).unwrap_or_else(|error| panic!("{error}"));
    let tables = [&pv::TABLE, &own::ops::TABLE];
    let ops = tables.iter().flat_map(|table| {
        table.ops().iter().enumerate().map(|(index, op)| (op, table.slot_address(index)))
    });
    for (op, slot) in ops {
        let mut of_op = plan.outcomes().filter(|outcome| Some(outcome.subject) == slot);
        let first = of_op.next().unwrap_or_else(|| panic!("{op} has no site"));
        println!(
            "site {state} {op} {:#x} {} {} {}",
            first.address,
            Hex(first.old_bytes.bytes()),
            Hex(first.new_bytes.bytes()),
            1 + of_op.count()
        );
    }
}

/// Returns the counts of the sites of `cpu_ops`, which no layer of this test changes.
fn by_feature() -> Report {
    let patcher = by_alias();
    let plan = patcher.plan(Goal::Patched).unwrap_or_else(|error| panic!("{error}"));
    let mut sum = Report::default();
    for (_, report) in cpu_ops::TABLE.by_op(&plan) {
        sum.calls += report.calls;
        sum.patchlets += report.patchlets;
        sum.nops += report.nops;
    }
    sum
}

/// Tests every state, one after the other.
pub fn run() {
    let records = Sites::linked().records().len();
    assert!(records >= 1000, "only {records} sites");
    let unpatched = text_hash();
    println!("text unpatched: {unpatched:#018x}");
    stop::at("unpatched");
    one_cpu_has_interrupts_off();
    native();
    sites::run_natively();

    let report = apply("native", by_alias());
    let ahead_of_boot = command_line::number("patched") == Some(1);
    let left_to_do = if ahead_of_boot { 0 } else { records };
    assert_eq!((report.sites, report.changed), (records, left_to_do));
    // Of the ops by CPU feature, whose slots hold their defaults, some are calls.
    let by_feature = by_feature();
    assert_eq!((report.calls - by_feature.calls, report.traps), (0, 0));
    let natively = text_hash();
    println!("text native: {natively:#018x}");
    stop::at("native");
    native();
    sites::run_natively();

    assert_eq!(apply("native-again", by_alias()).changed, 0);
    assert_eq!(text_hash(), natively);

    guest::install();
    stop::at("installed");
    let report = apply("guest", by_write_protect_off());
    let by_feature_too = by_feature.patchlets + by_feature.nops;
    assert_eq!(report.calls + report.jumps + by_feature_too, records);
    stop::at("guest");
    as_guest();

    mix();
    apply("mixed", by_alias());
    stop::at("mixed");
    mixed();

    pv::reset();
    own::ops::reset();
    // SAFETY: as in `apply`.
    let report = unsafe { OneCpu::with_interrupts_off(|cpu| by_alias().revert(cpu)) };
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((report.changed, report.indirect), (records, records));
    assert_eq!(text_hash() == unpatched, !ahead_of_boot);
    println!("report reverted: {} sites, all indirect", report.sites);
    stop::at("reverted");
    native();
    sites::run_natively();

    apply("native-at-last", by_write_protect_off());
    stop::at("native-at-last");
    assert_eq!(text_hash(), natively);
    native();
    sites::run_natively();
}

/// Checks that interrupts are off for as long as the proof of one CPU exists, and afterwards as
/// they were before.
fn one_cpu_has_interrupts_off() {
    let interrupts = || cpu::flags() & cpu::FLAGS_IF;
    // SAFETY: this is ring 0, no NMI comes, and nothing is written.
    let meanwhile = || unsafe { OneCpu::with_interrupts_off(|_| interrupts()) };
    assert_eq!((meanwhile(), interrupts()), (0, 0));
    let on = cpu::with_interrupts_on(|| (meanwhile(), interrupts()));
    assert_eq!(on, (0, cpu::FLAGS_IF));
}

/// Checks that every op does what the hardware does.
fn native() {
    pv::irq_enable();
    let on = cpu::flags();
    pv::irq_disable();
    assert_eq!((on & cpu::FLAGS_IF, cpu::flags() & cpu::FLAGS_IF), (cpu::FLAGS_IF, 0));

    let flags = pv::save_fl();
    assert_eq!(flags & cpu::FLAGS_IF, 0);
    // SAFETY: `flags` was read above; only the interrupt flag is set in addition.
    unsafe { pv::restore_fl(flags | cpu::FLAGS_IF) };
    let on = pv::save_fl();
    // SAFETY: `flags` was read above.
    unsafe { pv::restore_fl(flags) };
    assert_eq!((on & cpu::FLAGS_IF, cpu::flags() & cpu::FLAGS_IF), (cpu::FLAGS_IF, 0));

    cpu::write_cr2(0x1234_5000);
    assert_eq!(pv::read_cr2(), 0x1234_5000);

    const CR3_PWT: usize = 1 << 3;
    let cr3 = pv::read_cr3();
    assert_eq!(cr3, cpu::read_cr3());
    // SAFETY: both values name the same page tables; they differ in how these are cached.
    unsafe {
        pv::write_cr3(cr3 ^ CR3_PWT);
        assert_eq!(cpu::read_cr3(), cr3 ^ CR3_PWT);
        pv::write_cr3(cr3);
    }
    assert_eq!(cpu::read_cr3(), cr3);

    assert_eq!(pv::ident(0x1234_5678_9abc_def0), 0x1234_5678_9abc_def0);
    assert_eq!(release(), 0);
    assert!(!pv::vcpu_is_preempted(1));
    halts();
    own::ops::flush_page(0x1000);
    let ticks = own::ops::ticks_low() as u32;
    assert!((own::ops::ticks_low() as u32).wrapping_sub(ticks) < 1 << 31);
    signatures::check(0, false);

    assembly_only();
}

/// Checks that an interrupt ends HLT: for `safe_halt` one that is already pending, for `halt` one
/// of the timer, which runs for this test only.
fn halts() {
    let before = apic::ticks(0);
    apic::interrupt_self(traps::TIMER);
    assert!(apic::is_pending(traps::TIMER) && cpu::flags() & cpu::FLAGS_IF == 0);
    pv::safe_halt();
    let on = cpu::flags();
    pv::irq_disable();
    assert_eq!((on & cpu::FLAGS_IF, apic::ticks(0)), (cpu::FLAGS_IF, before + 1));
    // The interrupt was taken in HLT, whose one byte is before the return address. Had it been
    // taken before HLT, the CPU would sleep on. The check does not rely on the emulator for that.
    const HLT: u8 = 0xf4;
    // SAFETY: the byte is in text, right before the return address.
    assert_eq!(unsafe { (apic::ticked_at(0) as *const u8).sub(1).read() }, HLT);

    apic::start_timer(100_000);
    cpu::with_interrupts_on(pv::halt);
    apic::stop_timer();
    assert!(apic::ticks(0) > before + 1);
}

/// Releases a lock in the driver crate and returns the lock's byte.
fn release() -> u8 {
    let mut lock = 1;
    driver::release(&mut lock);
    lock
}

/// Checks the ops that only assembly uses: `swapgs`, twice, and the ways to ring 3.
fn assembly_only() {
    #[cfg(target_arch = "x86_64")]
    {
        wbinvd();
        let (user, kernel) = (0x1111_0000, 0x2222_0000);
        cpu::write_gs_bases((user, kernel));
        assembly::swapgs();
        assert_eq!(cpu::gs_bases(), (kernel, user));
        assembly::swapgs();
        assert_eq!(cpu::gs_bases(), (user, kernel));
    }
    // SAFETY: the stub comes back with the expected vector, and the closure has nothing to drop.
    let trap =
        unsafe { traps::catch(traps::USER_RETURN, || assembly::site_to_ring_3(user::stub())) };
    let frame = trap.expect("only a trap comes back").frame;
    assert_eq!(frame.ip, user::stub() + user::STUB_LENGTH);
}

#[cfg(target_arch = "x86_64")]
fn wbinvd() {
    pv::wbinvd();
}

/// Checks that every op does what the guest's layer does, and that each call is counted once.
fn as_guest() {
    let before = guest::calls::all();
    pv::irq_enable();
    assert_eq!(cpu::flags() & cpu::FLAGS_IF, 0, "the real flag is not the guest's");
    assert_eq!(pv::save_fl(), cpu::FLAGS_IF);
    pv::irq_disable();
    assert_eq!(pv::save_fl(), 0);
    pv::safe_halt();
    assert_eq!(pv::save_fl(), cpu::FLAGS_IF);
    pv::halt();
    // SAFETY: the guest's layer accepts any value.
    unsafe { pv::restore_fl(cpu::FLAGS_IF) };
    assert_eq!(guest::FLAGS.load(Relaxed), cpu::FLAGS_IF);
    assert_eq!(pv::read_cr2(), guest::CR2);
    let cr3 = cpu::read_cr3();
    // SAFETY: the guest's layer only stores the value, and does not write CR3.
    unsafe { pv::write_cr3(0x7000) };
    assert_eq!((pv::read_cr3(), cpu::read_cr3()), (0x7000, cr3));
    assert_eq!(pv::ident(1), !1);
    assert_eq!(release(), guest::RELEASED);
    assert!(pv::vcpu_is_preempted(1) && !pv::vcpu_is_preempted(2));
    own::ops::flush_page(0x1000);
    assert_eq!(own::ops::ticks_low(), 42);
    signatures::check(1, false);
    // The calls are: irq_enable, save_fl (3), irq_disable, safe_halt, halt, restore_fl, read_cr2,
    // write_cr3 and read_cr3, ident, queued_spin_unlock, vcpu_is_preempted (2), flush_page,
    // ticks_low.
    assert_eq!(guest::calls::all() - before, 17);

    let before = guest::calls::all();
    assembly_only();
    #[cfg(target_arch = "x86_64")]
    {
        assert_eq!(guest::guest_swapgs_calls.load(Relaxed), 2);
        assert_eq!(guest::guest_sysret_calls.load(Relaxed), 1);
        assert_eq!(guest::calls::all() - before, 1, "wbinvd");
    }
    #[cfg(target_arch = "x86")]
    {
        assert_eq!(guest::guest_iret_calls.load(Relaxed), 1);
        assert_eq!(guest::calls::all() - before, 0);
    }

    let before = guest::calls::all();
    let idents = guest::calls::ident.load(Relaxed);
    sites::run();
    // Each instance calls save_fl, irq_disable, restore_fl, queued_spin_unlock and
    // vcpu_is_preempted once, and ident once itself and twice in the driver crate.
    assert_eq!(guest::calls::all() - before, sites::COUNT * 8);
    assert_eq!(guest::calls::ident.load(Relaxed) - idents, sites::COUNT * 3);
    println!("guest: {} calls counted", guest::calls::all());

    registers_survive_a_callee_save_call();
}

/// Checks that a callee-save op whose site calls a Rust function changes only its result and the
/// flags.
fn registers_survive_a_callee_save_call() {
    let wrong = assembly::changed_registers();
    assert_eq!(wrong, 0, "{wrong:#b}: one bit for each register that changed");
}

/// Fills the slots so that sites get every kind of replacement: NOPs, the identity, "return 0", a
/// call, a jump, the trap, and patchlets.
fn mix() {
    pv::reset();
    own::ops::reset();
    // SAFETY: the result of the op with the no-op is not used; the op with the identity function
    // has one argument and a result; the guest's function is of the op's class and
    // signature; and the op with a null slot is used in `mixed` only, where the trap is expected.
    unsafe {
        pv::install(&[
            (pv::Id::irq_enable, Target::NOP),
            (pv::Id::vcpu_is_preempted, Target::IDENT),
            pv::slot::save_fl.holds(guest::SAVE_FL),
            (pv::Id::read_cr2, Target::NULL),
        ]);
        own::ops::install(&[own::ops::slot::largest.zero()]);
    }
}

fn mixed() {
    pv::irq_enable();
    assert_eq!(cpu::flags() & cpu::FLAGS_IF, 0, "NOPs enable nothing");
    assert!(pv::vcpu_is_preempted(1) && !pv::vcpu_is_preempted(0));
    guest::FLAGS.store(0x200, Relaxed);
    assert_eq!(pv::save_fl(), 0x200);
    assert_eq!(release(), 0);
    signatures::check(0, true);

    // SAFETY: the closure has nothing to drop, and the trap comes before anything changes.
    let trap = unsafe {
        traps::catch(traps::INVALID_OPCODE, || {
            pv::read_cr2();
        })
    };
    let ip = trap.expect("a null slot's site is a trap").frame.ip;
    let patcher = by_alias();
    let plan = patcher.plan(Goal::Patched).unwrap_or_else(|error| panic!("{error}"));
    let mut sites = plan.outcomes().filter(|outcome| outcome.name == "read_cr2");
    assert!(sites.any(|outcome| outcome.address == ip), "#UD at {ip:#x}, not at a read_cr2");
}

//! The test of the ready-made table by CPU feature. Every op is run before anything is selected, then
//! with the variants of this CPU, with its sites patched and not, and then with its defaults likewise.
//! Each time its effect is checked. It prints what stands in each site; `tests/cpu_models.rs` compares
//! that with what is right for the CPU.
//!
//! With `-append cpu=only` nothing else runs ([`alone`]), so that CPUs can be tested that the rest of
//! the kernel cannot run on: without paging by PAE, without NX, without SSE. The kernel is compiled
//! for such CPUs then; but the core library that comes with Rust is not, so nothing that runs if all is
//! well may call what is compiled there. In particular this module prints without `core::fmt`.

use core::arch::asm;

use patchlet::cpu::{Feature, Features};
use patchlet::text::Platform;
use patchlet::{Goal, Patcher, SecondMapping, Writable, cpu_ops};

use crate::{SENTINEL, cpu, image, paging, patching::KERNEL, qemu, serial, stop, traps, user};

const CR4_OSFXSR: usize = 1 << 9;
const CR4_FSGSBASE: usize = 1 << 16;
const CR4_OSXSAVE: usize = 1 << 18;
const CR4_SMAP: usize = 1 << 21;
const FLAGS_AC: usize = 1 << 18;

/// Tests the ops on the boot CPU, and ends QEMU.
///
/// # Safety
/// - one CPU runs, interrupts are off, segments and traps are loaded, and [`paging`] has done
///   nothing yet.
pub unsafe fn alone() -> ! {
    let features = Features::detect();
    let paged =
        [Feature::MSR, Feature::PAE, Feature::NX].into_iter().all(|feature| features.has(feature));
    if paged {
        // SAFETY: this is the only call, by the caller's contract, and the CPU has what it needs.
        unsafe {
            paging::build();
            paging::activate();
        }
    }
    run(paged);
    serial::print(SENTINEL);
    serial::print("\n");
    qemu::exit(qemu::Outcome::Success)
}

/// Tests the ops. `paged` says whether paging is on.
pub fn run(paged: bool) {
    let cr4 = switch_on();
    // SAFETY: this is ring 0.
    let features = unsafe { Features::detect_with_control_registers() };
    print(&["cpu-features"]);
    for name in features.names() {
        print(&[" ", name]);
    }
    print(&["\n"]);

    // After the other tests of patching, all sites are patched.
    patch(paged, Goal::Original);
    // The defaults. SMAP comes later: without a variant the ops for it do nothing.
    effects(&Features::EMPTY, &features);

    // SAFETY: there is one CPU, these are its features, and the registers are put back after
    // `reset` only.
    unsafe { cpu_ops::select(&features) };
    effects(&features, &features);
    patch(paged, Goal::Patched);
    show(paged);
    if paged {
        // A CPU with paging by PAE and NX is one that this is compiled for.
        stop::at("selected");
    }
    effects(&features, &features);
    if features.has(Feature::SMAP) && paged {
        smap();
    }

    patch(paged, Goal::Original);
    effects(&features, &features);
    cpu_ops::reset();
    effects(&Features::EMPTY, &features);
    patch(paged, Goal::Patched);
    effects(&Features::EMPTY, &features);
    if let Some(cr4) = cr4 {
        // SAFETY: the value that the register had.
        unsafe { cpu::write_cr4(cr4) };
    }
}

/// Switches on what variants need of the operating system. Returns what CR4 was, if there is one.
fn switch_on() -> Option<usize> {
    let features = Features::detect();
    if features == Features::EMPTY {
        return None;
    }
    let before = cpu::read_cr4();
    let mut cr4 = before;
    for (feature, bit) in [
        (Feature::FXSR, CR4_OSFXSR),
        (Feature::FSGSBASE, CR4_FSGSBASE),
        (Feature::XSAVE, CR4_OSXSAVE),
    ] {
        if features.has(feature) {
            cr4 |= bit;
        }
    }
    // SAFETY: the CPU has these features, and no code relies on their absence.
    unsafe { cpu::write_cr4(cr4) };
    if features.has(Feature::XSAVE) {
        let components = if features.has(Feature::AVX) { 0b111 } else { 0b011 };
        // SAFETY: XSAVE is switched on, and the CPU has these components (SDM vol. 1, "Enabling the
        // XSAVE Feature Set and XSAVE-Enabled Features").
        unsafe { asm!("xsetbv", in("ecx") 0, in("eax") components, in("edx") 0) };
    }
    Some(before)
}

/// Patches or reverts all sites of the kernel.
fn patch(paged: bool, goal: Goal) {
    if paged {
        // SAFETY: `paging` maps the whole image a second time, writable.
        patch_by(unsafe { SecondMapping::new(image::text(), paging::DIRECT_MAP_OFFSET) }, goal);
    } else {
        // SAFETY: without paging, text can be written at its own address.
        patch_by(unsafe { Writable::new(image::text()) }, goal);
    }
}

fn patch_by(platform: impl Platform, goal: Goal) {
    let mut patcher = Patcher::new(&KERNEL, platform);
    // SAFETY: this is the only CPU that uses sites now; it is in ring 0; and no NMI comes in QEMU.
    let report = unsafe {
        patchlet::OneCpu::with_interrupts_off(|cpu| match goal {
            Goal::Patched => patcher.apply(cpu),
            Goal::Original => patcher.revert(cpu),
        })
    };
    match report {
        Ok(report) => assert_eq!(report.indirect > 0, goal == Goal::Original),
        Err(error) => panic!("{error}"),
    }
}

/// Prints the sites of the table, with the bytes that stand there.
fn show(paged: bool) {
    if paged {
        // SAFETY: as in `patch`.
        show_by(unsafe { SecondMapping::new(image::text(), paging::DIRECT_MAP_OFFSET) });
    } else {
        // SAFETY: as in `patch`.
        show_by(unsafe { Writable::new(image::text()) });
    }
}

fn show_by(platform: impl Platform) {
    let patcher = Patcher::new(&KERNEL, platform);
    let plan = match patcher.plan(Goal::Patched) {
        Ok(plan) => plan,
        Err(error) => panic!("{error}"),
    };
    let mut ops = 0;
    for (index, op) in cpu_ops::TABLE.ops().iter().enumerate() {
        let slot = cpu_ops::TABLE.slot_address(index);
        let mut has_site = false;
        for outcome in plan.outcomes().filter(|outcome| Some(outcome.subject) == slot) {
            print(&["cpu-site ", op.group(), ".", op.name(), " "]);
            print_hex(&outcome.address.to_be_bytes());
            print(&[" "]);
            // What stands in text, not what the plan would put there.
            // SAFETY: the site is in text, which is mapped.
            let bytes = unsafe {
                core::slice::from_raw_parts(
                    outcome.address as *const u8,
                    outcome.old_bytes.bytes().len(),
                )
            };
            print_hex(bytes);
            print(&["\n"]);
            has_site = true;
        }
        ops += usize::from(has_site);
    }
    assert_eq!(ops, cpu_ops::COUNT, "each op has a site");
}

fn print(words: &[&str]) {
    for word in words {
        serial::print(word);
    }
}

fn print_hex(bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            serial::print_byte(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
    }
}

/// Runs every op and checks its effect. `selected` are the features by which variants are selected,
/// `features` those of the CPU.
#[inline(never)]
fn effects(selected: &Features, features: &Features) {
    windows(selected);
    bases();
    copies();
    fills();
    time(selected);
    hypercall(features);
    state(selected, features);
    let line = 5_usize;
    // SAFETY: the address is that of a variable.
    unsafe { cpu_ops::flush_line((&raw const line).cast()) };
    // SAFETY: the variable is valid.
    assert_eq!(unsafe { (&raw const line).read_volatile() }, 5);
}

/// Reads a byte of user memory.
fn read_user() -> u8 {
    // SAFETY: the page is mapped, and has bytes.
    unsafe { (user::stub() as *const u8).read_volatile() }
}

/// The first byte of the code in the user's page, INT.
const USER_BYTE: u8 = 0xcd;

/// Checks that a window sets and clears AC if there is SMAP, and else does nothing.
#[inline(never)]
fn windows(selected: &Features) {
    let open = if selected.has(Feature::SMAP) { FLAGS_AC } else { 0 };
    let closed = cpu::flags();
    cpu_ops::stac();
    let inside = cpu::flags();
    let byte = read_user();
    cpu_ops::clac();
    let behind = cpu::flags();
    assert_eq!([closed & FLAGS_AC, inside & FLAGS_AC, behind & FLAGS_AC], [0, open, 0]);
    assert_eq!(byte, USER_BYTE);
}

/// Checks with SMAP switched on that the kernel reaches user memory inside of a window, that it
/// faults outside of it, and that it faults inside, too, where the ops do nothing.
#[inline(never)]
fn smap() {
    let before = cpu::read_cr4();
    // SAFETY: the CPU has SMAP, and the kernel accesses user memory only here.
    unsafe { cpu::write_cr4(before | CR4_SMAP) };
    // SAFETY: this is ring 0.
    let features = unsafe { Features::detect_with_control_registers() };
    assert!(features.has(Feature::SMAP_ENABLED));

    cpu_ops::stac();
    let byte = read_user();
    cpu_ops::clac();
    assert_eq!(byte, USER_BYTE);
    assert!(faults(|| {
        read_user();
    }));
    // SAFETY: without the windows, accesses fault, which is what is tested here.
    unsafe {
        cpu_ops::install(&[
            (cpu_ops::Id::stac, patchlet::ops::Target::NOP),
            (cpu_ops::Id::clac, patchlet::ops::Target::NOP),
        ]);
    }
    patch(true, Goal::Patched);
    assert!(faults(|| {
        cpu_ops::stac();
        read_user();
        cpu_ops::clac();
    }));
    // SAFETY: the CPU has these features, as before.
    unsafe { cpu_ops::select(&features) };
    patch(true, Goal::Patched);
    windows(&features);
    // SAFETY: as it was.
    unsafe { cpu::write_cr4(before) };
}

/// Returns whether an access to user memory causes the page fault of SMAP.
fn faults(access: impl FnOnce()) -> bool {
    /// The page is present, and the access a read by the kernel (SDM vol. 3A, "Page-Fault
    /// Exceptions").
    const PROTECTION: usize = 1;
    // SAFETY: the closures have nothing to drop, and change nothing before the access.
    let trap = unsafe { traps::catch(traps::PAGE_FAULT, access) };
    trap.is_some_and(|trap| {
        (trap.fault_address, trap.frame.error_code) == (user::stub(), PROTECTION)
    })
}

/// Checks that both ways to the bases of FS and GS mean the same registers.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn bases() {
    const MSR_FS_BASE: u32 = 0xc000_0100;
    let (fs, (gs, kernel_gs)) = (0x1234_5678_9000, (0x7654_3210_f000, 0x1111_2222_3000));
    cpu::write_gs_bases((0, kernel_gs));
    // SAFETY: this kernel uses neither FS nor GS, and the bases are canonical.
    unsafe {
        cpu_ops::write_fs_base(fs);
        cpu_ops::write_gs_base(gs as usize);
        assert_eq!(cpu::read_msr(MSR_FS_BASE), fs as u64);
    }
    assert_eq!(cpu::gs_bases(), (gs, kernel_gs));
    assert_eq!((cpu_ops::read_fs_base(), cpu_ops::read_gs_base()), (fs, gs as usize));
    cpu::write_gs_bases((0, 0));
    assert_eq!(cpu_ops::read_gs_base(), 0);
}

#[cfg(target_arch = "x86")]
fn bases() {}

const ROOM: usize = 4096;
static mut FROM: [u8; ROOM] = [0; ROOM];
static mut TO: [u8; ROOM] = [0; ROOM];

/// The lengths that are tested: all up to some turns of the loops, and those around the lengths at
/// which another way begins.
fn lengths() -> impl Iterator<Item = usize> {
    (0..140).chain([511, 512, 513, 767, 768, 769, 1535, 1536, 1537, 3000])
}

/// Checks that each byte of `TO` is what `expected` says of its place, and makes it 0.
fn check(expected: impl Fn(usize) -> u8) {
    for at in 0..ROOM {
        // SAFETY: the place is inside, and nothing else uses the static now.
        unsafe {
            let byte = (&raw mut TO).cast::<u8>().add(at);
            assert_eq!(byte.read_volatile(), expected(at));
            byte.write_volatile(0);
        }
    }
}

fn source(at: usize) -> u8 {
    (at * 7 + at / 256) as u8 | 1
}

#[inline(never)]
fn copies() {
    for at in 0..ROOM {
        // SAFETY: the place is inside, and nothing else uses the static now.
        unsafe { (&raw mut FROM).cast::<u8>().add(at).write_volatile(source(at)) };
    }
    for length in lengths() {
        // SAFETY: both ranges are inside of the statics, which are two.
        unsafe {
            cpu_ops::copy(
                (&raw mut TO).cast::<u8>().add(65),
                (&raw const FROM).cast::<u8>().add(67),
                length,
            );
        }
        check(|at| if (65..65 + length).contains(&at) { source(at + 2) } else { 0 });
    }
}

#[inline(never)]
fn fills() {
    for length in lengths() {
        // SAFETY: the range is inside of the static.
        unsafe { cpu_ops::fill((&raw mut TO).cast::<u8>().add(67), 0xa5, length) };
        check(|at| if (67..67 + length).contains(&at) { 0xa5 } else { 0 });
    }
}

#[inline(never)]
fn time(selected: &Features) {
    let (first, second) = (cpu_ops::time_stamp(), cpu_ops::time_stamp());
    if cfg!(target_arch = "x86_64") || selected.has(Feature::TSC) {
        let now = cpu::time_stamp();
        assert!(0 < first && first <= second && second <= now);
    } else {
        assert_eq!((first, second), (0, 0));
    }
}

/// Checks that a hypercall reaches the instruction of this vendor. No hypervisor is below, so it
/// raises #UD, and all registers of the caller are as it left them for the hypervisor.
#[inline(never)]
fn hypercall(features: &Features) {
    const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];
    const VMMCALL: [u8; 3] = [0x0f, 0x01, 0xd9];
    // SAFETY: the closure has nothing to drop; the op changes no register before the trap, and RBX
    // is none of the operands.
    let trap = unsafe {
        traps::catch(traps::INVALID_OPCODE, || {
            patchlet::site_asm!(call, cpu_ops::SLOTS, cpu_ops::Id::hypercall as usize,
                capacity = 6, in("eax") 0x11, in("ecx") 0x22, in("edx") 0x33,);
        })
    };
    let Some(trap) = trap else { panic!("no #UD by a hypercall") };
    // SAFETY: the address is in text, as that of an instruction that was executed.
    let instruction = unsafe { (trap.frame.ip as *const [u8; 3]).read_unaligned() };
    let amd = features.has(Feature::AMD) || features.has(Feature::HYGON);
    assert_eq!(instruction, if amd { VMMCALL } else { VMCALL });
    let registers = [b'a', b'c', b'd'].map(|letter| trap.frame.register(letter));
    assert_eq!(registers, [0x11, 0x22, 0x33]);
}

const AREA_SIZE: usize = 4096;

/// An area for the state, which XSAVE wants at a multiple of 64.
#[repr(align(64))]
struct Area(#[allow(dead_code, reason = "it is reached by its address")] [u8; AREA_SIZE]);
static mut AREA: Area = Area([0; AREA_SIZE]);

/// Checks that a state that was saved comes back, that saving leaves the registers as they are, and
/// that the area has the format of the variant.
#[inline(never)]
fn state(selected: &Features, features: &Features) {
    const MASK: u64 = 0b111;
    let area = (&raw mut AREA).cast::<u8>();
    let xsave = selected.has(Feature::OSXSAVE);
    let sse = features.has(Feature::SSE) && features.has(Feature::OSFXSR_ENABLED);
    // By default on 32 bit, and without FXSR, only x87 state is saved.
    let saves_sse = sse && (cfg!(target_arch = "x86_64") || selected.has(Feature::FXSR));
    let wide = xsave && features.has(Feature::XCR0_AVX);
    for at in 0..AREA_SIZE {
        // SAFETY: the place is inside, and nothing else uses the static now.
        unsafe { area.add(at).write_volatile(0) };
    }
    let mut x87 = [0_u64; 2];
    let mut vectors = [[0x55_u8; 32]; 2];
    let size = if wide { 32 } else { 16 };
    // SAFETY: x87 and SSE are switched on, and the code between these instructions has no use for
    // their registers; the area is large enough, aligned and zero.
    unsafe {
        asm!("fninit", "fldpi", options(nostack));
        load(sse, wide, &[0xa5; 32]);
        cpu_ops::save_state(area, MASK);
        asm!("fstp qword ptr [{}]", in(reg) &raw mut x87[0], options(nostack));
        store(sse, wide, &mut vectors[0]);
        asm!("fninit", "fldz", options(nostack));
        load(sse, wide, &[0x5a; 32]);
        cpu_ops::restore_state(area, MASK);
        asm!("fstp qword ptr [{}]", in(reg) &raw mut x87[1], options(nostack));
        store(sse, wide, &mut vectors[1]);
    }
    let pi = core::f64::consts::PI.to_bits();
    assert_eq!(x87, [pi; 2]);
    if sse {
        let restored = if saves_sse { 0xa5 } else { 0x5a };
        assert!(vectors[0][..size].iter().all(|byte| *byte == 0xa5));
        assert!(vectors[1][..size].iter().all(|byte| *byte == restored));
    }
    // The header of XSAVE: XSTATE_BV and XCOMP_BV (SDM vol. 1, "XSAVE Header").
    // SAFETY: inside of the area.
    let header = unsafe { area.add(512).cast::<[u64; 2]>().read_volatile() };
    let compacted = selected.has(Feature::XSAVEC) || selected.has(Feature::XSAVES);
    assert_eq!(header[0] & 1 != 0, xsave);
    assert_eq!(header[1] >> 63 != 0, xsave && compacted);
}

/// Loads a vector register, if there are any.
///
/// # Safety
/// - SSE is switched on if `sse` says so, and AVX if `wide` does.
unsafe fn load(sse: bool, wide: bool, bytes: &[u8; 32]) {
    // SAFETY: the caller answers for the switches; the register is free.
    unsafe {
        if wide {
            asm!("vmovups ymm7, [{}]", in(reg) bytes, options(nostack));
        } else if sse {
            asm!("movups xmm7, [{}]", in(reg) bytes, options(nostack));
        }
    }
}

/// Stores what [`load`] has loaded.
///
/// # Safety
/// - as for [`load`].
unsafe fn store(sse: bool, wide: bool, bytes: &mut [u8; 32]) {
    // SAFETY: the caller answers for the switches.
    unsafe {
        if wide {
            asm!("vmovups [{}], ymm7", in(reg) bytes, options(nostack));
        } else if sse {
            asm!("movups [{}], xmm7", in(reg) bytes, options(nostack));
        }
    }
}

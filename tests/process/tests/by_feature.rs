//! The ready-made table by CPU feature in a process: each variant that this CPU has and user mode
//! may execute is selected, patched and executed, and so is each default.

use std::arch::asm;

use patchlet::cpu::{Feature, Features};
use patchlet::{OneCpu, Patcher, SecondMapping, cpu_ops};
use patchlet_process::{PROCESS, remap};

/// Features without which variants go back to an earlier one, step by step.
const STEPS: [Feature; 12] = [
    Feature::RDTSCP,
    Feature::LFENCE_SERIALIZING,
    Feature::INTEL,
    Feature::SSE2,
    Feature::FSRM,
    Feature::ERMS,
    Feature::XSAVEC,
    Feature::XSAVEOPT,
    Feature::OSXSAVE,
    Feature::FXSR,
    Feature::CLFLUSHOPT,
    Feature::TSC,
];

/// Returns the features that this process can use: those of CPUID, without the instructions of ring
/// 0, and those of CR4 that Linux tells.
fn features() -> Features {
    /// The bit of AT_HWCAP2 that says that CR4.FSGSBASE is set.
    const FSGSBASE: libc::c_ulong = 1 << 1;
    let mut features = Features::detect().without(Feature::XSAVES).without(Feature::SMAP);
    // SAFETY: reads what the kernel has given to the process.
    if unsafe { libc::getauxval(libc::AT_HWCAP2) } & FSGSBASE != 0 {
        features = features.with(Feature::FSGSBASE_ENABLED);
    }
    features
}

#[test]
fn every_variant_does_what_its_op_is_for() {
    let text = remap::text_with_sites().expect("there are sites");
    // SAFETY: `text` consists of whole pages, and this is the only call in the process.
    let platform = unsafe { remap::second_mapping(text) }.expect("a second mapping");
    let mut patcher = Patcher::new(&PROCESS, platform);

    let all = features();
    println!("{all}");
    check(&Features::EMPTY);
    let mut features = all;
    let mut seen = 0;
    for step in [None].into_iter().chain(STEPS.map(Some)) {
        if let Some(step) = step {
            features = features.without(step);
        }
        // SAFETY: the CPU has these features, and Linux changes nothing of CR4 and XCR0.
        unsafe { cpu_ops::select(&features) };
        seen += selected_the_last_eligible(&features);
        check(&features);
        patch(&mut patcher, true);
        check(&features);
        patch(&mut patcher, false);
    }
    assert!(seen > 12, "only {seen} variants were selected");
}

fn patch(patcher: &mut Patcher<'static, SecondMapping>, patched: bool) {
    // SAFETY: this is the only thread with sites, and no signal handler has one.
    let report = unsafe {
        OneCpu::assume(|cpu| if patched { patcher.apply(cpu) } else { patcher.revert(cpu) })
    };
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.indirect > 0, !patched);
}

/// Checks what the slots hold against the conditions, read one by one. Returns how many hold a
/// variant.
fn selected_the_last_eligible(features: &Features) -> usize {
    let table = &cpu_ops::TABLE;
    let mut variants = 0;
    for (index, op) in table.ops().iter().enumerate() {
        let mut expected = op.native();
        for variant in table.variants().iter().filter(|variant| variant.op() == index) {
            let met = |requirement: &patchlet::cpu::Requirement| {
                features.has(requirement.feature()) == requirement.is_presence()
            };
            if variant.condition().iter().all(met) {
                expected = variant.target();
            }
        }
        assert_eq!(table.get(index), Some(expected), "{op}");
        variants += usize::from(expected != op.native());
    }
    variants
}

/// Checks every op that user mode may execute with these features.
fn check(features: &Features) {
    copies();
    fills();
    time_goes_on(features);
    state_comes_back();
    bases(features);
    if cfg!(target_arch = "x86_64") || features.has(Feature::CLFSH) {
        let line = 5_u64;
        // SAFETY: the address is that of a variable.
        unsafe { cpu_ops::flush_line((&raw const line).cast()) };
        assert_eq!(line, 5);
    }
}

/// The lengths that are tested: all up to some turns of the loops, and those around the lengths at
/// which another way begins.
fn lengths() -> impl Iterator<Item = usize> {
    (0..300).chain([511, 512, 513, 700, 767, 768, 769, 1535, 1536, 1537, 4000])
}

#[inline(never)]
fn copies() {
    const ROOM: usize = 5000;
    let from: Vec<u8> = (0..ROOM).map(|at| (at * 7 + at / 256) as u8 | 1).collect();
    for length in lengths() {
        for (target, source) in [(64, 64), (65, 67), (70, 64)] {
            let mut to = vec![0; ROOM];
            // SAFETY: both ranges are inside of the vectors, which are two.
            unsafe {
                cpu_ops::copy(to.as_mut_ptr().add(target), from.as_ptr().add(source), length);
            }
            let mut expected = vec![0; ROOM];
            expected[target..target + length].copy_from_slice(&from[source..source + length]);
            assert!(to == expected, "{length} bytes from {source} to {target}");
        }
    }
}

#[inline(never)]
fn fills() {
    const ROOM: usize = 5000;
    for length in lengths() {
        for (target, value) in [(64, 0xa5), (67, 0x80), (71, 0x7f)] {
            let mut to = vec![1; ROOM];
            // SAFETY: the range is inside of the vector.
            unsafe { cpu_ops::fill(to.as_mut_ptr().add(target), value, length) };
            let mut expected = vec![1; ROOM];
            expected[target..target + length].fill(value);
            assert!(to == expected, "{length} bytes at {target}");
        }
    }
}

#[inline(never)]
fn time_goes_on(features: &Features) {
    let stamps = [(); 3].map(|()| cpu_ops::time_stamp());
    if cfg!(target_arch = "x86_64") || features.has(Feature::TSC) {
        assert!(stamps[0] > 0 && stamps.is_sorted(), "{stamps:?}");
        let between = std::hint::black_box(cpu_ops::time_stamp());
        // SAFETY: reads the counter.
        let now = unsafe {
            #[cfg(target_arch = "x86")]
            use std::arch::x86::_rdtsc;
            #[cfg(target_arch = "x86_64")]
            use std::arch::x86_64::_rdtsc;
            _rdtsc()
        };
        assert!(stamps[2] <= between && now.abs_diff(between) < 1 << 36, "{between} {now}");
    } else {
        assert_eq!(stamps, [0; 3]);
    }
}

/// An area for more than the state of any CPU.
#[repr(align(64))]
struct Area([u8; 16384]);

/// Checks that a state that was saved comes back, and that saving it leaves the x87 stack as it is.
#[inline(never)]
fn state_comes_back() {
    let mut area = Box::new(Area([0; 16384]));
    // The x87 state only, which every variant saves.
    const MASK: u64 = 1;
    let [mut kept, mut restored] = [0.0_f64; 2];
    // SAFETY: the area is large enough, aligned and zero. Only the x87 stack changes, and it is
    // empty at the end, as the ABI demands between functions.
    unsafe {
        asm!("fld1", "fldpi", options(nostack));
        cpu_ops::save_state(area.0.as_mut_ptr(), MASK);
        asm!("fstp qword ptr [{}]", "fstp st(0)", in(reg) &mut kept, options(nostack));
        asm!("fldz", options(nostack));
        cpu_ops::restore_state(area.0.as_ptr(), MASK);
        asm!("fstp qword ptr [{}]", "fstp st(0)", in(reg) &mut restored, options(nostack));
    }
    assert_eq!([kept, restored], [std::f64::consts::PI; 2]);
}

#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn bases(features: &Features) {
    // The default is for ring 0.
    if !features.has(Feature::FSGSBASE_ENABLED) {
        return;
    }
    let own: usize;
    // SAFETY: on Linux, the word at the base of FS is that base.
    unsafe { asm!("mov {}, fs:[0]", out(reg) own) };
    assert_eq!(cpu_ops::read_fs_base(), own);
    // SAFETY: the base is the one that FS has; and no code of the process uses GS.
    unsafe {
        cpu_ops::write_fs_base(own);
        let before = cpu_ops::read_gs_base();
        cpu_ops::write_gs_base(0x1234_5000);
        assert_eq!(cpu_ops::read_gs_base(), 0x1234_5000);
        cpu_ops::write_gs_base(before);
    }
}

#[cfg(target_arch = "x86")]
fn bases(_: &Features) {}

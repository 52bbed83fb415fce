//! Boots the fat-LTO kernels in QEMU, 64-bit and 32-bit. The kernel executes every patchlet and
//! patches itself in every state, and checks the effects itself. This test compares the bytes that
//! it prints with the table of the native set.

mod support {
    pub mod boot;
    pub mod kernel;
    pub mod table;
}

use std::collections::BTreeMap;

use support::boot::{self, Log, Site, unhex};
use support::kernel;
use support::table::{Width, native};

/// The arguments for two CPUs. With them, the kernel fails if the machine has another number.
const TWO_CPUS: &[&str] = &["-smp", "2", "-append", "cpus=2"];

/// Returns the kernel's own patchlets, which are in `tests/kernel/asm/own.S`.
fn own(width: Width) -> [(&'static str, &'static str); 2] {
    match width {
        Width::Bits64 => [("invlpg", "0f013f"), ("rdtsc", "0f31")],
        Width::Bits32 => [("invlpg", "0f0138"), ("rdtsc", "0f31")],
    }
}

/// Returns the names and bytes of all patchlets of the kernel.
fn expected(width: Width) -> BTreeMap<String, Vec<u8>> {
    let own = own(width).map(|(name, bytes)| (name.to_owned(), unhex(bytes).expect("hex")));
    native(width).into_iter().map(|row| (row.name.to_owned(), row.bytes)).chain(own).collect()
}

#[test]
fn the_64_bit_kernel_boots_and_patches_itself() {
    check(Width::Bits64);
}

#[test]
fn the_32_bit_kernel_boots_and_patches_itself() {
    check(Width::Bits32);
}

fn check(width: Width) {
    let log = boot::boot(&kernel::build(width, "fat"), TWO_CPUS);
    printed_and_executed(width, &log);
    loaded_a_module(&log);

    let native = log.sites("native");
    for site in &native {
        let (address, op) = (site.address, &site.op);
        assert!(site.old.starts_with(&[0xff]), "{op} at {address:#x} was not indirect");
        match natively(width, site) {
            Some(bytes) => assert_eq!(site.new, bytes, "{op} at {address:#x}"),
            None => assert_eq!((site.new[0], site.new[5]), (0xe9, 0x90), "{op} at {address:#x}"),
        }
    }
    assert!(native.iter().map(|site| site.count).sum::<usize>() >= 1000);
    let again = log.sites("native-again");
    for (site, before) in again.iter().zip(&native) {
        assert_eq!((&site.old, &site.new), (&before.new, &before.new), "{}", site.op);
    }
    for site in log.sites("guest") {
        let jumps = ["cpu.iret", "cpu.usergs_sysret64", "any.mix", "any.largest"];
        let opcode = if jumps.contains(&&*site.op) { 0xe9 } else { 0xe8 };
        assert_eq!((site.new[0], site.new[5]), (opcode, 0x90), "{}", site.op);
    }
    let mixed = |op: &str| log.sites("mixed").into_iter().find(|site| site.op == op).expect(op).new;
    assert_eq!(mixed("irq.irq_enable"), [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00]);
    assert_eq!(mixed("mmu.read_cr2"), [0x0f, 0x0b, 0x0f, 0x1f, 0x40, 0x00]);
    assert_eq!(mixed("irq.save_fl")[0], 0xe8);
    assert_eq!(mixed("any.mix")[0], 0xe9);
    assert_eq!(mixed("any.largest"), [0x31, 0xc0, 0x0f, 0x1f, 0x40, 0x00]);

    for state in ["native", "native-again", "guest", "mixed", "native-at-last"] {
        let prefix = format!("{state}: ");
        let report = log.lines("report").find_map(|line| line.strip_prefix(&*prefix));
        let report = report.unwrap_or_else(|| panic!("no report of {state}"));
        assert!(report.ends_with(" 0 indirect"), "{state}: {report}");
    }
}

/// Checks that the module was loaded, and that its sites were switched with the kernel's.
fn loaded_a_module(log: &Log) {
    let line = log.0.lines().find(|line| line.contains("module loaded and unloaded 6 times"));
    let line = line.unwrap_or_else(|| panic!("no module was loaded:\n{log}"));
    assert!(line.ends_with(", 132 switches while it was loaded"), "{line}");
}

/// Checks that the kernel printed the patchlets of the table, and no others, with the right bytes,
/// and executed all of them.
fn printed_and_executed(width: Width, log: &Log) {
    let printed: BTreeMap<String, Vec<u8>> = log
        .lines("patchlet")
        .map(|line| {
            let [name, length, bytes] = line.split(' ').collect::<Vec<_>>().try_into().expect(line);
            let bytes = unhex(bytes).expect(line);
            assert_eq!(length.parse(), Ok(bytes.len()), "{line}");
            (name.to_owned(), bytes)
        })
        .collect();
    assert_eq!(printed, expected(width));
    let mut executed: Vec<_> = log.lines("executed").collect();
    executed.sort_unstable();
    assert_eq!(executed, printed.keys().collect::<Vec<_>>());
}

/// Returns the bytes of a site on bare metal, according to the table; `None` if the site jumps to a
/// function.
fn natively(width: Width, site: &Site) -> Option<Vec<u8>> {
    if site.op.starts_with("any.") {
        return None;
    }
    let name = site.op.rsplit('.').next().expect("a name");
    let name = match name {
        "ident" => "ident_64",
        "flush_page" => "invlpg",
        "ticks_low" => "rdtsc",
        "zero" => "vcpu_is_preempted",
        "flags" => "save_fl",
        other => other,
    };
    let mut bytes = expected(width).remove(name).unwrap_or_default();
    let nops: &[&[u8]] = &[
        &[],
        &[0x90],
        &[0x66, 0x90],
        &[0x0f, 0x1f, 0x00],
        &[0x0f, 0x1f, 0x40, 0x00],
        &[0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    ];
    bytes.extend(nops[6 - bytes.len()]);
    Some(bytes)
}

#[test]
fn a_kernel_that_does_not_finish_is_a_failure() {
    let kernel = kernel::build(Width::Bits32, "fat");
    // This CPU has no NX, so the kernel fails and says so.
    let failure = boot::try_boot(&kernel, &["-cpu", "pentium3"]).err().expect("it cannot pass");
    assert!(failure.contains("no NX"), "{failure}");
    assert!(!failure.contains("patchlet-test-kernel: finished"), "{failure}");
}

/// Boots the kernel with broken writers. It passes only if its readers notice them. A missing
/// synchronization in the middle of the protocol is left out: this emulator never executes a stale
/// instruction. tests/live_model has that case.
#[test]
fn a_broken_live_writer_is_caught() {
    for width in [Width::Bits64, Width::Bits32] {
        let kernel = kernel::build(width, "fat");
        for broken in ["plain-copy", "tail-first"] {
            let append = format!("cpus=2 break={broken}");
            let log = boot::boot(&kernel, &["-smp", "2", "-append", &append]);
            assert!(log.0.contains("caught"), "{width}, {broken}:\n{log}");
        }
    }
}

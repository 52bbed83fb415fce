//! A kernel that boots by PVH in QEMU, on 64-bit and 32-bit x86, and says on COM1 whether its tests
//! passed.
//!
//! | file | what |
//! |---|---|
//! | `asm/boot_*.S` | the way from the PVH entry to [`kernel_main`] |
//! | `kernel.ld`, `image` | where the regions of the image lie |
//! | `segments` | GDT, TSS, which CPU this is |
//! | `asm/trap*`, `traps` | IDT, trap entry, expected traps |
//! | `start_info`, `command_line` | what the boot loader gives; what `-append` demands |
//! | `asm/ap.S`, `smp` | the other CPUs, started by a blob, and jobs for them |
//! | `asm/hypercall.S`, `hypercall` | a hypercall page, filled and executed |
//! | `apic`, `sync`, `park`, `wait` | interrupts; serializing and stopping all CPUs; waiting |
//! | `stop` | waits in a state, so that somebody can look at the memory |
//! | `paging` | W^X mapping, and the second mapping through which text is written |
//! | `scratch` | a buffer to run code from that was not linked |
//! | `asm/user.S`, `user` | ring 3 and back |
//! | `arch_*` | what differs by width |
//! | `cpu`, `serial`, `qemu` | single instructions, output, the end |
//! | `self_test` | proves that all of this holds on one CPU |
//! | `asm/state_*.S`, `smp_test` | and on all |
//! | `signatures` | ops of any signature, executed in every state of their sites |
//! | `by_feature` | the ops that differ by CPU feature |
//! | `live` | what `patchlet::live` needs of a kernel |
//! | `asm/live.S`, `live_*` | sites switched while other CPUs run them |
//! | `asm/trace.S`, `trace` | a trace point switched on and off while other CPUs run over it |
//! | `module/` | loads and unloads a module (`tests/module/`), whose sites are switched with the kernel's |
//!
//! "SDM" is Intel's Software Developer's Manual. Section numbers are those of the editions in which
//! vol. 3A chapter 8 is "Multiple-Processor Management". Later editions have moved chapters, so
//! titles are given as well.

#![no_std]
#![no_main]

mod apic;
#[cfg_attr(target_arch = "x86_64", path = "arch_64.rs")]
#[cfg_attr(target_arch = "x86", path = "arch_32.rs")]
mod arch;
#[cfg_attr(target_arch = "x86_64", path = "assembly_64.rs")]
#[cfg_attr(target_arch = "x86", path = "assembly_32.rs")]
mod assembly;
mod by_feature;
mod command_line;
mod cpu;
mod guest;
mod hypercall;
mod image;
mod live;
mod live_broken;
mod live_readers;
mod live_sites;
mod live_test;
mod module;
mod own;
mod paging;
mod park;
mod patching;
mod patchlets;
mod pic;
mod qemu;
mod scratch;
mod segments;
mod self_test;
mod serial;
mod signatures;
mod sites;
mod smp;
mod smp_test;
mod start_info;
mod stop;
mod sync;
mod trace;
mod traps;
mod user;
mod wait;

use core::panic::PanicInfo;

use start_info::StartInfo;

/// The last line, without which `run.sh` fails: a kernel that ends early must not look as if it had
/// passed.
const SENTINEL: &str = "patchlet-test-kernel: finished";

/// Runs all tests and ends QEMU. `asm/boot_*.S` calls it on the boot CPU, with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(start_info: usize) -> ! {
    // SAFETY: one CPU runs, interrupts are off, and each function is called once. Segments come
    // before traps, which need them, and traps before paging, so that a fault is reported.
    unsafe {
        segments::build();
        segments::load(0);
        let start_info = StartInfo::at(start_info);
        command_line::save(start_info);
        module::file::save(start_info);
        traps::build();
        traps::load();
        if command_line::is(b"cpu=only") {
            by_feature::alone();
        }
        paging::build();
        paging::activate();
    }

    pic::mask_all();

    println!("patchlet-test-kernel: {}-bit, {}", usize::BITS, env!("KERNEL_PROFILE"));
    println!("  text {:#x?}, written at +{:#x}", image::text(), paging::DIRECT_MAP_OFFSET);

    command_line::check();

    for (name, test) in self_test::ALL.iter().chain(smp_test::ALL) {
        println!("test {name}");
        test();
    }

    patchlets::list();
    patchlets::execute();
    patching::run();
    by_feature::run(true);
    live_test::run();
    trace::run();

    finish()
}

fn finish() -> ! {
    println!("{SENTINEL}");
    qemu::exit(qemu::Outcome::Success)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    println!("{info}");
    qemu::exit(qemu::Outcome::Failure)
}

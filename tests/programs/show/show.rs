//! The program behind `make run`. It builds the two kernels with fat LTO, inspects and boots them,
//! and shows each op's site before and after patching; then what ops by CPU feature get on some CPU
//! models, and the cost of a call on this machine.

#[path = "../../support"]
mod support {
    pub mod boot;
    #[allow(dead_code, reason = "what is right for a model is for tests/cpu_models.rs")]
    pub mod by_feature;
    pub mod elf;
    pub mod kernel;
    pub mod layout;
    pub mod meaning;
    #[allow(dead_code, reason = "features are for tests/cpu_models.rs")]
    pub mod models;
    pub mod table;
}

mod by_feature;
mod cost;
mod disassembly;

use std::path::Path;
use std::{env, fs};

use disassembly::Disassembler;
use support::boot::{self, Log, Site};
use support::kernel;
use support::layout::inspect_linked;
use support::meaning::hex;
use support::table::{Width, native};

fn main() {
    for width in [Width::Bits64, Width::Bits32] {
        show(width);
    }
    by_feature::show();
    println!("── cost of a call, in a process on this machine {}", "─".repeat(52));
    println!("   nanoseconds, before patching → after; the loop around it included\n");
    for width in [Width::Bits64, Width::Bits32] {
        cost::show(width);
    }
    println!("\nEvery check passed.");
}

fn show(width: Width) {
    println!("── the {width} kernel {}", "─".repeat(80));
    println!("building   with fat LTO");
    let kernel = kernel::build(width, "fat");
    let size = fs::metadata(&kernel).map_or(0, |file| file.len());
    println!("built      {}, {} KiB", relative(&kernel), size / 1024);

    let patchlets = inspect_linked(&kernel, width);
    let bytes: usize = patchlets.iter().map(|patchlet| patchlet.bytes.len()).sum();
    println!(
        "inspected  {} patchlets, {bytes} bytes: labels, order, bytes, section flags, no relocation: \
         as they must be",
        patchlets.len()
    );
    let native = native(width);
    let (by_feature, patchlets): (Vec<_>, Vec<_>) =
        patchlets.into_iter().partition(|patchlet| patchlet.name.starts_with("cpu_"));
    for patchlet in &patchlets {
        let meaning = native.iter().find(|row| row.name == patchlet.name);
        // No site has room for more, so it is a blob.
        let is_blob = patchlet.bytes.len() > 32;
        println!(
            "           {:<20} {:<18} {}",
            patchlet.name,
            if is_blob { format!("{} bytes", patchlet.bytes.len()) } else { hex(&patchlet.bytes) },
            match meaning {
                Some(row) => row.assembly,
                None if is_blob => "(a blob of the kernel)",
                None => "(the kernel's own)",
            }
        );
    }
    println!("           and {} of the ready-made set by CPU feature, see below", by_feature.len());

    let accelerator = env::var("ACCEL").unwrap_or_else(|_| "tcg,thread=single".into());
    println!("booting    in QEMU with two CPUs, -accel {accelerator}");
    let log = boot::boot(&kernel, &["-smp", "2", "-append", "cpus=2"]);
    println!(
        "booted     {} tests of the kernel itself passed, {} patchlets executed",
        log.lines("test").count(),
        log.lines("executed").count()
    );
    patched(width, &kernel, &log);
    switched(&log, "live switching", "switched ");
    switched(&log, "trace point", "traced   ");
    println!("finished   the kernel said so itself\n");
}

/// Prints the first site of each op before and after patching, and the counts of every state.
fn patched(width: Width, kernel: &Path, log: &Log) {
    let disassembler = Disassembler::new(width, kernel);
    println!(
        "patched    {:<24} {:>5}  {:<9} {:<19}{:<48}as bare metal",
        "op", "sites", "first at", "before", ""
    );
    let print = |op: &str, site: &Site| {
        println!(
            "           {op:<24} {:>5}  {:<9} {:<19}{:<48}{:<19}{}",
            site.count,
            format!("{:#x}", site.address),
            hex(&site.old),
            disassembler.text(site.address, &site.old),
            hex(&site.new),
            disassembler.text(site.address, &site.new),
        );
    };
    for site in &log.sites("native") {
        print(&site.op, site);
    }
    if let Some(site) = log.sites("guest").first() {
        print("  and as a guest:", site);
    }
    for report in log.lines("report") {
        println!("counted    {report}");
    }
}

/// Prints the kernel's lines about one of its tests: what it did, and the indented lines behind it.
fn switched(log: &Log, test: &str, did: &str) {
    let title = format!("test {test}: ");
    let mut lines = log.0.lines().skip_while(|line| !line.starts_with(&title));
    if let Some(first) = lines.next() {
        println!("{did}  live, {}", first.trim_start_matches(&title));
    }
    for line in lines.map_while(|line| line.strip_prefix("  ")) {
        println!("           {line}");
    }
}

/// Returns a path relative to the repository.
fn relative(path: &Path) -> String {
    path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(path).display().to_string()
}

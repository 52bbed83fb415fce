//! Boots Debian's kernels in QEMU, dumps their memory, and explains their text. Prints a table, and
//! fails if anything is unexplained. `fetch.sh` has put the kernels into `target/linux/boot`.
//!
//! ```text
//! cargo run --example linux                  every row
//! cargo run --example linux -- 6.12 mitigations
//!                                            the rows with both words in them
//! cargo run --example linux -- flips         the rows, and 10,000 changed bytes in each dump
//! ```

mod flips;
mod machine;
#[path = "../../support/qmp.rs"]
mod qmp;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

use patchlet::inspect::{
    CpuSpec, Explained, Explanation, LinuxKernel, Verdict, explain_linux, map, unpack,
};

use machine::{Machine, build_init, dump};

/// A kernel, and what it is booted with.
struct Row {
    kernel: &'static str,
    cpu: &'static str,
    cpus: u32,
    /// More for the kernel's command line.
    append: &'static str,
    /// What must be there that is allowed and not proven, by the name of its cause.
    allowed: &'static [&'static str],
    /// Static keys at whose branches there must be proven differences.
    toggled: &'static [&'static str],
    dump: Dump,
}

/// The dump that is explained.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dump {
    /// QEMU's, of all memory.
    Memory,
    /// What the program in the machine has copied out of `/proc/kcore`.
    Kcore,
}

/// A clean boot, with one CPU or two.
const fn clean(kernel: &'static str, cpu: &'static str, cpus: u32) -> Row {
    Row { kernel, cpu, cpus, append: "", allowed: &[], toggled: &[], dump: Dump::Memory }
}

/// Switches a static key on, as a user does.
const SCHEDSTATS: &str = "do=/proc/sys/kernel/sched_schedstats:1";

const ROWS: &[Row] = &[
    clean("5.10", "Nehalem", 1),
    clean("5.10", "EPYC", 2),
    Row { append: "spectre_v2=retpoline,lfence", ..clean("5.10", "max", 1) },
    clean("5.10-686", "Nehalem", 2),
    clean("6.1", "Nehalem", 1),
    clean("6.1", "max", 2),
    clean("6.1", "EPYC", 1),
    Row {
        append: "do=/trace/kprobe_events:p:x~vfs_read+5,/trace/events/kprobes/enable:1",
        allowed: &["kprobe"],
        ..clean("6.1", "Skylake-Client", 1)
    },
    clean("6.1-686", "Nehalem", 1),
    clean("6.1-686", "max", 2),
    clean("6.12", "Nehalem", 1),
    clean("6.12", "Skylake-Server", 2),
    Row { append: "mitigations=off", ..clean("6.12", "max", 1) },
    Row { append: "retbleed=stuff", ..clean("6.12", "Skylake-Client", 1) },
    Row {
        append: "do=/trace/current_tracer:function,/trace/events/enable:1",
        allowed: &["ftrace"],
        ..clean("6.12", "Haswell", 1)
    },
    clean("6.12", "Icelake-Server", 2),
    clean("6.12-rt", "max", 2),
    Row { append: SCHEDSTATS, toggled: &["sched_schedstats"], ..clean("5.10", "Nehalem", 2) },
    Row { append: SCHEDSTATS, toggled: &["sched_schedstats"], ..clean("6.1", "Haswell", 1) },
    Row { append: SCHEDSTATS, toggled: &["sched_schedstats"], ..clean("6.12", "Nehalem", 2) },
    Row {
        append: "do=/trace/kprobe_events:p:x~vfs_read+9,/trace/events/kprobes/enable:1,wait:5",
        allowed: &["kprobe"],
        ..clean("6.12", "Haswell", 1)
    },
    Row { append: "do=kcore:/dev/ttyS1", dump: Dump::Kcore, ..clean("6.1-cloud", "Haswell", 1) },
    clean("5.10-rt", "max", 2),
    clean("5.10-cloud", "Skylake-Server", 1),
    clean("5.10-686-nopae", "Nehalem", 1),
    clean("6.1-cloud", "EPYC", 2),
    clean("6.1-686-nopae", "Nehalem", 2),
    clean("6.1-rt", "Skylake-Client", 2),
    clean("6.5-686", "Nehalem", 1),
    clean("6.5-686", "max", 2),
    clean("6.12.43", "Haswell", 2),
    clean("sid", "Haswell", 1),
    clean("sid", "max", 2),
    clean("sid-rt", "Skylake-Client", 2),
    // Indirect branches in their newer form, without thunks.
    Row { append: "mitigations=off", ..clean("sid", "max", 1) },
    // The kernel is told that the CPU has what QEMU does not emulate, and a fault: indirect branches
    // in the lower half of a cache line go to thunks that are made for them.
    Row {
        append: "setcpuid=ibrs,ibrs_enhanced,ibpb spectre_v2=eibrs indirect_target_selection=force",
        allowed: &["retpoline"],
        ..clean("sid", "Skylake-Client", 2)
    },
    // Without NX.
    clean("5.10-686", "athlon", 2),
    // Jumps over NOPs, which are joined with them.
    Row { append: "mitigations=off", ..clean("6.5-686", "n270", 2) },
];

fn main() -> ExitCode {
    let mut words: Vec<String> = env::args().skip(1).collect();
    let with_flips = words.iter().position(|word| word == "flips").map(|at| words.remove(at));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/linux");
    let init = match build_init(&folder) {
        Ok(init) => init,
        Err(why) => {
            eprintln!("linux: {why}");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "| kernel | CPU | CPUs | command line | proven | allowed | unexplained | seconds |\n\
         |---|---|--:|---|--:|--:|--:|--:|"
    );
    let mut failed = vec![];
    let selected = ROWS.iter().filter(|row| {
        let of = [row.kernel, row.cpu, row.append];
        words.iter().all(|word| of.iter().any(|part| part.contains(&**word)))
    });
    let mut rows = 0;
    for row in selected {
        rows += 1;
        if let Err(why) = run(row, &folder, &init, with_flips.is_some()) {
            failed.push(format!("{} on {} {}: {why}", row.kernel, row.cpu, row.append));
        }
    }
    if rows == 0 {
        failed.push("no row has these words in it".to_owned());
    }
    for why in &failed {
        eprintln!("linux: {why}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Boots, dumps and explains one row, and prints it.
fn run(row: &Row, folder: &Path, init: &[u8], with_flips: bool) -> Result<(), String> {
    let kernel: PathBuf = folder.join("boot").join(format!("vmlinuz-{}", row.kernel));
    let core = folder.join("core");
    let machine = Machine {
        kernel: &kernel,
        is_32_bit: row.kernel.contains("686"),
        cpu: row.cpu,
        cpus: row.cpus,
        append: row.append,
    };
    dump(&machine, init, folder, &core)?;
    let start = Instant::now();
    let data = map(&kernel).map_err(|error| error.to_string())?;
    let unpacked = unpack(&data).map_err(|error| error.to_string())?;
    let linux = LinuxKernel::new(&unpacked).map_err(|error| error.to_string())?;
    // What `--cpu` would say is compared with what the kernel has found.
    let cpu = CpuSpec::model(row.cpu, Some(linux.width())).map_err(|error| error.to_string())?;
    let linux = linux.on_cpu(&cpu).map_err(|error| error.to_string())?;
    let kcore = folder.join("kcore");
    let dumped = if row.dump == Dump::Kcore { &kcore } else { &core };
    let memory = map(dumped).map_err(|error| error.to_string())?;
    let explanation = explain_linux(&linux, &memory, None, !row.toggled.is_empty())
        .map_err(|error| error.to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    let [proven, allowed, unexplained] = [Verdict::Proven, Verdict::Allowed, Verdict::Unexplained]
        .map(|verdict| explanation.total(verdict).bytes);
    println!(
        "| {} | {} | {} | {} | {proven} | {} | {unexplained} | {seconds:.1} |",
        linux.release().unwrap_or(row.kernel),
        row.cpu,
        row.cpus,
        row.append,
        match allowed {
            0 => "0".to_owned(),
            _ => format!("{allowed} ({})", causes(&explanation)),
        },
    );
    // Only a dump by physical addresses says where each byte of text is in it.
    if with_flips && row.dump == Dump::Memory {
        flips::run(&linux, &unpacked, &memory, &explanation)?;
    }
    fs::remove_file(&core).map_err(|error| error.to_string())?;
    if let Some(note) = explanation.notes.iter().find(|note| note.contains("otherwise")) {
        return Err(note.clone());
    }
    for cause in row.allowed {
        if !explanation.counts.contains_key(&(cause, Verdict::Allowed)) {
            return Err(format!("nothing is allowed because of {cause}"));
        }
    }
    for key in row.toggled {
        let is_branch = |of: &&Explained| of.cause == "jump-label" && of.depends == *key;
        let mut branches = explanation.list.iter().filter(is_branch).peekable();
        if branches.peek().is_none() || branches.any(|of| of.verdict != Verdict::Proven) {
            return Err(format!("there is no branch on {key} that is proven"));
        }
    }
    if unexplained > 0 {
        let list = explanation.list.iter().filter(|of| of.verdict == Verdict::Unexplained);
        for of in list.take(20) {
            eprintln!(
                "{:#x} {} {} {}: file {:02x?}, expected {:02x?}, seen {:02x?}",
                of.address, of.function, of.cause, of.depends, of.file, of.expected, of.seen
            );
        }
        return Err(format!("{unexplained} bytes are unexplained"));
    }
    Ok(())
}

/// Returns the causes of what is allowed, each with its bytes.
fn causes(explanation: &Explanation) -> String {
    let allowed: BTreeMap<&str, usize> = explanation
        .counts
        .iter()
        .filter(|((_, verdict), _)| *verdict == Verdict::Allowed)
        .map(|((cause, _), count)| (*cause, count.bytes))
        .collect();
    let words: Vec<String> =
        allowed.iter().map(|(cause, bytes)| format!("{cause} {bytes}")).collect();
    words.join(", ")
}

//! The command line, parsed by clap. Doc comments here are the text of `--help`, so they follow
//! clap's style: an imperative, and no full stop.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::insn::Nops;
use crate::inspect::verify::ExpectedSites;

/// Patchlets and patch sites in x86 ELF files: list, verify, plan, apply, explain.
#[derive(Debug, Parser)]
#[command(
    name = "patchlet",
    version,
    max_term_width = 100,
    after_help = "\
Exit status:
  0  everything holds; for diff: no difference; for raw: none
  1  a finding; for diff: a difference; for raw: an instruction
  2  a file cannot be read or written, or the command line is wrong

Examples:
  patchlet list target/kernel                 what patchlets are in it
  patchlet verify target/kernel               in CI: can it be patched, all of it?
  patchlet apply target/kernel -o vmkernel    patch it for bare metal ahead of boot

Output is coloured on a terminal only, and not with NO_COLOR set."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the patchlets and keys in objects, archives and linked files
    #[command(after_help = "\
Examples:
  patchlet list kernel                 address, length, name, section, bytes, instructions
  patchlet list own.o libown.a         before linking: offsets instead of addresses
  patchlet list --json kernel | jq     for programs")]
    List(ListArguments),
    /// List the patch sites of a linked file
    #[command(after_help = "\
Sites of ops come first, then those of static branches. Out of line, behind a jump, is the side of a
branch that the column says: `on` is what runs when the key is on. With --op only sites of ops are
shown, with --key only branch sites, with both those of both.

Of a Linux kernel or a module of one (vmlinux, vmlinuz, .ko, .ko.xz), the sites of all its tables: what
decides the bytes (a feature, a key, a slot of pv_ops), where the record leads, and what the file has.
--table is alternative, paravirt, jump-label, static-call, smp-lock, retpoline, return, call, endbr,
cfi, ftrace, runtime-pointer, runtime-shift or runtime-mask; --key names the key of jump labels or
static calls.

Examples:
  patchlet sites kernel
  patchlet sites kernel --op irq.save_fl --op restore_fl      with or without the group
  patchlet sites kernel --key TRACE        where a static branch asks for this key
  patchlet sites kernel --function schedule      sites in functions with that in their names
  patchlet sites vmlinuz --table jump-label --key sched_schedstats
  patchlet sites pie --loaded-at 0xffff800000000000     addresses as a running kernel prints them")]
    Sites(SitesArguments),
    /// Prove what can be proven of a linked file; one line for each finding
    #[command(after_help = "\
Checked: patchlets complete, intact, the same as their native functions, in read-only data, without
relocations; records whole; each site inside text, at an instruction of its function, holding the
indirect call or jump through its slot or its native form, large enough, overlapping no other, no
branch into its middle; every indirect call or jump through an ops table has a record. Each variant is
of an op, a function, and fits all sites of its op. Each branch site has a key, holds the NOP or the
jump that the key's state asks for, and jumps to an instruction of its own function.
Not seen: functions that are missing with their records, so say by --expect-sites how many sites there
must be; a call through what a slot held before it went through memory or a second register; one
through a thunk that is inlined or takes its target from the stack; in a file without symbols, code
behind data in text up to where the decoder is in step again.

Examples:
  patchlet verify kernel
  patchlet verify kernel --require invlpg,rdtsc    the kernel's own patchlets must be there too
  patchlet verify kernel --expect-sites 1527       no more and no fewer; 1500.. for at least so many
  patchlet verify kernel --expect-branches 40..    the same for branch sites
  patchlet verify kernel --against own.o           compare with an object, not with the native set
  patchlet verify kernel --contracts own.S         do they only what the comments above them say?")]
    Verify(VerifyArguments),
    /// Show what patching would do, site by site, without doing it
    #[command(after_help = "\
A platform is `native`, or `slot=target` with commas between; other slots keep their native
functions. A slot is an op's name with or without its group, table.name or table[index]; a target is
a symbol, an address (0x…, as the file has it), or nop, ident, null, native.

With --cpu, each slot that no --platform names gets the last variant of its op that is eligible on
that CPU. The models are QEMU's, with `+name`, `-name`, `name=on` or `name=off` behind them, and names
are those of the crate or QEMU's; @FILE is the output of `cpuid -r` on some machine, and what all of
its CPUs have counts. What an operating system has to switch on (SMAP_ENABLED, XCR0_AVX) is taken for
switched on where the CPU has it; a kernel's own features are taken for absent. Both can be said
otherwise: -smap_enabled, +broken. --accel tcg leaves out what QEMU without KVM does not emulate.

With --key, branch sites and the key get the state given; other keys keep what the file says.

NOPs: `long` is NOPL, which the Pentium, the Geode and the C3 do not have; `lea` is `lea` and `mov` of a
register to itself, which every 32-bit CPU executes. Without --nops it is `lea` for 32-bit files, unless
they say that they were compiled for CPUs with SSE2; the kernel's own patching decides the same way.
Where the kernel asks for other NOPs (`with_nops`), say the same here.

Of a Linux kernel (vmlinux, vmlinuz) or a module of one: what its own patching makes of the sites of all
tables. The names of features are those of /proc/cpuinfo; one without a name is written as 11*32+14.
Sites that do not change are only counted. Each site is
  computed   it follows from the file and from features that are known
  initial    it follows from a variable that has its first value and can have another at any time: a
             static key, the function of a static call or of pv_ops, tracing, the number of CPUs
  undecided  a feature decides that only the kernel knows, as for mitigations, or of which nothing is
             said; what it can get is listed behind `?`. Say +retpoline, -rethunk and so on in --cpu
  run-time   it depends on what is only known when the kernel runs

Examples:
  patchlet plan kernel --platform native
  patchlet plan kernel --platform save_fl=xen_save_fl,restore_fl=nop
  patchlet plan kernel --cpu Haswell,-erms          what a kernel gets that selects variants there
  patchlet plan kernel --cpu max --accel tcg        what it gets in QEMU without KVM
  patchlet plan kernel --key TRACE=on
  patchlet plan vmlinuz --cpu Haswell,+retpoline,-rethunk --function vfs_read")]
    Plan(PlanArguments),
    /// Patch the sites in a copy of the file, for bare metal or another platform
    #[command(after_help = "\
The sites get what the kernel's own patching at boot gives them where every slot has its native
function, or what --platform and --cpu say. The slots themselves stay as they are: a kernel selects
variants, or puts in the functions of another platform, all the same. A kernel patched for a CPU runs
on CPUs that have these features, and must select there before it first patches. A key is changed
together with its sites: its word in the file says the new state. The file is verified first; nothing
is written unless everything holds. What was patched for a platform is verified and reverted with the
same --platform; for a CPU or with keys, that needs no option. --platform, --cpu, --key and --nops are
explained at `plan`; files patched with either kind of NOPs are verified and reverted alike.

Examples:
  patchlet apply kernel -o kernel.native
  patchlet apply kernel -o kernel.xen --platform save_fl=xen_save_fl
  patchlet apply kernel -o kernel.new --cpu Skylake-Server --key TRACE=on
  patchlet apply --revert kernel.native -o kernel    the original, byte for byte")]
    Apply(ApplyArguments),
    /// Show privileged instructions that do not go through the op that there is for them
    #[command(after_help = "\
A kernel's dependencies use such instructions behind its back. Which ones are looked for the file
says itself: those in its patchlets, the kernel's own included. Native functions and sites are left
out. Text in a file without symbols is read in line, so what follows data in text can be missed; so
can an instruction that a program makes at run time.

Examples:
  patchlet raw kernel
  patchlet raw kernel --except boot_ --except patchlet::    all but these functions
  patchlet raw kernel --json | jq '.raw[].function'")]
    Raw(RawArguments),
    /// Say of a kernel's text in a memory dump why it differs from the file
    #[command(after_help = "\
FILE is a linked kernel with patchlet; or Linux: a vmlinux, with or without symbols, or a vmlinuz.
DUMP is an ELF core, as QEMU's dump-guest-memory and an uncompressed kdump are; or plain memory, with
the address of its first byte.

What the text should be is computed from the file's tables and from the state in the dump: slots and
keys; in Linux features of the CPU, static keys, static calls, pv_ops. Each range that differs from
the file, or should, has a cause and a verdict:
  proven       it was computed and is equal
  allowed      its record can have this state; what decides was not read from the dump
  unexplained  no record is for it, or the state in the dump asks for other bytes
The sites of one op or key are patched together: one that differs from the others is unexplained. What
is in no file is not compared: modules but those of --module, BPF programs, copies of blobs, text that is
made at run time.

If the features of the CPU are not found in a dump, --cpu says them. Names behind it are those of
/proc/cpuinfo, of the crate or of QEMU, or numbers as in Linux' sources: +xenpv, -11*32+14. What only
the kernel decides is then taken from what most sites are, as all features are without --cpu, and its
sites are allowed, not proven.

With --oops, the `Code:` lines of a Linux kernel's log are compared instead: each byte that differs from
the file, with what it was patched from. A log says nothing of features and keys, so a site is allowed if
any state gives it these bytes; the state is named.

Examples:
  patchlet explain kernel --memory core --module driver.o
  patchlet explain vmlinuz-6.12 --memory guest.core
  patchlet explain vmlinux --memory ram --phys 0x0         plain memory from physical address 0 on
  patchlet explain vmlinux --memory core --all             what is proven, too
  dmesg | patchlet explain vmlinux --oops -                the code of each crash in a log
  patchlet explain vmlinux --memory core --json | jq '.list[] | select(.verdict == \"unexplained\")'")]
    Explain(ExplainArguments),
    /// Find instructions of a Linux kernel that lack a record, and records that are wrong
    #[command(after_help = "\
FILE is a vmlinux, with or without symbols, a vmlinuz, or a module (.ko, .ko.xz, .ko.zst, .ko.gz). Which
records there must be depends on what the kernel was built with, which the first lines say.

An instruction without a record, which the kernel therefore never patches:
  indirect-branch     a call or jump by register or memory that is no retpoline. A CPU that mispredicts
                      indirect branches can be led by an attacker here. Sources can say that this is safe
                      (ANNOTATE_RETPOLINE_SAFE), which no linked file tells: check, then --allow it
  paravirt-call       a call or jump through pv_ops, which stays indirect whatever the hypervisor
                      (as in CVE-2018-15594)
  indirect-thunk      a retpoline that stays one where the CPU does not need it, or needs another
  return              a plain return in a kernel whose returns go through a thunk, which it bypasses
  return-thunk        a jump to that thunk which stays as it is when the kernel chooses another one
  direct-call         a call that is not counted where calls must be (retbleed=stuff)
What runs only while a kernel boots (.init sections; not a module's), thunks, and replacements of
alternatives need no record; they are counted apart.

A record that is wrong, so that patching damages text:
  not-at-instruction  its site, its end, or its target is inside of an instruction, or in padding
  other-instruction   its table is for other instructions than the one at its site
  too-short           a direct call does not fit into its site
  duplicate           the same record again
  overlap             its site shares bytes with another that the kernel patches on its own

Exit status: 1 if anything is found that is not allowed. Kernels with this crate: `patchlet verify`.

Examples:
  patchlet audit vmlinux
  patchlet audit kvm.ko.xz --all                        each finding, not each function
  patchlet audit vmlinux --allow relocate_kernel --allow 'xen_hypercall*'
  patchlet audit old --json | jq -r '.functions[].function' > known
  patchlet audit new --allow-from known                 what has come since")]
    Audit(AuditArguments),
    /// Show how patchlets, variants, keys and sites of two builds differ
    #[command(after_help = "\
Addresses are not compared, they move with every build. Lines start with + for what only the second
file has, - for what only the first has, ~ for what changed.

Example:
  patchlet diff kernel.old kernel")]
    Diff(DiffArguments),
    /// Print completions for a shell
    #[command(after_help = "\
Example:
  patchlet completions bash > /etc/bash_completion.d/patchlet")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    #[command(after_help = "\
Example:
  patchlet man > /usr/local/share/man/man1/patchlet.1")]
    Man,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Objects, archives, linked files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct SitesArguments {
    /// A linked file
    pub file: PathBuf,
    /// Only sites of this op, named as for `plan`; can be given several times
    #[arg(long, value_name = "NAME")]
    pub op: Vec<String>,
    /// Only branch sites of this key, by its name, the path of its static or its address; can be
    /// given several times
    #[arg(long, value_name = "KEY")]
    pub key: Vec<String>,
    /// Of a Linux kernel, only sites of this table; can be given several times
    #[arg(long, value_name = "KIND")]
    pub table: Vec<String>,
    /// Only sites in functions with this in their names; can be given several times
    #[arg(long, value_name = "PART")]
    pub function: Vec<String>,
    /// Show the addresses that a position-independent file has when loaded there
    #[arg(long, value_name = "0x…", value_parser = address)]
    pub loaded_at: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArguments {
    /// A linked file
    pub file: PathBuf,
    /// The file is a module: an object by `ld -r`, which the kernel loads as it is
    #[arg(long)]
    pub module: bool,
    /// Compare patchlets with those of this object or archive
    #[arg(long, value_name = "OBJECT")]
    pub against: Option<PathBuf>,
    /// Patchlets that must be there beside the reference, with commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub require: Vec<String>,
    /// How many sites there must be, or with .. behind it the least
    #[arg(long, value_name = "N|MIN..")]
    pub expect_sites: Option<ExpectedSites>,
    /// The same for branch sites
    #[arg(long, value_name = "N|MIN..")]
    pub expect_branches: Option<ExpectedSites>,
    /// What sites that are patched already were patched for, as for `plan`
    #[arg(long, value_name = "native|SLOT=TARGET,…", default_value = "native")]
    pub platform: String,
    /// Prove that patchlets keep the contracts in this .S file; can be given several times
    #[arg(long, value_name = "SOURCE")]
    pub contracts: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// A linked file
    pub file: PathBuf,
    #[command(flatten)]
    pub platform: PlatformArguments,
    /// What fills sites of a 32-bit file
    #[arg(long, value_name = "FAMILY")]
    pub nops: Option<NopsName>,
    /// Of a Linux kernel, only sites of this table; can be given several times
    #[arg(long, value_name = "KIND")]
    pub table: Vec<String>,
    /// Of a Linux kernel, only sites in functions with this in their names; can be given several times
    #[arg(long, value_name = "PART")]
    pub function: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ApplyArguments {
    /// A linked file
    pub file: PathBuf,
    /// Where to write the result
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Give every site its indirect call or jump back, and every key the state it began with
    #[arg(long, conflicts_with_all = ["key", "cpu"])]
    pub revert: bool,
    #[command(flatten)]
    pub platform: PlatformArguments,
    /// What fills sites of a 32-bit file, as for `plan`
    #[arg(long, value_name = "FAMILY")]
    pub nops: Option<NopsName>,
}

/// The platform that sites are patched for.
#[derive(Debug, Args)]
pub(super) struct PlatformArguments {
    /// What the slots would hold
    #[arg(long, value_name = "native|SLOT=TARGET,…", default_value = "native")]
    pub platform: String,
    /// The CPU that variants are selected by, as for QEMU; @FILE is a dump by `cpuid -r`
    #[arg(long, value_name = "MODEL|@FILE[,+NAME,-NAME…]")]
    pub cpu: Option<String>,
    /// Leave out what QEMU's own emulation of the CPU does not have
    #[arg(long, value_name = "ACCELERATOR", requires = "cpu")]
    pub accel: Option<AcceleratorName>,
    /// Switch a key on or off; can be given several times
    #[arg(long, value_name = "KEY=on|off")]
    pub key: Vec<String>,
}

/// An accelerator of QEMU that does not have all that a CPU has, by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum AcceleratorName {
    Tcg,
}

/// A family of NOPs, by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum NopsName {
    Long,
    Lea,
}

impl From<NopsName> for Nops {
    fn from(name: NopsName) -> Self {
        match name {
            NopsName::Long => Self::Long,
            NopsName::Lea => Self::Lea,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct RawArguments {
    /// A linked file
    pub file: PathBuf,
    /// Leave out functions with this in their names; can be given several times
    #[arg(long, value_name = "PART")]
    pub except: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// The kernel's file
    pub file: PathBuf,
    /// The dump of its memory
    #[arg(long, value_name = "DUMP", required_unless_present = "oops")]
    pub memory: Option<PathBuf>,
    /// Compare the code in a log's oopses instead of a dump; `-` is standard input
    #[arg(long, value_name = "LOG", conflicts_with_all = ["memory", "base", "phys", "all"])]
    pub oops: Option<PathBuf>,
    /// The dump is plain memory from this virtual address on
    #[arg(long, value_name = "0x…", value_parser = address, conflicts_with = "phys")]
    pub base: Option<u64>,
    /// The dump is plain memory from this physical address on
    #[arg(long, value_name = "0x…", value_parser = address)]
    pub phys: Option<u64>,
    /// The CPU, as for `plan`, for a dump of Linux in which its features are not found
    #[arg(long, value_name = "MODEL|@FILE[,+NAME,-NAME…]")]
    pub cpu: Option<String>,
    /// Leave out what QEMU's own emulation of the CPU does not have
    #[arg(long, value_name = "ACCELERATOR", requires = "cpu")]
    pub accel: Option<AcceleratorName>,
    /// A module that the kernel has loaded, which is found in the dump; can be given several times.
    /// Only for kernels with patchlet
    #[arg(long, value_name = "OBJECT")]
    pub module: Vec<PathBuf>,
    /// List what is proven, too
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl ExplainArguments {
    /// Returns the file of the dump. Without one there is a log, which clap has asked for.
    pub(super) fn dump(&self) -> &Path {
        self.memory.as_deref().unwrap_or(Path::new(""))
    }
}

#[derive(Debug, Args)]
pub(super) struct AuditArguments {
    /// A Linux kernel or a module of one
    pub file: PathBuf,
    /// Leave out what is found in this function; a name that ends in `*` stands for all that begin
    /// so; can be given several times
    #[arg(long, value_name = "FUNCTION")]
    pub allow: Vec<String>,
    /// Leave out the functions in this file, one in a line; `#` starts a comment
    #[arg(long, value_name = "LIST")]
    pub allow_from: Vec<PathBuf>,
    /// List each finding, not each function
    #[arg(long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DiffArguments {
    /// A linked file
    pub a: PathBuf,
    /// Another build of it
    pub b: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Parses an address of the command line, `0x…`.
fn address(words: &str) -> Result<u64, String> {
    let digits = words.strip_prefix("0x").ok_or("an address begins with 0x")?;
    u64::from_str_radix(digits, 16).map_err(|error| error.to_string())
}

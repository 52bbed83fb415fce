//! The oracle of the ready-made table by CPU feature, written by hand from the manuals: the bytes of
//! its patchlets, and which variant each op has on a CPU.

use std::collections::BTreeSet;

use super::table::Width;

/// A patchlet: its name, then its bytes for 64 bit and for 32.
type Row = (&'static str, Option<&'static str>, Option<&'static str>);

/// The ready-made set in the order of the sources. REX.W is 48; the mask of XSAVE goes from RSI (32
/// bit: ECX:EDX) to EDX:EAX (SDM vol. 2, the pages of the instructions).
#[rustfmt::skip]
const SET: &[Row] = &[
    ("cpu_stac",          Some("0f 01 cb"), Some("0f 01 cb")),
    ("cpu_clac",          Some("0f 01 ca"), Some("0f 01 ca")),
    ("cpu_rdfsbase",      Some("f3 48 0f ae c0"), None),
    ("cpu_wrfsbase",      Some("f3 48 0f ae d7"), None),
    ("cpu_rdgsbase",      Some("f3 48 0f ae c8"), None),
    ("cpu_wrgsbase",      Some("f3 48 0f ae df"), None),
    ("cpu_no_time_stamp", None, Some("31 c0 31 d2")),
    ("cpu_rdtsc_cpuid",   None, Some("53 31 c0 31 c9 0f a2 5b 0f 31")),
    ("cpu_rdtsc_mfence",  Some("0f ae f0 0f ae e8 0f 31 48 c1 e2 20 48 09 d0"), Some("0f ae f0 0f ae e8 0f 31")),
    ("cpu_rdtsc_lfence",  Some("0f ae e8 0f 31 48 c1 e2 20 48 09 d0"), Some("0f ae e8 0f 31")),
    ("cpu_rdtscp",        Some("0f 01 f9 48 c1 e2 20 48 09 d0"), Some("0f 01 f9")),
    ("cpu_vmcall",        Some("0f 01 c1"), Some("0f 01 c1")),
    ("cpu_vmmcall",       Some("0f 01 d9"), Some("0f 01 d9")),
    ("cpu_fnsave",        None, Some("dd 30 dd 20")),
    ("cpu_fxsave",        Some("48 0f ae 07"), Some("0f ae 00")),
    ("cpu_xsave",         Some("89 f0 48 89 f2 48 c1 ea 20 48 0f ae 27"), Some("91 92 0f ae 21")),
    ("cpu_xsaveopt",      Some("89 f0 48 89 f2 48 c1 ea 20 48 0f ae 37"), Some("91 92 0f ae 31")),
    ("cpu_xsavec",        Some("89 f0 48 89 f2 48 c1 ea 20 48 0f c7 27"), Some("91 92 0f c7 21")),
    ("cpu_xsaves",        Some("89 f0 48 89 f2 48 c1 ea 20 48 0f c7 2f"), Some("91 92 0f c7 29")),
    ("cpu_frstor",        None, Some("dd 20")),
    ("cpu_fxrstor",       Some("48 0f ae 0f"), Some("0f ae 08")),
    ("cpu_xrstor",        Some("89 f0 48 89 f2 48 c1 ea 20 48 0f ae 2f"), Some("91 92 0f ae 29")),
    ("cpu_xrstors",       Some("89 f0 48 89 f2 48 c1 ea 20 48 0f c7 1f"), Some("91 92 0f c7 19")),
    ("cpu_wbinvd",        None, Some("0f 09")),
    ("cpu_clflush",       Some("0f ae 3f"), Some("0f ae 38")),
    ("cpu_clflushopt",    Some("66 0f ae 3f"), Some("66 0f ae 38")),
];

/// Returns the names and bytes of the set for one width, in order.
pub fn set(width: Width) -> Vec<(&'static str, Vec<u8>)> {
    let byte = |digits| u8::from_str_radix(digits, 16).expect("the table holds hex");
    let row = |&(name, bits64, bits32): &Row| {
        let hex = if width == Width::Bits64 { bits64 } else { bits32 };
        Some((name, hex?.split(' ').map(byte).collect()))
    };
    SET.iter().filter_map(row).collect()
}

/// What stands in the site of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    Nothing,
    /// The patchlet of this name.
    Patchlet(&'static str),
    /// A call of the function of this symbol.
    Call(&'static str),
}

/// Returns what is right for the site of each op on a CPU with these features, in the order of the
/// table.
pub fn right(width: Width, features: &BTreeSet<String>) -> Vec<(&'static str, Stands)> {
    use Stands::{Call, Nothing, Patchlet};
    let has = |name: &str| features.contains(name);
    let bits64 = width == Width::Bits64;
    let if_smap = |name| if has("SMAP") { Patchlet(name) } else { Nothing };
    let base = |name, by_msr| if has("FSGSBASE_ENABLED") { Patchlet(name) } else { Call(by_msr) };
    let mut right = vec![("user.stac", if_smap("cpu_stac")), ("user.clac", if_smap("cpu_clac"))];
    if bits64 {
        right.extend([
            ("segment.read_fs_base", base("cpu_rdfsbase", "patchlet_cpu_rdmsr_fs_base")),
            ("segment.write_fs_base", base("cpu_wrfsbase", "patchlet_cpu_wrmsr_fs_base")),
            ("segment.read_gs_base", base("cpu_rdgsbase", "patchlet_cpu_rdmsr_gs_base")),
            ("segment.write_gs_base", base("cpu_wrgsbase", "patchlet_cpu_wrmsr_gs_base")),
        ]);
    }
    let copy = match (has("ERMS"), has("FSRM")) {
        (false, _) => "patchlet_cpu_copy",
        (true, false) => "patchlet_cpu_copy_long_movsb",
        (true, true) => "patchlet_cpu_copy_short_movsb",
    };
    let fill = if has("ERMS") { "patchlet_cpu_fill_long_stosb" } else { "patchlet_cpu_fill" };
    let time = if has("RDTSCP") {
        "cpu_rdtscp"
    } else if !bits64 && !has("TSC") {
        "cpu_no_time_stamp"
    } else if !bits64 && !has("SSE2") {
        "cpu_rdtsc_cpuid"
    } else if has("INTEL") || has("LFENCE_SERIALIZING") {
        "cpu_rdtsc_lfence"
    } else {
        "cpu_rdtsc_mfence"
    };
    let hypercall = if ["INTEL", "CENTAUR", "ZHAOXIN"].into_iter().any(has) {
        Patchlet("cpu_vmcall")
    } else if has("AMD") || has("HYGON") {
        Patchlet("cpu_vmmcall")
    } else {
        Call("patchlet_cpu_hypercall")
    };
    let [save, restore] = if !has("OSXSAVE") {
        if bits64 || has("FXSR") {
            ["cpu_fxsave", "cpu_fxrstor"]
        } else {
            ["cpu_fnsave", "cpu_frstor"]
        }
    } else if has("XSAVES") {
        ["cpu_xsaves", "cpu_xrstors"]
    } else if has("XSAVEC") {
        ["cpu_xsavec", "cpu_xrstor"]
    } else if has("XSAVEOPT") {
        ["cpu_xsaveopt", "cpu_xrstor"]
    } else {
        ["cpu_xsave", "cpu_xrstor"]
    };
    let flush = if has("CLFLUSHOPT") {
        "cpu_clflushopt"
    } else if bits64 || has("CLFSH") {
        "cpu_clflush"
    } else {
        "cpu_wbinvd"
    };
    right.extend([
        ("memory.copy", Call(copy)),
        ("memory.fill", Call(fill)),
        ("time.time_stamp", Patchlet(time)),
        ("hypercall.hypercall", hypercall),
        ("state.save_state", Patchlet(save)),
        ("state.restore_state", Patchlet(restore)),
        ("cache.flush_line", Patchlet(flush)),
    ]);
    right
}

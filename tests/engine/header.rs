//! The op indices of asm/site.h are those of the built-in table, for both
//! widths: the half for the width of this test against `pv::Id` itself, both
//! halves against the order of the ops in src/ops/builtin.rs.

use patchlet::{Width, pv};

const HEADER: &str = include_str!("../../asm/site.h");
const OPS: &str = include_str!("../../src/ops/builtin.rs");

/// `PATCHLET_OP_<name>` and its value, as the preprocessor leaves them for a
/// width. Knows the conditions on `__x86_64__` and passes by all others.
fn indices(width: Width) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut keep = vec![true];
    for line in HEADER.lines().map(str::trim) {
        if line.starts_with("#if") {
            keep.push(line != "#ifdef __x86_64__" || width == Width::Bits64);
        } else if line.starts_with("#else") {
            let last = keep.last_mut().unwrap();
            *last = !*last;
        } else if line.starts_with("#endif") {
            keep.pop();
        } else if let Some(rest) = line.strip_prefix(".set").map(str::trim_start)
            && let Some(rest) = rest.strip_prefix("PATCHLET_OP_")
            && keep.iter().all(|&keep| keep)
        {
            let (name, value) = rest.split_once(',').unwrap();
            found.push((name.to_owned(), value.trim().parse().unwrap()));
        }
    }
    assert_eq!(keep, [true], "unpaired #if in site.h");
    found
}

/// The ops of `pub mod pv`, as the source lists them for a width.
fn listed(width: Width) -> Vec<String> {
    let (_, table) = OPS.split_once("pub mod pv as \"patchlet_pv_ops\" {").unwrap();
    let other = match width {
        Width::Bits64 => "#[cfg(target_arch = \"x86\")]",
        Width::Bits32 => "#[cfg(target_arch = \"x86_64\")]",
    };
    let mut names = Vec::new();
    let mut skip = false;
    for line in table.lines().map(str::trim) {
        if line == other {
            skip = true;
        } else if line.ends_with(';') && line.contains(" = ") && !line.starts_with("//") {
            let name = line.split_once(':').unwrap().0;
            if !std::mem::take(&mut skip) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

fn numbered(names: Vec<String>) -> Vec<(String, usize)> {
    names.into_iter().enumerate().map(|(index, name)| (name, index)).collect()
}

#[test]
fn the_indices_in_the_header_are_the_order_of_the_ops() {
    for width in [Width::Bits64, Width::Bits32] {
        let names = listed(width);
        assert_eq!(names.len(), if width == Width::Bits64 { 15 } else { 13 }, "{names:?}");
        assert_eq!(indices(width), numbered(names), "{width:?}");
    }
}

#[test]
fn the_indices_in_the_header_are_those_of_the_table() {
    let names = pv::TABLE.ops().iter().map(|op| op.name().to_owned()).collect();
    assert_eq!(indices(Width::NATIVE), numbered(names));
}

#[test]
fn the_indices_in_the_header_are_the_ids() {
    macro_rules! ids {
        ($($name:ident)*) => {
            vec![$((stringify!($name).to_owned(), pv::Id::$name as usize)),*]
        };
    }
    let mut ids = ids!(irq_disable irq_enable save_fl restore_fl read_cr2 read_cr3 write_cr3 ident
        queued_spin_unlock vcpu_is_preempted);
    #[cfg(target_arch = "x86_64")]
    ids.extend(ids!(wbinvd swapgs usergs_sysret64 safe_halt halt));
    #[cfg(target_arch = "x86")]
    ids.extend(ids!(iret safe_halt halt));
    assert_eq!(indices(Width::NATIVE), ids);
}

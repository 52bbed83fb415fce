//! Whether the program is built with indirect branch tracking (CET-IBT, Intel SDM vol. 1,
//! "Control-flow Enforcement Technology"): then each function that is called through a
//! slot begins with ENDBR.

use std::env;
use std::ffi::{OsStr, OsString};

/// Tells whether branches are tracked, by what the build was asked for: `-Z
/// cf-protection=branch` or `=full` of rustc, `-fcf-protection` among the flags of the C
/// compiler, or the feature `ibt` of the crate, which its build script hands on to those of
/// kernels. A compiler that tracks branches by default (Debian's does not, Ubuntu's does) is
/// not asked for its opinion: ENDBR is an invalid instruction on a CPU as old as i586.
pub(super) fn is_on(compiler_flags: &[OsString]) -> bool {
    let set = |name| env::var_os(name).is_some();
    set("CARGO_FEATURE_IBT")
        || set("DEP_PATCHLET_IBT")
        || rustc_tracks(&env::var_os("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default())
        || compiler_tracks(compiler_flags)
}

/// Looks for the option among flags with 0x1f between them, as cargo hands them on.
fn rustc_tracks(flags: &OsStr) -> bool {
    let flags = flags.to_string_lossy();
    let mut kinds = flags.split('\x1f').filter_map(|flag| {
        let flag = flag.strip_prefix("-Z").or_else(|| flag.strip_prefix("-C")).unwrap_or(flag);
        flag.strip_prefix("cf-protection")
    });
    // The last one counts.
    kinds.next_back().is_some_and(|kind| ["", "=branch", "=full", "=yes"].contains(&kind))
}

/// Looks for the option among a C compiler's arguments.
fn compiler_tracks(flags: &[OsString]) -> bool {
    let mut kinds = flags.iter().filter_map(|flag| flag.to_str()?.strip_prefix("-fcf-protection"));
    kinds.next_back().is_some_and(|kind| ["", "=branch", "=full"].contains(&kind))
}

//! Finds out whether the program is built with indirect branch tracking (CET-IBT, Intel SDM
//! vol. 1, "Control-flow Enforcement Technology"). If it is, each function that is called through
//! a slot must begin with ENDBR.

use std::env;
use std::ffi::{OsStr, OsString};

/// Returns whether the build asks for indirect branch tracking, by one of these:
/// - `-Z cf-protection=branch` or `=full` among the flags of rustc;
/// - `-fcf-protection` among the flags of the C compiler;
/// - the feature `ibt` of the crate, whose build script sets `DEP_PATCHLET_IBT` for the build
///   scripts of kernels.
///
/// The default of the C compiler does not count (Ubuntu's gcc tracks branches by default, Debian's
/// does not): on CPUs before the Pentium Pro, ENDBR is an invalid instruction, so a kernel for
/// these must not get it unasked.
pub(super) fn is_on(compiler_flags: &[OsString]) -> bool {
    let set = |name| env::var_os(name).is_some();
    set("CARGO_FEATURE_IBT")
        || set("DEP_PATCHLET_IBT")
        || rustc_tracks(&env::var_os("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default())
        || compiler_tracks(compiler_flags)
}

/// Returns whether flags of rustc ask for tracking. Cargo separates them by 0x1f.
fn rustc_tracks(flags: &OsStr) -> bool {
    let flags = flags.to_string_lossy();
    let mut kinds = flags.split('\x1f').filter_map(|flag| {
        let flag = flag.strip_prefix("-Z").or_else(|| flag.strip_prefix("-C")).unwrap_or(flag);
        flag.strip_prefix("cf-protection")
    });
    // As in rustc, the last of several such flags counts.
    kinds.next_back().is_some_and(|kind| ["", "=branch", "=full", "=yes"].contains(&kind))
}

/// Returns whether the arguments of a C compiler ask for tracking. The last such flag counts.
fn compiler_tracks(flags: &[OsString]) -> bool {
    let mut kinds = flags.iter().filter_map(|flag| flag.to_str()?.strip_prefix("-fcf-protection"));
    kinds.next_back().is_some_and(|kind| ["", "=branch", "=full"].contains(&kind))
}

//! The names of the labels around a patchlet, as the macros of patchlet.h write them.
//! Shared by the build script, which reads objects, and by the tool, which reads linked
//! files too.

/// What a symbol marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// `patchlet_<name>_start`: the first byte.
    Start,
    /// `patchlet_<name>_end`: the address behind the last byte.
    End,
    /// `patchlet_native_<name>`: the native function.
    Native,
}

/// How every label begins.
pub(crate) const PREFIX: &str = "patchlet_";

/// Takes the name of a symbol apart: what it marks, and the patchlet's name. None if the
/// macros write no such symbol.
///
/// `is_function` is the symbol's type in the object. It decides between the native
/// function of a patchlet `early_start`, `patchlet_native_early_start`, and the first
/// label of a patchlet `native_early`, which has the same name.
pub(crate) fn label(symbol: &str, is_function: bool) -> Option<(Label, &str)> {
    let rest = symbol.strip_prefix(PREFIX)?;
    let (label, name) = if is_function {
        (Label::Native, rest.strip_prefix("native_")?)
    } else if let Some(name) = rest.strip_suffix("_start") {
        (Label::Start, name)
    } else {
        (Label::End, rest.strip_suffix("_end")?)
    };
    is_name(name).then_some((label, name))
}

/// Returns whether a text can be a patchlet's name: what an assembler takes as part of a symbol.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
    !name.is_empty() && name.chars().all(plain)
}

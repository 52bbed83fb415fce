//! The names of the labels around a patchlet, as the macros of asm/patchlet.h write them.
//! The build script reads them in objects, the tool in objects and in linked files.

/// The place in a patchlet that a symbol marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// `patchlet_<name>_start`: the first byte.
    Start,
    /// `patchlet_<name>_end`: the first address behind the patchlet.
    End,
    /// `patchlet_native_<name>`: the native function.
    Native,
}

/// The beginning of every label.
pub(crate) const PREFIX: &str = "patchlet_";

/// Returns what a symbol marks and the name of its patchlet, or `None` if the macros write no
/// such symbol.
///
/// `is_function` says whether the symbol's type in the object is STT_FUNC. The name alone is
/// ambiguous: `patchlet_native_early_start` is the native function of a patchlet
/// `early_start`, or the start label of a patchlet `native_early`.
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

/// Returns whether `name` can be a patchlet's name: at least one character, and only
/// characters that an assembler takes in a symbol.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$');
    !name.is_empty() && name.chars().all(plain)
}

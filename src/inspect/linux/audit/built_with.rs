//! The options that a kernel was built with, as its names and tables show them. An instruction lacks
//! a record only if the kernel was built so that it should have one.

use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::tables::TableKind;

/// The options that a kernel was built with, as far as an audit asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuiltWith {
    /// Indirect branches go through thunks.
    pub retpolines: bool,
    /// Branches to these thunks have records.
    pub retpoline_records: bool,
    /// Returns go through a thunk, and have records.
    pub return_thunks: bool,
    /// Calls through `pv_ops` have records.
    pub paravirt: bool,
    /// Direct calls have records, so that they can be counted.
    pub counted_calls: bool,
}

/// The prefix of the names of thunks for indirect branches.
pub(super) const INDIRECT_THUNK: &str = "__x86_indirect_thunk_";
/// The thunk for returns.
pub(super) const RETURN_THUNK: &str = "__x86_return_thunk";

impl BuiltWith {
    pub(super) fn of(kernel: &LinuxKernel<'_>) -> Self {
        let has = |kind| {
            let mut tables = kernel.tables.iter();
            tables.any(|table| table.kind == kind && !table.records.is_empty())
        };
        // What a module's build says of itself for the kernel that loads it.
        let says_retpoline = kernel.image.section_named(".modinfo").is_some_and(|section| {
            section.data.split(|&byte| byte == 0).any(|line| line == b"retpoline=Y")
        });
        // Kernels that have one of these tables have all that their build asks for. A module can
        // have any one alone.
        let is_recent =
            [TableKind::Retpolines, TableKind::Returns, TableKind::Calls].into_iter().any(has);
        let has_thunks = kernel.names.with_prefix(INDIRECT_THUNK).next().is_some();
        Self {
            retpolines: has_thunks || says_retpoline || has(TableKind::Retpolines),
            retpoline_records: is_recent,
            return_thunks: has(TableKind::Returns)
                || is_recent && kernel.names.address(RETURN_THUNK).is_some(),
            paravirt: kernel.names.address("pv_ops").is_some()
                && (has(TableKind::Paravirt) || has(TableKind::Alternatives)),
            counted_calls: has(TableKind::Calls),
        }
    }

    /// Returns the options as words, such as `retpolines, thunks for returns`.
    #[must_use]
    pub fn words(&self) -> String {
        let all = [
            (self.retpolines && self.retpoline_records, "retpolines with records"),
            (self.retpolines && !self.retpoline_records, "retpolines without records"),
            (self.return_thunks, "thunks for returns"),
            (self.paravirt, "calls through pv_ops"),
            (self.counted_calls, "calls that can be counted"),
        ];
        let words: Vec<&str> =
            all.into_iter().filter_map(|(is, words)| is.then_some(words)).collect();
        if words.is_empty() { "nothing that needs records".to_owned() } else { words.join(", ") }
    }
}

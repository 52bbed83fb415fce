//! The kinds of code in a kernel's text. An instruction needs a record only in some of them.

use std::ops::Range;

use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::tables::TableKind;

/// The kind of code that stands at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeKind {
    /// Code that runs at any time.
    Text,
    /// Code that a kernel runs only while it boots, before there is anything to protect.
    Boot,
    /// A thunk itself.
    Thunk,
    /// The replacement of an alternative, which is copied to its site and does not run here.
    Replacement,
}

/// The kinds of code in a kernel's text, by address.
#[derive(Debug)]
pub(super) struct CodeKinds<'a, 'd> {
    kernel: &'a LinuxKernel<'d>,
    /// Where there are thunks, by the names around them.
    thunks: Vec<Range<u64>>,
    /// Replacements, sorted, from the first byte to behind the last.
    replacements: Vec<Range<u64>>,
}

impl<'a, 'd> CodeKinds<'a, 'd> {
    pub(super) fn new(kernel: &'a LinuxKernel<'d>) -> Self {
        const BOUNDS: &[(&str, &str)] = &[
            ("__indirect_thunk_start", "__indirect_thunk_end"),
            ("__indirect_thunk_its_start", "__indirect_thunk_its_end"),
        ];
        let thunks = BOUNDS.iter().filter_map(|(start, end)| {
            Some(kernel.names.address(start)?..kernel.names.address(end)?)
        });
        let alternatives =
            kernel.tables.iter().filter(|table| table.kind == TableKind::Alternatives);
        let records = alternatives.flat_map(|table| &table.records);
        let mut all: Vec<Range<u64>> = records
            .map(|record| record.other..record.other + u64::from(record.other_length))
            .collect();
        all.sort_by_key(|range| (range.start, range.end));
        let mut replacements: Vec<Range<u64>> = Vec::new();
        for range in all {
            match replacements.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => replacements.push(range),
            }
        }
        Self { kernel, thunks: thunks.collect(), replacements }
    }

    /// Returns the kind of code at an address.
    pub(super) fn of(&self, address: u64) -> CodeKind {
        let section = self.kernel.image.section_at(address).map_or("", |section| section.name);
        // A module's start runs when there is user space already.
        let is_boot = [".init.", ".head.text"].iter().any(|prefix| section.starts_with(prefix));
        if is_boot && !self.kernel.is_module {
            return CodeKind::Boot;
        }
        let behind = self.replacements.partition_point(|range| range.start <= address);
        let before = behind.checked_sub(1).and_then(|at| self.replacements.get(at));
        if before.is_some_and(|range| range.contains(&address)) {
            return CodeKind::Replacement;
        }
        let named = || {
            let function = self.kernel.names.function(address);
            function.is_some_and(|(name, _)| is_thunk(name))
        };
        if self.thunks.iter().any(|range| range.contains(&address)) || named() {
            return CodeKind::Thunk;
        }
        CodeKind::Text
    }
}

/// Returns whether a function of this name is a thunk, or trains a CPU's predictors for one.
fn is_thunk(name: &str) -> bool {
    const WHOLE: &[&str] = &[
        "srso_safe_ret",
        "srso_alias_safe_ret",
        "entry_untrain_ret",
        "zen_untrain_ret",
        "retbleed_untrain_ret",
        "srso_untrain_ret",
        "srso_alias_untrain_ret",
        "clear_bhb_loop",
    ];
    let name = name.strip_prefix("__pfx_").unwrap_or(name);
    ["__x86_indirect_", "__x86_return_", "__SCT__"].iter().any(|prefix| name.starts_with(prefix))
        || name.ends_with("return_thunk")
        || WHOLE.contains(&name)
}

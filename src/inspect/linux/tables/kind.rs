//! The kinds of tables, by what the kernel patches there.

/// The purpose of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TableKind {
    /// `.altinstructions`: instructions for CPUs that have or lack a feature.
    Alternatives,
    /// `.parainstructions`: calls through `pv_ops`.
    Paravirt,
    /// `__jump_table`: branches on static keys.
    JumpLabels,
    /// `.static_call_sites`: calls whose target changes rarely.
    StaticCalls,
    /// `.smp_locks`: LOCK prefixes, which one CPU alone does not need.
    SmpLocks,
    /// `.retpoline_sites`: calls and jumps to thunks for indirect branches.
    Retpolines,
    /// `.return_sites`: jumps to the thunk for returns.
    Returns,
    /// `.call_sites`: direct calls that call depth tracking leads through thunks.
    Calls,
    /// `.ibt_endbr_seal`: ENDBR of functions that nothing calls indirectly.
    Endbr,
    /// `.cfi_sites`: hashes in front of functions.
    Cfi,
    /// `__mcount_loc`: calls of the function tracer.
    Ftrace,
    /// `runtime_ptr_*`: addresses in instructions, set at boot.
    RuntimePointers,
    /// `runtime_shift_*`: shift counts in instructions, set at boot.
    RuntimeShifts,
    /// `runtime_mask_*`: masks in instructions, set at boot.
    RuntimeMasks,
}

impl TableKind {
    /// All kinds, in the order in which the tool lists them.
    pub const ALL: [Self; 14] = [
        Self::Alternatives,
        Self::Paravirt,
        Self::JumpLabels,
        Self::StaticCalls,
        Self::SmpLocks,
        Self::Retpolines,
        Self::Returns,
        Self::Calls,
        Self::Endbr,
        Self::Cfi,
        Self::Ftrace,
        Self::RuntimePointers,
        Self::RuntimeShifts,
        Self::RuntimeMasks,
    ];

    /// Returns whether its sites are operands of instructions.
    #[must_use]
    pub const fn is_operand(self) -> bool {
        matches!(self, Self::RuntimePointers | Self::RuntimeShifts | Self::RuntimeMasks)
    }

    /// Returns the name by which the tool prints the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alternatives => "alternative",
            Self::Paravirt => "paravirt",
            Self::JumpLabels => "jump-label",
            Self::StaticCalls => "static-call",
            Self::SmpLocks => "smp-lock",
            Self::Retpolines => "retpoline",
            Self::Returns => "return",
            Self::Calls => "call",
            Self::Endbr => "endbr",
            Self::Cfi => "cfi",
            Self::Ftrace => "ftrace",
            Self::RuntimePointers => "runtime-pointer",
            Self::RuntimeShifts => "runtime-shift",
            Self::RuntimeMasks => "runtime-mask",
        }
    }
}

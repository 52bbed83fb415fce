//! An op: its name, its ABI class, and what it does natively.

use core::fmt;

use super::target::Target;
use crate::choose::Choice;
use crate::patchlet::{Patchlet, native};

/// The ABI class of an op: which registers the functions in its slot may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Abi {
    /// Functions may change only the registers of the result (RAX, and RDX for a `u128`; 32-bit:
    /// EAX, and EDX for a `u64`) and the flags. The registers of the arguments, RDI, RSI, RDX,
    /// RCX, R8 and R9 (32-bit: EAX, EDX, ECX), are preserved unless they carry the result.
    CalleeSave,
    /// Functions may change what a C function may change. Arguments and result are in the same
    /// registers as for [`CalleeSave`](Self::CalleeSave).
    C,
    /// Functions may change the registers that the op's own contract names. The op is used from
    /// assembly only.
    Assembly,
}

/// One thing a kernel does that a hypervisor may want to replace.
#[derive(Debug)]
pub struct Op {
    group: &'static str,
    name: &'static str,
    abi: Abi,
    native: Target,
    patchlet: Option<&'static Patchlet>,
}

impl Op {
    /// Makes an op of its parts. `native` is what its slot holds at first, and `patchlet` the same
    /// instructions as data. Only [`ops!`](crate::ops!) and the crate's tests call this.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        group: &'static str,
        name: &'static str,
        abi: Abi,
        native: Target,
        patchlet: Option<&'static Patchlet>,
    ) -> Self {
        Self { group, name, abi, native, patchlet }
    }

    /// Returns the name of the op's group, such as `irq`.
    #[must_use]
    pub const fn group(&self) -> &'static str {
        self.group
    }

    /// Returns the op's name without its group, such as `irq_disable`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the ABI class that functions in the op's slot keep to.
    #[must_use]
    pub const fn abi(&self) -> Abi {
        self.abi
    }

    /// Returns the native function: what the op's slot holds at first.
    #[must_use]
    pub const fn native(&self) -> Target {
        self.native
    }

    /// Returns the patchlet with the instructions of the native function, or `None` if the op
    /// has none.
    #[must_use]
    pub const fn patchlet(&self) -> Option<&'static Patchlet> {
        self.patchlet
    }

    /// Returns the facts about this op that decide which replacement its sites get.
    #[must_use]
    pub fn choice(&self) -> Choice<'static> {
        Choice {
            native: self.native.address() as u64,
            patchlet: self.patchlet.map_or(&[], Patchlet::bytes),
            nop: Target::NOP.address() as u64,
            ident: Target::IDENT.address() as u64,
            #[cfg(target_arch = "x86_64")]
            ident_patchlet: native::ident_64.bytes(),
            #[cfg(target_arch = "x86")]
            ident_patchlet: &[],
            trap: native::ud2.bytes(),
        }
    }
}

/// Writes group and name, such as `irq.irq_disable`.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.group, self.name)
    }
}

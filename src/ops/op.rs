//! An op: its name, its ABI class, and what it does natively.

use core::fmt;

use super::target::Target;
use crate::insn::InsnBuffer;
use crate::patchlet::Patchlet;

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
    /// Functions are those of the platform's C ABI, with arguments and a result of any type. The op
    /// has one site, a jump, in its trampoline.
    ExternC,
}

/// One thing a kernel does that a hypervisor may want to replace.
#[derive(Debug)]
pub struct Op {
    group: &'static str,
    name: &'static str,
    abi: Abi,
    /// The size of the sites that the functions of `ops!` have, in bytes.
    capacity: u8,
    native: Target,
    patchlet: Option<&'static Patchlet>,
}

impl Op {
    /// Makes an op of its parts, with sites of six bytes. `native` is what its slot holds at first,
    /// and `patchlet` the same instructions as data. Only [`ops!`](crate::ops!) and the crate's
    /// tests call this.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        group: &'static str,
        name: &'static str,
        abi: Abi,
        native: Target,
        patchlet: Option<&'static Patchlet>,
    ) -> Self {
        Self { group, name, abi, capacity: InsnBuffer::MIN as u8, native, patchlet }
    }

    /// Returns this op with sites of so many bytes.
    ///
    /// # Panics
    /// At compile time, in `ops!`: if no site can have that size.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_capacity(mut self, capacity: u8) -> Self {
        assert!(
            capacity as usize >= InsnBuffer::MIN && capacity as usize <= InsnBuffer::MAX,
            "`#[capacity(…)]`: a patch site has 6 to 32 bytes"
        );
        self.capacity = capacity;
        self
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

    /// Returns the size in bytes of the sites that `ops!` wrote: of the op's function, or of its
    /// trampoline. A site that was written by hand can have another.
    #[must_use]
    pub const fn capacity(&self) -> u8 {
        self.capacity
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
}

/// Writes group and name, such as `irq.irq_disable`.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.group, self.name)
    }
}

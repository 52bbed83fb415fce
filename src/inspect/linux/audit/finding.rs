//! Findings of an audit.

use crate::disassemble::{LONGEST_INSTRUCTION, decoder, disassemble};
use crate::inspect::linux::kernel::LinuxKernel;

/// The kind of a finding. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AuditKind {
    /// An indirect call or jump that nothing makes a direct one or leads through a thunk.
    IndirectBranch,
    /// An indirect call or jump through `pv_ops`.
    ParavirtCall,
    /// A branch to a thunk for indirect branches.
    IndirectThunk,
    /// A return that does not go through the thunk for returns.
    Return,
    /// A branch to the thunk for returns.
    ReturnThunk,
    /// A direct call in a kernel that can count its calls.
    DirectCall,
    /// A record, or an address in it, is not where an instruction starts.
    NotAtInstruction,
    /// A record is for another instruction than the one at its site.
    OtherInstruction,
    /// The site of a record is too short for what the kernel writes there.
    TooShort,
    /// A table has a record twice.
    Duplicate,
    /// Two records are for bytes of which they share some.
    Overlap,
}

impl AuditKind {
    /// All kinds, in their order.
    pub const ALL: [Self; 11] = [
        Self::IndirectBranch,
        Self::ParavirtCall,
        Self::IndirectThunk,
        Self::Return,
        Self::ReturnThunk,
        Self::DirectCall,
        Self::NotAtInstruction,
        Self::OtherInstruction,
        Self::TooShort,
        Self::Duplicate,
        Self::Overlap,
    ];

    /// Returns the name by which the tool prints the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IndirectBranch => "indirect-branch",
            Self::ParavirtCall => "paravirt-call",
            Self::IndirectThunk => "indirect-thunk",
            Self::Return => "return",
            Self::ReturnThunk => "return-thunk",
            Self::DirectCall => "direct-call",
            Self::NotAtInstruction => "not-at-instruction",
            Self::OtherInstruction => "other-instruction",
            Self::TooShort => "too-short",
            Self::Duplicate => "duplicate",
            Self::Overlap => "overlap",
        }
    }
}

/// One thing that an audit found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditFinding {
    /// The kind.
    pub kind: AuditKind,
    /// The address that it is about.
    pub address: u64,
    /// The function, or an empty text if no name is before the address.
    pub function: String,
    /// The distance from the start of the function.
    pub distance: u64,
    /// The bytes of the instruction there.
    pub bytes: Vec<u8>,
    /// The instruction as text.
    pub instruction: String,
    /// What there is to say beside the kind, such as the table of a record.
    pub words: String,
}

impl AuditFinding {
    /// Makes a finding about the instruction at an address.
    pub(super) fn new(
        kernel: &LinuxKernel<'_>,
        kind: AuditKind,
        address: u64,
        words: String,
    ) -> Self {
        let width = kernel.image.width();
        let code = kernel.code(address, LONGEST_INSTRUCTION);
        let mut decoder = decoder(width, address, code);
        let len = if code.is_empty() { 0 } else { decoder.decode().len() };
        let bytes = code.get(..len).unwrap_or_default();
        let name = |target| Some(kernel.names.place(target)).filter(|name| !name.is_empty());
        let instruction = disassemble(width, address, bytes, name);
        let (function, distance) = kernel.names.function(address).unwrap_or_default();
        let function = function.to_owned();
        Self { kind, address, function, distance, bytes: bytes.to_vec(), instruction, words }
    }

    /// Returns the address as the function's name and the distance from its start.
    #[must_use]
    pub fn place(&self) -> String {
        match self.distance {
            _ if self.function.is_empty() => format!("{:#x}", self.address),
            0 => self.function.clone(),
            distance => format!("{}+{distance:#x}", self.function),
        }
    }
}

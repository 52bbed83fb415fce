//! What the loader refuses.

use core::fmt;

/// The reason why an object was not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError<'d> {
    /// The file is no relocatable object for this machine, or is damaged; it says where.
    Malformed(&'static str),
    /// The object takes more memory than there is, in bytes.
    NoRoom { needed: u64, room: u64 },
    /// The section is to be both writable and executable, or to lie at a larger multiple than that
    /// of a page.
    Section(&'d str),
    /// Neither the object nor the kernel defines the symbol.
    UnknownSymbol(&'d str),
    /// The loader does not know the type of the relocation.
    UnknownRelocation { section: &'d str, offset: u64, kind: u32 },
    /// The field that is relocated is not inside the section.
    OutsideSection { section: &'d str, offset: u64 },
    /// The field cannot hold the value: the object lies too far from what it refers to.
    OutOfReach { section: &'d str, offset: u64, value: i64 },
}

impl fmt::Display for LoadError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Malformed(what) => write!(f, "no relocatable object of this machine: {what}"),
            Self::NoRoom { needed, room } => {
                write!(f, "it takes {needed:#x} bytes of memory, and there are {room:#x}")
            }
            Self::Section(name) => {
                write!(
                    f,
                    "section {name} is writable and executable, or is aligned to more than a page"
                )
            }
            Self::UnknownSymbol(name) => write!(f, "the kernel exports no symbol {name}"),
            Self::UnknownRelocation { section, offset, kind } => {
                write!(f, "{section}+{offset:#x} has a relocation of the unknown type {kind}")
            }
            Self::OutsideSection { section, offset } => {
                write!(f, "the relocation of {section}+{offset:#x} is outside of the section")
            }
            Self::OutOfReach { section, offset, value } => write!(
                f,
                "{section}+{offset:#x} cannot hold {value:#x}: load the module nearer to the kernel"
            ),
        }
    }
}

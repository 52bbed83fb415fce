//! The error of patching: small, `Copy`, with the offending values; each prints as one sentence.

use core::fmt;

use crate::insn::{ComposeError, InsnBuffer};

/// Why a table of sites was refused. Text is then as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The table ends in the middle of a record.
    TruncatedTable {
        /// Size of the table, in bytes.
        bytes: usize,
        /// Size of one record, in bytes.
        record: usize,
    },
    /// A field of a record has a value it cannot have.
    BadRecord {
        /// Position of the record in the table, from 0.
        index: usize,
        /// The field: `capacity` or `kind`.
        field: &'static str,
        /// Its value.
        value: u8,
    },
    /// A site is not inside the text range the platform named.
    OutsideText {
        /// Position of the record in the table, from 0.
        index: usize,
        /// Address of the site.
        site: usize,
        /// First address of text.
        start: usize,
        /// The address behind text.
        end: usize,
    },
    /// A record names a subject that its front end does not know: a slot that is no op's in the
    /// tables given, or another op's than the record says.
    UnknownSubject {
        /// Position of the record in the table, from 0.
        index: usize,
        /// Address of the site.
        site: usize,
        /// Address of the subject: the slot.
        subject: usize,
        /// Number of the subject, according to the record: the index of the op.
        number: u16,
    },
    /// A site shares bytes with another one.
    Overlap {
        /// Position of the record in the table, from 0.
        index: usize,
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op.
        name: &'static str,
        /// Address of the other site.
        other: usize,
    },
    /// A site holds bytes that the crate never wrote there: neither the indirect
    /// call or jump, nor a replacement of its op.
    OldBytes {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op.
        name: &'static str,
        /// The indirect call or jump that an unpatched site holds; no bytes if this one
        /// does not reach its slot.
        expected: InsnBuffer,
        /// What it holds.
        found: InsnBuffer,
    },
    /// The replacement does not go into the site.
    Compose {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op.
        name: &'static str,
        /// Why.
        why: ComposeError,
    },
    /// The writable alias of a site shows bytes that are neither what such a site can
    /// hold nor what it does hold: it is not an alias. Found before the site is
    /// written; the sites written before it were put back, as for
    /// [`ReadBack`](Self::ReadBack), which is the error if one of them does not show what
    /// it got.
    Alias {
        /// Address of the site.
        site: usize,
        /// Address of its alias.
        alias: usize,
        /// What the site belongs to: the name of its op.
        name: &'static str,
    },
    /// What was read back differs from what was written. The sites written
    /// before were put back, as far as the platform let them: to what their op was
    /// last patched for, and to the indirect call or jump if it never was (of a site
    /// that was patched ahead of boot, that does the same).
    ReadBack {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op.
        name: &'static str,
        /// What was written.
        wrote: InsnBuffer,
        /// What was read.
        found: InsnBuffer,
    },
    /// Another writer is at work on these sites, or one had to leave its INT3s in
    /// text.
    Busy,
    /// A thread may be inside the site, and would go on in the middle of other bytes.
    ThreadInside {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op.
        name: &'static str,
        /// The first byte of the site at which a thread can be, from 0.
        boundary: usize,
        /// What the site holds.
        old: InsnBuffer,
        /// What it would get.
        new: InsnBuffer,
    },
    /// The op is one that assembly uses its own way: the INT3 protocol cannot
    /// assume a stack at its sites.
    NotEmulated {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op.
        name: &'static str,
    },
    /// A replacement that begins with INT3 cannot be told from the INT3 of the
    /// protocol.
    Breakpoint {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op.
        name: &'static str,
    },
}

impl Error {
    /// Returns the name of the error: that of its variant, in the form `old-bytes`. With
    /// [`site`](Self::site) it is what a kernel can print that has no room for [`core::fmt`].
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TruncatedTable { .. } => "truncated-table",
            Self::BadRecord { .. } => "bad-record",
            Self::OutsideText { .. } => "outside-text",
            Self::UnknownSubject { .. } => "unknown-subject",
            Self::Overlap { .. } => "overlap",
            Self::OldBytes { .. } => "old-bytes",
            Self::Compose { .. } => "compose",
            Self::Alias { .. } => "alias",
            Self::ReadBack { .. } => "read-back",
            Self::Busy => "busy",
            Self::ThreadInside { .. } => "thread-inside",
            Self::NotEmulated { .. } => "not-emulated",
            Self::Breakpoint { .. } => "breakpoint",
        }
    }

    /// Returns the address of the site that the error is about, if it is about one.
    #[must_use]
    pub const fn site(&self) -> Option<usize> {
        match *self {
            Self::TruncatedTable { .. } | Self::BadRecord { .. } | Self::Busy => None,
            Self::OutsideText { site, .. }
            | Self::UnknownSubject { site, .. }
            | Self::Overlap { site, .. }
            | Self::OldBytes { site, .. }
            | Self::Compose { site, .. }
            | Self::Alias { site, .. }
            | Self::ReadBack { site, .. }
            | Self::ThreadInside { site, .. }
            | Self::NotEmulated { site, .. }
            | Self::Breakpoint { site, .. } => Some(site),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TruncatedTable { bytes, record } => write!(
                f,
                "the site table has {bytes} bytes, which is no multiple of its {record}-byte records: \
                 check the link script's lines for patchlet_sites"
            ),
            Self::BadRecord { index, field, value } => {
                write!(f, "record {index} of the site table has {field} {value}, which no site has")
            }
            Self::OutsideText { index, site, start, end } => {
                write!(f, "record {index}: site {site:#x} is outside text ({start:#x}..{end:#x})")
            }
            Self::UnknownSubject { index, site, subject, number } => write!(
                f,
                "record {index}: site {site:#x} goes through {subject:#x}, which is not the slot of op \
                 {number} in any of the given ops tables: give the site set every table that has sites"
            ),
            Self::Overlap { index, site, name, other } => {
                write!(f, "record {index}: site {site:#x} ({name}) overlaps the site at {other:#x}")
            }
            Self::OldBytes { site, name, expected, found } if expected.is_empty() => write!(
                f,
                "site {site:#x} ({name}) holds {found}, which is no replacement of that op, and does not reach \
                 its slot: the record is wrong, or somebody else wrote there"
            ),
            Self::OldBytes { site, name, expected, found } => write!(
                f,
                "site {site:#x} ({name}) holds {found}, where {expected} or a replacement of that op was expected: \
                 somebody else wrote there"
            ),
            Self::Compose { site, name, why } => write!(f, "site {site:#x} ({name}): {why}"),
            Self::Alias { site, alias, name } => {
                write!(f, "site {site:#x} ({name}): {alias:#x} is not a second mapping of it")
            }
            Self::ReadBack { site, name, wrote, found } => {
                write!(f, "site {site:#x} ({name}): wrote {wrote} and read back {found}")
            }
            Self::Busy => f.write_str("another writer is at work on these sites"),
            Self::ThreadInside { site, name, boundary, old, new } => write!(
                f,
                "site {site:#x} ({name}): a thread may go on at byte {boundary} of {old}, which {new} has not: \
                 use the rendezvous"
            ),
            Self::NotEmulated { site, name } => write!(
                f,
                "site {site:#x} ({name}) may stand where INT3 finds no stack, as ops for assembly do: use the rendezvous"
            ),
            Self::Breakpoint { site, name } => write!(
                f,
                "site {site:#x} ({name}) has a replacement that begins with INT3: use the rendezvous"
            ),
        }
    }
}

impl core::error::Error for Error {}

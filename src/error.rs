//! The error of patching. It is `Copy`, carries the values at fault, and prints as one sentence.

use core::fmt;

use crate::insn::{ComposeError, InsnBuffer};

/// The reason why sites were not patched. Text is then as it was before the call. The only
/// exceptions are [`Alias`](Self::Alias) and [`ReadBack`](Self::ReadBack), which are found while
/// text is being written and say what became of it.
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
    /// A field of a record has a value that the record of a site cannot have.
    BadRecord {
        /// Position of the record in the table, from 0.
        index: usize,
        /// Name of the field: `capacity` or `kind`.
        field: &'static str,
        /// Value of the field.
        value: u8,
    },
    /// A site is not as a whole inside the piece of text that the platform named for its address.
    OutsideText {
        /// Position of the record in the table, from 0.
        index: usize,
        /// Address of the site.
        site: usize,
        /// First address of that piece of text.
        start: usize,
        /// First address behind that piece of text.
        end: usize,
    },
    /// A record names a subject that its front end does not know: the address is not that of a
    /// slot in the given ops tables, or it is the slot of another op than the number says; for a
    /// branch, it is not that of a key.
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
    /// A site shares bytes with another one, or is there in two parts or two sets: each site has one
    /// front end.
    Overlap {
        /// Position of the record in the table, from 0.
        index: usize,
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op or key.
        name: &'static str,
        /// Address of the other site.
        other: usize,
    },
    /// A site holds bytes that the crate did not write: neither the indirect call or jump
    /// through its slot, nor a replacement of its op; for a branch, neither its NOP nor its jump.
    OldBytes {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op or key.
        name: &'static str,
        /// The original, which an unpatched site holds. Empty if no such instruction at this address
        /// can reach the slot.
        expected: InsnBuffer,
        /// The bytes that the site holds.
        found: InsnBuffer,
    },
    /// The replacement cannot be encoded in the site.
    Compose {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op or key.
        name: &'static str,
        /// The reason.
        why: ComposeError,
    },
    /// The address that the platform gave as the writable alias of a site is not mapped to the
    /// same memory: the bytes there are neither those that the site holds nor any that a site
    /// of its op can hold.
    ///
    /// The site itself was not written. Sites that the same call had written before were put
    /// back. If one of these then reads back other bytes than were put there, the error is
    /// [`ReadBack`](Self::ReadBack) instead.
    Alias {
        /// Address of the site.
        site: usize,
        /// Address of its alias.
        alias: usize,
        /// What the site belongs to: the name of its op or key.
        name: &'static str,
    },
    /// A site read back other bytes than were written to it.
    ///
    /// The sites that the same call had written were put back, as far as the platform let
    /// them be written: to the replacement that their op was last patched to, or to the indirect
    /// call or jump if the op has not been patched since boot. (A site that was patched in the
    /// file before boot also gets the indirect call or jump, which has the same effect; a branch
    /// whose key was set in the file gets the direction in which it was assembled, which has not.)
    ReadBack {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op or key.
        name: &'static str,
        /// The bytes that were written.
        wrote: InsnBuffer,
        /// The bytes that were read.
        found: InsnBuffer,
    },
    /// A counted key cannot count on: it was to count one more than a `u32` can hold, or one less
    /// than 0.
    Count {
        /// Address of the key.
        key: usize,
        /// Name of the key; empty, if it has no branch in these site sets.
        name: &'static str,
        /// The count, which stays as it is.
        count: u32,
    },
    /// No branch of these site sets follows the key: the sets have no branches at all, or the key's
    /// were patched in another set. Changed, it would say something else than text.
    KeyNotFollowed {
        /// Address of the key.
        key: usize,
    },
    /// No site of these site sets follows the slot, which is in none of their ops tables. Changed, it
    /// would hold something else than its sites call.
    SlotNotFollowed {
        /// Address of the slot.
        slot: usize,
        /// Name of its op.
        name: &'static str,
    },
    /// Another writer is at work on these sites, or an earlier writer failed and had to leave
    /// its INT3s in text.
    Busy,
    /// The site set has joined already, or the member was joined elsewhere: a set is in one place.
    AlreadyJoined,
    /// The member has not joined here, so it cannot leave.
    NotJoined,
    /// The text of a module shares addresses with that of another one that has joined.
    SharedText {
        /// First address of the text.
        start: usize,
        /// First address behind it.
        end: usize,
        /// First address of the other module's text.
        other: usize,
    },
    /// A thread may be inside the site, and the new bytes do not let it go on. Either they differ
    /// from the old ones where the thread may be; or they are the same there, but the next switch
    /// could not tell any more that a thread may be in that place. `live::admit` has the rule.
    ThreadInside {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op or key.
        name: &'static str,
        /// Offset in the site, in bytes, of the first place inside it at which a thread may be: the
        /// end of the first instruction of `old`.
        boundary: usize,
        /// The bytes that the site holds.
        old: InsnBuffer,
        /// The bytes that the site would get.
        new: InsnBuffer,
    },
    /// The front end lets no CPU trap at the site; for an op, it is of the ABI class `assembly`.
    /// With the INT3 protocol CPUs take #BP at the site and emulate a call by a push, and at a site
    /// of this class there may be no stack for either.
    NotEmulated {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op or key.
        name: &'static str,
    },
    /// The replacement begins with INT3, so the #BP handler could not tell the replacement from the
    /// INT3 that the protocol writes there for the time of the switch.
    Breakpoint {
        /// Address of the site.
        site: usize,
        /// What the site belongs to: the name of its op or key.
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
            Self::Count { .. } => "count",
            Self::KeyNotFollowed { .. } => "key-not-followed",
            Self::SlotNotFollowed { .. } => "slot-not-followed",
            Self::Busy => "busy",
            Self::AlreadyJoined => "already-joined",
            Self::NotJoined => "not-joined",
            Self::SharedText { .. } => "shared-text",
            Self::ThreadInside { .. } => "thread-inside",
            Self::NotEmulated { .. } => "not-emulated",
            Self::Breakpoint { .. } => "breakpoint",
        }
    }

    /// Returns the address of the site that the error is about, if it is about one.
    #[must_use]
    pub const fn site(&self) -> Option<usize> {
        match *self {
            Self::TruncatedTable { .. }
            | Self::BadRecord { .. }
            | Self::Count { .. }
            | Self::KeyNotFollowed { .. }
            | Self::SlotNotFollowed { .. }
            | Self::Busy
            | Self::AlreadyJoined
            | Self::NotJoined
            | Self::SharedText { .. } => None,
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
                "record {index}: site {site:#x} belongs to {subject:#x}, which is neither the slot of op \
                 {number} in any of the given ops tables nor a key: give the site set every table that has sites"
            ),
            Self::Overlap { index, site, name, other } => {
                write!(f, "record {index}: site {site:#x} ({name}) overlaps the site at {other:#x}")
            }
            Self::OldBytes { site, name, expected, found } if expected.is_empty() => write!(
                f,
                "site {site:#x} ({name}) holds {found}, which is no replacement of it, and does not reach \
                 its slot: the record is wrong, or somebody else wrote there"
            ),
            Self::OldBytes { site, name, expected, found } => write!(
                f,
                "site {site:#x} ({name}) holds {found}, where {expected} or a replacement of it was expected: \
                 somebody else wrote there"
            ),
            Self::Compose { site, name, why } => write!(f, "site {site:#x} ({name}): {why}"),
            Self::Alias { site, alias, name } => {
                write!(f, "site {site:#x} ({name}): {alias:#x} is not a second mapping of it")
            }
            Self::ReadBack { site, name, wrote, found } => {
                write!(f, "site {site:#x} ({name}): wrote {wrote} and read back {found}")
            }
            Self::Count { key, name, count: 0 } => {
                write!(f, "key {key:#x} ({name}) is counted down more often than up")
            }
            Self::Count { key, name, count } => {
                write!(f, "key {key:#x} ({name}) was counted up {count} times: it cannot count on")
            }
            Self::KeyNotFollowed { key } => write!(
                f,
                "key {key:#x} was not changed, because no branch of these site sets follows it: write \
                 `, branches` behind the bracket of site_set!, or let the set with its branches join"
            ),
            Self::SlotNotFollowed { slot, name } => write!(
                f,
                "slot {slot:#x} ({name}) was not changed, because no site of these site sets follows it: \
                 name its table in the bracket of site_set!, or let the set with that table join"
            ),
            Self::Busy => f.write_str("another writer is at work on these sites"),
            Self::AlreadyJoined => {
                f.write_str("the site set has joined already: let it leave before it joins again")
            }
            Self::NotJoined => f.write_str("the site set has not joined here, so it cannot leave"),
            Self::SharedText { start, end, other } => write!(
                f,
                "the module's text ({start:#x}..{end:#x}) shares addresses with that of the module at {other:#x}"
            ),
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

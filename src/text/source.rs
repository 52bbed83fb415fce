//! The seam between the engine and its front ends.
//!
//! The engine ([`text`](crate::text), [`live`](crate::live)) knows records, bytes and memory. A
//! front end knows what a record stands for: which op its site belongs to, or which *key*, as what
//! decides is called where it is no op; and what the site is to get. Each front end implements
//! [`Source`]. That of ops tables is [`OpSource`](crate::ops::OpSource).
//!
//! Unsafe code here declares the trait only.
#![allow(unsafe_code)]

use crate::insn::Replacement;
use crate::site::Record;

/// The moment whose slots and keys decide what sites get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// What slots and keys say at this moment. For plans, which write nothing.
    Present,
    /// What slots and keys said when the batch began: at the last [`Source::begin`]. Other CPUs
    /// may change a slot while its sites are written, and all of these must get the same.
    Batch,
    /// What the assembler wrote: an indirect call or jump, for a site of an op.
    Original,
}

/// The answer of a front end for one class of sites: what they get, and what they may hold before
/// that. A class is all sites of a set with the same subject, number, capacity and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe<'a> {
    /// The name of what the sites belong to, for errors: that of the op.
    pub name: &'static str,
    /// What the sites get.
    pub new: Replacement<'a>,
    /// What the sites of this set were last patched for; the original if they never were, or
    /// were reverted. A failed write is undone by putting this back.
    pub last_applied: Replacement<'a>,
    /// What the assembler wrote.
    pub original: Replacement<'a>,
    /// What a tool may have put in ahead of boot.
    pub ahead_of_boot: Replacement<'a>,
    /// Whether a CPU can trap at such a site, so that the INT3 protocol may be used.
    pub may_trap: bool,
}

impl<'a> Recipe<'a> {
    /// Returns all that a site may hold, the most likely first. Other bytes are somebody else's,
    /// and are never overwritten.
    #[must_use]
    pub const fn known(&self) -> [&Replacement<'a>; 4] {
        [&self.new, &self.last_applied, &self.original, &self.ahead_of_boot]
    }
}

/// The subject of a change: what is set, and what the records of its sites name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A slot.
    Slot {
        /// Its address.
        address: usize,
        /// The name of its op.
        name: &'static str,
    },
    /// A key.
    Key {
        /// Its address.
        address: usize,
        /// Whether branches of the key were ever patched, in whatever set.
        has_patched_branches: bool,
    },
}

/// The reason why a record belongs to no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// No site of this source has that capacity.
    Capacity,
    /// No site of this source is of that kind.
    Kind,
    /// The source knows no subject of that address and number.
    UnknownSubject,
}

/// The action by which a CPU that trapped at a site goes on. Its effect is that of the site's new
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulation {
    /// Calls the function at this address, which returns behind the site.
    Call(usize),
    /// Goes on at this address.
    Jump(usize),
    /// Goes on behind the site.
    Skip,
}

/// A front end: what the records of one site set stand for, and what its sites were last patched
/// for.
///
/// [`begin`](Self::begin) and [`finish`](Self::finish) are called by one writer at a time, the
/// others by any CPU at any time.
///
/// # Safety
/// - Every replacement of a [`Recipe`] does, at each site of its class, what the code around the
///   site expects of it.
/// - Between two calls of `begin`, the recipes and emulations of [`Follow::Batch`] are the same
///   for the same record; those of [`Follow::Original`] always are.
/// - An [`Emulation`] has the same effect as the new replacement of the recipe for the same record
///   and the same [`Follow`]; for `Follow::Original`, as the original at that moment.
/// - [`may_begin_inside`](Self::may_begin_inside) is true wherever a site of this source begins that
///   holds its original.
/// - Of two records that name one site, have the same original there and are not the
///   [same](Self::is_same), [`may_have_another`](Self::may_have_another) is true of at least one.
/// - Where all bytes of one original are also the first bytes of a longer one, the longer one goes
///   on with single-byte NOPs: `ff 15 a b c d`, and `ff 15 a b c d 90 90`.
/// - None of the functions executes a patch site.
pub unsafe trait Source: Sync {
    /// Returns the recipe for the class of this record. Called once for each class, not once for
    /// each site.
    ///
    /// # Errors
    /// Returns a [`RecordFault`] if no record of this source can say that.
    fn recipe(&self, record: &Record, follow: Follow) -> Result<Recipe<'_>, RecordFault>;

    /// Returns how a CPU goes on that trapped at the site of this record while a batch with this
    /// `follow` is written; `None` if the record is none of this source's.
    fn emulation(&self, record: &Record, follow: Follow) -> Option<Emulation>;

    /// Returns the address of the target of a record, to which its site jumps. Asked only where the
    /// records of a part have targets ([`Sites::with_targets_between`]); the recipes of a class are
    /// then the same but for this: each [`Jump`](Replacement::Jump) goes to the target of its record.
    ///
    /// [`Sites::with_targets_between`]: crate::Sites::with_targets_between
    fn target(&self, record: &Record) -> usize {
        let _ = record;
        0
    }

    /// Returns whether another site, which holds its original, may begin inside the site of
    /// `capacity` bytes at `address`, behind its first byte. `text` holds the bytes of the site at
    /// `address`, and up to five behind it; where more would be needed to tell, this is true.
    ///
    /// Called for each site of a set whose records are not sorted, so it should be quick: the first
    /// bytes of the originals are looked for. For each site for which this is true the engine searches
    /// all records, so it should be true for few.
    fn may_begin_inside(&self, address: usize, capacity: u8, text: &[u8]) -> bool;

    /// Returns whether this source may want something of the site of `record` by another record than
    /// this one, which `is_own` says to be one of its own. An op's original tells by its slot what
    /// it belongs to, so no two of them in one table differ and have the same original.
    fn may_have_another(&self, record: &Record, is_own: bool) -> bool {
        !is_own && self.recipe(record, Follow::Original).is_ok()
    }

    /// Returns whether two records of this source say the same. Linkers that fold functions of the
    /// same code into one (`--icf=all`) leave the records of each, and they are one site.
    fn is_same(&self, one: &Record, other: &Record) -> bool {
        one.is_same(other)
    }

    /// Returns whether sites of this source follow a change of this subject, of which there may be
    /// none: it is a slot or a key that this source knows. A change that no source of a writer
    /// follows is refused, since memory would say something else than text.
    fn follows(&self, subject: Subject) -> bool {
        let _ = subject;
        false
    }

    /// Keeps what slots and keys say now, for [`Follow::Batch`]: the batch begins.
    fn begin(&self);

    /// Notes that every site of the set now has what its recipe for this `follow` says. That is
    /// never [`Follow::Present`].
    fn finish(&self, follow: Follow);
}

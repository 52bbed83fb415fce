//! The rule: how a site may change while a thread may be inside it. It looks at bytes only, and at
//! no memory.

use crate::error::Error;
use crate::insn::{self, InsnBuffer, Kind, Nops, Replacement, Width};
use crate::live::INT3;
use crate::text::Outcome;

/// Checks that a site may be switched by INT3 while threads may be inside it. The *boundary* of
/// what a site holds is the first byte, other than its first one, at which a thread can be. Two
/// things must be so:
/// 1. From the boundary of the old bytes on, the new bytes are the same.
/// 2. The boundary of the new bytes is not behind it. For a thread may stay inside through several
///    switches, and the rule must see its place each time.
///
/// An example of what the second one forbids:
///
/// ```text
/// fa 0f 1f 44 00 00    cli, and a NOP of five bytes: a thread is interrupted at byte 1
/// 66 0f 1f 44 00 00    one NOP of six bytes: the same bytes from byte 1 on, so the thread may
///                      stay; but as nobody can get into one NOP, its place is forgotten
/// e8 .. .. .. .. 90    a call, which may take the place of one NOP: the thread goes on inside it
/// ```
///
/// `nops` are those that the site was composed with.
///
/// # Errors
/// Returns
/// - [`Error::NotEmulated`] if no CPU may trap at the site;
/// - [`Error::Breakpoint`] if the old or the new bytes begin with INT3;
/// - [`Error::ThreadInside`] if one of the two conditions does not hold.
pub fn admit(outcome: &Outcome<'_>, nops: Nops) -> Result<(), Error> {
    admit_emulated(outcome)?;
    admit_inside(outcome, nops)
}

/// Checks the two conditions of [`admit`].
pub(super) fn admit_inside(outcome: &Outcome<'_>, nops: Nops) -> Result<(), Error> {
    let (old, new) = (&outcome.old_bytes, &outcome.new_bytes);
    let boundary_of = |held| first_boundary(held, old.bytes().len(), nops);
    let boundary = boundary_of(outcome.old);
    let is_same = old.bytes().get(boundary..) == new.bytes().get(boundary..);
    let stays_known = boundary_of(outcome.new) <= boundary;
    if is_same && stays_known {
        return Ok(());
    }
    let (site, name) = (outcome.address, outcome.name);
    Err(Error::ThreadInside { site, name, boundary, old: *old, new: *new })
}

/// Returns whether what the site holds and what it would get are one instruction each, so that what
/// was found of this site holds for all of its class: it does not depend on where they lead.
pub(super) fn is_one_instruction(outcome: &Outcome<'_>) -> bool {
    let is_one = |replacement| {
        matches!(replacement, Replacement::Nop(_))
            || matches!(replacement, Replacement::Jump(_) if outcome.old_bytes.bytes().len() == InsnBuffer::JUMP)
    };
    is_one(outcome.old) && is_one(outcome.new)
}

/// Checks what must be so even when no thread is inside: a CPU may trap at the site and go on by an
/// emulation, and an INT3 there is the protocol's.
pub(super) fn admit_emulated(outcome: &Outcome<'_>) -> Result<(), Error> {
    let (site, name) = (outcome.address, outcome.name);
    if !outcome.may_trap {
        return Err(Error::NotEmulated { site, name });
    }
    let both = [&outcome.old_bytes, &outcome.new_bytes];
    if both.into_iter().any(|bytes| bytes.bytes().first() == Some(&INT3)) {
        return Err(Error::Breakpoint { site, name });
    }
    Ok(())
}

/// Returns the boundary of a site that holds this: the first offset, other than 0, at which a
/// thread can be. That is the end of the first instruction, since a thread can be interrupted there
/// or return there; and the end of the site, if nobody gets behind the first instruction.
#[inline(never)]
fn first_boundary(held: Replacement<'_>, capacity: usize, nops: Nops) -> usize {
    match held {
        Replacement::Indirect(Kind::Call, _) => 6,
        Replacement::Call(_) => 5,
        // These do not come back.
        Replacement::Indirect(Kind::Jump, _) | Replacement::Jump(_) | Replacement::Trap(_) => {
            capacity
        }
        // One instruction is all of the site.
        Replacement::Nop(bytes) => bytes.len(),
        Replacement::Nops => {
            insn::first_nop(Width::NATIVE, nops, u8::try_from(capacity).unwrap_or(u8::MAX))
        }
        // The crate does not know where the instructions of a patchlet end: any byte may be one's.
        Replacement::Patchlet(_) | Replacement::Identity(_) | Replacement::Zero(_) => 1,
    }
}

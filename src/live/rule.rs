//! The rule: what may change while a thread may be inside a site. Pure.

use crate::error::Error;
use crate::insn::{self, Kind, Nops, Replacement, Width};
use crate::live::INT3;
use crate::text::Outcome;

/// Returns whether a site may be switched by INT3 while threads may be inside it:
/// - from the first byte on at which a thread can be, the new bytes are the old ones;
/// - and a thread that stays there is at a place that this rule knows when it is asked again. A
///   thread can stay for more than one switch: at the NOP behind `cli`, say, while the site becomes
///   one long NOP, which ends in the same bytes and in which no thread seems to be; and then a
///   call.
///
/// `nops` are those that the site was composed with.
///
/// # Errors
/// - [`Error::NotEmulated`], [`Error::Breakpoint`] and [`Error::ThreadInside`].
pub fn admit(outcome: &Outcome<'_>, nops: Nops) -> Result<(), Error> {
    admit_emulated(outcome)?;
    let (old, new) = (outcome.old_bytes, outcome.new_bytes);
    let first = |held| first_boundary(held, old.bytes().len(), nops);
    let boundary = first(outcome.old);
    let is_same = old.bytes().get(boundary..) == new.bytes().get(boundary..);
    let stays_known = first(outcome.new) <= boundary;
    if is_same && stays_known {
        return Ok(());
    }
    Err(Error::ThreadInside { site: outcome.address, name: outcome.name, boundary, old, new })
}

/// Returns whether the part of the rule holds that matters even when no thread is inside: the trap
/// can be taken and emulated, and the INT3 is the protocol's.
pub(super) fn admit_emulated(outcome: &Outcome<'_>) -> Result<(), Error> {
    let (site, name) = (outcome.address, outcome.name);
    if !outcome.may_trap {
        return Err(Error::NotEmulated { site, name });
    }
    let both = [outcome.old_bytes, outcome.new_bytes];
    if both.iter().any(|bytes| bytes.bytes().first() == Some(&INT3)) {
        return Err(Error::Breakpoint { site, name });
    }
    Ok(())
}

/// Returns where in such a site a thread can be first: the end of the first instruction that
/// comes back or completes; the end of the site if there is none.
fn first_boundary(held: Replacement<'_>, capacity: usize, nops: Nops) -> usize {
    match held {
        Replacement::Indirect(Kind::Call, _) => 6,
        Replacement::Call(_) => 5,
        // These do not come back.
        Replacement::Indirect(Kind::Jump, _) | Replacement::Jump(_) | Replacement::Trap(_) => {
            capacity
        }
        Replacement::Nops => {
            insn::first_nop(Width::NATIVE, nops, u8::try_from(capacity).unwrap_or(u8::MAX))
        }
        // The crate does not know where the instructions of a patchlet begin: any byte may.
        Replacement::Patchlet(_) | Replacement::Identity(_) => 1,
    }
}

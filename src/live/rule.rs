//! The rule: what may change while somebody may be inside a site. Pure.

use crate::choose::Replacement;
use crate::error::Error;
use crate::insn::{self, Nops, Width};
use crate::live::INT3;
use crate::ops::Abi;
use crate::site::Kind;
use crate::text::Outcome;

/// Whether a site may be switched by INT3 while threads may be inside it:
/// - from the first byte on at which one can be, the new bytes are the old ones;
/// - and one can be there as far as this rule knows when it is asked again. A
///   thread can stay for more than one switch: at the NOP behind `cli` while that
///   becomes one long NOP, which ends in the same bytes and in which nobody seems
///   to be; and then a call.
///
/// `nops` are those the site was composed with.
///
/// # Errors
/// [`Error::NotEmulated`], [`Error::Breakpoint`] and [`Error::Inside`].
pub fn admit(outcome: &Outcome, nops: Nops) -> Result<(), Error> {
    emulated(outcome)?;
    let (old, new) = (outcome.old, outcome.new);
    let capacity = old.bytes().len();
    let first = |replacement| first_boundary(replacement, outcome.kind, capacity, nops);
    let boundary = first(outcome.held);
    let same = old.bytes().get(boundary..) == new.bytes().get(boundary..);
    let known = first(outcome.replacement) <= boundary;
    if same && known {
        return Ok(());
    }
    Err(Error::Inside { site: outcome.address, op: outcome.op.name(), boundary, old, new })
}

/// The part of the rule that holds even when nobody is inside: the trap can be
/// taken and emulated, and the INT3 is ours.
pub(super) fn emulated(outcome: &Outcome) -> Result<(), Error> {
    let (site, op) = (outcome.address, outcome.op.name());
    if outcome.op.abi() == Abi::Assembly {
        return Err(Error::NotEmulated { site, op });
    }
    if [outcome.old, outcome.new].iter().any(|bytes| bytes.bytes().first() == Some(&INT3)) {
        return Err(Error::Breakpoint { site, op });
    }
    Ok(())
}

/// Where in such a site a thread can be first: the end of the first instruction
/// that comes back or completes; behind the site if there is none.
fn first_boundary(held: Option<Replacement<'_>>, kind: Kind, capacity: usize, nops: Nops) -> usize {
    match (held, kind) {
        (None, Kind::Call) => 6,
        (Some(Replacement::Call(_)), _) => 5,
        // They do not come back.
        (None, Kind::Jump) | (Some(Replacement::Jump(_) | Replacement::Trap(_)), _) => capacity,
        (Some(Replacement::Nops), _) => {
            insn::first_nop(Width::NATIVE, nops, u8::try_from(capacity).unwrap_or(u8::MAX))
        }
        // Its instructions are not known here: each byte may begin one.
        (Some(Replacement::Patchlet(_) | Replacement::Identity(_)), _) => 1,
    }
}

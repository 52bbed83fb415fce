//! Faults: what is wrong with a record or its site. On the way through the table
//! that is one small value; the error, with all its values, is made of it once.

use super::patcher::Patcher;
use super::platform::Platform;
use super::report::Aim;
use crate::error::Error;
use crate::site::Record;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Truncated,
    Capacity,
    Kind,
    Outside,
    UnknownOp,
    Overlap,
    OldBytes,
    Compose,
    Alias,
    ReadBack,
    /// The act knows more.
    Refused,
}

/// And of which record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// Its position in the table.
    pub(crate) index: usize,
    pub(crate) why: Why,
}

impl<P: Platform, const TABLES: usize> Patcher<'_, P, TABLES> {
    /// The error, as long as text is as it was when the fault was found.
    #[cold]
    #[inline(never)]
    pub(crate) fn explain(&self, fault: Fault, aim: Aim) -> Error {
        let Fault { index, why } = fault;
        let Some(record) = self.sites().records().get(index).filter(|_| why != Why::Truncated)
        else {
            return Error::TruncatedTable { bytes: self.sites().size(), record: Record::SIZE };
        };
        match why {
            Why::Capacity => {
                return Error::BadRecord { index, field: "capacity", value: record.capacity() };
            }
            Why::Kind => {
                let value = record.kind().err().unwrap_or_default();
                return Error::BadRecord { index, field: "kind", value };
            }
            _ => {}
        }
        let (site, slot) = (record.site(), record.slot());
        if why == Why::Outside {
            let text = self.platform().text();
            return Error::OutsideText { index, site, start: text.start, end: text.end };
        }
        let Some((maker, target, _)) = self.maker(record, aim) else {
            return Error::UnknownOp { index, site, slot, op: record.op() };
        };
        let op = maker.op.name();
        let new = maker.bytes(target);
        let found = self.read(site, record.capacity());
        match (why, maker.bytes(None), new) {
            (Why::Overlap, ..) => {
                let other = self.overlapping(index, record).unwrap_or(site);
                Error::Overlap { index, site, op, other }
            }
            (Why::Compose, Err(why), _) | (Why::Compose, _, Err(why)) => {
                Error::Compose { site, op, why }
            }
            (Why::Alias, ..) => {
                Error::Alias { site, alias: self.platform().alias(site).addr(), op }
            }
            (Why::ReadBack, _, Ok((wrote, _))) => Error::ReadBack { site, op, wrote, found },
            (_, Ok((expected, _)), _) => Error::OldBytes { site, op, expected, found },
            (_, Err(why), _) => Error::Compose { site, op, why },
        }
    }
}

//! Faults: what is wrong with a record or its site. On the way through the table
//! that is one small value; the error, with all its values, is made of it once.
//!
//! Unsafe code here reads a site, which was just found to lie in the text range that
//! the platform named.
#![allow(unsafe_code)]

use super::memory;
use super::patcher::Patcher;
use super::platform::Platform;
use super::report::Aim;
use crate::error::Error;
use crate::insn::InsnBuffer;
use crate::ops::INDIRECT;
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
        let (site, slot) = (record.site(), record.slot());
        let mut maker = None;
        let wrong = self.maker(record, aim, &mut maker);
        let Some(maker) = maker else {
            let (field, value) = match wrong {
                Err(Why::Outside) => {
                    let text = self.platform().text();
                    return Error::OutsideText { index, site, start: text.start, end: text.end };
                }
                Err(Why::Capacity) => ("capacity", record.capacity()),
                Err(Why::Kind) => ("kind", record.kind().err().unwrap_or_default()),
                _ => return Error::UnknownOp { index, site, slot, op: record.op() },
            };
            return Error::BadRecord { index, field, value };
        };
        let op = maker.row.op.name();
        // In the end, what it gets.
        let mut wrote = InsnBuffer::nothing();
        for target in [INDIRECT, maker.target] {
            if let Err(why) = maker.compose(target, site, &mut wrote) {
                return Error::Compose { site, op, why };
            }
        }
        // SAFETY: the site is inside text (`maker`), and its capacity is 6 to 32.
        let found =
            || unsafe { memory::read(core::ptr::with_exposed_provenance(site), maker.capacity) };
        match why {
            Why::Overlap => {
                let other = self.overlapping(index).unwrap_or(site);
                Error::Overlap { index, site, op, other }
            }
            Why::Alias => Error::Alias { site, alias: self.platform().alias(site).addr(), op },
            Why::ReadBack => Error::ReadBack { site, op, wrote, found: found() },
            _ => {
                let expected = maker.made(INDIRECT, site);
                Error::OldBytes { site, op, expected, found: found() }
            }
        }
    }
}

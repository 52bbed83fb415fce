//! Faults: what is wrong with which record. A pass over all sites returns one of these, which is
//! small; the [`Error`], with its bytes and its name, is made of it once, in here.
//!
//! Unsafe code here reads a site, after it was found to lie in text.
#![allow(unsafe_code)]

use core::ops::Range;

use super::checked_site::{CheckedSite, Run};
use super::contents::View;
use super::platform::Platform;
use super::site_set::Part;
use super::source::RecordFault;
use crate::error::Error;
use crate::site::Record;

/// A defect of a set, a record or a site, before an [`Error`] is made of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault<'r> {
    /// A table ends in the middle of a record.
    TruncatedTable {
        /// Size of the table, in bytes.
        bytes: usize,
    },
    /// Something is wrong with the site of this record, which stands in this part.
    Site(&'r Part<'r>, &'r Record, SiteFault),
}

/// A defect of one site.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SiteFault {
    /// [`Run::site`] refused it: its values, its place, or that what it gets does not fit.
    Refused,
    /// It shares bytes with the site at this address.
    Overlaps(usize),
    /// It holds bytes that it may not hold.
    Contents,
    /// Its alias shows something else than it does.
    Alias,
    /// It does not show what it was to get.
    NotShown,
}

impl<'p> CheckedSite<'p, '_> {
    /// Says that this is wrong with the site.
    pub(crate) const fn fault(&self, fault: SiteFault) -> Fault<'p> {
        Fault::Site(self.part, self.record, fault)
    }
}

impl<P: Platform> Run<'_, P> {
    /// Makes the error of this fault. Reads the site, so it is made before anything is put back.
    #[cold]
    #[inline(never)]
    pub(crate) fn error(&self, fault: &Fault<'_>) -> Error {
        let (part, record, fault) = match *fault {
            Fault::TruncatedTable { bytes } => {
                return Error::TruncatedTable { bytes, record: Record::SIZE };
            }
            Fault::Site(part, record, fault) => (part, record, fault),
        };
        let site = record.site();
        let table = part.sites().records().as_ptr().addr();
        let index = core::ptr::from_ref(record).addr().wrapping_sub(table) / Record::SIZE;
        let recipe = &self.recipe_of(part, record);
        let recipe = match recipe {
            Ok(recipe) => recipe,
            Err(fault) => {
                let (field, value) = match fault {
                    RecordFault::Capacity => ("capacity", record.capacity()),
                    RecordFault::Kind => ("kind", record.kind_number()),
                    RecordFault::UnknownSubject => {
                        let (subject, number) = (record.subject(), record.number());
                        return Error::UnknownSubject { index, site, subject, number };
                    }
                };
                return Error::BadRecord { index, field, value };
            }
        };
        // Says more about a wrong record than that something does not fit into it.
        if !self.lies_in_text(record) {
            let Range { start, end } = self.platform.text_around(site);
            return Error::OutsideText { index, site, start, end };
        }
        let name = recipe.name;
        // SAFETY: the site lies in text.
        let found = unsafe { self.read_record(record, View::Site) };
        match fault {
            SiteFault::Refused => match &self.compose(record, &recipe.new) {
                Err(why) => Error::Compose { site, name, why: *why },
                // It fits if a slot was set since: that happens while a plan is made, and then only.
                Ok(_) => Error::Busy,
            },
            SiteFault::Overlaps(other) => Error::Overlap { index, site, name, other },
            SiteFault::Contents => {
                let expected = self.bytes(record, &recipe.original);
                Error::OldBytes { site, name, expected, found }
            }
            SiteFault::Alias => {
                Error::Alias { site, alias: self.platform.alias(site).addr(), name }
            }
            SiteFault::NotShown => {
                let wrote = self.bytes(record, &recipe.new);
                Error::ReadBack { site, name, wrote, found }
            }
        }
    }
}

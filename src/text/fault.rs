//! Faults: what is wrong with which record. A pass over all sites returns one of these, which is
//! small; the [`Error`], with its bytes and its name, is made of it once, in here.
//!
//! Unsafe code here reads a site, after it was found to lie in text.
#![allow(unsafe_code)]

use core::ops::Range;

use super::checked_site::{CheckedSite, Run, lies_in};
use super::contents::View;
use super::platform::Platform;
use super::site_set::Part;
use super::source::RecordFault;
use crate::error::Error;
use crate::site::Record;

/// A fault that a pass found: in a table, or in one of its sites.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault<'r> {
    /// The table of this part ends in the middle of a record.
    TruncatedTable(&'r Part<'r>),
    /// Something is wrong with the site of this record, which stands in this part.
    Site(&'r Part<'r>, &'r Record, SiteFault),
}

/// The fault of one site.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SiteFault {
    /// [`Run::site`] refused it. Its record is wrong, it lies outside text, or what it gets does
    /// not fit; [`Run::error`] finds out which.
    Refused,
    /// It shares bytes with the site at this address.
    Overlaps(usize),
    /// It holds bytes that it may not hold.
    Contents,
    /// Its alias shows other bytes than the site itself.
    Alias,
    /// It does not show what was written to it.
    NotShown,
}

impl<'p> CheckedSite<'p, '_> {
    /// Returns this fault, with the part and the record of the site.
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
            Fault::TruncatedTable(part) => {
                let sites = part.sites();
                let (bytes, record) = (sites.size(), sites.record_size());
                return Error::TruncatedTable { bytes, record };
            }
            Fault::Site(part, record, fault) => (part, record, fault),
        };
        let site = record.site();
        let index = part.sites().position(record);
        // A wrong record comes first and a wrong place second, whatever the fault: they explain the
        // rest. That something does not fit, for example, says little about a site outside text.
        let answer = &self.recipe_of(part, record);
        let recipe = match answer {
            Ok(recipe) => recipe,
            Err(record_fault) => return record_error(record, index, *record_fault),
        };
        let text = &self.platform.text_around(site);
        if !lies_in(text, record) {
            let &Range { start, end } = text;
            return Error::OutsideText { index, site, start, end };
        }
        let name = recipe.name;
        // SAFETY: the site lies in text.
        let found = unsafe { self.read_record(record, View::Site) };
        match fault {
            SiteFault::Refused => match &self.compose(record, &recipe.new) {
                Err(why) => Error::Compose { site, name, why: *why },
                // It fits now, so somebody has set the slot since. Only a plan follows slots as
                // they are at the moment, and so only a plan can meet this.
                Ok(_) => Error::Busy,
            },
            SiteFault::Overlaps(other) => Error::Overlap { index, site, name, other },
            SiteFault::Contents => {
                let expected = self.compose_or_empty(record, &recipe.original);
                Error::OldBytes { site, name, expected, found }
            }
            SiteFault::Alias => {
                Error::Alias { site, alias: self.platform.alias(site).addr(), name }
            }
            SiteFault::NotShown => {
                let wrote = self.compose_or_empty(record, &recipe.new);
                Error::ReadBack { site, name, wrote, found }
            }
        }
    }
}

/// Makes the error of a record that belongs to no class. `index` is its position in its table.
#[inline(always)]
fn record_error(record: &Record, index: usize, fault: RecordFault) -> Error {
    let (field, value) = match fault {
        RecordFault::Capacity => ("capacity", record.capacity()),
        RecordFault::Kind => ("kind", record.kind_number()),
        RecordFault::UnknownSubject => {
            let (site, subject, number) = (record.site(), record.subject(), record.number());
            return Error::UnknownSubject { index, site, subject, number };
        }
    };
    Error::BadRecord { index, field, value }
}

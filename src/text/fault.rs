//! Faults: what is wrong with a record or its site, as an error with all its values.

use super::class::Class;
use super::pass::{Refused, Step};
use super::patcher::Patcher;
use super::platform::Platform;
use super::spot::{Spot, View};
use crate::error::Error;
use crate::ops::INDIRECT;
use crate::site::Record;

/// A site that cannot have what it is to get.
#[cold]
pub(super) fn unfit(class: &Class, site: usize, error: &mut Error) {
    let maker = &class.maker;
    let why = class.new.why_not(maker.capacity);
    *error = Error::Compose { site, op: maker.row.op.name(), why };
}

impl<P: Platform, const TABLES: usize> Patcher<'_, P, TABLES> {
    #[cold]
    pub(super) fn outside(&self, index: usize, record: &Record, error: &mut Error) {
        let text = self.platform().text();
        *error =
            Error::OutsideText { index, site: record.site(), start: text.start, end: text.end };
    }

    /// A site that does not hold, or whose alias does not show, what it should in this step.
    #[cold]
    #[inline(never)]
    pub(crate) fn wrong(&self, spot: &Spot<'_>, step: Step, error: &mut Error) -> Refused {
        let (site, op) = (spot.address, spot.class.maker.row.op.name());
        if step == Step::Write {
            *error = Error::Alias { site, alias: self.platform().alias(site).addr(), op };
            return Refused;
        }
        let is_written = step == Step::Blame;
        let expected = spot.made(if is_written { spot.class.maker.target } else { INDIRECT });
        let found = self.present(spot, View::Site);
        *error = if is_written {
            Error::ReadBack { site, op, wrote: expected, found }
        } else {
            Error::OldBytes { site, op, expected, found }
        };
        Refused
    }
}

//! The records of branch sites in a linked file, section `patchlet_branches`: the numbers in them,
//! with relative addresses made absolute. `verify` checks them.

use super::table::{Field, FoundRecords, RecordFormat, TableSearch};
use crate::inspect::elf::Image;
use crate::inspect::finding::Findings;

/// The format of the table of branch sites.
pub(crate) const BRANCHES: RecordFormat = RecordFormat {
    section: "patchlet_branches",
    bounds: ["__start_patchlet_branches", "__stop_patchlet_branches"],
    size: 16,
    // In this order: site, key, a number that is 0, capacity, direction, jump target.
    fields: &[
        Field::address(0),
        Field::address(4),
        Field::number(8, 2),
        Field::number(10, 1),
        Field::number(11, 1),
        Field::address(12),
    ],
};

/// The size of a branch site, in bytes: that of `jmp rel32`.
pub(crate) const BRANCH_SIZE: u8 = 5;

/// The record of a branch site in a file, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BranchImage {
    /// Address of the record.
    pub address: u64,
    /// Address of the first byte of the site.
    pub site: u64,
    /// Address of the key that decides.
    pub key: u64,
    /// Bits 0 to 15 of the word behind the addresses; 0 in a valid record.
    pub number: u16,
    /// Capacity of the site, in bytes; 5 in a valid record.
    pub capacity: u8,
    /// Direction as a number: 0 jumps when the key is on, 1 when it is off.
    pub direction: u8,
    /// Address that the site jumps to when it jumps.
    pub target: u64,
}

impl BranchImage {
    /// Returns the state of the key in which the site jumps; `None` if the number of the direction
    /// stands for none.
    #[must_use]
    pub const fn jumps_when(&self) -> Option<bool> {
        match self.direction {
            0 => Some(true),
            1 => Some(false),
            _ => None,
        }
    }

    /// Returns whether two records say the same, as [`SiteImage::repeats`](super::SiteImage::repeats)
    /// does.
    #[must_use]
    pub fn repeats(&self, other: &Self) -> bool {
        *self == Self { address: self.address, ..*other }
    }

    /// Returns the first address behind the site.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.site.saturating_add(self.capacity as u64)
    }
}

/// Reads the table of branch sites of a linked file. Adds the defects of the table to `findings`.
pub(crate) fn read(image: &Image<'_>, findings: &mut Findings) -> FoundRecords<BranchImage> {
    let TableSearch::Found(table) = BRANCHES.find(image, findings) else {
        return FoundRecords::default();
    };
    let fields = |address, [site, key, number, capacity, direction, target]: [u64; 6]| {
        // As wide as the format says, so nothing is cut.
        let (number, capacity, direction) = (number as u16, capacity as u8, direction as u8);
        BranchImage { address, site, key, number, capacity, direction, target }
    };
    BRANCHES.read_all(image, table, fields)
}

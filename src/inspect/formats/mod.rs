//! The formats of what the crate's macros write into a file, one module each. A table of
//! records is described by data ([`table::RecordFormat`]): its section, its bounds, and the
//! size and fields of a record.

mod branches;
mod index;
mod keys;
mod means;
mod named;
mod native_set;
mod op_records;
mod patchlet_image;
mod patchlets;
mod place_image;
mod places;
mod sites;
mod table;
mod variants;
mod width;

use super::elf::Image;

pub use branches::BranchImage;
pub use keys::{KeyImage, keys_of};
pub use means::Means;
pub use native_set::native_set;
pub use op_records::{OpRecord, ops_of};
pub use patchlet_image::PatchletImage;
pub use patchlets::patchlets_of;
pub use place_image::{HoleImage, PlaceImage, PlaceMode};
pub use sites::SiteImage;
pub use variants::{VariantImage, variants_of};

pub(super) use branches::{BRANCH_SIZE, BRANCHES, read as read_branches};
pub(super) use index::INDEX;
pub(super) use keys::{KEY_WORD, KEYS, read as read_keys};
pub(super) use native_set::{PV_TABLE, PV_TABLE_STARTS, bytes_of};
pub(super) use op_records::read as read_op_records;
pub(super) use patchlets::find as find_patchlets;
pub(super) use places::PLACES;
pub(super) use sites::{SITES, read as read_sites};
pub(super) use table::FoundRecords;
pub(super) use variants::read as read_variants;
pub(super) use width::sites_are_of_width;

/// Returns whether a linked file has any of the tables that the crate's macros write.
pub(super) fn is_with_crate(image: &Image<'_>) -> bool {
    let has_section = |name| image.section_named(name).is_some();
    SITES.is_in(image)
        || BRANCHES.is_in(image)
        || has_section(INDEX.section)
        || has_section(KEYS.section)
}

//! The formats of what the crate's macros write into a file, one module each. A table of
//! records is described by data ([`table::RecordFormat`]): its section, its bounds, and the
//! size and fields of a record.

mod index;
mod named;
mod native_set;
mod op_records;
mod patchlet_image;
mod patchlets;
mod sites;
mod table;
mod width;

pub use native_set::native_set;
pub use op_records::{OpRecord, ops_of};
pub use patchlet_image::PatchletImage;
pub use patchlets::patchlets_of;
pub use sites::SiteImage;

pub(super) use index::INDEX;
pub(super) use native_set::{PV_TABLE, PV_TABLE_STARTS, bytes_of};
pub(super) use op_records::read as read_op_records;
pub(super) use patchlets::find as find_patchlets;
pub(super) use sites::{SITES, SiteRecords, read as read_sites};
pub(super) use width::sites_are_of_width;

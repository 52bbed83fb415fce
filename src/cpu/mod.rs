//! What the CPU can do, as a set of features: what variants of ops are chosen by. Knows no op, no
//! site and no text. The types are for every host: the tool plans for a CPU that is not there.

mod feature;
mod features;
mod names;
mod place;
mod table;

pub use feature::{Feature, Requirement};
pub use features::Features;
pub use table::{CpuidRegister, FeatureWord};

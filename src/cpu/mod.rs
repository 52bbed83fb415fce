//! What the CPU can do, as a set of features: what variants of ops are chosen by. Knows no op, no
//! site and no text. The types are for every host: the tool plans for a CPU that is not there.
//! [`guide::features`](crate::guide::features) tells how a kernel uses them.

mod detect;
mod feature;
mod features;
mod names;
mod table;
#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
mod this_cpu;

pub use detect::CpuidResult;
pub use feature::{Feature, Requirement};
pub use features::Features;
pub use table::{CpuidRegister, FeatureWord};

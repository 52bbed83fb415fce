//! Plans: which bytes the sites of a file would get on a platform, and which state its keys. Nothing
//! is written.

mod branches;
mod platform;
mod sites;

pub use branches::{BranchPlan, KeyPlan, plan_branches, plan_keys, plan_keys_revert};
pub use platform::PlatformSpec;
pub use sites::{SitePlan, on_platform, plan, plan_revert};

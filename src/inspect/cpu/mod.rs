//! The CPU that a file is planned for: what CPUID says on it, by the name of a QEMU model or by
//! a dump; and the features that follow, by which variants are selected.

mod models;
mod registers;
mod spec;

pub use spec::{CpuFeatures, CpuSpec};

pub(crate) use spec::{feature_named, is_same};

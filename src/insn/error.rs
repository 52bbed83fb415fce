//! The error of composing.

use core::fmt;

use super::buffer::InsnBuffer;

/// The reason why the bytes of a site could not be composed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ComposeError {
    /// The capacity is one that no site can have.
    Capacity {
        /// Capacity, in bytes.
        capacity: u8,
    },
    /// The replacement is longer than the site.
    TooLong {
        /// Length of the replacement, in bytes.
        len: usize,
        /// Capacity of the site, in bytes.
        capacity: u8,
    },
    /// A 32-bit operand cannot name the target from there.
    OutOfReach {
        /// Address of the target.
        target: u64,
    },
}

impl fmt::Display for ComposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Capacity { capacity } => {
                let longest = InsnBuffer::MAX;
                write!(f, "a capacity of {capacity} bytes is not possible (6 to {longest})")
            }
            Self::TooLong { len, capacity } => write!(
                f,
                "the replacement has {len} bytes and the site only {capacity}: give the site a larger capacity"
            ),
            Self::OutOfReach { target } => {
                write!(f, "a 32-bit displacement does not reach the target {target:#x}")
            }
        }
    }
}

impl core::error::Error for ComposeError {}

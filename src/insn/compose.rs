//! Composing all bytes of one site.

use super::buffer::InsnBuffer;
use super::error::ComposeError;
use super::form::Form;
use super::nops::{Nops, Width};
use super::replacement::Replacement;

impl InsnBuffer {
    /// Composes all bytes of a site: the instructions of the replacement, then the fewest NOPs
    /// (behind [`Replacement::Indirect`], single-byte ones, as the assembler writes them).
    ///
    /// `address` is that of the first byte of the site. Address arithmetic wraps at the width
    /// and is then checked, so targets in front of the site and behind it work alike.
    ///
    /// # Errors
    /// Returns
    /// - [`ComposeError::Capacity`] if `capacity` is 0 or more than 32;
    /// - [`ComposeError::TooLong`] if the instructions are longer than `capacity`;
    /// - [`ComposeError::OutOfReach`] if a 32-bit operand cannot name the target.
    pub fn compose(
        width: Width,
        nops: Nops,
        address: u64,
        capacity: u8,
        replacement: &Replacement<'_>,
    ) -> Result<Self, ComposeError> {
        let mut padded = Self::empty();
        let form = Form::compose(width, nops, capacity, replacement, &mut padded)?;
        match form.head_at(width, address) {
            Some(head) => Ok(padded.with_head(head)),
            None => Err(ComposeError::OutOfReach { target: replacement.operand() }),
        }
    }
}

//! Composing all bytes of one site.

use super::buffer::InsnBuffer;
use super::code::Code;
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
        let code = Code::of(replacement);
        let mut buffer = code.padded(width, nops, capacity)?;
        let Some(operand) = code.operand else { return Ok(buffer) };
        // In 32-bit code everything is in reach that is an address at all.
        let is_address = width == Width::Bits64 || operand.target <= u64::from(u32::MAX);
        let head = Form::new(width, buffer.head(), &code).head_at(width, address);
        let Some(head) = head.filter(|_| is_address) else {
            return Err(ComposeError::OutOfReach { target: operand.target });
        };
        buffer.set_head(head);
        Ok(buffer)
    }
}

//! Instructions: what a site gets, as a value, and the buffer where its bytes are composed before
//! they are written, once. Knows no op and no site: numbers in, bytes out, for both widths on any
//! host.
//!
//! ```text
//! Replacement ─→ Instructions ─→ Form ──────────→ InsnBuffer
//! a value        bytes, with     first six bytes, all bytes of
//!                no operand yet  for every site   one site
//! ```

mod buffer;
mod compose;
mod error;
mod form;
mod instructions;
mod nops;
mod replacement;

pub use buffer::InsnBuffer;
pub use error::ComposeError;
pub use nops::{Nops, Width};
pub use replacement::{Kind, Replacement};

pub(crate) use form::Form;
pub(crate) use nops::first_nop;
#[cfg(feature = "inspect")]
pub(crate) use nops::{LEA, LONG};
pub(crate) use replacement::ReplacementName;

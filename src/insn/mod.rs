//! Instructions: what a site gets, as a value, and the buffer where its bytes are composed before
//! they are written, once. Knows no op and no site: numbers in, bytes out, for both widths on any
//! host.

mod buffer;
mod code;
mod compose;
mod error;
mod form;
mod nops;
mod replacement;

pub use buffer::InsnBuffer;
pub use error::ComposeError;
pub use nops::{Nops, Width};
pub use replacement::{Kind, Replacement};

pub(crate) use form::Form;
pub(crate) use nops::first_nop;
pub(crate) use replacement::ReplacementName;

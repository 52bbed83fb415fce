//! Instructions: the buffer where the new bytes of one site are composed before they
//! are written, once. Copy, rel32, NOP fill, and the indirect call that stands in an
//! unpatched site. Pure: works for both widths on any host.

mod buffer;
mod code;
mod form;
mod nops;

pub use buffer::InsnBuffer;
pub use nops::{Nops, Width};

pub(crate) use code::Code;
pub(crate) use form::Form;
pub(crate) use nops::first_nop;

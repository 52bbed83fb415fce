//! Ops tables: what each op does now. The native, no-op and identity functions,
//! the macro that defines a table, and the built-in table. Knows no address in
//! text.

mod builtin;
mod define;
mod op;
mod table;
mod target;

pub use builtin::pv;
pub use define::FromRegister;
pub use op::{Abi, Op};
pub use table::{Applied, Slot, Table};
pub use target::Target;

pub(crate) use table::{INDIRECT, Row};

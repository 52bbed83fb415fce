//! Ops tables: what each op does now. The native, no-op and identity functions,
//! the macro that defines a table, and the built-in table. Knows no address in
//! text.

mod builtin;
mod define;
mod op;
mod site_text;
mod slot_fn;
mod source;
mod table;
mod target;
#[cfg(not(target_feature = "avx"))]
mod user_mode;
mod value;

pub use builtin::pv;
pub use op::{Abi, Op};
pub use source::{OpSource, OpState};
pub use table::Table;
pub use target::Target;
#[cfg(not(target_feature = "avx"))]
pub use user_mode::install_for_user_mode;
pub use value::{Class, OpSlot, Register, Signature, SlotFn, Value, class};

/// What [`ops!`](crate::ops!) writes into other crates. Not for anybody else: it
/// changes with the macro.
#[doc(hidden)]
pub mod __private {
    pub use super::table::{Slot, Slots};
    pub use super::value::{Register, argument_registers, class_number, result_registers};
}

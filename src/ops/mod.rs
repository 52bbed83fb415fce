//! Ops tables: what each op does at present. Here are the no-op and identity functions, the
//! macro `ops!` that defines a table, the built-in table, the variants of ops, and the front end
//! that gives a table's sites to the engine (`source`). Nothing else here knows an address in text.

mod builtin;
mod by_feature;
mod define;
mod extern_slot;
mod op;
mod site_text;
mod slot_fn;
mod source;
mod table;
mod target;
#[cfg(not(target_feature = "avx"))]
mod user_mode;
mod value;
mod variant;

pub use builtin::pv;
pub use by_feature::cpu_ops;
pub use extern_slot::ExternSlot;
pub use op::{Abi, Op};
pub use source::{OpSource, OpState};
pub use table::Table;
pub use target::Target;
#[cfg(not(target_feature = "avx"))]
pub use user_mode::install_for_user_mode;
pub use value::{AbiType, OpSlot, Register, Signature, SlotFn, Value, class};
pub use variant::Variant;

/// Items that the expansions of [`ops!`](crate::ops!) and [`slot_fn!`](crate::slot_fn!) name in
/// other crates. They are no interface: they change together with the macros.
#[doc(hidden)]
pub mod __private {
    pub use super::table::{Slot, Slots};
    pub use super::value::{Register, argument_registers, class_number, result_registers};
    pub use super::variant::{in_one_list, target_offset, variants_before};
}

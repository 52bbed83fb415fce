//! Static branches: branches whose direction is in the text, and the keys that decide it.
//!
//! ```text
//! if branch!(TRACE) { log() }        TRACE is off              TRACE is on
//!                                    0f 1f 44 00 00   nop      e9 xx xx xx xx   jmp  ─┐
//!                                    …                         …                      │
//!                                    ret                       ret                    │
//!                                    log()  ← out of line      log()  ←───────────────┘
//! ```
//!
//! There is no load and no compare: a branch costs one NOP, or one jump. [`guide::branches`] tells
//! how a kernel uses them.
//!
//! | file | what |
//! |---|---|
//! | `state` | what the branches of a key were last patched for |
//! | `key` | keys, and [`keys!`](crate::keys!), which defines them |
//! | `key_table` | the keys of a linked object, as their records list them |
//! | `emit` | [`branch!`](crate::branch!), which emits a branch |
//! | `source` | the front end: what the record of a branch stands for |
//!
//! [`guide::branches`]: crate::guide::branches

mod emit;
mod key;
mod key_table;
mod source;
mod state;

pub use key::{CountedKey, Key, StaticKey};
pub use key_table::Keys;
pub use source::{BranchSource, linked};
pub use state::BranchState;

/// Items that the expansions of [`keys!`](crate::keys!) and [`branch!`](crate::branch!) name in
/// other crates. They are no interface: they change together with the macros.
#[doc(hidden)]
pub mod __private {
    pub use super::key::starts_on;
}

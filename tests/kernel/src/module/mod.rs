//! Modules: code that is loaded while the kernel runs, and unloaded again.
//!
//! | file | what |
//! |---|---|
//! | `allocator` | no memory; what the loader is built with wants an allocator |
//! | `file` | the module's file, from the boot loader |
//! | `load/` | the loader; it knows no kernel |
//! | `exports` | the symbols that a module may refer to |
//! | `loaded` | a module in memory, with the rights of its pages |
//! | `joined` | a loaded module whose sites are switched with the kernel's |
//!
//! What the kernel and the module know of each other is in `tests/module/interface/`.

mod allocator;
mod exports;
pub mod file;
pub mod joined;
mod load;
pub mod loaded;

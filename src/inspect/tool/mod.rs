//! The command line on top of the library. It writes to any [`std::io::Write`].

mod arguments;
mod branch_views;
mod columns;
mod commands;
mod open;
mod output;
mod places;
mod progress;
mod run;
mod stop;
mod terminal;
mod views;

pub use run::run;
pub use terminal::{Exit, Terminal};

//! The module that the test kernel loads, as a file.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use super::kernel;
use super::table::Width;

/// Builds the module and links it by this linker to one object.
pub fn built(width: Width, linker: &str) -> Vec<u8> {
    // The process number: tests that run at the same time build it as well.
    let name = format!("module-{width}-{linker}-{}.o", std::process::id());
    let object = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    kernel::build_module(width, &object, linker);
    let bytes = fs::read(&object).expect("the module was built");
    fs::remove_file(object).expect("it was there");
    bytes
}

/// Returns the module as the test kernels get it.
pub fn module(width: Width) -> &'static [u8] {
    static MODULES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let [bits_64, bits_32] =
        MODULES.get_or_init(|| [Width::Bits64, Width::Bits32].map(|width| built(width, "ld.lld")));
    match width {
        Width::Bits64 => bits_64,
        Width::Bits32 => bits_32,
    }
}

//! Gives the link script to the linker: that of a small kernel, with the one line for `patchlet` if
//! the kernel has the crate.

use std::path::Path;
use std::{env, fs};

fn main() {
    let include = env::var("DEP_PATCHLET_INCLUDE").ok();
    let line = if include.is_some() { "INCLUDE patchlet.ld" } else { "" };
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let script = Path::new(&out).join("kernel.ld");
    let text = format!(
        "ENTRY(_start)
SECTIONS {{
  . = 1M;
  .text : {{ __text_start = .; *(.text .text.*) __text_end = .; }}
  {line}
  .rodata : {{ *(.rodata .rodata.*) }}
  .data : {{ *(.data .data.* .got .got.plt) }}
  .bss : {{ *(.bss .bss.* COMMON) }}
  /DISCARD/ : {{ *(.eh_frame .eh_frame_hdr .gcc_except_table .gcc_except_table.* .note.gnu.*) }}
}}
PROVIDE(rust_eh_personality = 0);
"
    );
    fs::write(&script, text).expect("the link script is written");
    if let Some(include) = include {
        println!("cargo::rustc-link-arg-bins=-L{include}");
    }
    println!("cargo::rustc-link-arg-bins=--script={}", script.display());
}

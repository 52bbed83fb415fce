//! A crate with a label that is local to it, or so it thinks.
core::arch::global_asm!("start_cli: cli", "end_cli:");

unsafe extern "C" {
    #[link_name = "start_cli"]
    static START: [u8; 0];
    #[link_name = "end_cli"]
    static END: [u8; 0];
}

pub fn length() -> usize {
    (&raw const END).addr() - (&raw const START).addr()
}

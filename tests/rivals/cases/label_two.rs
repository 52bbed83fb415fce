//! Another crate with the same label.
core::arch::global_asm!("start_cli: cli; nop", "end_cli:");

unsafe extern "C" {
    #[link_name = "start_cli"]
    static START: [u8; 0];
    #[link_name = "end_cli"]
    static END: [u8; 0];
}

fn main() {
    let own = (&raw const END).addr() - (&raw const START).addr();
    assert_eq!((label_one::length(), own), (1, 2));
}

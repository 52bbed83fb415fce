//! A label without `.globl`, in a module of its own, used in another one.
mod native {
    core::arch::global_asm!("start_cli: cli", "end_cli:");

    // Something of this module's own, so that there is a unit for it.
    pub fn twice(x: u32) -> u32 {
        std::hint::black_box(x) * 2
    }
}

mod user {
    unsafe extern "C" {
        #[link_name = "start_cli"]
        static START: [u8; 0];
        #[link_name = "end_cli"]
        static END: [u8; 0];
    }

    #[inline(never)]
    pub fn length() -> usize {
        (&raw const END).addr() - (&raw const START).addr()
    }
}

fn main() {
    assert_eq!(native::twice(2), 4);
    assert_eq!(user::length(), 1);
}

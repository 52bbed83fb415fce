//! Assembles the patchlets of this package, and checks them by the crate's function.

fn main() {
    for (source, name) in [
        ("asm/own.S", "process_patchlets"),
        ("asm/live.S", "live_patchlets"),
        ("asm/blobs.S", "process_blobs"),
    ] {
        let assembly = patchlet::assemble::Assembly::new(source).include_from_cargo();
        if let Err(error) = assembly.compile(name) {
            println!("cargo::error={error}");
            std::process::exit(1);
        }
    }
}

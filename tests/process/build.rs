//! Assembles this package's own patchlets, with the checks of `patchlet`.

fn main() {
    for (source, name) in [("asm/own.S", "process_patchlets"), ("asm/live.S", "live_patchlets")] {
        let assembly = patchlet::assemble::Assembly::new(source).include_from_cargo();
        if let Err(error) = assembly.compile(name) {
            println!("cargo::error={error}");
            std::process::exit(1);
        }
    }
}

//! Assembles this package's own patchlets, with the checks of `patchlet`.

fn main() {
    let assembly = patchlet::assemble::Assembly::new("asm/own.S").include_from_cargo();
    if let Err(error) = assembly.compile("process_patchlets") {
        println!("cargo::error={error}");
        std::process::exit(1);
    }
}

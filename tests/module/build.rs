//! Assembles the module's patchlet and sites.

fn main() {
    let own = patchlet::assemble::Assembly::new("asm/own.S")
        .include_from_cargo()
        .include("../kernel/asm");
    if let Err(error) = own.compile("patchlet_test_module_own") {
        println!("cargo::error={error}");
        std::process::exit(1);
    }
}

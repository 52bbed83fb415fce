//! Shows what stands in the site of each op of the ready-made table, by CPU model of QEMU. The kernel
//! checks the effect of each op itself.

use std::path::Path;

use crate::support::by_feature;
use crate::support::kernel;
use crate::support::models::{self, Site};
use crate::support::table::Width;

/// The models that are shown for each width; `tests/cpu_models.rs` boots more. "max" is all that QEMU
/// can emulate.
const MODELS: [(Width, [&str; 4]); 2] = [
    (Width::Bits64, ["qemu64", "Haswell", "EPYC", "max"]),
    (Width::Bits32, ["486", "pentium3", "qemu32", "max"]),
];

pub fn show() {
    println!("── ops by CPU feature: what stands in their sites {}", "─".repeat(51));
    for (width, models) in MODELS {
        let kernel = match width {
            Width::Bits64 => kernel::build(width, "fat"),
            Width::Bits32 => kernel::build_for_486(),
        };
        let runs = models.map(|model| models::boot(&kernel, model));
        let words = runs.each_ref().map(|run| {
            run.sites.iter().map(|site| stands(width, &kernel, site)).collect::<Vec<_>>()
        });
        println!(
            "   {:<24}{}",
            width.to_string(),
            models.map(|name| format!("{name:<22}")).concat()
        );
        let mut before = "";
        for (at, site) in runs[0].sites.iter().enumerate() {
            // The first site of each op.
            if site.op != before {
                let cells = words.each_ref().map(|column| format!("{:<22}", column[at]));
                println!("   {:<24}{}", site.op, cells.concat().trim_end());
            }
            before = &site.op;
        }
        println!();
    }
}

/// Returns the name of what stands in a site: of the patchlet, or of the function that it calls.
fn stands(width: Width, kernel: &Path, site: &Site) -> String {
    let set = by_feature::set(width);
    // Of two patchlets that begin alike, the longer one.
    let found = set.iter().filter(|(_, bytes)| site.bytes.starts_with(bytes));
    if let Some((name, _)) = found.max_by_key(|(_, bytes)| bytes.len()) {
        return name.trim_start_matches("cpu_").to_owned();
    }
    if let [0xe8, a, b, c, d, ..] = site.bytes[..] {
        let operand = [a, b, c, d];
        let target = (site.address + 5).wrapping_add_signed(i32::from_le_bytes(operand).into());
        let functions = models::functions(kernel);
        let name = functions.iter().find(|(_, address)| **address == target).map(|(name, _)| name);
        let name = name.map_or("?", |name| name.trim_start_matches("patchlet_cpu_"));
        return format!("call {name}");
    }
    "nothing".into()
}

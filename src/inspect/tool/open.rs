//! Opens the files and platforms that the command line names. Each error names the file.

use std::fs::{self, File};
use std::ops::Deref;
use std::path::Path;

use super::arguments::{AcceleratorName, NopsName, PlatformArguments};
use super::stop::{Stop, in_file};
use crate::insn::Width;
use crate::inspect::cpu::CpuSpec;
use crate::inspect::elf::{PlacedModule, is_object, map, parse};
use crate::inspect::error::FileError;
use crate::inspect::explain::copy_kcore;
use crate::inspect::formats::is_with_crate;
use crate::inspect::linux::{LinuxKernel, has_tables, is_packed, unpack, unpack_module};
use crate::inspect::model::Model;
use crate::inspect::plan::{PlatformSpec, on_platform};

/// Maps a file.
pub(super) fn read(path: &Path) -> Result<impl Deref<Target = [u8]> + use<>, Stop> {
    map(path).map_err(in_file(path))
}

/// Reads a dump of memory. `/proc/kcore`, which is larger than any file can be, is copied as far as
/// the kernel's image goes.
pub(super) fn read_memory(path: &Path) -> Result<Box<dyn Deref<Target = [u8]>>, Stop> {
    /// More than any file system takes for one file.
    const LARGEST_FILE: u64 = 1 << 46;
    let failed = |error: std::io::Error| {
        Stop::Failed(format!("{}: cannot read it: {error}", path.display()))
    };
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() <= LARGEST_FILE) {
        return Ok(Box::new(read(path)?));
    }
    let mut image = Vec::new();
    copy_kcore(&mut File::open(path).map_err(failed)?, &mut image).map_err(failed)?;
    Ok(Box::new(image))
}

/// Makes the sites of a file be compared with their replacements on a platform.
pub(super) fn compared_with<'d>(
    model: Model<'d>,
    platform: &PlatformSpec,
    path: &Path,
) -> Result<Model<'d>, Stop> {
    on_platform(model, platform).map_err(in_file(path))
}

/// Makes sites be filled with the NOPs that the command line names, if it names any.
pub(super) fn filled_with<'d>(
    model: Model<'d>,
    nops: Option<NopsName>,
    path: &Path,
) -> Result<Model<'d>, Stop> {
    match nops {
        Some(nops) => model.with_nops(nops.into()).map_err(in_file(path)),
        None => Ok(model),
    }
}

/// Reads what a command line says of slots.
pub(super) fn slots(words: &str) -> Result<PlatformSpec, Stop> {
    words.parse().map_err(|error: FileError| Stop::Failed(error.to_string()))
}

/// Reads what a command line says of a platform: slots, CPU and keys. `width` is that of the file.
pub(super) fn platform(arguments: &PlatformArguments, width: Width) -> Result<PlatformSpec, Stop> {
    let mut platform = slots(&arguments.platform)?;
    if let Some(words) = &arguments.cpu {
        platform = platform.on_cpu(cpu(words, arguments.accel, width)?);
    }
    for words in &arguments.key {
        let (name, state) = words.rsplit_once('=').unwrap_or((words, ""));
        platform = match (name, state) {
            ("", _) => return Err(bad_key(words)),
            (name, "on") => platform.with_key(name, true),
            (name, "off") => platform.with_key(name, false),
            _ => return Err(bad_key(words)),
        };
    }
    Ok(platform)
}

fn bad_key(words: &str) -> Stop {
    Stop::Failed(format!("`{words}` is no state of a key: say `KEY=on` or `KEY=off`"))
}

/// Reads what a command line says of a CPU: the name of a model, or `@` and that of a dump. `width`
/// is that of the kernel's file.
pub(super) fn cpu(
    words: &str,
    accel: Option<AcceleratorName>,
    width: Width,
) -> Result<CpuSpec, Stop> {
    let tcg = accel.map(|AcceleratorName::Tcg| width);
    let Some(words) = words.strip_prefix('@') else {
        return CpuSpec::model(words, tcg).map_err(|error| Stop::Failed(error.to_string()));
    };
    if tcg.is_some() {
        return Err(Stop::Failed("--accel is for models: a dump says what a CPU has".to_owned()));
    }
    let path = Path::new(words.split(',').next().unwrap_or_default());
    let data = read(path)?;
    let text = String::from_utf8_lossy(&data);
    CpuSpec::dump(words, &text).map_err(in_file(path))
}

/// The means by which a kernel patches itself, as its file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// This crate: the file has its tables.
    Crate,
    /// Linux' own means. Every file that is not of the first kind is taken for one.
    Linux,
}

/// Returns by what a kernel patches itself. A boot image is of Linux, and so is what cannot be
/// read, for which Linux' reader then says why.
pub(super) fn kind_of(data: &[u8]) -> Program {
    match parse(data) {
        Ok(image) if is_with_crate(&image) => Program::Crate,
        _ => Program::Linux,
    }
}

/// Returns whether a file is of Linux: a boot image, a packed module, or an ELF file with one of the
/// tables in which Linux says where it patches itself. What is neither of Linux nor of this crate is
/// for the reader of the crate, which says what is missing.
pub(super) fn is_linux(data: &[u8]) -> bool {
    if kind_of(data) == Program::Crate {
        return false;
    }
    match parse(data) {
        Ok(image) => has_tables(&image),
        Err(_) => is_packed(data),
    }
}

/// Reads a Linux kernel or a module of one, on a CPU if the command line names one, and does something
/// with it.
pub(super) fn with_linux<T>(
    path: &Path,
    data: &[u8],
    platform: Option<&PlatformArguments>,
    work: impl FnOnce(&LinuxKernel<'_>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    let bad = in_file(path);
    let on_cpu = |kernel: LinuxKernel<'_>| -> Result<T, Stop> {
        let Some(PlatformArguments { cpu: Some(words), accel, .. }) = platform else {
            return work(&kernel);
        };
        let cpu = cpu(words, *accel, kernel.width())?;
        work(&kernel.on_cpu(&cpu).map_err(&bad)?)
    };
    let object = unpack_module(data).map_err(&bad)?;
    if is_object(&object) {
        let module = PlacedModule::new(&object).map_err(&bad)?;
        return on_cpu(LinuxKernel::of_module(&module).map_err(&bad)?);
    }
    let unpacked = unpack(&object).map_err(&bad)?;
    on_cpu(LinuxKernel::new(&unpacked).map_err(&bad)?)
}

/// Reads a linked file.
pub(super) fn linked<'d>(path: &Path, data: &'d [u8]) -> Result<Model<'d>, Stop> {
    parse(data).and_then(Model::new).map_err(in_file(path))
}

/// Lays a module out.
pub(super) fn module(path: &Path, data: &[u8]) -> Result<PlacedModule, Stop> {
    PlacedModule::new(data).map_err(in_file(path))
}

/// Reads a module that was laid out.
pub(super) fn placed<'d>(path: &Path, module: &'d PlacedModule) -> Result<Model<'d>, Stop> {
    module.image().and_then(Model::new).map_err(in_file(path))
}

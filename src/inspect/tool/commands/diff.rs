//! The command `patchlet diff`: shows how patchlets and sites of two builds differ.

use std::path::Path;

use serde::Serialize;

use crate::inspect::diff::{Difference, Sign, diff as differences_of};
use crate::inspect::error::FileError;
use crate::inspect::model::Model;
use crate::inspect::tool::arguments::DiffArguments;
use crate::inspect::tool::open::{linked, read};
use crate::inspect::tool::output::{count, print_json};
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};

pub(in crate::inspect::tool) fn diff(
    arguments: &DiffArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let (a, b) = (&arguments.a, &arguments.b);
    let (data_a, data_b) = (read(a)?, read(b)?);
    let (model_a, model_b) = (linked(a, &data_a)?, linked(b, &data_b)?);
    comparable(a, &model_a)?;
    comparable(b, &model_b)?;
    let differences = differences_of(&model_a, &model_b);
    let exit = if differences.is_empty() { Exit::Holds } else { Exit::Finding };
    if arguments.json {
        #[derive(Serialize)]
        struct Document {
            a: String,
            b: String,
            differences: Vec<Difference>,
        }
        let (a, b) = (a.display().to_string(), b.display().to_string());
        print_json(terminal, &Document { a, b, differences })?;
        return Ok(exit);
    }
    for difference in &differences {
        let line = format!(
            "{} {} {}: {}",
            difference.sign, difference.thing, difference.name, difference.what
        );
        let paint = match difference.sign {
            Sign::Added => Paint::Good,
            Sign::Removed => Paint::Bad,
            Sign::Changed => Paint::Heading,
        };
        writeln!(terminal.out, "{}", terminal.paint(paint, &line))?;
    }
    if differences.is_empty() {
        writeln!(terminal.out, "no difference")?;
    } else {
        writeln!(terminal.out, "{}", count(differences.len(), "difference"))?;
    }
    Ok(exit)
}

/// Refuses a file with findings of reading. A patchlet or record that could not be read would be
/// shown as a difference, or hide one.
fn comparable(path: &Path, model: &Model<'_>) -> Result<(), Stop> {
    match model.findings_of_reading().sorted().first() {
        None => Ok(()),
        Some(finding) => Err(in_file(path)(FileError::new(finding.to_string()))),
    }
}

//! `patchlet diff`

use serde::Serialize;

use super::output::{count, print_json};
use super::{Exit, Stop, Terminal, in_file};
use crate::inspect::arguments::Diff;
use crate::inspect::columns::Paint;
use crate::inspect::diff::{Difference, diff as differences_of};
use crate::inspect::map::map;
use crate::inspect::model::Model;
use crate::inspect::read::parse;

pub(super) fn diff(arguments: &Diff, terminal: &mut Terminal<'_>) -> Result<Exit, Stop> {
    let (a, b) = (&arguments.a, &arguments.b);
    let (data_a, data_b) = (map(a).map_err(in_file(a))?, map(b).map_err(in_file(b))?);
    let model_a = parse(&data_a).and_then(Model::new).map_err(in_file(a))?;
    let model_b = parse(&data_b).and_then(Model::new).map_err(in_file(b))?;
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
            '+' => Paint::Good,
            '-' => Paint::Bad,
            _ => Paint::Heading,
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

//! The chart of apply cost against number of sites.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

/// A line of the chart: its name, and its points (number of sites, nanoseconds per site).
pub type Line = (&'static str, Vec<(f64, f64)>);

/// Writes the lines as an SVG file with two logarithmic axes.
pub fn write(path: &Path, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    const COLORS: [RGBColor; 5] = [
        RGBColor(0xc0, 0x30, 0x30),
        RGBColor(0x30, 0x30, 0x30),
        RGBColor(0x90, 0x90, 0x90),
        RGBColor(0x30, 0x60, 0xb0),
        RGBColor(0x30, 0x90, 0x50),
    ];
    let points = || lines.iter().flat_map(|(_, points)| points);
    let most =
        points().fold((1.0, 1.0), |most: (f64, f64), at| (most.0.max(at.0), most.1.max(at.1)));
    let area = SVGBackend::new(path, (800, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d((100.0..most.0).log_scale(), (100.0..most.1 * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("sites")
        .y_desc("nanoseconds")
        .label_style(("sans-serif", 16))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0e}"))
        .light_line_style(WHITE)
        .draw()?;
    for ((name, points), color) in lines.iter().zip(COLORS) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 16))
        .draw()?;
    area.present()?;
    Ok(())
}

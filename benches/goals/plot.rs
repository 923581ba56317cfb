//! The picture: records a second of each side, on a logarithmic scale.

use plotters::prelude::*;

use super::options::Options;
use super::report::Report;
use crate::support::median;

const SIZE: (u32, u32) = (820, 340);
const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const THEIRS: RGBColor = RGBColor(0xa8, 0xb0, 0xb8);

/// Writes the picture, if sides were measured.
pub fn write(options: &Options, report: &Report) {
    if report.sides.is_empty() {
        return;
    }
    draw(options, report).unwrap_or_else(|error| panic!("{}: {error}", options.plot.display()));
}

fn draw(options: &Options, report: &Report) -> Result<(), Box<dyn std::error::Error>> {
    let sides = &report.sides;
    let root = SVGBackend::new(&options.plot, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let most = sides.iter().map(|side| median(&side.rates)).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .caption("Records a second into PostgreSQL, two cores (logarithmic)", ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(210)
        .build_cartesian_2d((100.0..most * 4.0).log_scale(), 0.0..sides.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|rate| format!("{rate:.0}"))
        .label_style(("sans-serif", 13))
        .draw()?;
    for (index, side) in sides.iter().enumerate() {
        let rate = median(&side.rates);
        let top = (sides.len() - index) as f64;
        let colour = if index == 0 { OURS } else { THEIRS };
        chart.draw_series([Rectangle::new([(100.0, top - 0.82), (rate, top - 0.18)], colour.filled())])?;
        let label = format!("{:.0}k", rate / 1e3);
        let label = if rate < 10_000.0 { format!("{:.1}k", rate / 1e3) } else { label };
        chart.draw_series([Text::new(label, (rate * 1.08, top - 0.38), ("sans-serif", 14))])?;
        let row = chart.backend_coord(&(100.0, top - 0.38)).1;
        root.draw(&Text::new(side.name, (14, row), ("sans-serif", 14)))?;
    }
    root.present()?;
    Ok(())
}

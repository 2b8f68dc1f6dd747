//! Charts in one style: shown inline in a notebook, saved as SVG with one call.
//!
//! Colours are those of Okabe and Ito, told apart by colour-blind readers; lines also differ in
//! their dashes, for print in grey. The background is white, so that a dark notebook theme leaves
//! the text legible.

use std::error::Error as StdError;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use crate::error::{Error, Result};
use crate::evolve::{Fitness, Generation};
use crate::metrics::{AccuracyCurve, Target};
use crate::report::{ThresholdRow, write};
use crate::simulate::Trace;

const SIZE: (u32, u32) = (760, 460);
const FONT: &str = "sans-serif";
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
/// Length of dash and gap of each line after the first, which is solid.
const DASHES: [(i32, i32); 6] = [(1, 0), (9, 4), (3, 3), (14, 4), (6, 2), (2, 5)];
const GREY: RGBColor = RGBColor(90, 90, 90);

/// A finished chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    title: String,
    svg: String,
}

impl Chart {
    /// The chart as SVG.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// Writes the chart as an SVG file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write(path.as_ref(), self.svg.as_bytes())
    }

    /// Shows the chart in a notebook whose cell ends in it; evcxr calls this.
    pub fn evcxr_display(&self) {
        evcxr_runtime::mime_type("image/svg+xml").text(&self.svg);
        evcxr_runtime::mime_type("text/plain").text(format!("chart: {}", self.title));
    }
}

type Drawn = std::result::Result<(), Box<dyn StdError>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn draw(title: &str, with: impl FnOnce(&Area<'_>) -> Drawn) -> Result<Chart> {
    let mut svg = String::new();
    let failed = |error: Box<dyn StdError>| Error::Chart {
        chart: title.into(),
        reason: error.to_string(),
    };
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|e| failed(e.into()))?;
        with(&area).map_err(failed)?;
        area.present().map_err(|e| failed(e.into()))?;
    }
    Ok(Chart {
        title: title.into(),
        svg,
    })
}

/// Axes with titles, in the one style.
fn axes<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    [x_title, y_title]: [&str; 2],
    x: Range<f64>,
    y: Range<f64>,
) -> std::result::Result<Axes<'a, 'b>, Box<dyn StdError>> {
    let number = |y: f64| {
        let text = format!("{y:.4}");
        text.trim_end_matches('0').trim_end_matches('.').into()
    };
    named_axes(area, title, [x_title, y_title], x, y, &number)
}

/// [`axes`] whose heights have names.
fn named_axes<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    [x_title, y_title]: [&str; 2],
    x: Range<f64>,
    y: Range<f64>,
    name: &dyn Fn(f64) -> String,
) -> std::result::Result<Axes<'a, 'b>, Box<dyn StdError>> {
    let mut axes = ChartBuilder::on(area)
        .caption(title, (FONT, 20))
        .margin(14)
        .x_label_area_size(48)
        .y_label_area_size(62)
        .build_cartesian_2d(x, y)?;
    axes.configure_mesh()
        .x_desc(x_title)
        .y_desc(y_title)
        .axis_desc_style((FONT, 17))
        .label_style((FONT, 15))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| name(*y))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(axes)
}

fn legend<'a, 'b: 'a>(axes: &mut Axes<'a, 'b>, position: SeriesLabelPosition) -> Drawn {
    axes.configure_series_labels()
        .position(position)
        .label_font((FONT, 15))
        .legend_area_size(40) // keys are 30 wide, and do not touch their names
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .margin(12)
        .draw()?;
    Ok(())
}

/// Line number `i` of a chart, with its entry in the legend.
fn line<'a, 'b: 'a>(
    axes: &mut Axes<'a, 'b>,
    i: usize,
    name: &str,
    points: Vec<(f64, f64)>,
) -> Drawn {
    let style = COLOURS[i % COLOURS.len()].stroke_width(2);
    let (dash, gap) = DASHES[i % DASHES.len()];
    // Drawn as a path of its own, since the legend shows the same dashes.
    let drawn = if gap == 0 {
        axes.draw_series(LineSeries::new(points, style))?
    } else {
        axes.draw_series(DashedLineSeries::new(points, dash, gap, style))?
    };
    drawn.label(name).legend(move |(x, y)| {
        let ends = [(x, y), (x + 30, y)];
        if gap == 0 {
            PathElement::new(ends, style).into_dyn()
        } else {
            DashedPathElement::new(ends, dash, gap, style).into_dyn()
        }
    });
    Ok(())
}

/// A dotted horizontal line.
fn level<'a, 'b: 'a>(axes: &mut Axes<'a, 'b>, x: Range<f64>, y: f64) -> Drawn {
    let ends = [(x.start, y), (x.end, y)];
    axes.draw_series(DashedLineSeries::new(ends, 2, 4, GREY.stroke_width(1)))?;
    Ok(())
}

/// Accuracy against timestep for some networks, with the ANN's accuracy and the target as lines
/// and every network's latency marked (the paper's figure of accuracy over timesteps).
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn accuracy(
    title: &str,
    curves: &[(&str, &AccuracyCurve)],
    target: Option<&Target>,
) -> Result<Chart> {
    draw(title, |area| {
        let last = curves.iter().map(|(_, c)| c.timesteps()).max().unwrap_or(1) as f64;
        let (x, y) = (0.0..last, 0.0..100.0);
        let titles = ["timestep", "accuracy (%)"];
        let mut axes = axes(area, title, titles, x.clone(), y.start..y.end + 4.0)?;
        if let Some(target) = target {
            let (high, low) = (target.ann().percent(), target.percent());
            level(&mut axes, x.clone(), high)?;
            level(&mut axes, x.clone(), low)?;
            let note = format!("ANN {high:.1} %, target {low:.1} % (dotted)");
            let style = (FONT, 14).into_font().color(&GREY);
            axes.draw_series([Text::new(note, (last * 0.62, high + 3.8), style)])?;
        }
        for (i, (name, curve)) in curves.iter().enumerate() {
            let latency = target.and_then(|target| curve.latency(target));
            let label = match (target, latency) {
                (None, _) => (*name).to_string(),
                (_, Some(latency)) => format!("{name}: latency {latency}"),
                (_, None) => format!("{name}: target not reached"),
            };
            let points = curve.iter().enumerate();
            let points = points.map(|(t, a)| ((t + 1) as f64, a.percent()));
            line(&mut axes, i, &label, points.collect())?;
            if let Some((latency, accuracy)) = latency.and_then(|l| Some((l, curve.after(l)?))) {
                let colour = COLOURS[i % COLOURS.len()];
                let (at, height) = (latency as f64, accuracy.percent());
                let drop = [(at, 0.0), (at, height)];
                axes.draw_series([PathElement::new(drop, colour.mix(0.6).stroke_width(1))])?;
                axes.draw_series([Circle::new((at, height), 5, colour.filled())])?;
            }
        }
        legend(&mut axes, SeriesLabelPosition::LowerRight)
    })
}

/// Fitness of the best and the median network over the generations of an evolution; `label` names
/// it and its unit.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn convergence(title: &str, label: &str, generations: &[Generation]) -> Result<Chart> {
    draw(title, |area| {
        let of = |pick: fn(&Generation) -> &Fitness| -> Vec<(f64, f64)> {
            let measured = |g: &Generation| {
                // Where most of a generation was stopped early, its median is unknown.
                let fitness = pick(g).measured()?;
                Some((g.generation as f64, fitness.value()))
            };
            generations.iter().filter_map(measured).collect()
        };
        let (best, median) = (of(|g| &g.best), of(|g| &g.median));
        let highest = best.iter().chain(&median).map(|p| p.1).fold(1.0, f64::max);
        let last = generations.last().map_or(1, |g| g.generation.max(1)) as f64;
        let mut axes = axes(
            area,
            title,
            ["generation", label],
            0.0..last,
            0.0..highest * 1.1,
        )?;
        line(&mut axes, 0, "best so far", best)?;
        line(&mut axes, 1, "median of the generation", median)?;
        legend(&mut axes, SeriesLabelPosition::UpperRight)
    })
}

/// Threshold of every layer before and after evolution.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn thresholds(title: &str, layers: &[ThresholdRow]) -> Result<Chart> {
    draw(title, |area| {
        let values = |row: &ThresholdRow| [row.baseline_threshold, row.evolved_threshold];
        let highest = layers.iter().flat_map(values).fold(0.0, f32::max);
        let mut axes = axes(
            area,
            title,
            [
                "layer of neurons (from 0; above the bars: evolved / baseline)",
                "threshold",
            ],
            -0.5..layers.len() as f64 - 0.5,
            0.0..f64::from(highest) * 1.15,
        )?;
        for (i, name) in ["as converted", "evolved"].into_iter().enumerate() {
            let colour = COLOURS[i];
            let bars = layers.iter().map(|row| {
                let left = row.layer as f64 - 0.34 + 0.34 * i as f64;
                let height = f64::from(values(row)[i]);
                Rectangle::new([(left, 0.0), (left + 0.32, height)], colour.filled())
            });
            axes.draw_series(bars)?.label(name).legend(move |(x, y)| {
                Rectangle::new([(x, y - 6), (x + 30, y + 6)], colour.filled())
            });
        }
        let notes = layers.iter().map(|row| {
            let height = f64::from(values(row)[0].max(values(row)[1])) + f64::from(highest) * 0.06;
            let style = (FONT, 15).into_font().color(&BLACK);
            Text::new(
                format!("× {:.2}", row.scale),
                (row.layer as f64 - 0.16, height),
                style,
            )
        });
        axes.draw_series(notes.collect::<Vec<_>>())?;
        legend(&mut axes, SeriesLabelPosition::UpperLeft)
    })
}

/// Spikes of chosen neurons of one layer, a dot each: timestep against neuron, the first chosen one
/// at the bottom. `layer` counts from 0; neurons are numbered as in [`Trace::spikes`].
///
/// # Errors
/// A layer that the trace does not have, no neuron, or [`Error::Chart`] when plotters fails.
pub fn raster(title: &str, trace: &Trace, layer: usize, neurons: &[usize]) -> Result<Chart> {
    let Some(spikes) = trace.spikes.get(layer) else {
        let expected = format!("less than {}, the layers of neurons", trace.spikes.len());
        return Err(Error::parameter("layer", layer, expected));
    };
    if neurons.is_empty() {
        return Err(Error::parameter("neurons", "none", "at least one"));
    }
    draw(title, |area| {
        // Rows have numbers of their own, since neurons need not be next to each other.
        let name = |row: f64| {
            let neuron = neurons.get(row.round() as usize);
            let neuron = neuron.filter(|_| (row - row.round()).abs() < 1e-6 && row > -0.5);
            neuron.map_or(String::new(), usize::to_string)
        };
        let mut axes = named_axes(
            area,
            title,
            ["timestep", &format!("neuron of layer {layer}")],
            0.0..spikes.len() as f64 + 1.0,
            -0.5..neurons.len() as f64 - 0.5,
            &name,
        )?;
        let dots = spikes.iter().enumerate().flat_map(|(t, fired)| {
            let rows = neurons.iter().enumerate();
            let rows = rows.filter(|(_, neuron)| fired.binary_search(neuron).is_ok());
            rows.map(move |(row, _)| ((t + 1) as f64, row as f64))
        });
        axes.draw_series(dots.map(|at| Circle::new(at, 2, COLOURS[0].filled())))?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raster_has_a_dot_for_each_spike_of_the_chosen_neurons() {
        let trace = Trace {
            spikes: vec![vec![], vec![vec![3, 7], vec![], vec![1, 7, 9]]],
            output: Vec::new(),
        };
        let dots = |neurons: &[usize]| {
            let chart = raster("Spikes", &trace, 1, neurons).unwrap();
            let circles = chart.svg().lines().filter(|line| line.contains("<circle"));
            let value = |line: &str, key: &str| -> f64 {
                let rest = line.split_once(key).unwrap().1;
                rest.split('"').next().unwrap().parse().unwrap()
            };
            let at = |line| (value(line, "cx=\""), value(line, "cy=\""));
            circles.map(at).collect::<Vec<_>>()
        };
        // Neuron 7 twice and 1 once, neuron 2 never; the first row is the lowest.
        let found = dots(&[7, 2, 1]);
        assert_eq!(found.len(), 3);
        let (first, last) = (found[0], found[2]);
        assert!(first.0 < last.0 && found[1].0 == last.0);
        assert!(first.1 == found[1].1 && last.1 < first.1);
        assert!(dots(&[2]).is_empty());
        let error = |layer, neurons: &[usize]| {
            let chart = raster("Spikes", &trace, layer, neurons);
            chart.unwrap_err().to_string()
        };
        assert!(error(2, &[1]).starts_with("layer: found 2, expected less than 2"));
        assert!(error(1, &[]).starts_with("neurons: found none"));
    }
}

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
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};
use crate::evolve::{Fitness, Generation};
use crate::metrics::{AccuracyCurve, Target};
use crate::report::{ThresholdRow, write};
use crate::simulate::Trace;

const SIZE: (u32, u32) = (760, 460);
const FONT: &str = "sans-serif";
const MARGIN: u32 = 14;
/// Between the margin and the vertical axis.
const Y_LABELS: u32 = 62;
/// A line of the legend, which lies below the chart so that it hides nothing.
const ENTRY: u32 = 22;
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    BLACK,
    RGBColor(130, 130, 130),
];
/// Length of dash and gap of each line after the first, which is solid.
const DASHES: [(i32, i32); 8] = [
    (1, 0),
    (9, 4),
    (3, 3),
    (14, 4),
    (6, 2),
    (2, 5),
    (20, 3),
    (5, 7),
];
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

/// Draws a chart with so many entries in its legend.
fn draw(title: &str, entries: usize, with: impl FnOnce(&Area<'_>) -> Drawn) -> Result<Chart> {
    let mut svg = String::new();
    let failed = |error: Box<dyn StdError>| Error::Chart {
        chart: title.into(),
        reason: error.to_string(),
    };
    {
        let size = (SIZE.0, SIZE.1 + ENTRY * entries as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
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
    named_axes(area, title, [x_title, y_title], x, y, [&number; 2])
}

/// Without zeros at its end.
fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// What the places of an axis are called: those at whole numbers that have a name.
fn named(names: &[String]) -> impl Fn(f64) -> String + '_ {
    |place| {
        let name = names.get(place.round() as usize);
        let name = name.filter(|_| (place - place.round()).abs() < 1e-6 && place > -0.5);
        name.cloned().unwrap_or_default()
    }
}

/// [`axes`] whose places have names.
fn named_axes<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    [x_title, y_title]: [&str; 2],
    x: Range<f64>,
    y: Range<f64>,
    [x_name, y_name]: [&dyn Fn(f64) -> String; 2],
) -> std::result::Result<Axes<'a, 'b>, Box<dyn StdError>> {
    let mut axes = ChartBuilder::on(area)
        .caption(title, (FONT, 20))
        .margin(MARGIN)
        .margin_bottom(MARGIN + area.dim_in_pixel().1 - SIZE.1)
        .x_label_area_size(48)
        .y_label_area_size(Y_LABELS)
        .build_cartesian_2d(x, y)?;
    axes.configure_mesh()
        .x_desc(x_title)
        .y_desc(y_title)
        .axis_desc_style((FONT, 17))
        .label_style((FONT, 15))
        .x_label_formatter(&|x| x_name(*x))
        .y_label_formatter(&|y| y_name(*y))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .draw()?;
    Ok(axes)
}

/// What stands before a name in the legend.
enum Key {
    /// Of [`line`] number so many.
    Line(usize),
    /// In the colour number so many.
    Bar(usize),
    /// Of a [`level`].
    Level,
}

/// Names what is in the chart, below it.
fn legend(area: &Area<'_>, entries: &[(String, Key)]) -> Drawn {
    let left = (MARGIN + Y_LABELS) as i32;
    for (place, (name, key)) in (0..).zip(entries) {
        let y = (SIZE.1 + ENTRY * place) as i32;
        let ends = [(left, y), (left + 30, y)];
        match *key {
            Key::Level => area.draw(&DashedPathElement::new(ends, 2, 4, GREY.stroke_width(1)))?,
            Key::Bar(i) => {
                let corners = [(left, y - 6), (left + 30, y + 6)];
                area.draw(&Rectangle::new(corners, colour(i).filled()))?;
            }
            Key::Line(i) => match DASHES[i % DASHES.len()] {
                (_, 0) => area.draw(&PathElement::new(ends, colour(i).stroke_width(2)))?,
                (dash, gap) => area.draw(&DashedPathElement::new(
                    ends,
                    dash,
                    gap,
                    colour(i).stroke_width(2),
                ))?,
            },
        }
        let style = (FONT, 15).into_font().color(&BLACK);
        area.draw(&Text::new(name.clone(), (left + 40, y - 7), style))?;
    }
    Ok(())
}

/// Colour number `i` of a chart.
fn colour(i: usize) -> RGBColor {
    COLOURS[i % COLOURS.len()]
}

/// Line number `i` of a chart.
fn line<'a, 'b: 'a>(axes: &mut Axes<'a, 'b>, i: usize, points: Vec<(f64, f64)>) -> Drawn {
    let style = colour(i).stroke_width(2);
    match DASHES[i % DASHES.len()] {
        (_, 0) => axes.draw_series(LineSeries::new(points, style))?,
        (dash, gap) => axes.draw_series(DashedLineSeries::new(points, dash, gap, style))?,
    };
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
    let notes = usize::from(target.is_some());
    draw(title, curves.len() + notes, |area| {
        let last = curves.iter().map(|(_, c)| c.timesteps()).max().unwrap_or(1) as f64;
        let (x, y) = (0.0..last, 0.0..100.0);
        let titles = ["timestep", "accuracy (%)"];
        let mut axes = axes(area, title, titles, x.clone(), y.start..y.end + 4.0)?;
        let mut entries = Vec::new();
        if let Some(target) = target {
            let (high, low) = (target.ann().percent(), target.percent());
            level(&mut axes, x.clone(), high)?;
            level(&mut axes, x.clone(), low)?;
            let whose = target.whose();
            entries.push((
                format!("{whose} {high:.1} %, target {low:.1} %"),
                Key::Level,
            ));
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
            line(&mut axes, i, points.collect())?;
            entries.push((label, Key::Line(i)));
            if let Some((latency, accuracy)) = latency.and_then(|l| Some((l, curve.after(l)?))) {
                let colour = colour(i);
                let (at, height) = (latency as f64, accuracy.percent());
                let drop = [(at, 0.0), (at, height)];
                axes.draw_series([PathElement::new(drop, colour.mix(0.6).stroke_width(1))])?;
                axes.draw_series([Circle::new((at, height), 5, colour.filled())])?;
            }
        }
        legend(area, &entries)
    })
}

/// Fitness of the best and the median network over the generations of an evolution; `label` names
/// it and its unit.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn convergence(title: &str, label: &str, generations: &[Generation]) -> Result<Chart> {
    draw(title, 2, |area| {
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
        line(&mut axes, 0, best)?;
        line(&mut axes, 1, median)?;
        let entries = [
            ("best network".into(), Key::Line(0)),
            ("median of the generation".into(), Key::Line(1)),
        ];
        legend(area, &entries)
    })
}

/// Threshold of every layer before and after evolution.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn thresholds(title: &str, layers: &[ThresholdRow]) -> Result<Chart> {
    draw(title, 2, |area| {
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
        for i in 0..2 {
            let colour = colour(i);
            let bars = layers.iter().map(|row| {
                let left = row.layer as f64 - 0.34 + 0.34 * i as f64;
                let height = f64::from(values(row)[i]);
                Rectangle::new([(left, 0.0), (left + 0.32, height)], colour.filled())
            });
            axes.draw_series(bars)?;
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
        let entries = [
            ("as converted".into(), Key::Bar(0)),
            ("evolved".into(), Key::Bar(1)),
        ];
        legend(area, &entries)
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
    draw(title, 0, |area| {
        // Rows have numbers of their own, since neurons need not be next to each other.
        let names: Vec<String> = neurons.iter().map(usize::to_string).collect();
        let mut axes = named_axes(
            area,
            title,
            ["timestep", &format!("neuron of layer {layer}")],
            0.0..spikes.len() as f64 + 1.0,
            -0.5..neurons.len() as f64 - 0.5,
            [&number, &named(&names)],
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

/// The smallest range that holds these values, and `share` of its width more on either side.
fn range(values: impl Iterator<Item = f64>, share: f64) -> Range<f64> {
    let nothing = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = values.fold(nothing, |(low, high), x| (low.min(x), high.max(x)));
    let more = match high - low {
        width if width > 0.0 => share * width,
        0.0 => 0.5, // one value
        _ => return 0.0..1.0,
    };
    low - more..high + more
}

/// Some lines of points (x, y), each with its name; `x` and `y` name the axes and their units.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn lines(title: &str, [x, y]: [&str; 2], lines: &[(String, Vec<(f64, f64)>)]) -> Result<Chart> {
    draw(title, lines.len(), |area| {
        let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
        let across = range(points().map(|p| p.0), 0.0);
        let up = range(points().map(|p| p.1), 0.08);
        let mut axes = axes(area, title, [x, y], across, up)?;
        let mut entries = Vec::new();
        for (i, (name, points)) in lines.iter().enumerate() {
            line(&mut axes, i, points.clone())?;
            let dots = points.iter();
            axes.draw_series(dots.map(|&at| Circle::new(at, 3, colour(i).filled())))?;
            entries.push((name.clone(), Key::Line(i)));
        }
        legend(area, &entries)
    })
}

/// Networks by latency (timesteps) and energy (over the ANN's), small dots for all and large ones for
/// those of the front. Each is given as latency, error (%), which is not drawn, and energy.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn front(title: &str, all: &[[f64; 3]], front: &[[f64; 3]]) -> Result<Chart> {
    draw(title, 2, |area| {
        let points = || all.iter().chain(front);
        let across = range(points().map(|p| p[0]), 0.06);
        let up = range(points().map(|p| p[2]), 0.1);
        let titles = [
            "latency (timesteps)",
            "energy to the latency, over the ANN's",
        ];
        let mut axes = axes(area, title, titles, across, up)?;
        let dot = |&[latency, _, energy]: &[f64; 3]| {
            Circle::new((latency, energy), 3, GREY.mix(0.5).filled())
        };
        axes.draw_series(all.iter().map(dot))?;
        let dot = |&[latency, _, energy]: &[f64; 3]| {
            Circle::new((latency, energy), 6, COLOURS[1].filled())
        };
        axes.draw_series(front.iter().map(dot))?;
        let entries = [
            (
                "front: none is better than another in latency, energy and error",
                Key::Bar(1),
            ),
            ("other networks that were tried", Key::Bar(7)),
        ];
        legend(area, &entries.map(|(name, key)| (name.into(), key)))
    })
}

/// Stops of viridis (Smith and van der Walt), whose lightness rises evenly, so that it reads in
/// grey too.
const VIRIDIS: [[f64; 3]; 6] = [
    [68.0, 1.0, 84.0],
    [65.0, 68.0, 135.0],
    [42.0, 120.0, 142.0],
    [34.0, 168.0, 132.0],
    [122.0, 209.0, 81.0],
    [253.0, 231.0, 37.0],
];

/// The colour at a share of the way from the first to the last.
fn viridis(share: f64) -> RGBColor {
    let place = share.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f64;
    let stop = (place as usize).min(VIRIDIS.len() - 2);
    let part = |channel: usize| {
        let (from, to) = (VIRIDIS[stop][channel], VIRIDIS[stop + 1][channel]);
        (from + (to - from) * (place - stop as f64)).round() as u8
    };
    RGBColor(part(0), part(1), part(2))
}

/// Numbers as colours, light where they are large, and written into their cells where these have
/// room: `cells` holds a row for each name of `up`, from below, with a cell for each name of
/// `across`; one without a number stays grey. Both come with the title of their axis.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn heat_map(
    title: &str,
    across: (&str, &[String]),
    up: (&str, &[String]),
    cells: &[Vec<Option<f64>>],
) -> Result<Chart> {
    draw(title, 0, |area| {
        let Range {
            start: low,
            end: high,
        } = range(cells.iter().flatten().flatten().copied(), 0.0);
        let mut axes = named_axes(
            area,
            title,
            [across.0, up.0],
            -0.5..across.1.len() as f64 - 0.5,
            -0.5..up.1.len() as f64 - 0.5,
            [&named(across.1), &named(up.1)],
        )?;
        let room = across.1.len() <= 16 && up.1.len() <= 20;
        for (row, values) in cells.iter().enumerate() {
            for (column, &value) in values.iter().enumerate() {
                let (x, y) = (column as f64, row as f64);
                let share = value.map(|value| (value - low) / (high - low));
                let colour = share.map_or(RGBColor(225, 225, 225), viridis);
                let half = if room { 0.48 } else { 0.5 };
                let corners = [(x - half, y - half), (x + half, y + half)];
                axes.draw_series([Rectangle::new(corners, colour.filled())])?;
                if !room {
                    continue;
                }
                let ink = if share.is_some_and(|share| share < 0.55) {
                    WHITE
                } else {
                    BLACK
                };
                let centre = Pos::new(HPos::Center, VPos::Center);
                let style = (FONT, 15).into_font().color(&ink).pos(centre);
                let text = value.map_or("none".into(), |value| match value.abs() < 100.0 {
                    true => number((value * 100.0).round() / 100.0),
                    false => format!("{value:.0}"),
                });
                axes.draw_series([Text::new(text, (x, y), style)])?;
            }
        }
        Ok(())
    })
}

/// A histogram with a logarithmic axis, for values most of which are small: `shares` of all values
/// in percent, in as many bins of equal width from 0 to `most`, and lines at the marks, each with
/// its name.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn histogram(
    title: &str,
    x: &str,
    most: f64,
    shares: &[f64],
    marks: &[(String, f64)],
) -> Result<Chart> {
    draw(title, marks.len(), |area| {
        let logarithms: Vec<f64> = shares.iter().map(|share| share.log10()).collect();
        let finite = || logarithms.iter().copied().filter(|x| x.is_finite());
        let floor = finite().fold(0.0, f64::min).floor();
        let top = finite().fold(floor + 1.0, f64::max).ceil();
        let power = |y: f64| match (y - y.round()).abs() < 1e-6 {
            true => number_of_power(y.round() as i32),
            false => String::new(),
        };
        let titles = [x, "share of all activations (%), logarithmic"];
        let (across, up) = (0.0..most, floor..top + 0.2);
        let mut axes = named_axes(area, title, titles, across, up, [&number, &power])?;
        let width = most / shares.len().max(1) as f64;
        let bars = logarithms.iter().enumerate().filter(|(_, x)| x.is_finite());
        let bars = bars.map(|(i, &height)| {
            let left = i as f64 * width;
            Rectangle::new([(left, floor), (left + width, height)], COLOURS[5].filled())
        });
        axes.draw_series(bars)?;
        let mut entries = Vec::new();
        for (i, (name, at)) in marks.iter().enumerate() {
            line(&mut axes, i, vec![(*at, floor), (*at, top)])?;
            entries.push((name.clone(), Key::Line(i)));
        }
        legend(area, &entries)
    })
}

/// 10 to this power.
fn number_of_power(power: i32) -> String {
    match power {
        0.. => format!("{:.0}", 10f64.powi(power)),
        _ => format!("{:.*}", -power as usize, 10f64.powi(power)),
    }
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

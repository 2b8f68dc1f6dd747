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

use crate::base::error::{Error, Result};
use crate::evolve::run::{Fitness, Generation};
use crate::metrics::{Accuracy, AccuracyCurve, Target};
use crate::report::{ThresholdRow, write, write_csv};
use crate::simulate::run::Trace;

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
/// Light enough for every line on it.
const BAND: RGBColor = RGBColor(205, 228, 244);

/// A finished chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    title: String,
    svg: String,
    /// What is drawn: a header, and a row for each point, bar, cell or spike.
    data: Vec<Vec<String>>,
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

    /// Writes the numbers that are drawn as a CSV file, a row for each point, bar, cell or spike, and
    /// gives the chart back, so that a cell of a notebook can end in it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_data(self, path: impl AsRef<Path>) -> Result<Self> {
        write_csv(path, &self.data)?;
        Ok(self)
    }

    /// Shows the chart in a notebook whose cell ends in it; evcxr calls this.
    pub fn evcxr_display(&self) {
        evcxr_runtime::mime_type("image/svg+xml").text(&self.svg);
        evcxr_runtime::mime_type("text/plain").text(format!("chart: {}", self.title));
    }
}

type Drawn<T = ()> = std::result::Result<T, Box<dyn StdError>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// The numbers of a chart.
fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Drawn<Vec<Vec<String>>> {
    let header = header.map(String::from);
    Ok(std::iter::once(header).chain(rows).map(Vec::from).collect())
}

/// Draws a chart with so many entries in its legend; `with` gives its [`table`].
fn draw(
    title: &str,
    entries: usize,
    with: impl FnOnce(&Area<'_>) -> Drawn<Vec<Vec<String>>>,
) -> Result<Chart> {
    let mut svg = String::new();
    let failed = |error: Box<dyn StdError>| Error::Chart {
        chart: title.into(),
        reason: error.to_string(),
    };
    let data;
    {
        let size = (SIZE.0, SIZE.1 + ENTRY * entries as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(|e| failed(e.into()))?;
        data = with(&area).map_err(failed)?;
        area.present().map_err(|e| failed(e.into()))?;
    }
    Ok(Chart {
        title: title.into(),
        svg,
        data,
    })
}

/// Axes with titles, in the one style.
fn axes<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    [x_title, y_title]: [&str; 2],
    x: Range<f64>,
    y: Range<f64>,
) -> Drawn<Axes<'a, 'b>> {
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
) -> Drawn<Axes<'a, 'b>> {
    for Range { start, end } in [&x, &y] {
        // Where plotters would look for places on the axis for ever.
        if !(end - start).is_finite() {
            return Err(format!("found values from {start} to {end}, expected finite ones").into());
        }
    }
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
    /// In this colour.
    Bar(RGBColor),
    /// Around a dot.
    Ring,
    /// A dot in the colour so far along [`VIRIDIS`].
    Shade(f64),
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
            Key::Bar(colour) => {
                let corners = [(left, y - 6), (left + 30, y + 6)];
                area.draw(&Rectangle::new(corners, colour.filled()))?;
            }
            Key::Ring => {
                let style = COLOURS[1].stroke_width(2);
                area.draw(&Circle::new((left + 15, y), 8, style))?;
            }
            Key::Shade(share) => {
                area.draw(&Circle::new((left + 15, y), 4, viridis(share).filled()))?;
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
        legend(area, &entries)?;
        let rows = curves.iter().flat_map(|(name, curve)| {
            let row = |(t, accuracy): (usize, Accuracy)| {
                [
                    name.to_string(),
                    (t + 1).to_string(),
                    accuracy.percent().to_string(),
                ]
            };
            curve.iter().enumerate().map(row)
        });
        table(["network", "timestep", "accuracy_percent"], rows)
    })
}

/// Fitness of the best and the median network over the generations of an evolution, and between which
/// values half of a generation lies; `label` names the fitness and its unit. Where most of a
/// generation was stopped early, what is unknown of it is left out.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn convergence(title: &str, label: &str, generations: &[Generation]) -> Result<Chart> {
    draw(title, 3, |area| {
        let value = |fitness: &Fitness| fitness.measured().map(|fitness| fitness.value());
        let of = |pick: fn(&Generation) -> &Fitness| -> Vec<(f64, f64)> {
            let measured = |g: &Generation| Some((g.generation as f64, value(pick(g))?));
            generations.iter().filter_map(measured).collect()
        };
        let (best, median) = (of(|g| &g.best), of(|g| &g.median));
        let [low, high] = [of(|g| &g.quartiles[0]), of(|g| &g.quartiles[1])];
        let all = [&best, &median, &high].into_iter().flatten();
        let highest = all.map(|p| p.1).fold(1.0, f64::max);
        let last = generations.last().map_or(1, |g| g.generation.max(1)) as f64;
        let up = 0.0..highest * 1.1;
        let mut axes = axes(area, title, ["generation", label], 0.0..last, up)?;
        // Its lower end is known wherever its upper end is.
        let above = high.iter().map(|p| p.0);
        let below = low.iter().filter(|p| above.clone().any(|x| x == p.0)).rev();
        let band: Vec<(f64, f64)> = high.iter().chain(below).copied().collect();
        axes.draw_series([Polygon::new(band, BAND.filled())])?;
        line(&mut axes, 0, best)?;
        line(&mut axes, 1, median)?;
        let entries = [
            ("best network".into(), Key::Line(0)),
            ("median of the generation".into(), Key::Line(1)),
            (
                "from its lower to its upper quartile".into(),
                Key::Bar(BAND),
            ),
        ];
        legend(area, &entries)?;
        let text = |fitness: &Fitness| value(fitness).map_or(String::new(), |x| x.to_string());
        let row = |g: &Generation| {
            let [low, high] = &g.quartiles;
            let [best, low, median, high] = [&g.best, low, &g.median, high].map(text);
            [g.generation.to_string(), best, low, median, high]
        };
        let header = [
            "generation",
            "best",
            "lower_quartile",
            "median",
            "upper_quartile",
        ];
        table(header, generations.iter().map(row))
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
            ("as converted".into(), Key::Bar(colour(0))),
            ("evolved".into(), Key::Bar(colour(1))),
        ];
        legend(area, &entries)?;
        let row = |row: &ThresholdRow| {
            let [baseline, evolved] = values(row);
            [
                row.layer.to_string(),
                baseline.to_string(),
                evolved.to_string(),
            ]
        };
        table(
            ["layer", "baseline_threshold", "evolved_threshold"],
            layers.iter().map(row),
        )
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
            rows.map(move |(row, _)| (t + 1, row))
        });
        let dot = |(t, row)| Circle::new((t as f64, row as f64), 2, COLOURS[0].filled());
        axes.draw_series(dots.clone().map(dot))?;
        table(
            ["timestep", "neuron"],
            dots.map(|(t, row)| [t.to_string(), names[row].clone()]),
        )
    })
}

/// The smallest range that holds these values, and `share` of its width more on either side; none
/// that can be drawn where one of them has no place.
fn range(values: impl Iterator<Item = f64>, share: f64) -> Range<f64> {
    let nothing = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = values.fold(nothing, |(low, high), x| match (low + x).is_nan() {
        true => (f64::NAN, f64::NAN),
        false => (low.min(x), high.max(x)),
    });
    let more = match high - low {
        f64::NEG_INFINITY => return 0.0..1.0, // no value
        0.0 => 0.5,                           // one value
        width => share * width,
    };
    low - more..high + more
}

/// An axis whose values, all above 0, span two decades or more is logarithmic, others are linear.
struct Scale {
    logarithmic: bool,
    title: String,
    range: Range<f64>,
}

impl Scale {
    /// For these values, and `share` of their range more on either side.
    fn of(title: &str, values: impl Iterator<Item = f64> + Clone, share: f64) -> Self {
        let Range { start, end } = range(values.clone(), 0.0);
        let logarithmic = start > 0.0 && end >= 100.0 * start;
        let (title, range) = match logarithmic {
            true => {
                let title = format!("{title}, logarithmic");
                (title, range(values.map(f64::log10), share))
            }
            false => (title.into(), range(values, share)),
        };
        Self {
            logarithmic,
            title,
            range,
        }
    }

    /// The place of a value.
    fn at(&self, value: f64) -> f64 {
        match self.logarithmic {
            true => value.log10(),
            false => value,
        }
    }

    /// What the place is called.
    fn name(&self, place: f64) -> String {
        match self.logarithmic {
            true => power(place),
            false => number(place),
        }
    }
}

/// Axes of these scales.
fn scaled_axes<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    [x, y]: [&Scale; 2],
) -> Drawn<Axes<'a, 'b>> {
    let (titles, names) = (
        [&*x.title, &*y.title],
        [x, y].map(|scale| |at| scale.name(at)),
    );
    let [across, up] = &names;
    named_axes(
        area,
        title,
        titles,
        x.range.clone(),
        y.range.clone(),
        [across, up],
    )
}

/// Some lines of points (x, y), each with its name; `x` and `y` name the axes and their units. An
/// axis whose values, all above 0, span two decades or more is logarithmic.
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn lines(title: &str, [x, y]: [&str; 2], lines: &[(String, Vec<(f64, f64)>)]) -> Result<Chart> {
    draw(title, lines.len(), |area| {
        let points = lines.iter().flat_map(|(_, points)| points.iter());
        let across = Scale::of(x, points.clone().map(|p| p.0), 0.0);
        let up = Scale::of(y, points.map(|p| p.1), 0.08);
        let mut axes = scaled_axes(area, title, [&across, &up])?;
        let mut entries = Vec::new();
        for (i, (name, points)) in lines.iter().enumerate() {
            let points = points.iter().map(|&(x, y)| (across.at(x), up.at(y)));
            line(&mut axes, i, points.clone().collect())?;
            axes.draw_series(points.map(|at| Circle::new(at, 3, colour(i).filled())))?;
            entries.push((name.clone(), Key::Line(i)));
        }
        legend(area, &entries)?;
        let rows = lines.iter().flat_map(|(name, points)| {
            let row = |(x, y): &(f64, f64)| [name.clone(), x.to_string(), y.to_string()];
            points.iter().map(row)
        });
        table(["line", x, y], rows)
    })
}

/// Networks by latency (timesteps) and energy (over the ANN's), dots whose colour is the place of
/// their error among all, dark for the smallest, with rings around those of the front, which are
/// among all. Each is given as latency, error (%) and energy. Axes are logarithmic as those of [`lines`].
///
/// # Errors
/// [`Error::Chart`] when plotters fails.
pub fn front(title: &str, all: &[[f64; 3]], front: &[[f64; 3]]) -> Result<Chart> {
    let points = || all.iter().chain(front);
    let mut errors: Vec<f64> = points().map(|p| p[1]).collect();
    errors.sort_by(f64::total_cmp);
    errors.dedup();
    let last = errors.len().saturating_sub(1);
    let share = |place: usize| place as f64 / last.max(1) as f64;
    let mut marks = vec![0, last / 2, last];
    marks.dedup();
    draw(title, 1 + marks.len(), |area| {
        let latency = "latency (timesteps)";
        let across = Scale::of(latency, points().map(|p| p[0]), 0.06);
        let energy = "energy to the latency, over the ANN's";
        let up = Scale::of(energy, points().map(|p| p[2]), 0.1);
        let mut axes = scaled_axes(area, title, [&across, &up])?;
        let at = |&[latency, _, energy]: &[f64; 3]| (across.at(latency), up.at(energy));
        let dot = |point: &[f64; 3]| {
            let place = errors.partition_point(|&error| error < point[1]);
            Circle::new(at(point), 4, viridis(share(place)).filled())
        };
        axes.draw_series(all.iter().map(dot))?;
        let ring = |point| Circle::new(at(point), 8, COLOURS[1].stroke_width(2));
        axes.draw_series(front.iter().map(ring))?;
        let what = "front: none is better than another in latency, energy and error";
        let mut entries = vec![(what.into(), Key::Ring)];
        for place in marks {
            let error = errors
                .get(place)
                .copied()
                .map(|error| number((error * 100.0).round() / 100.0));
            let which = match place {
                0 => "smallest",
                _ if place == last => "largest",
                _ => "middle one",
            };
            let error = error.unwrap_or_else(|| "none".into());
            entries.push((
                format!("error {error} %, the {which}"),
                Key::Shade(share(place)),
            ));
        }
        legend(area, &entries)?;
        let row = |points: &[[f64; 3]], of: &str| {
            let row = |[latency, error, energy]: &[f64; 3]| {
                let [latency, error, energy] = [latency, error, energy].map(f64::to_string);
                [of.into(), latency, error, energy]
            };
            points.iter().map(row).collect::<Vec<_>>()
        };
        let rows = row(front, "front").into_iter().chain(row(all, "tried"));
        table(
            [
                "network",
                "latency_timesteps",
                "error_percent",
                "energy_over_ann",
            ],
            rows,
        )
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
        let rows = up.1.iter().zip(cells).flat_map(|(up, values)| {
            across.1.iter().zip(values).map(move |(across, value)| {
                let value = value.map_or(String::new(), |value| value.to_string());
                [across.clone(), up.clone(), value]
            })
        });
        table([across.0, up.0, "value"], rows)
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
        legend(area, &entries)?;
        let row = |(i, share): (usize, &f64)| [(i as f64 * width).to_string(), share.to_string()];
        table(
            [&format!("{x}, from"), "share_percent"],
            shares.iter().enumerate().map(row),
        )
    })
}

/// 10 to this power, where it is a whole one.
fn power(power: f64) -> String {
    let whole = power.round() as i32;
    match (power - power.round()).abs() < 1e-6 {
        true if whole >= 0 => format!("{:.0}", 10f64.powi(whole)),
        true => format!("{:.*}", -whole as usize, 10f64.powi(whole)),
        false => String::new(),
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

    /// The CSV file of a chart, which stays what it is.
    fn saved(chart: &Chart) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        assert_eq!(chart.clone().save_data(&path).unwrap(), *chart);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn an_axis_is_logarithmic_from_two_decades() {
        let chart = |values: [f64; 2]| {
            let points = vec![(1.0, values[0]), (2.0, values[1])];
            lines("", ["x", "latency"], &[("a, b".into(), points)]).unwrap()
        };
        let wide = chart([2.0, 250.0]);
        // Of the powers of ten those that lie on the axis.
        let labels: Vec<&str> = wide.svg().lines().map(str::trim).collect();
        assert!(
            ["10", "100", "latency, logarithmic"]
                .iter()
                .all(|label| labels.contains(label))
        );
        assert!(!labels.contains(&"1000") && !labels.contains(&"50"));
        let same = "line,x,latency\n\"a, b\",1,2\n\"a, b\",2,250\n";
        assert_eq!(saved(&wide), same);
        for narrow in [[2.0, 199.0], [0.0, 250.0], [-1.0, 250.0]] {
            assert!(!chart(narrow).svg().contains("logarithmic"));
        }
    }

    #[test]
    fn a_band_holds_half_of_a_generation() {
        let fitness = |cost| Fitness {
            latency: 1,
            deficit: 0.0,
            cost: Some(cost),
        };
        let generation = |generation: usize, upper| Generation {
            generation,
            evaluations: 8,
            stopped: 0,
            best: fitness(1.0),
            median: fitness(3.0),
            quartiles: [fitness(2.0), upper],
        };
        let all = [0, 1, 2].map(|i| match i {
            2 => generation(i, Fitness::WORST), // stopped early
            _ => generation(i, fitness(4.0)),
        });
        let chart = convergence("", "cost", &all).unwrap();
        assert_eq!(saved(&chart).lines().last().unwrap(), "2,1,2,3,");
        let polygon = chart.svg().lines().find(|line| line.contains("<polygon"));
        let (_, points) = polygon.unwrap().split_once("points=\"").unwrap();
        assert_eq!(
            points.split('"').next().unwrap().split_whitespace().count(),
            4
        );

        let folder = tempfile::tempdir().unwrap();
        assert!(chart.save_data(folder.path()).is_err());
    }

    #[test]
    fn what_has_no_place_is_an_error() {
        for wrong in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            for points in [[wrong, 1.0], [1.0, wrong]] {
                let points = points.map(|x| (x, 2.0)).to_vec();
                let chart = lines("title", ["x", "y"], &[("a".into(), points)]);
                let error = chart.unwrap_err().to_string();
                assert!(
                    error.starts_with("chart title: found values from"),
                    "{error}"
                );
            }
        }
        lines("nothing", ["x", "y"], &[]).unwrap();
    }

    #[test]
    fn the_front_is_ringed_and_errors_are_told() {
        let all = [[20.0, 4.0, 0.5], [10.0, 2.0, 0.2], [12.0, 1.0, 0.2]];
        let chart = front("", &all, &all[1..]).unwrap();
        let circles = |with: &str| {
            let lines = chart.svg().lines();
            let circles = lines.filter(|line| line.contains("<circle") && line.contains(with));
            circles.count()
        };
        // One ring and three dots are the legend's.
        assert_eq!(circles("r=\"8\""), 2 + 1);
        assert_eq!(circles("r=\"4\""), 3 + 3);
        for error in [
            "error 1 %, the smallest",
            "error 2 %, the middle one",
            "error 4 %, the largest",
        ] {
            assert!(chart.svg().contains(error), "{error}");
        }
        front("", &[], &[]).unwrap();
    }
}

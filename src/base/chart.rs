//! Charts in one style: shown inline in a notebook, saved as SVG with one call.
//!
//! The colours are those of Okabe and Ito, which colour-blind readers can tell apart; lines also
//! differ in their dashes, for printing in grey. The background is white, so that the text stays
//! legible in a dark notebook theme.

use std::borrow::Borrow;
use std::error::Error as StdError;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::error::{Error, Result};
use super::files::{write_csv, write_file};
use super::table::one_line;

pub(crate) const SIZE: (u32, u32) = (760, 460);

pub(crate) const FONT: &str = "sans-serif";

pub(crate) const MARGIN: u32 = 14;

/// Width between the margin and the vertical axis, for its labels, in pixels.
pub(crate) const Y_LABELS: u32 = 62;

/// Height of one line of the legend in pixels; the legend lies below the chart, so that it hides
/// nothing.
pub(crate) const ENTRY: u32 = 22;

pub(crate) const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    BLACK,
    RGBColor(130, 130, 130),
];

/// Dash and gap length of each line in pixels; the first line is solid.
pub(crate) const DASHES: [(i32, i32); 8] =
    [(1, 0), (9, 4), (3, 3), (14, 4), (6, 2), (2, 5), (20, 3), (5, 7)];

pub(crate) const GREY: RGBColor = RGBColor(90, 90, 90);

/// Fill colour of bands, light enough for every line to be seen on it.
pub(crate) const BAND: RGBColor = RGBColor(205, 228, 244);

/// Finished chart: its SVG and the numbers drawn.
#[derive(Clone, PartialEq, Eq)]
pub struct Chart {
    title: String,
    svg: String,
    /// Numbers drawn: a header, and one row per point, bar, cell or spike.
    data: Vec<Vec<String>>,
}

one_line!(impl [] Chart: chart, "chart: {}", chart.title);

impl Chart {
    /// Returns the chart as SVG.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// Writes the chart as an SVG file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_file(path.as_ref(), self.svg.as_bytes())
    }

    /// Writes the numbers drawn as a CSV file, one row per point, bar, cell or spike, and returns
    /// the chart, so that a notebook cell can end in this call.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
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

pub(crate) type Drawn<T = ()> = std::result::Result<T, Box<dyn StdError>>;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(crate) type Axes<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Returns the numbers of a chart as a header and rows.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Drawn<Vec<Vec<String>>> {
    let header = header.map(String::from);
    Ok(std::iter::once(header).chain(rows).map(Vec::from).collect())
}

/// Draws a chart with `entries` lines in its legend; `with` draws it and returns its [`table`].
pub(crate) fn draw(
    title: &str,
    entries: usize,
    with: impl FnOnce(&Area<'_>) -> Drawn<Vec<Vec<String>>>,
) -> Result<Chart> {
    let mut svg = String::new();
    let failed =
        |error: Box<dyn StdError>| Error::Chart { chart: title.into(), reason: error.to_string() };
    let data;
    {
        let size = (SIZE.0, SIZE.1 + ENTRY * entries as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE).map_err(|e| failed(e.into()))?;
        data = with(&area).map_err(failed)?;
        area.present().map_err(|e| failed(e.into()))?;
    }
    Ok(Chart { title: title.into(), svg, data })
}

/// Draws axes with titles, in the common style.
pub(crate) fn axes<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    [x_title, y_title]: [&str; 2],
    x: Range<f64>,
    y: Range<f64>,
) -> Drawn<Axes<'a, 'b>> {
    named_axes(area, title, [x_title, y_title], x, y, [&plain_number; 2])
}

/// Formats a number with at most four decimals, without trailing zeros.
pub(crate) fn plain_number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// Returns the labels of an axis: the name of each integer position that has one.
pub(crate) fn named(names: &[String]) -> impl Fn(f64) -> String + '_ {
    |place| {
        let name = names.get(place.round() as usize);
        let name = name.filter(|_| (place - place.round()).abs() < 1e-6 && place > -0.5);
        name.cloned().unwrap_or_default()
    }
}

/// Draws [`axes`] whose positions have names.
pub(crate) fn named_axes<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    [x_title, y_title]: [&str; 2],
    x: Range<f64>,
    y: Range<f64>,
    [x_name, y_name]: [&dyn Fn(f64) -> String; 2],
) -> Drawn<Axes<'a, 'b>> {
    for Range { start, end } in [&x, &y] {
        // plotters would search for tick positions forever.
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

/// Symbol of a legend entry.
pub(crate) enum Key {
    /// [`line`] of this number.
    Line(usize),
    /// Bar of this colour.
    Bar(RGBColor),
    /// Ring around a dot.
    Ring,
    /// Dot in the colour at this share of [`VIRIDIS`], 0..=1.
    Shade(f64),
    /// Dotted line, as drawn by [`level`].
    Level,
}

/// Draws the legend below the chart.
pub(crate) fn legend(area: &Area<'_>, entries: &[(String, Key)]) -> Drawn {
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
            Key::Line(i) => {
                let style = colour(i).stroke_width(2);
                match DASHES[i % DASHES.len()] {
                    (_, 0) => area.draw(&PathElement::new(ends, style))?,
                    (dash, gap) => area.draw(&DashedPathElement::new(ends, dash, gap, style))?,
                }
            }
        }
        let style = (FONT, 15).into_font().color(&BLACK);
        area.draw(&Text::new(name.clone(), (left + 40, y - 7), style))?;
    }
    Ok(())
}

/// Returns colour number `i` of a chart.
pub(crate) fn colour(i: usize) -> RGBColor {
    COLOURS[i % COLOURS.len()]
}

/// Draws line number `i` of a chart.
pub(crate) fn line<'a, 'b: 'a>(
    axes: &mut Axes<'a, 'b>,
    i: usize,
    points: Vec<(f64, f64)>,
) -> Drawn {
    let style = colour(i).stroke_width(2);
    match DASHES[i % DASHES.len()] {
        (_, 0) => axes.draw_series(LineSeries::new(points, style))?,
        (dash, gap) => axes.draw_series(DashedLineSeries::new(points, dash, gap, style))?,
    };
    Ok(())
}

/// Draws a dotted horizontal line.
pub(crate) fn level<'a, 'b: 'a>(axes: &mut Axes<'a, 'b>, x: Range<f64>, y: f64) -> Drawn {
    let ends = [(x.start, y), (x.end, y)];
    axes.draw_series(DashedLineSeries::new(ends, 2, 4, GREY.stroke_width(1)))?;
    Ok(())
}

/// Returns the smallest range that holds these values, widened by `share` of its width on either
/// side; NaN, which cannot be drawn, if a value is NaN.
pub(crate) fn range(values: impl Iterator<Item = f64>, share: f64) -> Range<f64> {
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

/// Scale of an axis: logarithmic if its values are all above 0 and span two decades or more, else
/// linear.
pub(crate) struct Scale {
    logarithmic: bool,
    title: String,
    range: Range<f64>,
}

impl Scale {
    /// Creates the scale of these values, widened by `share` of their range on either side.
    pub(crate) fn of(title: &str, values: impl Iterator<Item = f64> + Clone, share: f64) -> Self {
        let Range { start, end } = range(values.clone(), 0.0);
        let logarithmic = start > 0.0 && end >= 100.0 * start;
        let (title, range) = match logarithmic {
            true => {
                let title = format!("{title}, logarithmic");
                (title, range(values.map(f64::log10), share))
            }
            false => (title.into(), range(values, share)),
        };
        Self { logarithmic, title, range }
    }

    /// Returns the position of a value on the axis.
    pub(crate) fn at(&self, value: f64) -> f64 {
        match self.logarithmic {
            true => value.log10(),
            false => value,
        }
    }

    /// Returns the label at a position.
    fn name(&self, place: f64) -> String {
        match self.logarithmic {
            true => power(place),
            false => plain_number(place),
        }
    }
}

/// Draws axes of these scales.
pub(crate) fn scaled_axes<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    [x, y]: [&Scale; 2],
) -> Drawn<Axes<'a, 'b>> {
    let titles = [&*x.title, &*y.title];
    let (across, up) = (x.range.clone(), y.range.clone());
    let [x, y] = [x, y].map(|scale| |at| scale.name(at));
    named_axes(area, title, titles, across, up, [&x, &y])
}

/// Draws lines of points (x, y), each with a name; `x` and `y` are the titles of the axes, with
/// units. An axis whose values are all above 0 and span two decades or more is logarithmic.
///
/// Give the points of a variable by reference: a notebook shows no picture, only the text "chart",
/// where the last expression of a cell moves one of its variables.
///
/// # Errors
/// Returns [`Error::Chart`] if plotters fails.
pub fn lines<N: Into<String>, P: IntoIterator<Item: Borrow<(f64, f64)>>>(
    title: &str,
    [x, y]: [&str; 2],
    lines: impl IntoIterator<Item = (N, P)>,
) -> Result<Chart> {
    let copied = |points: P| points.into_iter().map(|point| *point.borrow()).collect();
    let lines = lines.into_iter().map(|(name, points)| (name.into(), copied(points)));
    let lines: Vec<(String, Vec<(f64, f64)>)> = lines.collect();

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

/// Colours at equal distances along viridis (Smith and van der Walt), whose lightness rises evenly,
/// so that it also reads in grey.
pub(crate) const VIRIDIS: [[f64; 3]; 6] = [
    [68.0, 1.0, 84.0],
    [65.0, 68.0, 135.0],
    [42.0, 120.0, 142.0],
    [34.0, 168.0, 132.0],
    [122.0, 209.0, 81.0],
    [253.0, 231.0, 37.0],
];

/// Returns the colour at a share of the way from the first to the last colour.
pub(crate) fn viridis(share: f64) -> RGBColor {
    let place = share.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f64;
    let stop = (place as usize).min(VIRIDIS.len() - 2);
    let part = |channel: usize| {
        let (from, to) = (VIRIDIS[stop][channel], VIRIDIS[stop + 1][channel]);
        (from + (to - from) * (place - stop as f64)).round() as u8
    };
    RGBColor(part(0), part(1), part(2))
}

/// Draws a heat map, light where numbers are large, with the numbers written into the cells if
/// there is room. `cells` holds one row per name of `up`, from the bottom, with one cell per name
/// of `across`; a cell without a number stays grey. Both lists of names come with the title of
/// their axis.
///
/// # Errors
/// Returns [`Error::Chart`] if plotters fails.
pub fn heat_map(
    title: &str,
    across: (&str, &[String]),
    up: (&str, &[String]),
    cells: &[Vec<Option<f64>>],
) -> Result<Chart> {
    draw(title, 0, |area| {
        let values = range(cells.iter().flatten().flatten().copied(), 0.0);
        let mut axes = named_axes(
            area,
            title,
            [across.0, up.0],
            -0.5..across.1.len() as f64 - 0.5,
            -0.5..up.1.len() as f64 - 0.5,
            [&named(across.1), &named(up.1)],
        )?;
        let room = across.1.len() <= 16 && up.1.len() <= 20;
        for (row, cells) in cells.iter().enumerate() {
            for (column, &value) in cells.iter().enumerate() {
                let (x, y) = (column as f64, row as f64);
                let share = value.map(|value| (value - values.start) / (values.end - values.start));
                let colour = share.map_or(RGBColor(225, 225, 225), viridis);
                let half = if room { 0.48 } else { 0.5 };
                let corners = [(x - half, y - half), (x + half, y + half)];
                axes.draw_series([Rectangle::new(corners, colour.filled())])?;
                if !room {
                    continue;
                }
                let dark = share.is_some_and(|share| share < 0.55);
                let ink = if dark { WHITE } else { BLACK };
                let centre = Pos::new(HPos::Center, VPos::Center);
                let style = (FONT, 15).into_font().color(&ink).pos(centre);
                let text = value.map_or("none".into(), |value| match value.abs() < 100.0 {
                    true => plain_number((value * 100.0).round() / 100.0),
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

/// Draws a histogram with a logarithmic axis, for values most of which are small: `shares` of all
/// values in percent, in bins of equal width from 0 to `most`, and a named line at each mark.
///
/// # Errors
/// Returns [`Error::Chart`] if plotters fails.
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
        let mut axes = named_axes(area, title, titles, across, up, [&plain_number, &power])?;
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
        table([&format!("{x}, from"), "share_percent"], shares.iter().enumerate().map(row))
    })
}

/// Formats 10 to this power; empty if the power is not an integer.
pub(crate) fn power(power: f64) -> String {
    let whole = power.round() as i32;
    match (power - power.round()).abs() < 1e-6 {
        true if whole >= 0 => format!("{:.0}", 10f64.powi(whole)),
        true => format!("{:.*}", -whole as usize, 10f64.powi(whole)),
        false => String::new(),
    }
}

/// Heat map of cells: name of the column, name of the row, value. Columns go from left to right and
/// rows from bottom to top, in the order in which their names first occur.
///
/// # Errors
/// Returns an error if plotters fails.
pub(crate) fn heat_map_of(
    title: &str,
    [across, up]: [&str; 2],
    cells: impl Iterator<Item = (String, String, Option<f64>)>,
) -> Result<Chart> {
    let (mut columns, mut rows) = (Vec::new(), Vec::new());
    let mut values: Vec<Vec<Option<f64>>> = Vec::new();
    for (column, row, value) in cells {
        let (column, row) = (place(&mut columns, column), place(&mut rows, row));
        values.resize(values.len().max(row + 1), Vec::new());
        let length = values[row].len().max(column + 1);
        values[row].resize(length, None);
        values[row][column] = value;
    }
    heat_map(title, (across, &columns), (up, &rows), &values)
}

/// Index of a name in a list, to which it is appended if it is new.
fn place(names: &mut Vec<String>, name: String) -> usize {
    let known = names.iter().position(|other| *other == name);
    known.unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The CSV file of a chart, which stays what it is.
    pub(crate) fn saved(chart: &Chart) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.csv");
        assert_eq!(chart.clone().save_data(&path).unwrap(), *chart);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn an_axis_is_logarithmic_from_two_decades() {
        let chart = |values: [f64; 2]| {
            let points = vec![(1.0, values[0]), (2.0, values[1])];
            lines("", ["x", "latency"], [("a, b", points)]).unwrap()
        };
        let wide = chart([2.0, 250.0]);
        // Powers of ten that lie on the axis.
        let labels: Vec<&str> = wide.svg().lines().map(str::trim).collect();
        assert!(["10", "100", "latency, logarithmic"].iter().all(|label| labels.contains(label)));
        assert!(!labels.contains(&"1000") && !labels.contains(&"50"));
        let same = "line,x,latency\n\"a, b\",1,2\n\"a, b\",2,250\n";
        assert_eq!(saved(&wide), same);
        for narrow in [[2.0, 199.0], [0.0, 250.0], [-1.0, 250.0]] {
            assert!(!chart(narrow).svg().contains("logarithmic"));
        }
    }

    #[test]
    fn what_has_no_place_is_an_error() {
        for wrong in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            for points in [[wrong, 1.0], [1.0, wrong]] {
                let points = points.map(|x| (x, 2.0)).to_vec();
                let chart = lines("title", ["x", "y"], [("a", points)]);
                let error = chart.unwrap_err().to_string();
                assert!(error.starts_with("chart title: found values from"), "{error}");
            }
        }
        lines("nothing", ["x", "y"], [("", [(0.0, 0.0)]); 0]).unwrap();
    }
}

//! Charts in one style: shown inline in a notebook, saved as SVG, PNG or PDF with one call.
//!
//! The colours are those of Okabe and Ito, which colour-blind readers can tell apart; lines also
//! differ in their dashes, for printing in grey. The background is white, so that the text stays
//! legible in a dark notebook theme.

use std::borrow::Borrow;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::error::{Error, Result};
use super::files::{write_csv, write_file};
pub(crate) use super::style::{Drawn, small_font};
use super::style::{Style, clean, viridis};
use super::table::one_line;

pub(super) const MARGIN: u32 = 14;

/// Width between the margin and the vertical axis, for its labels, in pixels at the usual size of text.
const Y_LABELS: u32 = 62;

/// Height of one line of the legend, in the same pixels; the legend lies below the chart, so that it
/// hides nothing.
const ENTRY: u32 = 22;

/// Width of the names of [`levels`], in the same pixels.
const LEVELS: u32 = 96;

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
const DASHES: [(i32, i32); 8] = [(1, 0), (9, 4), (3, 3), (14, 4), (6, 2), (2, 5), (20, 3), (5, 7)];

const GREY: RGBColor = RGBColor(90, 90, 90);

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

    /// Writes the chart as SVG, PNG or PDF, whichever the file's name ends in. PNG and PDF need the
    /// feature `figures`, and a font on this machine.
    ///
    /// # Errors
    /// Returns an error if the name has another ending, or the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("svg") => write_file(path, self.svg.as_bytes()),
            #[cfg(feature = "figures")]
            Some("png") => write_file(path, &self.converted(super::figures::png)?),
            #[cfg(feature = "figures")]
            Some("pdf") => write_file(path, &self.converted(super::figures::pdf)?),
            #[cfg(not(feature = "figures"))]
            Some("png" | "pdf") => {
                let expected = "a name that ends in .svg, or evospike's feature `figures`";
                Err(Error::parameter("path", path.display(), expected))
            }
            _ => {
                let expected = "a name that ends in .svg, .png or .pdf";
                Err(Error::parameter("path", path.display(), expected))
            }
        }
    }

    #[cfg(feature = "figures")]
    fn converted(&self, by: fn(&str) -> Result<Vec<u8>, String>) -> Result<Vec<u8>> {
        by(&self.svg).map_err(|reason| Error::Chart { chart: self.title.clone(), reason })
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
    let drawn = || -> Drawn<_> {
        let style = Style::current()?;
        let size = (style.size.0, style.size.1 + style.length(ENTRY) * entries as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        let data = with(&area)?;
        area.present()?;
        Ok((style.title(title), data))
    };
    match drawn() {
        Ok((title, data)) => Ok(Chart { title, svg, data }),
        Err(error) => Err(Error::Chart { chart: clean(title), reason: error.to_string() }),
    }
}

/// Draws axes with titles, in the common style. Labels of the horizontal one are whole numbers.
pub(crate) fn axes<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    [x_title, y_title]: [&str; 2],
    x: Range<f64>,
    y: Range<f64>,
) -> Drawn<Axes<'a, 'b>> {
    named_axes(area, title, [x_title, y_title], x, y, [&whole_number, &plain_number])
}

/// Formats a number with at most four decimals, without trailing zeros; one that is too small or too
/// large for that as a power of ten, such as 2e-5.
pub(crate) fn plain_number(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e7).contains(&value.abs()) {
        let text = format!("{value:.2e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'));
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// Formats a whole number; empty for others.
pub(crate) fn whole_number(value: f64) -> String {
    let whole = (value - value.round()).abs() < 1e-6;
    if whole { plain_number(value.round()) } else { String::new() }
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
    titles: [&str; 2],
    x: Range<f64>,
    y: Range<f64>,
    names: [&dyn Fn(f64) -> String; 2],
) -> Drawn<Axes<'a, 'b>> {
    framed_axes(area, title, titles, Style::current()?.limits(x, y), names, MARGIN)
}

/// Draws [`named_axes`] within these limits, with so many pixels to their right.
pub(super) fn framed_axes<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    titles: [&str; 2],
    [x, y]: [Range<f64>; 2],
    [x_name, y_name]: [&dyn Fn(f64) -> String; 2],
    right: u32,
) -> Drawn<Axes<'a, 'b>> {
    for Range { start, end } in [&x, &y] {
        // plotters would search for tick positions forever.
        if !(end - start).is_finite() {
            return Err(format!("found values from {start} to {end}, expected finite ones").into());
        }
    }
    let style = Style::current()?;
    let (width, height) = style.size;
    let title = style.title(title);
    let [x_title, y_title] = titles.map(clean);
    // A step's multiples are not exact: what is next to 0 is 0.
    let at = |place: f64, range: &Range<f64>| match place.abs() < 1e-9 * (range.end - range.start) {
        true => 0.0,
        false => place,
    };
    let (x_range, y_range) = (x.clone(), y.clone());
    let mut axes = ChartBuilder::on(area)
        .caption(&title, style.font(20.0, &title, width - 2 * MARGIN))
        .margin(MARGIN)
        .margin_right(right)
        .margin_bottom(MARGIN + area.dim_in_pixel().1 - height)
        .x_label_area_size(style.length(48))
        .y_label_area_size(style.length(Y_LABELS))
        .build_cartesian_2d(x, y)?;
    // One size for both titles, which both have room for.
    let (_, across) = style.font(17.0, &x_title, width - style.length(100));
    let (family, up) = style.font(17.0, &y_title, height - style.length(100));
    axes.configure_mesh()
        .x_desc(&x_title)
        .y_desc(&y_title)
        .axis_desc_style((family, across.min(up)))
        .label_style(small_font())
        .x_label_formatter(&|x| clean(&x_name(at(*x, &x_range))))
        .y_label_formatter(&|y| clean(&y_name(at(*y, &y_range))))
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
}

/// Draws the legend below the chart.
pub(crate) fn legend(area: &Area<'_>, entries: &[(String, Key)]) -> Drawn {
    let style = Style::current()?;
    let left = (MARGIN + style.length(Y_LABELS)) as i32;
    let (height, text) = (style.length(ENTRY), left + 40);
    for (place, (name, key)) in (0..).zip(entries) {
        let y = (style.size.1 + height * place) as i32;
        let ends = [(left, y), (left + 30, y)];
        match *key {
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
                match dashes(i) {
                    (_, 0) => area.draw(&PathElement::new(ends, style))?,
                    (dash, gap) => area.draw(&DashedPathElement::new(ends, dash, gap, style))?,
                }
            }
        }
        let name = clean(name);
        let font = style.font(15.0, &name, style.size.0.saturating_sub(text as u32 + MARGIN));
        let centre = Pos::new(HPos::Left, VPos::Center);
        area.draw(&Text::new(name, (text, y), font.into_font().color(&BLACK).pos(centre)))?;
    }
    Ok(())
}

/// Returns colour number `i` of a chart.
pub(crate) fn colour(i: usize) -> RGBColor {
    COLOURS[i % COLOURS.len()]
}

/// Returns the dashes of line number `i` of a chart, others when the colours begin again.
fn dashes(i: usize) -> (i32, i32) {
    DASHES[(i + i / COLOURS.len()) % DASHES.len()]
}

/// Draws line number `i` of a chart, as far as it is within the axes.
pub(crate) fn line<'a, 'b: 'a>(
    axes: &mut Axes<'a, 'b>,
    i: usize,
    points: Vec<(f64, f64)>,
) -> Drawn {
    if let Some(at) = points.iter().find(|(x, y)| !(x + y).is_finite()) {
        return Err(format!("found a point at {at:?}, expected finite ones").into());
    }
    let style = colour(i).stroke_width(2);
    for points in clipped(&points, &axes.x_range(), &axes.y_range()) {
        match dashes(i) {
            (_, 0) => axes.draw_series(LineSeries::new(points, style))?,
            (dash, gap) => axes.draw_series(DashedLineSeries::new(points, dash, gap, style))?,
        };
    }
    Ok(())
}

/// Draws a dot of this radius at each point that is within the axes.
pub(crate) fn dots<'a, 'b: 'a>(
    axes: &mut Axes<'a, 'b>,
    points: impl IntoIterator<Item = (f64, f64)>,
    radius: u32,
    style: impl Into<ShapeStyle>,
) -> Drawn {
    let (x, y, style) = (axes.x_range(), axes.y_range(), style.into());
    let within = |&(a, b): &(f64, f64)| a >= x.start && a <= x.end && b >= y.start && b <= y.end;
    let points = points.into_iter().filter(within);
    axes.draw_series(points.map(|at| Circle::new(at, radius, style)))?;
    Ok(())
}

/// Draws a bar between two corners, as far as it is within the axes.
pub(crate) fn bar<'a, 'b: 'a>(
    axes: &mut Axes<'a, 'b>,
    corners: [(f64, f64); 2],
    style: impl Into<ShapeStyle>,
) -> Drawn {
    let (x, y) = (axes.x_range(), axes.y_range());
    let [(a, c), (b, d)] = corners.map(|(a, b)| (a.clamp(x.start, x.end), b.clamp(y.start, y.end)));
    if a != b && c != d {
        axes.draw_series([Rectangle::new([(a, c), (b, d)], style)])?;
    }
    Ok(())
}

/// Draws the band between a lower and an upper line, as far as it is within the axes.
pub(crate) fn band<'a, 'b: 'a>(
    axes: &mut Axes<'a, 'b>,
    low: impl DoubleEndedIterator<Item = (f64, f64)>,
    high: impl Iterator<Item = (f64, f64)>,
    style: impl Into<ShapeStyle>,
) -> Drawn {
    let (x, y) = (axes.x_range(), axes.y_range());
    let corner = |(a, b): (f64, f64)| (a.clamp(x.start, x.end), b.clamp(y.start, y.end));
    let corners: Vec<(f64, f64)> = high.chain(low.rev()).map(corner).collect();
    axes.draw_series([Polygon::new(corners, style)])?;
    Ok(())
}

/// Parts of a line of points within these limits, cut off where it crosses them.
fn clipped(points: &[(f64, f64)], x: &Range<f64>, y: &Range<f64>) -> Vec<Vec<(f64, f64)>> {
    let mut parts: Vec<Vec<(f64, f64)>> = Vec::new();
    for pair in points.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        // Shares of the way from the first to the second point (Liang and Barsky 1984).
        let (mut from, mut to) = (0.0_f64, 1.0_f64);
        for (way, room) in [
            (x0 - x1, x0 - x.start),
            (x1 - x0, x.end - x0),
            (y0 - y1, y0 - y.start),
            (y1 - y0, y.end - y0),
        ] {
            match way {
                0.0 if room < 0.0 => to = -1.0,
                0.0 => (),
                way if way < 0.0 => from = from.max(room / way),
                way => to = to.min(room / way),
            }
        }
        if from >= to {
            continue; // it is outside, or touches a limit
        }
        let at = |share: f64| match share {
            0.0 => (x0, y0),
            1.0 => (x1, y1),
            share => (x0 + share * (x1 - x0), y0 + share * (y1 - y0)),
        };
        match parts.last_mut() {
            Some(part) if from == 0.0 && part.last() == Some(&(x0, y0)) => part.push(at(to)),
            _ => parts.push(vec![at(from), at(to)]),
        }
    }
    parts
}

/// Draws [`axes`] with room for the names of [`levels`] to their right.
pub(crate) fn levelled_axes<'a, 'b>(
    area: &'a Area<'b>,
    title: &str,
    titles: [&str; 2],
    x: Range<f64>,
    y: Range<f64>,
) -> Drawn<Axes<'a, 'b>> {
    let style = Style::current()?;
    let (limits, right) = (style.limits(x, y), style.length(LEVELS) + MARGIN);
    framed_axes(area, title, titles, limits, [&whole_number, &plain_number], right)
}

/// Draws dotted horizontal lines, from the highest to the lowest, and their names at their right ends.
pub(crate) fn levels<'a, 'b: 'a>(
    area: &Area<'b>,
    axes: &mut Axes<'a, 'b>,
    levels: &[(f64, String)],
) -> Drawn {
    let (x, within) = (axes.x_range(), axes.y_range());
    let style = Style::current()?;
    let mut lowest = i32::MIN;
    for (y, name) in levels.iter().filter(|(y, _)| (within.start..=within.end).contains(y)) {
        let ends = [(x.start, *y), (x.end, *y)];
        axes.draw_series(DashedLineSeries::new(ends, 2, 4, GREY.stroke_width(1)))?;
        // Names that would touch stand below each other.
        let (right, height) = axes.backend_coord(&(x.end, *y));
        let at = height.max(lowest.saturating_add(style.length(16) as i32));
        lowest = at;
        let font = style.font(14.0, name, style.length(LEVELS)).into_font().color(&GREY);
        let font = font.pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(clean(name), (right + 6, at), font))?;
    }
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
    /// Whether all values are whole numbers.
    whole: bool,
    title: String,
    range: Range<f64>,
}

impl Scale {
    /// Creates the scale of these values, widened by `share` of their range on either side.
    pub(crate) fn of(title: &str, values: impl Iterator<Item = f64> + Clone, share: f64) -> Self {
        let Range { start, end } = range(values.clone(), 0.0);
        let logarithmic = start > 0.0 && end >= 100.0 * start;
        let whole = values.clone().all(|value| value.fract() == 0.0);
        let (title, range) = match logarithmic {
            true => {
                let title = format!("{title}, logarithmic");
                (title, range(values.map(f64::log10), share))
            }
            false => (title.into(), range(values, share)),
        };
        Self { logarithmic, whole, title, range }
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
        match (self.logarithmic, self.whole) {
            (true, _) => power(place),
            (false, true) => whole_number(place),
            (false, false) => plain_number(place),
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
    let style = Style::current()?;
    // What has no logarithm is no limit of a logarithmic axis.
    let limit = |scale: &Scale, given: f64, own: f64| match scale.logarithmic && given <= 0.0 {
        true => own,
        false => scale.at(given),
    };
    let limits = |scale: &Scale, given: Option<Range<f64>>| {
        let Range { start, end } = scale.range;
        given.map_or(start..end, |l| limit(scale, l.start, start)..limit(scale, l.end, end))
    };
    let limits = [limits(x, style.x), limits(y, style.y)];
    let [x, y] = [x, y].map(|scale| |at| scale.name(at));
    framed_axes(area, title, titles, limits, [&x, &y], MARGIN)
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
            dots(&mut axes, points, 3, colour(i).filled())?;
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
        for (i, &height) in bars {
            let left = i as f64 * width;
            bar(&mut axes, [(left, floor), (left + width, height)], COLOURS[5].filled())?;
        }
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

#[cfg(test)]
pub(crate) mod tests;

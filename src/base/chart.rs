//! Charts in one style: shown inline in a notebook, saved as SVG, PNG or PDF with one call.
//!
//! The colours are those of Okabe and Ito, which colour-blind readers can tell apart; lines also
//! differ in their dashes, for printing in grey. The background is white, so that the text stays
//! legible in a dark notebook theme.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::error::Error as StdError;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::check::require;
use super::error::{Error, Result};
use super::files::{write_csv, write_file};
use super::table::one_line;

const MARGIN: u32 = 14;

/// Width between the margin and the vertical axis, for its labels, in pixels at the usual size of text.
const Y_LABELS: u32 = 62;

/// Height of one line of the legend, in the same pixels; the legend lies below the chart, so that it
/// hides nothing.
const ENTRY: u32 = 22;

/// Width of a colour bar with its labels, in the same pixels.
const COLOUR_BAR: u32 = 70;

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
pub(crate) const DASHES: [(i32, i32); 8] =
    [(1, 0), (9, 4), (3, 3), (14, 4), (6, 2), (2, 5), (20, 3), (5, 7)];

const GREY: RGBColor = RGBColor(90, 90, 90);

/// Fill colour of bands, light enough for every line to be seen on it.
pub(crate) const BAND: RGBColor = RGBColor(205, 228, 244);

/// Style of charts: their size, text, title and the limits of their axes.
///
/// ```
/// # use evospike::prelude::*;
/// let points = [(1.0, 80.0), (2.0, 90.0), (3.0, 90.5)];
/// let style = plot::Style { size: (500, 300), y: Some(85.0..91.0), ..plot::Style::default() };
/// let chart = style.draw(|| plot::lines("Mine", ["timestep", "accuracy (%)"], [("a", points)]))?;
/// # Ok::<(), evospike::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Style {
    /// Width and height without the legend, in pixels.
    pub size: (u32, u32),
    /// Size of the text, as a factor on the usual one.
    pub text: f64,
    /// Title; none for the chart's own.
    pub title: Option<String>,
    /// Limits of the horizontal axis; none for those that show everything that matters.
    pub x: Option<Range<f64>>,
    /// Limits of the vertical axis.
    pub y: Option<Range<f64>>,
}

impl Default for Style {
    fn default() -> Self {
        Self { size: (760, 460), text: 1.0, title: None, x: None, y: None }
    }
}

thread_local! {
    /// Style of the charts that this thread draws.
    static STYLE: RefCell<Style> = RefCell::default();
}

impl Style {
    /// Gives all charts that `chart` draws, on this thread, this style.
    pub fn draw<T>(&self, chart: impl FnOnce() -> T) -> T {
        /// Puts the style before back, also if drawing panics.
        struct Before(Style);
        impl Drop for Before {
            fn drop(&mut self) {
                STYLE.set(std::mem::take(&mut self.0));
            }
        }
        let _before = Before(STYLE.replace(self.clone()));
        chart()
    }

    /// Style of this thread, as far as it can be drawn.
    fn current() -> Drawn<Self> {
        let style = STYLE.with_borrow(Self::clone);
        let ((width, height), text) = (style.size, style.text);
        let least = |pixels: f64| (pixels * text.max(0.6)).ceil() as u32;
        let size =
            (least(330.0)..=20_000).contains(&width) && (least(250.0)..=20_000).contains(&height);
        if !(0.2..=5.0).contains(&text) || !size {
            let found =
                format!("{width} x {height} pixels and text of {text} times the usual size");
            let expected = "text of 0.2 to 5 times, and 330 x 250 pixels times that or more";
            return Err(format!("found {found}, expected {expected}").into());
        }
        for Range { start, end } in [&style.x, &style.y].into_iter().flatten() {
            if !(start < end && (end - start).is_finite()) {
                return Err(format!("found limits {start} to {end}, expected a range").into());
            }
        }
        Ok(style)
    }

    /// Length in pixels that grows with the text.
    fn length(&self, pixels: u32) -> u32 {
        (f64::from(pixels) * self.text).round() as u32
    }

    /// Font of this size at the usual one of text, smaller where so many pixels would not hold `text`.
    fn font(&self, size: f64, text: &str, pixels: u32) -> (&'static str, f64) {
        let wide = 0.5 * text.chars().count() as f64; // in sizes of the font
        (FONT, (size * self.text).min(f64::from(pixels) / wide.max(1.0)).max(6.0))
    }
}

const FONT: &str = "sans-serif";

/// Font of the size of axis labels.
pub(crate) fn small_font() -> (&'static str, f64) {
    (FONT, 15.0 * STYLE.with_borrow(|style| style.text))
}

/// Text without line breaks and other characters that no SVG may have.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

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
    let drawn = || -> Drawn<_> {
        let style = Style::current()?;
        let size = (style.size.0, style.size.1 + style.length(ENTRY) * entries as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        let data = with(&area)?;
        area.present()?;
        Ok((style.title.unwrap_or_else(|| title.into()), data))
    };
    match drawn() {
        Ok((title, data)) => Ok(Chart { title: clean(&title), svg, data }),
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
    let style = Style::current()?;
    let (x, y) = (style.x.clone().unwrap_or(x), style.y.clone().unwrap_or(y));
    framed_axes(area, title, titles, [x, y], names, MARGIN)
}

/// Draws [`named_axes`] within these limits, with so many pixels to their right.
fn framed_axes<'a, 'b>(
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
    let title = clean(style.title.as_deref().unwrap_or(title));
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
                match DASHES[i % DASHES.len()] {
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
        match DASHES[i % DASHES.len()] {
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
    let limits = [style.x.clone().unwrap_or(x), style.y.clone().unwrap_or(y)];
    let right = style.length(LEVELS) + MARGIN;
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

/// Colours at equal distances along viridis (Smith and van der Walt), whose lightness rises evenly,
/// so that it also reads in grey.
const VIRIDIS: [[f64; 3]; 6] = [
    [68.0, 1.0, 84.0],
    [65.0, 68.0, 135.0],
    [42.0, 120.0, 142.0],
    [34.0, 168.0, 132.0],
    [122.0, 209.0, 81.0],
    [253.0, 231.0, 37.0],
];

/// Returns the colour at a share of the way from the first to the last of [`VIRIDIS`].
pub(crate) fn viridis(share: f64) -> RGBColor {
    shade(&VIRIDIS, share)
}

/// Returns the colour at a share of the way along colours at equal distances.
fn shade(stops: &[[f64; 3]], share: f64) -> RGBColor {
    let place = share.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
    let stop = (place as usize).min(stops.len() - 2);
    let part = |channel: usize| {
        let (from, to) = (stops[stop][channel], stops[stop + 1][channel]);
        (from + (to - from) * (place - stop as f64)).round() as u8
    };
    RGBColor(part(0), part(1), part(2))
}

/// Colours from blue over white to red (the end colours of ColorBrewer's RdBu), for numbers of either
/// sign.
const DIVERGING: [[f64; 3]; 5] = [
    [33.0, 102.0, 172.0],
    [146.0, 197.0, 222.0],
    [247.0, 247.0, 247.0],
    [244.0, 165.0, 130.0],
    [178.0, 24.0, 43.0],
];

/// Colours of a heat map's numbers.
struct Shades {
    values: Range<f64>,
    diverging: bool,
}

impl Shades {
    /// Numbers of one sign from light to dark, of either sign from blue over white, which is 0, to red.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (low, high) = values.clone().fold((0.0_f64, 0.0_f64), |(a, b), x| (a.min(x), b.max(x)));
        let most = high.max(-low);
        match low < 0.0 && high > 0.0 {
            true => Self { values: -most..most, diverging: true },
            false => Self { values: range(values, 0.0), diverging: false },
        }
    }

    /// Colour of a number, and that of text on it.
    fn colour(&self, value: f64) -> [RGBColor; 2] {
        let share = (value - self.values.start) / (self.values.end - self.values.start);
        let dark = match self.diverging {
            true => !(0.2..=0.8).contains(&share),
            false => share < 0.55,
        };
        let stops: &[[f64; 3]] = if self.diverging { &DIVERGING } else { &VIRIDIS };
        [shade(stops, share), if dark { WHITE } else { BLACK }]
    }

    /// Draws the colour bar to the right of axes.
    fn bar(&self, area: &Area<'_>, axes: &Axes<'_, '_>) -> Drawn {
        const STEPS: i32 = 64;
        let style = Style::current()?;
        let (_, up) = axes.plotting_area().get_pixel_range();
        let left = (style.size.0 - style.length(COLOUR_BAR)) as i32;
        let height = |step: i32| up.end + (up.start - up.end) * step / STEPS;
        let value = |share: f64| self.values.start + share * (self.values.end - self.values.start);
        for step in 0..STEPS {
            let [colour, _] = self.colour(value((f64::from(step) + 0.5) / f64::from(STEPS)));
            let corners = [(left, height(step)), (left + 14, height(step + 1))];
            area.draw(&Rectangle::new(corners, colour.filled()))?;
        }
        let marks = if self.diverging { &[0.0, 0.5, 1.0][..] } else { &[0.0, 1.0] };
        for &share in marks {
            let y = up.end + (f64::from(up.start - up.end) * share) as i32;
            let label = short_number(value(share));
            let font = style.font(14.0, &label, style.length(COLOUR_BAR).saturating_sub(24));
            let side = font.into_font().color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(label, (left + 18, y), side))?;
        }
        Ok(())
    }
}

/// Formats a number with at most two decimals, or two digits if it is small.
fn short_number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        ..0.01 if value != 0.0 => format!("{value:.1e}"),
        _ => plain_number((value * 100.0).round() / 100.0),
    }
}

/// Draws a heat map with its colour bar: from dark to light, or of numbers of either sign from blue
/// over white, which is 0, to red. The numbers are written into the cells if there is room. `cells`
/// holds one row per name of `up`, from the bottom, with one cell per name of `across`; a cell without
/// a number, or with one that is not finite, stays grey. Both lists of names come with the title of
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
        let finite = |value: &Option<f64>| value.filter(|value| value.is_finite());
        let shades = Shades::of(cells.iter().flatten().filter_map(finite));
        let style = Style::current()?;
        let of =
            |limits: Option<Range<f64>>, count: usize| limits.unwrap_or(-0.5..count as f64 - 0.5);
        let (x, y) = (of(style.x.clone(), across.1.len()), of(style.y.clone(), up.1.len()));
        let mut axes = framed_axes(
            area,
            title,
            [across.0, up.0],
            [x.clone(), y.clone()],
            [&named(across.1), &named(up.1)],
            style.length(COLOUR_BAR) + MARGIN,
        )?;
        let room = across.1.len() <= 16 && up.1.len() <= 20 && across.1.len() * up.1.len() < 250;
        for (row, cells) in cells.iter().enumerate() {
            for (column, value) in cells.iter().enumerate() {
                let (at, value) = ((column as f64, row as f64), finite(value));
                let within = |range: &Range<f64>, at: f64| at >= range.start && at <= range.end;
                if !(within(&x, at.0) && within(&y, at.1)) {
                    continue;
                }
                let [colour, ink] =
                    value.map_or([RGBColor(225, 225, 225), BLACK], |value| shades.colour(value));
                let half = if room { 0.48 } else { 0.5 };
                let corners = [(at.0 - half, at.1 - half), (at.0 + half, at.1 + half)];
                bar(&mut axes, corners, colour.filled())?;
                if room {
                    let text = value.map_or("none".into(), short_number);
                    let columns = across.1.len().max(1) as u32;
                    let font = style.font(15.0, &text, style.size.0 * 3 / 4 / columns);
                    let centre = Pos::new(HPos::Center, VPos::Center);
                    let style = font.into_font().color(&ink).pos(centre);
                    axes.draw_series([Text::new(text, at, style)])?;
                }
            }
        }
        shades.bar(area, &axes)?;
        let rows = up.1.iter().zip(cells).flat_map(|(up, values)| {
            across.1.iter().zip(values).map(move |(across, value)| {
                let value = value.map_or(String::new(), |value| value.to_string());
                [across.clone(), up.clone(), value]
            })
        });
        table([across.0, up.0, "value"], rows)
    })
}

/// Draws pictures side by side, each with its name: values of 0 to 1, channels x rows x columns, grey
/// of one channel or coloured of three. A picture of more than 96 rows or columns is shown smaller.
///
/// # Errors
/// Returns an error for another number of channels or values; [`Error::Chart`] if plotters fails.
pub fn pictures<N: Into<String>, P: AsRef<[f32]>>(
    title: &str,
    [channels, height, width]: [usize; 3],
    pictures: impl IntoIterator<Item = (N, P)>,
) -> Result<Chart> {
    let expected = "1 channel or 3, and 1 row and column or more";
    let found = format!("{channels} x {height} x {width}");
    let holds = [1, 3].contains(&channels) && height > 0 && width > 0;
    require(holds, "shape", found, expected)?;
    let pictures = pictures.into_iter().map(|(name, values)| (name.into(), values));
    let pictures: Vec<(String, P)> = pictures.collect();
    let (plane, block) = (height * width, height.max(width).div_ceil(96));
    for (_, values) in &pictures {
        let (found, expected) = (values.as_ref().len(), channels * plane);
        require(found == expected, "pictures", format!("{found} values"), expected)?;
    }
    let [rows, columns] = [height, width].map(|side| side.div_ceil(block));
    // Mean of a block of one channel.
    let mean = |values: &[f32], row: usize, column: usize| {
        let of = |row: usize| {
            let columns = column * block..width.min((column + 1) * block);
            columns.map(move |column| values[row * width + column])
        };
        let block: Vec<f32> = (row * block..height.min((row + 1) * block)).flat_map(of).collect();
        block.iter().sum::<f32>() / block.len() as f32
    };
    draw(title, 0, |area| {
        let style = Style::current()?;
        let title = clean(style.title.as_deref().unwrap_or(title));
        let caption = style.font(20.0, &title, style.size.0 - 2 * MARGIN);
        let left = (MARGIN as i32, MARGIN as i32);
        area.draw(&Text::new(title, left, caption.into_font().color(&BLACK)))?;
        let top = MARGIN + style.length(34);
        let room = f64::from(style.size.0 - 2 * MARGIN) / pictures.len().max(1) as f64;
        let down = f64::from(style.size.1.saturating_sub(top + style.length(30)));
        let pixel = (0.94 * room / columns as f64).min(down / rows as f64);
        for (place, (name, values)) in pictures.iter().enumerate() {
            let at = |row: usize, column: usize| {
                let x = f64::from(MARGIN) + room * place as f64 + pixel * column as f64;
                (x.round() as i32, (f64::from(top) + pixel * row as f64).round() as i32)
            };
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |c| (row, c))) {
                let of = |channel: usize| {
                    let values = &values.as_ref()[channel % channels * plane..][..plane];
                    (255.0 * mean(values, row, column).clamp(0.0, 1.0)).round() as u8
                };
                let corners = [at(row, column), at(row + 1, column + 1)];
                area.draw(&Rectangle::new(corners, RGBColor(of(0), of(1), of(2)).filled()))?;
            }
            let (x, y) = at(rows, 0);
            let font = style.font(15.0, name, room as u32).into_font().color(&BLACK);
            area.draw(&Text::new(clean(name), (x, y + 6), font))?;
        }
        let cells = pictures.iter().flat_map(|(name, values)| {
            values.as_ref().iter().enumerate().map(move |(i, value)| {
                let (channel, row, column) = (i / plane, i % plane / width, i % width);
                let place = [channel, row, column].map(|number| number.to_string());
                let [channel, row, column] = place;
                [name.clone(), channel, row, column, value.to_string()]
            })
        });
        table(["picture", "channel", "row", "column", "value"], cells)
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
    fn lines_end_at_the_limits() {
        let points = [(1.0, 10.0), (2.0, 70.0), (3.0, 90.0), (4.0, 70.0), (5.0, 90.0), (6.0, 85.0)];
        let expected = [
            vec![(2.5, 80.0), (3.0, 90.0), (3.5, 80.0)],
            vec![(4.5, 80.0), (5.0, 90.0), (6.0, 85.0)],
        ];
        assert_eq!(clipped(&points, &(0.0..6.0), &(80.0..100.0)), expected);
        assert_eq!(clipped(&points, &(0.0..6.0), &(0.0..100.0)), [points]);
        assert!(clipped(&points, &(0.0..6.0), &(95.0..100.0)).is_empty());
        let within = [vec![(2.5, 80.0), (3.0, 90.0)]];
        assert_eq!(clipped(&points, &(0.0..3.0), &(80.0..90.0)), within);
    }

    #[test]
    fn numbers_keep_their_digits() {
        let texts = [0.0, 1.0, -0.25, 0.001, 2e-5, -1.25e-6, 1e7, 1234.5].map(plain_number);
        assert_eq!(texts, ["0", "1", "-0.25", "0.001", "2e-5", "-1.25e-6", "1e7", "1234.5"]);
        assert_eq!([2.0, 2.5].map(whole_number), ["2", ""]);
        let short = [123.4, 0.126, 0.0, 2e-5, f64::from(-1)].map(short_number);
        assert_eq!(short, ["123", "0.13", "0", "2.0e-5", "-1"]);
    }

    #[test]
    fn a_style_sets_size_text_title_and_limits() {
        let chart = |style: Style| {
            let points = [(0.0, 0.0), (10.0, 100.0)];
            style.draw(|| lines("a\u{7}b", ["layer", "y"], [("line\n1", points)]))
        };
        let usual = chart(Style::default()).unwrap();
        assert!(usual.svg().contains("a b") && usual.svg().contains("line 1"));
        assert!(usual.svg().contains("width=\"760\""));
        let style = Style {
            size: (500, 300),
            title: Some("Mine".into()),
            x: Some(2.0..4.0),
            y: Some(0.0..50.0),
            ..Style::default()
        };
        let styled = chart(style.clone()).unwrap();
        assert!(styled.svg().contains("Mine") && styled.svg().contains("width=\"500\""));
        assert!(usual.svg().contains("\n100\n") && !styled.svg().contains("\n100\n"));
        // The style ends with the call.
        let points = [(0.0, 0.0), (10.0, 100.0)];
        assert!(lines("a\u{7}b", ["layer", "y"], [("line\n1", points)]).unwrap() == usual);
        for wrong in [
            Style { size: (10, 300), ..style.clone() },
            Style { size: (400, 260), text: 2.0, ..style.clone() },
            Style { text: f64::NAN, ..style.clone() },
            Style { x: Some(4.0..2.0), ..style.clone() },
            Style { y: Some(0.0..f64::INFINITY), ..style },
        ] {
            assert!(chart(wrong).unwrap_err().to_string().contains("found"));
        }
    }

    #[test]
    fn a_chart_is_saved_by_its_ending() {
        let folder = tempfile::tempdir().unwrap();
        let chart = lines("title", ["x", "y"], [("a", [(0.0, 0.0), (1.0, 1.0)])]).unwrap();
        let read = |name: &str| {
            let path = folder.path().join(name);
            chart.save(&path).map(|()| std::fs::read(path).unwrap())
        };
        assert_eq!(read("a.svg").unwrap(), chart.svg().as_bytes());
        for wrong in ["a", "a.jpg", "svg"] {
            assert!(read(wrong).unwrap_err().to_string().contains("ends in .svg"));
        }
        #[cfg(feature = "figures")]
        match read("a.PNG") {
            // On a machine without fonts there is no text to draw.
            Err(error) => assert!(error.to_string().contains("no font")),
            Ok(png) => {
                let png = image::load_from_memory(&png).unwrap();
                assert_eq!((png.width(), png.height()), (2 * 760, 2 * (460 + ENTRY)));
                assert!(read("a.pdf").unwrap().starts_with(b"%PDF"));
            }
        }
    }

    #[test]
    fn a_heat_map_shows_signs_and_what_is_no_number() {
        let names = |count: usize| (0..count).map(|i| i.to_string()).collect::<Vec<_>>();
        let map = |values: [f64; 3]| {
            let cells = [values.map(Some).to_vec()];
            heat_map("", ("x", &names(3)), ("y", &names(1)), &cells).unwrap()
        };
        let signed = map([-1.0, 0.0, 0.5]);
        assert!(signed.svg().contains("#F7F7F7") && signed.svg().contains("#2166AC"));
        assert!(!map([0.3; 3]).svg().contains("#F7F7F7"));
        let positive = map([1.0, f64::NAN, 3.0]);
        assert!(positive.svg().contains("#440154") && positive.svg().contains("none"));
    }

    #[test]
    fn pictures_are_pixels() {
        let values = [0.0, 0.25, 0.5, 1.0, 2.0, 0.75];
        let grey = pictures("", [1, 2, 3], [("a", values), ("b", values)]).unwrap();
        assert_eq!(grey.svg().matches("fill=\"#404040\"").count(), 2);
        assert!(
            saved(&grey).starts_with("picture,channel,row,column,value\na,0,0,0,0\na,0,0,1,0.25")
        );
        let coloured = pictures("", [3, 1, 1], [("", [1.0, 0.0, 0.5])]).unwrap();
        assert!(coloured.svg().contains("#FF0080"));
        let large =
            pictures("", [1, 2, 192], [("", (0..384).map(|i| (i % 2) as f32).collect::<Vec<_>>())]);
        assert_eq!(large.unwrap().svg().matches("#808080").count(), 96); // two rows and columns in one
        assert!(pictures("", [2, 1, 1], [("", [0.0, 1.0])]).is_err());
        assert!(pictures("", [1, 1, 1], [("", [0.0, 1.0])]).is_err());
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

//! Style of charts: what a caller sets, fonts, and colours of numbers.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::ops::Range;

use plotters::prelude::*;

pub(crate) type Drawn<T = ()> = std::result::Result<T, Box<dyn StdError>>;

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
    pub(super) fn current() -> Drawn<Self> {
        let style = STYLE.with_borrow(Self::clone);
        let ((width, height), text) = (style.size, style.text);
        let size = (style.least(330.0)..=20_000).contains(&width)
            && (style.least(250.0)..=20_000).contains(&height);
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

    /// Style of this thread, but no higher than `needed`, for charts that would leave room below them.
    pub(super) fn no_higher(needed: impl FnOnce(&Self) -> u32) -> Self {
        let mut style = STYLE.with_borrow(Self::clone);
        style.size.1 = style.size.1.min(needed(&style).max(style.least(250.0)));
        style
    }

    /// The least that a length can be, in pixels, of so many with the usual text.
    fn least(&self, pixels: f64) -> u32 {
        (pixels * self.text.max(0.6)).ceil() as u32
    }

    /// The title that is set, or a chart's own.
    pub(super) fn title(&self, own: &str) -> String {
        clean(self.title.as_deref().unwrap_or(own))
    }

    /// The limits that are set, or a chart's own.
    pub(super) fn limits(&self, x: Range<f64>, y: Range<f64>) -> [Range<f64>; 2] {
        [self.x.clone().unwrap_or(x), self.y.clone().unwrap_or(y)]
    }

    /// Length in pixels that grows with the text.
    pub(super) fn length(&self, pixels: u32) -> u32 {
        (f64::from(pixels) * self.text).round() as u32
    }

    /// Font of this size at the usual one of text, smaller where so many pixels would not hold `text`.
    pub(super) fn font(&self, size: f64, text: &str, pixels: u32) -> (&'static str, f64) {
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
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Colours at equal distances along viridis (Smith and van der Walt), whose lightness rises evenly,
/// so that it also reads in grey.
pub(super) const VIRIDIS: [[f64; 3]; 6] = [
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
pub(super) fn shade(stops: &[[f64; 3]], share: f64) -> RGBColor {
    let place = share.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
    let stop = (place as usize).min(stops.len() - 2);
    let part = |channel: usize| {
        let (from, to) = (stops[stop][channel], stops[stop + 1][channel]);
        (from + (to - from) * (place - stop as f64)).round() as u8
    };
    RGBColor(part(0), part(1), part(2))
}

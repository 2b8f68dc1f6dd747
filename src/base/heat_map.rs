//! Charts of numbers as colours: heat maps, and pictures of images.

use std::ops::Range;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::chart::{
    Area, Axes, Chart, MARGIN, bar, draw, framed_axes, named, plain_number, range, table,
};
use super::check::require;
use super::error::Result;
use super::style::{Drawn, Style, VIRIDIS, clean, shade};

/// Width of a colour bar with its labels, in pixels at the usual size of text.
const COLOUR_BAR: u32 = 70;

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
/// Returns [`Error::Chart`](crate::Error::Chart) if plotters fails.
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
        let all = |names: &[String]| -0.5..names.len() as f64 - 0.5;
        let [x, y] = style.limits(all(across.1), all(up.1));
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
/// Returns an error for another number of channels or values; [`Error::Chart`](crate::Error::Chart) if plotters fails.
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
    // Below the title, above the names; each picture has as much room as the others.
    let (top, below) =
        (|style: &Style| MARGIN + style.length(34), |style: &Style| style.length(30));
    let room = |style: &Style| {
        f64::from(style.size.0.saturating_sub(2 * MARGIN)) / pictures.len().max(1) as f64
    };
    let widest = |style: &Style| 0.94 * room(style) / columns as f64;
    let needed =
        |style: &Style| top(style) + below(style) + (widest(style) * rows as f64).ceil() as u32;
    let drawn = |area: &Area<'_>| {
        let style = Style::current()?;
        let title = style.title(title);
        let caption = style.font(20.0, &title, style.size.0 - 2 * MARGIN);
        let left = (MARGIN as i32, MARGIN as i32);
        area.draw(&Text::new(title, left, caption.into_font().color(&BLACK)))?;
        let (top, room) = (top(&style), room(&style));
        let down = f64::from(style.size.1.saturating_sub(top + below(&style)));
        let pixel = widest(&style).min(down / rows as f64);
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
    };
    Style::no_higher(needed).draw(|| draw(title, 0, drawn))
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
mod tests {
    use super::*;
    use crate::base::chart::tests::saved;

    #[test]
    fn short_numbers_keep_two_digits() {
        let short = [123.4, 0.126, 0.0, 2e-5, f64::from(-1)].map(short_number);
        assert_eq!(short, ["123", "0.13", "0", "2.0e-5", "-1"]);
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
        // No room is left below them.
        let height = |chart: &Chart| {
            let svg = chart.svg();
            let height = svg.split("height=\"").nth(1).unwrap().split('"').next().unwrap();
            height.parse::<u32>().unwrap()
        };
        assert!(height(&coloured) == 460 && height(&grey) < 330, "{}", height(&grey));
        let large =
            pictures("", [1, 2, 192], [("", (0..384).map(|i| (i % 2) as f32).collect::<Vec<_>>())]);
        assert_eq!(large.unwrap().svg().matches("#808080").count(), 96); // two rows and columns in one
        assert!(pictures("", [2, 1, 1], [("", [0.0, 1.0])]).is_err());
        assert!(pictures("", [1, 1, 1], [("", [0.0, 1.0])]).is_err());
    }
}

//! Charts as PNG and PDF, drawn from their SVG with the fonts of this machine.

use resvg::tiny_skia::{Pixmap, Transform};
use svg2pdf::usvg::{Options, Tree};
use svg2pdf::{ConversionOptions, PageOptions};

/// Pixels of a PNG for each of the chart: 200 dots an inch where the chart is as wide as a page's text.
const SCALE: f32 = 2.0;

/// Families that a chart's `sans-serif` may be, the first that there is.
const FAMILIES: [&str; 6] =
    ["DejaVu Sans", "Liberation Sans", "Noto Sans", "Arial", "Helvetica", "Verdana"];

/// The chart as PDF, whose text stays text.
pub(crate) fn pdf(svg: &str) -> Result<Vec<u8>, String> {
    let pdf = svg2pdf::to_pdf(&tree(svg)?, ConversionOptions::default(), PageOptions::default());
    pdf.map_err(|error| error.to_string())
}

/// The chart as PNG, of twice as many pixels.
pub(crate) fn png(svg: &str) -> Result<Vec<u8>, String> {
    let tree = tree(svg)?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or("a chart without pixels")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).ok_or("a chart without pixels")?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| error.to_string())
}

fn tree(svg: &str) -> Result<Tree, String> {
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_system_fonts();
    let families = fonts.faces().flat_map(|face| &face.families).map(|(name, _)| name.clone());
    let families: Vec<String> = families.collect();
    let usual = FAMILIES.into_iter().find(|usual| families.iter().any(|name| name == usual));
    let family = usual.or(families.first().map(String::as_str));
    let family = family.ok_or("no font on this machine for the text; SVG needs none")?;
    fonts.set_sans_serif_family(family);
    Tree::from_str(svg, &options).map_err(|error| error.to_string())
}

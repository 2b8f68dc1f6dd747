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
    let expected =
        [vec![(2.5, 80.0), (3.0, 90.0), (3.5, 80.0)], vec![(4.5, 80.0), (5.0, 90.0), (6.0, 85.0)]];
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

#[test]
fn lines_differ_beyond_the_last_colour() {
    let looks: Vec<_> = (0..24).map(|i| (colour(i), dashes(i))).collect();
    for (i, look) in looks.iter().enumerate() {
        assert!(!looks[..i].contains(look), "line {i} looks as one before it");
    }
}

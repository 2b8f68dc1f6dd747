use std::collections::HashSet;

use super::*;
use crate::base::{Stream, rng};
use crate::data::embedded::digits;
use crate::data::tasks::Classify;
use crate::data::{Shares, TrainTest};

type Tiny = Classify<1, 2, 3>;

fn tiny(text: &str) -> Result<Images<Whole, Tiny>> {
    super::super::embedded::from_csv("tiny.csv", text.as_bytes(), 16)
}

proptest::proptest! {
    #[test]
    fn damaged_lines_are_named(
        changes in proptest::collection::vec(
            (0..24usize, 0..6usize, "[-0-9a-f,.\"é\r\n]{0,6}"),
            1..5,
        ),
    ) {
        let mut text = b"0,1,16,3,2\n4,4,4,4,0\n".to_vec();
        for (at, size, new) in changes {
            let at = at.min(text.len());
            let to = text.len().min(at + size);
            text.splice(at..to, new.into_bytes());
        }
        if let Err(error) = super::super::embedded::from_csv::<Tiny>("tiny.csv", &text[..], 16) {
            proptest::prop_assert!(error.to_string().starts_with("tiny.csv, "), "{}", error);
        }
    }
}

#[test]
fn the_digits_are_whole() {
    let digits = digits().unwrap();
    assert_eq!(digits.len(), 1797);
    assert_eq!(digits.label(0), 0);
    let first: Vec<f32> = digits.pixels(0);
    assert_eq!(first[..4], [0.0, 0.0, 5.0 / 16.0, 13.0 / 16.0]);
    let total: f64 = (0..1797).flat_map(|i| digits.pixels(i)).map(f64::from).sum();
    assert_eq!(total * 16.0, 561_718.0); // numpy: load_digits().data.sum()
}

#[test]
fn a_split_is_stratified_disjoint_complete_and_seeded() {
    let digits = digits().unwrap();
    let split = |seed| digits.split(Shares::default(), seed).unwrap();
    let parts = split(3);
    let all: Vec<usize> = [&parts.training.indices, &parts.held_out.indices, &parts.test.indices]
        .into_iter()
        .flat_map(|part| part.iter().copied())
        .collect();
    assert_eq!(all.len(), 1797);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 1797);
    for class in 0..10 {
        let in_all = (0..1797).filter(|&i| digits.label(i) == class).count();
        let in_test = (0..parts.test.len()).filter(|&i| parts.test.label(i) == class).count();
        assert_eq!(in_test, (0.25 * in_all as f64).round() as usize);
    }
    assert_eq!(split(3).test.indices, parts.test.indices);
    assert_ne!(split(4).test.indices, parts.test.indices);
}

/// By what a target is known: whose pixels it is, not what an attack made of them.
#[test]
fn parts_are_told_apart_whatever_their_pixels() {
    let parts = digits().unwrap().split(Shares::default(), 0).unwrap();
    let (held_out, test) = (parts.held_out.take(9), parts.test.take(9));
    let black = held_out.with_pixels(vec![0.0; 9 * 64]).unwrap();
    assert_eq!(black.view().which(), held_out.view().which());
    assert_ne!(held_out.view().which(), test.view().which());
    assert_ne!(held_out.view().which(), held_out.take(8).view().which());
    let other_way =
        held_out.part::<HeldOut>(held_out.indices.iter().rev().copied().collect::<Vec<_>>());
    assert_ne!(other_way.view().which(), held_out.view().which());
    assert_eq!(other_way.view().which_sorted(), held_out.view().which_sorted());
}

#[test]
fn shares_that_cannot_be_are_refused() {
    let digits = digits().unwrap();
    for (held_out, test) in [(0.0, 0.2), (0.2, 1.0), (f64::NAN, 0.2), (0.6, 0.6), (0.5, 0.5)] {
        let error = digits.split(Shares { held_out, test }, 0).unwrap_err();
        assert!(error.to_string().contains("shares"), "{error}");
    }
}

#[test]
fn broken_lines_are_named() {
    for (text, place) in [
        ("1,2,3,4,2\n1,2,3\n", "line 2: found 3 values"),
        ("1,2,17,4,2\n", "line 1, value 3: found `17`"),
        ("1,2,3,4,3\n", "line 1, value 5: found `3`"),
        ("1,2,x,4,0\n", "line 1, value 3: found `x`"),
        ("1,-2,1,4,0\n", "line 1, value 2: found `-2`"),
        ("", "end: found no line"),
    ] {
        let error = tiny(text).unwrap_err().to_string();
        assert!(error.contains(place), "{error}");
        assert!(error.contains("tiny.csv"), "{error}");
    }
}

/// `count` images of the three classes in turn, numbered by their first pixel.
fn numbered_images(count: u8) -> Images<Whole, Tiny> {
    let pixels = (0..count).flat_map(|i| [i, 50, 100, 150]).collect();
    Images::from_arrays(pixels, (0..u16::from(count)).map(|i| i % 3).collect()).unwrap()
}

fn train_test() -> TrainTest<Tiny> {
    TrainTest::new(numbered_images(30), numbered_images(6)).unwrap()
}

fn indices<P: Part>(images: &Images<P, Tiny>) -> Vec<usize> {
    (0..images.len()).map(|i| images.index(i)).collect()
}

#[test]
fn a_set_with_a_test_part_holds_out_of_its_training_part() {
    let set = train_test();
    let parts = set.hold_out(0.2, 1).unwrap();
    let lengths = (parts.training.len(), parts.held_out.len(), parts.test.len());
    assert_eq!(lengths, (24, 6, 6));
    let mut all = [indices(&parts.training), indices(&parts.held_out)].concat();
    all.sort_unstable();
    assert_eq!(all, (0..30).collect::<Vec<_>>());
    for class in 0..3 {
        let labels = (0..6).map(|i| parts.held_out.label(i));
        assert_eq!(labels.filter(|&label| label == class).count(), 2);
    }
    for i in 0..6 {
        let first = parts.held_out.pixels(i)[0];
        assert_eq!(first, parts.held_out.index(i) as f32 / 255.0);
    }
    let again = |seed| indices(&set.hold_out(0.2, seed).unwrap().held_out);
    assert_eq!(again(1), indices(&parts.held_out));
    assert_ne!(again(2), indices(&parts.held_out));
    for share in [0.0, 1.0, -1.0, f64::NAN, 0.01, 0.99] {
        let error = set.hold_out(share, 0).unwrap_err().to_string();
        assert!(error.starts_with("share: found"), "{error}");
    }
}

#[test]
fn lists_hold_out_and_pick_by_reading_order() {
    let folder = tempfile::tempdir().unwrap();
    let list = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let set = train_test();
    let held_out = list("held-out.txt", "7\n3\n20\n");
    let parts = set.hold_out_listed(&held_out, 0).unwrap();
    let mut found = indices(&parts.held_out);
    found.sort_unstable();
    assert_eq!((found, parts.training.len()), (vec![3, 7, 20], 27));

    let picked = parts.training.listed(list("some.txt", "29\n0\n")).unwrap();
    assert_eq!(indices(&picked), [29, 0]);
    assert_eq!(picked.pixels(0)[0], 29.0 / 255.0);
    let test = parts.test.listed(list("test.txt", "5\n3\n")).unwrap();
    assert_eq!(indices(&test), [5, 3]);
    let held_out = parts.held_out.listed(list("one.txt", "20\n")).unwrap();
    assert_eq!(indices(&held_out), [20]);

    // A list that was written is of its images, whatever their normalisation, and of no others.
    let written = folder.path().join("written.txt");
    picked.save_list(&written).unwrap();
    let text = std::fs::read_to_string(&written).unwrap();
    assert!(
        text.starts_with("# CRC-32 of these images: ") && text.ends_with("\n29\n0\n"),
        "{text}"
    );
    let halved = Normalisation::new([0.0], [0.5]).unwrap();
    let again = parts.training.normalised(&halved).unwrap().listed(&written).unwrap();
    assert_eq!(indices(&again), [29, 0]);
    let error = parts.training.listed(list("other.txt", &text.replace("29", "28"))).unwrap_err();
    let expected = "other.txt, line 1: found images of the CRC-32 ";
    assert!(error.to_string().contains(expected), "{error}");
    let error = parts.training.listed(list("bad.txt", &text.replace("29", "20"))).unwrap_err();
    assert!(
        error.to_string().contains("bad.txt, line 2: found image 20, which is held"),
        "{error}"
    );

    let bad = list("bad.txt", "1\n20\n");
    let error = parts.training.listed(&bad).unwrap_err().to_string();
    let expected = "bad.txt, line 2: found image 20, which is held out, expected one of the 27";
    assert!(error.contains(expected), "{error}");
    let error = picked.listed(&bad).unwrap_err().to_string();
    assert!(error.contains("line 1: found image 1, which is not among"), "{error}");
    let error = parts.held_out.listed(&bad).unwrap_err().to_string();
    assert!(error.contains("line 1: found image 1, which is not among"), "{error}");
    let all: String = (0..30).map(|i| format!("{i}\n")).collect();
    let error = set.hold_out_listed(list("all.txt", &all), 0).unwrap_err();
    assert!(error.to_string().contains("all.txt, end: found 30 images"), "{error}");
}

#[test]
fn arrays_are_checked() {
    let from = |pixels: &[u8], labels: &[u16]| {
        let images = Images::<Whole, Tiny>::from_arrays(pixels.into(), labels.into());
        images.unwrap_err().to_string()
    };
    assert!(from(&[], &[]).starts_with("labels: found none"));
    assert!(from(&[1; 7], &[0, 1]).starts_with("pixels: found 7 values, expected 4 for"));
    assert!(from(&[1; 8], &[0, 3]).starts_with("labels: found 3 for image 1"));
}

#[test]
fn normalisation_is_what_networks_see_of_the_pixels() {
    type Colours = Classify<3, 1, 2>;
    let images = Images::<Whole, Colours>::from_arrays(vec![0, 128, 255], vec![1]).unwrap();
    let raw = [0.0, 128.0 / 255.0, 1.0];
    assert_eq!(images.input(0), raw);
    let set = TrainTest::new(images.clone(), images).unwrap();
    let set = set.normalised(&Normalisation::CIFAR10).unwrap();
    let (mean, std) = ([0.4914f32, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]);
    let expected: Vec<f32> = (0..3).map(|c| (raw[c] - mean[c]) / std[c]).collect();
    assert_eq!(set.test.input(0), expected);
    assert_eq!(set.test.view().batch(&[0, 0]), expected.repeat(2));
    assert_eq!(set.test.pixels(0), raw);
    assert_eq!(set.test.take(1).normalisation(), Some(&Normalisation::CIFAR10));

    let error = set.test.normalised(&Normalisation::MNIST).unwrap_err().to_string();
    assert!(error.contains("mean: found [0.1307], expected 3 finite"), "{error}");
    for (mean, std) in [
        (vec![0.5, 0.5], vec![1.0]),
        (vec![0.5], vec![0.0]),
        (vec![0.5], vec![-1.0]),
        (vec![0.5], vec![f32::NAN]),
        (vec![f32::INFINITY], vec![1.0]),
    ] {
        assert!(Normalisation::new(mean, std).is_err());
    }
}

#[test]
fn augmentation_moves_and_mirrors_before_normalisation() {
    let pixels = (1..=8).collect();
    let images = Images::<Whole, Classify<2, 2, 1>>::from_arrays(pixels, vec![0]).unwrap();
    let draws = |images: &Images<Whole, Classify<2, 2, 1>>, augment, seed| {
        let mut rng = rng(seed, Stream::Batches);
        let batch = images.view().augmented(&[0; 900], augment, &mut rng);
        batch.chunks(8).map(<[f32]>::to_vec).collect::<Vec<_>>()
    };
    let rounded =
        |image: &[f32]| -> [u8; 8] { std::array::from_fn(|i| (image[i] * 255.0).round() as u8) };
    let count =
        |images: &[Vec<f32>], image: [u8; 8]| images.iter().filter(|i| rounded(i) == image).count();
    assert_eq!(draws(&images, Augment::NONE, 0)[0], images.input(0));

    let (crop_padding, flip) = (1, true);
    let flips = draws(&images, Augment { flip, ..Augment::NONE }, 0);
    let mirrored = count(&flips, [2, 1, 4, 3, 6, 5, 8, 7]);
    assert!((390..510).contains(&mirrored), "{mirrored}"); // 450 +- 4 sigma
    assert_eq!(mirrored + count(&flips, [1, 2, 3, 4, 5, 6, 7, 8]), 900);

    let crops = draws(&images, Augment { crop_padding, ..Augment::NONE }, 0);
    for moved in [
        [1, 2, 3, 4, 5, 6, 7, 8], // in place
        [4, 0, 0, 0, 8, 0, 0, 0], // up and left
        [0, 1, 0, 3, 0, 5, 0, 7], // right
        [0, 0, 1, 2, 0, 0, 5, 6], // down
    ] {
        let count = count(&crops, moved);
        assert!((62..138).contains(&count), "{count}"); // 100 +- 4 sigma
    }
    let both = Augment { crop_padding, flip };
    assert_eq!(draws(&images, both, 5), draws(&images, both, 5));
    assert_ne!(draws(&images, both, 5), draws(&images, both, 6));

    // What comes in from outside is black, which normalisation makes -mean / std.
    let normalisation = Normalisation::new([0.5, 0.25], [0.5, 0.5]).unwrap();
    let normalised = draws(&images.normalised(&normalisation).unwrap(), both, 5);
    for (normalised, raw) in normalised.iter().zip(draws(&images, both, 5)) {
        for (i, (&normalised, raw)) in normalised.iter().zip(raw).enumerate() {
            assert_eq!(normalised, (raw - [0.5, 0.25][i / 4]) / 0.5);
        }
    }

    let shape = Shape::new(1, 8, 9);
    let padded = |crop_padding| Augment { crop_padding, flip }.check(shape);
    padded(7).unwrap();
    let error = padded(8).unwrap_err().to_string();
    assert!(error.contains("augment.crop_padding: found 8, expected less than 8"), "{error}");
}

//! Damaged files and command lines: whatever is in them, there is a result or an error that names
//! the file, no panic, no memory that the file does not justify, and no hang.
//!
//! `EVOSPIKE_FUZZ` is the number of inputs for each reader; slow ones get a part of it. The inputs
//! are the same every time. One that fails stays in `target/tmp`.

#[path = "../common/checkpoint.rs"]
mod checkpoint;
#[path = "../common/cifar.rs"]
mod cifar_files;
mod command_line;
mod harness;
mod mutate;
#[path = "../common/reliability.rs"]
mod reliability;

use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use cifar_files::{archive, pickle};
use evospike::Error;
use evospike::data::Cifar10;
use evospike::data::{Classify, Mnist, TrainTest, Whole};
use evospike::prelude::*;
use evospike::report::AccuracyRow;
use evospike::reproduce::{ThresholdsInput, ThresholdsSettings, thresholds};
use evospike::simulate::SpikingNetwork;
use flate2::{Compression, Crc, read::GzDecoder, write::GzEncoder, write::ZlibEncoder};
use harness::{Reader, alone};
use image::{DynamicImage, ImageFormat, Luma, Rgb};
use mutate::{Rng, bytes, text, value};
use rand::RngExt;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Beside a file's own bytes: buffers, and what the reader's other files take.
const LITTLE: usize = 256 << 10;
/// What a byte of deflate can stand for.
const INFLATION: usize = 1032;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn reader(name: &'static str, files: Vec<(PathBuf, Vec<u8>)>, memory: [usize; 2]) -> Reader {
    Reader { name, files, named: None, share: 1, memory }
}

/// A reader of one file, which is there.
fn of_file(name: &'static str, path: &Path, memory: [usize; 2]) -> Reader {
    reader(name, vec![(path.into(), fs::read(path).unwrap())], memory)
}

#[test]
fn cifar() {
    let _alone = alone();
    let folder = folder();
    let root = folder.path().to_owned();
    let record = |labels: &[u8]| -> Vec<u8> {
        let pixels = (0..3072).map(|i| (i * 7) as u8);
        labels.iter().copied().chain(pixels).collect()
    };
    let names = (1..6).map(|number| format!("data_batch_{number}.bin"));
    let names = names.chain(["test_batch.bin".into()]);
    let files = names.map(|name| (root.join(name), [record(&[3]), record(&[9])].concat()));
    let ten = reader("CIFAR-10", files.collect(), [8, LITTLE]);
    let files = ["train.bin", "test.bin"].map(|name| (root.join(name), record(&[19, 99])));
    let hundred = reader("CIFAR-100", files.to_vec(), [8, LITTLE]);
    let from = root.clone();
    ten.fuzz(bytes, move || data::cifar10(&from).map(drop));
    let from = root.clone();
    hundred.fuzz(bytes, move || data::cifar100(&from).map(drop));

    let root = root.join("python");
    fs::create_dir(&root).unwrap();
    let pickles = [("train", pickle(2, "fine_labels")), ("test", pickle(1, "fine_labels"))];
    let files = pickles.clone().map(|(name, bytes)| (root.join(name), bytes)).to_vec();
    let from = root.clone();
    // Most of a good file is pixels.
    let mutate = |rng: &mut Rng, good: &[u8]| {
        let pixels = good.windows(4).position(|part| part == b"tb\x89T").unwrap_or(0);
        match rng.random_range(0..4) {
            0 => bytes(rng, good),
            _ => [bytes(rng, &good[..pixels]), good[pixels..].to_vec()].concat(),
        }
    };
    reader("pickle", files, [256, LITTLE]).fuzz(mutate, move || data::cifar100(&from).map(drop));

    let path = root.join("archive.tar.gz");
    let reader =
        reader("archive", vec![(path.clone(), archive(&pickles))], [256 * INFLATION, LITTLE]);
    let mutate = |rng: &mut Rng, good: &[u8]| match rng.random_range(0..4) {
        0 => bytes(rng, good),
        _ => gzip(&bytes(rng, &unpacked(good))),
    };
    reader.fuzz(mutate, move || data::cifar100(&path).map(drop));
}

type Tiny = Classify<1, 2, 3>;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut all).unwrap();
    all
}

#[test]
fn idx() {
    let _alone = alone();
    let folder = folder();
    let [images, labels] = ["images", "labels"].map(|name| folder.path().join(name));
    let pixels = [&[0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 2][..], &[7; 20]].concat();
    let classes = vec![0, 0, 8, 1, 0, 0, 0, 5, 0, 1, 2, 1, 0];
    let (one, other) = (images.clone(), labels.clone());
    let read = move || data::idx_files::<Tiny>(&one, &other).map(drop);
    let plain = vec![(images.clone(), pixels.clone()), (labels.clone(), classes.clone())];
    reader("IDX", plain, [8, LITTLE]).fuzz(bytes, read.clone());

    let packed = vec![(images, gzip(&pixels)), (labels, gzip(&classes))];
    let mutate = |rng: &mut Rng, good: &[u8]| match rng.random_range(0..32) {
        // Zeros, which take next to no bytes, and a header that promises them or more.
        0 => {
            let mut bomb = unpacked(good);
            let size = rng.random_range(0..1 << 22);
            let promised: u32 = if rng.random() { size / 4 } else { u32::MAX };
            bomb[4..8].copy_from_slice(&promised.to_be_bytes());
            bomb.resize(bomb.len() + size as usize, 0);
            gzip(&bomb)
        }
        1..12 => gzip(&bytes(rng, &unpacked(good))),
        _ => bytes(rng, good),
    };
    reader("gzip", packed, [3 * INFLATION, LITTLE]).fuzz(mutate, read);
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// PNG of changed chunks, whose sizes and checksums are right.
fn png(rng: &mut Rng, good: &[u8]) -> Vec<u8> {
    let (mut chunks, mut rest) = (Vec::new(), &good[8..]);
    while let [a, b, c, d, after @ ..] = rest {
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        chunks.push((after[..4].to_vec(), after[4..4 + size].to_vec()));
        rest = &after[8 + size..];
    }
    for _ in 0..rng.random_range(1..3) {
        let at = rng.random_range(0..chunks.len());
        let (kind, data) = &mut chunks[at];
        match rng.random_range(0..8) {
            0 => *kind = bytes(rng, kind),
            1 => drop(chunks.remove(at)),
            2 => chunks.insert(rng.random_range(0..=at), chunks[at].clone()),
            3 if kind == b"IDAT" => {
                let mut pixels = Vec::new();
                let _ = flate2::read::ZlibDecoder::new(&**data).read_to_end(&mut pixels);
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&bytes(rng, &pixels)).unwrap();
                *data = encoder.finish().unwrap();
            }
            _ => *data = bytes(rng, data),
        }
        if chunks.is_empty() {
            break;
        }
    }
    let mut bad = good[..8].to_vec();
    for (kind, data) in &chunks {
        let mut sum = Crc::new();
        bad.extend((data.len() as u32).to_be_bytes());
        for part in [kind, data] {
            sum.update(part);
            bad.extend(part);
        }
        bad.extend(sum.sum().to_be_bytes());
    }
    bad
}

#[test]
fn images() {
    let _alone = alone();
    let folder = folder();
    let root = folder.path().to_owned();
    let picture =
        image::RgbImage::from_fn(24, 20, |x, y| Rgb([x * 9, y * 9, x + y].map(|v| v as u8)));
    let picture = DynamicImage::from(picture);
    let grey = image::GrayImage::from_fn(9, 8, |x, y| Luma([(x * y) as u8]));
    let grey = DynamicImage::from(grey);
    for class in ["a", "b"] {
        fs::create_dir(root.join(class)).unwrap();
        fs::write(root.join(class).join("0.png"), encoded(&grey, ImageFormat::Png)).unwrap();
    }
    let variants = |name: &str, images: Vec<Vec<u8>>| {
        let path = root.join("b").join(name);
        let files: Vec<_> = images.into_iter().map(|image| (path.clone(), image)).collect();
        files
    };
    let kinds = [
        grey.clone(),
        picture.clone(),
        picture.to_rgba8().into(),
        picture.to_rgb16().into(),
        grey.to_luma_alpha8().into(),
    ];
    let kinds = kinds.iter().map(|image| encoded(image, ImageFormat::Png));
    let from = root.clone();
    let read = move || data::class_folders::<Classify<3, 8, 2>>(&from).map(drop);
    // Up to eight pixels of one bit for a byte, each decoded to four bytes, and copies of them.
    let memory = [8 * INFLATION * 4 * 3, LITTLE];
    let mutate = |rng: &mut Rng, good: &[u8]| match rng.random() {
        true => png(rng, good),
        false => bytes(rng, good),
    };
    reader("PNG", variants("1.png", kinds.collect()), memory).fuzz(mutate, read.clone());
    fs::remove_file(root.join("b/1.png")).unwrap();

    let [colour, plain] = [&picture, &grey].map(|image| encoded(image, ImageFormat::Jpeg));
    // Called progressive, which it is not: the way to the code for those that are.
    let mut progressive = colour.clone();
    let frame = progressive.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    progressive[frame + 1] = 0xc2;
    let files = variants("1.jpg", vec![colour, plain, progressive]);
    reader("JPEG", files, memory).fuzz(bytes, read);
}

mod networks {
    use evospike::data::Cifar10;
    use evospike::prelude::*;

    network! {
        pub Small for Digits = (
            (Conv3x3<1, 2, 8>, BatchNorm<2, 8>, AvgPool2<2, 8, 4>, Relu),
            (Flatten<2, 4, 32>, UnbiasedLinear<32, 10>),
        );
    }
    network! {
        pub Coloured for Cifar10 = (
            (Flatten<3, 32, 3072>, UnbiasedLinear<3072, 4>, Relu),
            UnbiasedLinear<4, 10>,
        );
    }
}
use networks::{Coloured, Small};

/// Header and tensors of a safetensors file.
fn parts(good: &[u8]) -> (Value, Vec<u8>) {
    let (header, tensors) = checkpoint::parts(good).unwrap();
    (header, tensors.to_vec())
}

#[test]
fn safetensors() {
    let _alone = alone();
    let folder = folder();
    let path = folder.path().join("small.safetensors");
    Ann::<Small>::new(0).unwrap().save(&path, &Names::own()).unwrap();
    let mutate = |rng: &mut Rng, good: &[u8]| match rng.random_range(0..4) {
        0 => {
            let (header, tensors) = parts(good);
            checkpoint::joined(header.to_string().as_bytes(), &bytes(rng, &tensors))
        }
        1..3 => {
            let (header, tensors) = parts(good);
            checkpoint::joined(&text(rng, header.to_string().as_bytes()), &tensors)
        }
        _ => bytes(rng, good),
    };
    let good = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&good).unwrap();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = file
        .iter()
        .map(|(name, tensor)| {
            let floats = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
            let halves = floats.flat_map(|x| half::f16::from_f32(x).to_le_bytes());
            (name.into(), tensor.shape().into(), halves.collect())
        })
        .collect();
    let half = tensors.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap())
    });
    let half = safetensors::serialize(half, None).unwrap();
    let files = [good.clone(), half].map(|bytes| (path.clone(), bytes)).to_vec();
    let reader = reader("safetensors", files, [64, LITTLE]);
    reader.fuzz(mutate, move || Ann::<Small>::load(&path, &Names::own()).map(drop));
}

/// A checkpoint with something changed, mostly under a checksum that is right.
fn checkpoint(rng: &mut Rng, good: &[u8]) -> Vec<u8> {
    let (mut header, mut tensors) = parts(good);
    let mut said = checkpoint::said(good).unwrap().into_bytes();
    match rng.random_range(0..6) {
        0 => return bytes(rng, good),
        1 => tensors = bytes(rng, &tensors),
        2 => value(rng, &mut header),
        _ => said = text(rng, &said),
    }
    checkpoint::forged(header, &tensors, &String::from_utf8_lossy(&said))
}

/// Few digits, for networks that are trained in no time.
fn digits() -> Split<Digits> {
    let digits = data::digits().unwrap();
    let mut parts = digits.split(Shares::default(), 0).unwrap();
    parts.training = parts.training.take(4);
    parts.held_out = parts.held_out.take(6);
    parts
}

#[test]
fn checkpoints_of_training() {
    let _alone = alone();
    let folder = folder();
    let path = folder.path().join("small.checkpoint");
    let images = digits().training;
    let settings = TrainSettings { epochs: 2, batch: 4, ..TrainSettings::default() };
    let (file, its) = (path.clone(), images.clone());
    let train = move || {
        let mut ann = Ann::<Small>::new(0)?;
        match Resume::at(&file).train(&mut ann, &its, &settings) {
            Err(Error::Diverged { .. }) => Ok(()), // of finite weights that could be anyone's
            trained => trained.map(drop),
        }
    };
    train().unwrap();
    of_file("training checkpoint", &path, [64, 8 << 20]).fuzz(checkpoint, train);

    let path = folder.path().join("through-time.checkpoint");
    let ann = Ann::<Small>::new(0).unwrap();
    let snn = convert(&ann, &images).unwrap();
    let snn = snn.balance(Balance::Max).unwrap();
    let mut settings = HybridSettings { timesteps: 2, ..HybridSettings::default() };
    (settings.train.epochs, settings.train.batch) = (2, 4);
    let file = path.clone();
    let train = move || match Resume::at(&file).train_through_time(&snn, &images, &settings) {
        Err(Error::Diverged { .. }) => Ok(()),
        trained => trained.map(drop),
    };
    train().unwrap();
    let mut reader = of_file("through-time checkpoint", &path, [64, 8 << 20]);
    reader.share = 4;
    reader.fuzz(checkpoint, train);
}

#[test]
fn checkpoints_of_evolution() {
    let _alone = alone();
    let folder = folder();
    let path = folder.path().join("small.evolution");
    let parts = digits();
    let ann = Ann::<Small>::new(0).unwrap();
    let conversion = convert(&ann, &parts.training).unwrap();
    let snn = conversion.balance(Balance::Max).unwrap();
    let target = ann.target(&parts.held_out, 0.0).unwrap();
    let searches = [Search::De(DeSettings::default()), Search::CmaEs(CmaEsSettings::default())];
    let [de, cma] = searches.map(|search| EvolveSettings {
        batch: matches!(search, Search::CmaEs(_)).then_some(3),
        search,
        generations: 2,
        timesteps: 4,
        ..EvolveSettings::default()
    });
    for (name, settings) in [("evolution checkpoint", de), ("CMA-ES checkpoint", cma)] {
        let (file, snn, held_out, target) =
            (path.clone(), snn.clone(), parts.held_out.clone(), target.clone());
        let evolve = move || {
            let resume = Resume::at(&file);
            resume.evolve(&snn, &held_out, &target, &settings).map(drop)
        };
        evolve().unwrap();
        let mut reader = of_file(name, &path, [256, LITTLE]);
        reader.share = 2;
        reader.fuzz(checkpoint, evolve);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn steps_of_experiments() {
    let _alone = alone();
    let folder = folder();
    let root = folder.path().to_owned();
    let ann = Ann::<Coloured>::new(0).unwrap();
    let images = |count: usize| {
        let pixels: Vec<u8> = (0..count * 3072).map(|i| (i * i % 251) as u8).collect();
        let images = Images::<Whole, Cifar10>::from_arrays(pixels.clone(), vec![0; count]);
        let logits = ann.logits(&images.unwrap()).unwrap();
        let labels = logits.iter().map(|logits| metrics::predict(logits) as u16);
        Images::<Whole, Cifar10>::from_arrays(pixels, labels.collect()).unwrap()
    };
    let data = TrainTest::new(images(30), images(10)).unwrap();
    let list = root.join("held-out.txt");
    fs::write(&list, "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n").unwrap();
    let usual = ThresholdsSettings::default();
    let settings = ThresholdsSettings {
        seeds: vec![0],
        initial: vec![0.5],
        balance_images: 10,
        percentiles: vec![100.0],
        channel_percentiles: vec![100.0],
        calibrations: vec![2],
        baseline_images: 10,
        timesteps: 4,
        evolution: EvolveSettings {
            generations: 1,
            timesteps: 4,
            batch: Some(5),
            ..usual.evolution.clone()
        },
        margin_points: 1.0,
        sweep_points: 2,
        reported_margins: vec![1.0],
        test_images: 10,
        ..usual
    };
    let out = root.join("out");
    let into = out.clone();
    let run = move || {
        let input = ThresholdsInput { ann: &ann, data: &data, held_out_list: &list };
        thresholds(&input, &settings, &into, &AtomicBool::new(false)).map(drop)
    };
    run().unwrap();
    let files = fs::read_dir(out.join(".checkpoints")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let files = files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap()));
    let reader = Reader {
        // A step that says something else makes other networks, and their evolution's checkpoint
        // is then of another one.
        named: Some(out),
        share: 20,
        ..reader("experiment checkpoint", files.collect(), [256, 16 << 20])
    };
    reader.fuzz(checkpoint, run);
}

#[test]
fn tables() {
    let _alone = alone();
    let folder = folder();
    let path = folder.path().join("sweep.csv");
    let file = path.clone();
    let sweep = move || {
        let sweep = Sweep::new().axis("x", [0.5, 1.5]).axis("name", ["a", "b"]);
        let swept = sweep.run(&file, "x", ["one", "two"], |&(x, _)| Ok([Some(x), None]))?;
        // Of numbers that cannot be drawn it is an error, which has no file to name.
        let _ = swept.heat_map("one", "x", "name");
        Ok(())
    };
    sweep().unwrap();
    of_file("sweep CSV", &path, [128, LITTLE]).fuzz(bytes, sweep.clone());
    fs::remove_file(&path).unwrap();
    sweep().unwrap();

    // The key beside the table, which is the file to delete and so is named.
    let named = Some(path.clone());
    let key = folder.path().join("sweep.csv.key");
    let reader = of_file("sweep key", &key, [256, LITTLE]);
    Reader { named, ..reader }.fuzz(checkpoint, sweep.clone());

    let [path, other] = ["1 of 2.csv", "2 of 2.csv"].map(|name| folder.path().join(name));
    for (k, path) in [(1, &path), (2, &other)] {
        let grid = Sweep::new().axis("x", [0.5, 1.5]).axis("name", ["a", "b"]);
        let shard = grid.shard(k, 2).unwrap();
        let swept = shard.run(path, "x", ["one"], |&(x, _)| Ok([Some(x)]));
        swept.unwrap();
    }
    let all = folder.path().join("all.csv");
    let mut reader = of_file("CSV of a shard", &path, [128, LITTLE]);
    let named = Some(folder.path().to_owned()); // of two rows that differ, the second one's file
    reader.named = named.clone();
    let merge = {
        let path = path.clone();
        move || match evospike::sweep::merge([&path, &other], &all) {
            Err(Error::Parameter { .. }) => Ok(()), // a combination is missing, in no file
            merged => merged,
        }
    };
    reader.fuzz(bytes, merge.clone());
    let good = "point,x,name,one,error\n1/4,0.5,a,0.5,\n3/4,1.5,a,1.5,\n";
    fs::write(&path, good).unwrap();
    let key = folder.path().join("1 of 2.csv.key");
    let reader = of_file("key of a shard", &key, [256, LITTLE]);
    Reader { named, ..reader }.fuzz(checkpoint, merge);

    let path = folder.path().join("accuracy.csv");
    let curve = metrics::AccuracyCurve::new(4, vec![1, 3, 4]).unwrap();
    write_csv(&path, AccuracyRow::of(0, "evolved", &curve)).unwrap();
    let reader = of_file("result CSV", &path, [128, LITTLE]);
    reader.fuzz(bytes, move || {
        let rows: Vec<AccuracyRow> = read_csv(&path)?;
        let _ = AccuracyRow::curve(&rows, 0, "evolved"); // knows no file
        Ok(())
    });
}

#[test]
fn held_out_lists() {
    let _alone = alone();
    let folder = folder();
    let path = folder.path().join("held-out.txt");
    fs::write(&path, "0\n3\n1\n17\n9\n12\n").unwrap();
    let images = || Images::<Whole, Mnist>::from_arrays(vec![0; 20 * 784], vec![1; 20]).unwrap();
    let data = TrainTest::new(images(), images()).unwrap();
    let reader = of_file("held-out list", &path, [64, LITTLE]);
    reader.fuzz(bytes, move || data.hold_out_listed(&path, 0).map(drop));
}

#[cfg(feature = "onnx")]
mod onnx {
    use super::*;
    use evospike::onnx::Onnx;
    use mutate::{NUMBERS, pick};

    /// Message of ONNX, by which a field is a message too.
    #[derive(Clone, Copy)]
    enum Message {
        Model,
        Graph,
        Node,
        Attribute,
        Port,
        Type,
        TensorType,
        Shape,
        Other,
    }

    fn inner(message: Message, field: u64) -> Option<Message> {
        use Message::*;
        Some(match (message, field) {
            (Model, 7) => Graph,
            (Model, 8) | (Shape, 1) => Other,
            (Graph, 1) => Node,
            (Graph, 5) | (Attribute, 5) => Other,
            (Graph, 11 | 12) => Port,
            (Node, 5) => Attribute,
            (Port, 2) => Type,
            (Type, 1) => TensorType,
            (TensorType, 2) => Shape,
            _ => return None,
        })
    }

    #[derive(Clone)]
    enum Field {
        Number(u64),
        Fixed(usize, Vec<u8>),
        Bytes(Vec<u8>),
    }

    fn varint(rest: &mut &[u8]) -> Option<u64> {
        let mut number = 0;
        for place in 0..10 {
            let (&byte, after) = rest.split_first()?;
            *rest = after;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn put(mut number: u64, to: &mut Vec<u8>) {
        while number > 0x7f {
            to.push(number as u8 | 0x80);
            number >>= 7;
        }
        to.push(number as u8);
    }

    fn read(mut rest: &[u8]) -> Option<Vec<(u64, Field)>> {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let tag = varint(&mut rest)?;
            let mut take = |size: usize| {
                let (taken, after) = rest.split_at_checked(size)?;
                rest = after;
                Some(taken.to_vec())
            };
            let field = match tag & 7 {
                1 => Field::Fixed(1, take(8)?),
                5 => Field::Fixed(5, take(4)?),
                2 => {
                    let size = varint(&mut rest)? as usize;
                    let (taken, after) = rest.split_at_checked(size)?;
                    rest = after;
                    Field::Bytes(taken.to_vec())
                }
                _ => Field::Number(varint(&mut rest)?),
            };
            fields.push((tag >> 3, field));
        }
        Some(fields)
    }

    fn write(fields: &[(u64, Field)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, field) in fields {
            match field {
                Field::Number(value) => {
                    put(number << 3, &mut bytes);
                    put(*value, &mut bytes);
                }
                Field::Fixed(kind, value) => {
                    put(number << 3 | *kind as u64, &mut bytes);
                    bytes.extend(value);
                }
                Field::Bytes(value) => {
                    put(number << 3 | 2, &mut bytes);
                    put(value.len() as u64, &mut bytes);
                    bytes.extend(value);
                }
            }
        }
        bytes
    }

    /// Changes a field of a message, or of one within it, under lengths that stay right.
    fn change(rng: &mut Rng, message: Message, good: &[u8]) -> Vec<u8> {
        let Some(mut fields) = read(good).filter(|fields| !fields.is_empty()) else {
            return bytes(rng, good);
        };
        let at = rng.random_range(0..fields.len());
        let other = pick(rng, &fields).clone();
        let (number, field) = &mut fields[at];
        if let (Some(within), Field::Bytes(value)) = (inner(message, *number), &mut *field)
            && rng.random_range(0..8) > 0
        {
            *value = change(rng, within, value);
            return write(&fields);
        }
        match (rng.random_range(0..8), &mut *field) {
            (0, _) => drop(fields.remove(at)),
            (1, _) => fields.insert(at, other),
            // Names of other nodes, which make circles, and weights of others.
            (2..5, field) => *field = other.1,
            (_, Field::Number(value)) => *value = *pick(rng, &NUMBERS),
            (5, field) => *field = Field::Number(*pick(rng, &NUMBERS)),
            (_, Field::Fixed(_, value) | Field::Bytes(value)) => {
                let size = value.len();
                let changed = bytes(rng, value);
                match field {
                    Field::Fixed(_, value) => (0..size).for_each(|i| {
                        value[i] = changed.get(i).copied().unwrap_or_default();
                    }),
                    field => *field = Field::Bytes(changed),
                }
            }
        }
        write(&fields)
    }

    #[test]
    fn networks() {
        let _alone = alone();
        let folder = folder();
        let path = folder.path().join("network.onnx");
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx");
        fs::copy(data.join("external.data"), folder.path().join("external.data")).unwrap();
        let names = ["parts", "keras", "windows", "resnet", "external", "half", "dynamo", "signal"];
        let files = names
            .map(|name| (path.clone(), fs::read(data.join(name).with_extension("onnx")).unwrap()));
        let read = move || {
            let onnx = Onnx::read(&path, None)?;
            let _ = (onnx.table(), onnx.source()); // of a network that is read, without a file
            Ok(())
        };
        let memory = [128, LITTLE];
        reader("ONNX", files.to_vec(), memory).fuzz(bytes, read.clone());
        let forge = |rng: &mut Rng, good: &[u8]| {
            let times = rng.random_range(1..4);
            (0..times).fold(good.to_vec(), |bad, _| change(rng, Message::Model, &bad))
        };
        reader("ONNX graph", files.to_vec(), memory).fuzz(forge, read);
    }
}

#[cfg(feature = "nir")]
mod nir {
    use super::*;
    use evospike::ann::graph::Graph;
    use evospike::ann::layers::{CHANNELS_FIRST, Layer};
    use evospike::data::Shape;
    use hdf5_pure::{FileBuilder, GroupBuilder};

    /// Objects are groups, lists are datasets, and so is what is neither.
    fn group(group: &mut GroupBuilder, value: &Value) {
        for (name, value) in value.as_object().into_iter().flatten() {
            if value.is_object() {
                let mut inner = group.create_group(name);
                self::group(&mut inner, value);
                group.add_group(inner.finish());
                continue;
            }
            let (mut shape, mut items) = (Vec::new(), vec![value]);
            while let Some(Value::Array(first)) = items.first() {
                shape.push(first.len() as u64);
                items =
                    items.iter().flat_map(|item| item.as_array().into_iter().flatten()).collect();
            }
            if shape.iter().product::<u64>() != items.len() as u64 {
                shape = vec![items.len() as u64];
            }
            let wholes: Option<Vec<i64>> = items.iter().map(|item| item.as_i64()).collect();
            let floats: Option<Vec<f64>> = items.iter().map(|item| item.as_f64()).collect();
            let dataset = group.create_dataset(name);
            match (wholes, floats) {
                (Some(wholes), _) => dataset.with_i64_data(&wholes).with_shape(&shape),
                (_, Some(floats)) => dataset.with_f64_data(&floats).with_shape(&shape),
                _ => {
                    let text = |item: &&Value| item.as_str().unwrap_or("null").to_owned();
                    let texts: Vec<String> = items.iter().map(text).collect();
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    dataset.with_vlen_strings(&texts).with_shape(&shape)
                }
            };
        }
    }

    fn file(graph: &Value) -> Option<Vec<u8>> {
        let mut file = FileBuilder::new();
        let mut root = file.create_group("node");
        group(&mut root, graph);
        file.add_group(root.finish());
        file.finish().ok()
    }

    fn chain(nodes: &[(&str, Value)]) -> Value {
        let names: Vec<&str> = nodes.iter().map(|(name, _)| *name).collect();
        let edges: Vec<_> = names.windows(2).collect();
        let nodes: serde_json::Map<_, _> =
            nodes.iter().map(|(name, node)| (name.to_string(), node.clone())).collect();
        json!({"type": "NIRGraph", "edges": edges, "nodes": nodes, "metadata": {"dt": 1e-4}})
    }

    /// A graph of every kind of node, or one whose few bytes ask for much.
    fn graph(rng: &mut Rng) -> Value {
        let neurons = json!({"type": "LIF", "r": 1.0, "tau": 1e-4, "v_leak": 0.0,
            "v_threshold": 1.0, "v_reset": 0.0});
        let plain = json!({"type": "IF", "r": 1e4, "v_threshold": [0.5]});
        let conv = |weight: Value| {
            json!({"type": "Conv2d", "weight": weight, "bias": [0.5], "stride": [1, 1],
            "padding": [0, 0], "dilation": [1, 1], "groups": 1, "input_shape": [4, 4]})
        };
        let pool = |kind: &str, side: usize| {
            json!({"type": kind, "kernel_size": [side, side], "stride": [side, side],
            "padding": [0, 0]})
        };
        let flatten = json!({"type": "Flatten", "start_dim": 0, "end_dim": -1});
        let affine = json!({"type": "Affine", "weight": [[1.0], [0.5]], "bias": [0.5, 0.25]});
        let many = 1usize << rng.random_range(0..24);
        let side = 1usize << rng.random_range(0..12);
        let shape = |sizes: &[usize], kind: &str| json!({"type": kind, "shape": sizes});
        match rng.random_range(0..8) {
            0 => chain(&[
                ("in", shape(&[many], "Input")),
                ("a", plain),
                ("out", shape(&[many], "Output")),
            ]),
            1 => chain(&[
                ("in", shape(&[1, side, side], "Input")),
                ("a", conv(json!([[[[1.0]]]]))),
                ("b", pool("AvgPool2d", side)),
                ("c", plain),
                ("d", flatten),
                ("e", affine),
                ("out", shape(&[2], "Output")),
            ]),
            _ => chain(&[
                ("in", shape(&[1, 4, 4], "Input")),
                ("a", conv(json!([[[[1.0, 0.5], [0.25, -1.0]]]]))),
                ("b", neurons),
                ("c", json!({"type": "Scale", "scale": 0.5})),
                ("d", conv(json!([[[[1.0, 0.5], [0.25, -1.0]]]]))),
                ("e", pool("SumPool2d", 2)),
                ("f", plain),
                ("g", flatten),
                ("h", affine),
                ("out", shape(&[2], "Output")),
            ]),
        }
    }

    fn ours() -> Vec<u8> {
        let folder = folder();
        let path = folder.path().join("ours.nir");
        let linear = |inputs: usize, outputs: usize| Layer::Linear {
            weight: (0..inputs * outputs).map(|i| i as f32 - 2.5).collect(),
            bias: Some(vec![0.5; outputs]),
            inputs,
            outputs,
            order: CHANNELS_FIRST,
        };
        let layers = [linear(4, 3), Layer::Neurons, linear(3, 2)];
        let neurons = vec![Neurons::new([0.5, 0.75, 1.0])];
        let network = SpikingNetwork::new(Graph::chain(Shape::new(4, 1, 1), layers), neurons);
        network.unwrap().save(&path).unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn graphs() {
        let _alone = alone();
        let folder = folder();
        let path = folder.path().join("graph.nir");
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let python = ["python", "hdf5/half", "hdf5/bfloat"].map(|name| {
            let packed = fs::read(data.join(name).with_extension("nir.gz")).unwrap();
            (path.clone(), unpacked(&packed))
        });
        let files = [python.to_vec(), vec![(path.clone(), ours())]].concat();
        let read = move || SpikingNetwork::load(&path, None).map(drop);
        let memory = [INFLATION * 3, 16 << 20];
        let mut damaged = reader("NIR", files.clone(), memory);
        damaged.share = 2;
        damaged.fuzz(bytes, read.clone());
        let mut forged = reader("NIR graph", files, memory);
        forged.share = 2;
        let forge = |rng: &mut Rng, good: &[u8]| {
            let mut graph = graph(rng);
            (0..rng.random_range(0..4)).for_each(|_| value(rng, &mut graph));
            file(&graph).unwrap_or_else(|| good.to_vec())
        };
        forged.fuzz(forge, read);
    }
}

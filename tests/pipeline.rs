//! The whole pipeline, small: same results at any number of threads, and the command line.

#[path = "common/cifar.rs"]
mod cifar;

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use evospike::evolve::Stopping;
use evospike::prelude::*;
use evospike::reproduce::{DigitsSettings, FashionSettings, NeuronLatencyRow, digits, fashion};

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .filter(|(name, _)| name != "timing.csv") // wall-clock times
        .collect()
}

fn small() -> DigitsSettings {
    let mut settings = DigitsSettings { seeds: vec![0, 7], ..DigitsSettings::default() };
    settings.training.epochs = 4;
    settings.evolution.generations = 2;
    settings.evolution.search = Search::De(DeSettings { population: 1, ..DeSettings::default() });
    settings.evolution.timesteps = 20;
    settings
}

#[test]
fn the_same_seed_gives_the_same_files_at_any_number_of_threads() {
    let run = |threads: usize| {
        let folder = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let report = pool.build().unwrap().install(|| digits(&small(), folder.path()));
        assert_eq!(report.unwrap().rows.len(), 6); // two seeds, three margins
        files(folder.path())
    };
    let one = run(1);
    assert_eq!(one.len(), 9);
    // What they are results of.
    let text = std::str::from_utf8(&one["settings.json"]).unwrap();
    for name in ["version", "evospike", "images_checksums", "weights_checksums", "seeds"] {
        assert!(text.contains(&format!("\"{name}\": ")), "no {name}: {text}");
    }
    assert!(one == run(1), "a second run differs");
    assert!(one == run(2), "two threads differ from one");
}

/// The main job, with little of everything.
fn small_fashion() -> FashionSettings {
    let mut settings = FashionSettings { seeds: vec![0, 3], ..FashionSettings::default() };
    (settings.held_out, settings.training.epochs) = (0.97, 1);
    let neurons = &mut settings.neurons;
    (neurons.balance_images, neurons.baseline_images, neurons.test_images) = (60, 60, 80);
    (neurons.percentiles, neurons.factor_points) = (vec![99.0], 2);
    for evolution in &mut neurons.evolutions {
        (evolution.batch, evolution.generations) = (Some(30), 1);
    }
    settings
}

#[test]
fn the_main_job_is_the_same_at_any_number_of_threads() {
    let run = |threads: usize| {
        let folder = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let settings = small_fashion();
        let stop = AtomicBool::new(false);
        let report = pool.install(|| fashion(&settings, folder.path(), &stop)).unwrap();
        assert!(report.table().to_string().contains("than plain percentile"));
        let networks = |row: &&NeuronLatencyRow| row.seed == 0 && row.margin_points == 1.0;
        let rows: Vec<&NeuronLatencyRow> = report.rows.iter().filter(networks).collect();
        // Each kind's percentile conversion, what it was evolved from, and evolved.
        assert!((4..=6).contains(&rows.len()));
        for row in rows {
            assert_eq!(row.evolution_high_percent.is_some(), row.network == "evolved");
            let first = row.neuron == "plain" && row.network == "percentile";
            assert_eq!(row.improvement_high_percent.is_none(), first);
        }
        fs::remove_dir_all(folder.path().join(".checkpoints")).unwrap();
        files(folder.path())
    };
    let one = run(1);
    assert_eq!(one.len(), 6);
    assert!(one == run(2), "two threads differ from one");
}

#[test]
fn stopping_early_finds_the_same_network() -> evospike::Result<()> {
    let digits = data::digits()?.split(Shares::default(), 0)?;
    let mut ann = Ann::<DigitsCnn>::new(0)?;
    ann.train(&digits.training, &TrainSettings { epochs: 6, ..Default::default() })?;
    let snn = convert(&ann, &digits.training)?.balance(Balance::Percentile(99.9))?;
    let target = ann.target(&digits.held_out, 2.0)?;
    for objective in [Objective::Latency, Objective::MeanLatency] {
        let run = |stopping| {
            let settings = EvolveSettings {
                search: Search::De(DeSettings { population: 2, ..DeSettings::default() }),
                objective,
                generations: 4,
                timesteps: 40,
                stopping,
                ..EvolveSettings::default()
            };
            evolve(&snn, &digits.held_out, &target, &settings)
        };
        let (early, whole) = (run(Stopping::Certain)?, run(Stopping::Never)?);
        assert_eq!(early.genes, whole.genes);
        let best = |evolution: &Evolution<DigitsCnn>| -> Vec<_> {
            let generations = evolution.generations.iter();
            generations.map(|g| (g.evaluations, g.best)).collect()
        };
        assert_eq!(best(&early), best(&whole));
        let stopped = |evolution: &Evolution<DigitsCnn>| evolution.generations[4].stopped;
        assert!(stopped(&early) > 0 && stopped(&whole) == 0);
    }
    Ok(())
}

#[test]
fn settings_that_cannot_be_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("latency.csv"), "old").unwrap();
    let good = small;
    let mut bad = Vec::new();
    for (name, change) in [
        ("seeds", (|s| s.seeds.clear()) as fn(&mut DigitsSettings)),
        ("epochs", |s| s.training.epochs = 0),
        ("timesteps", |s| s.evolution.timesteps = 0),
        ("margins_percent", |s| s.margins_percent = vec![1.0, -1.0]),
        ("recombination", |s| {
            s.evolution.search =
                Search::De(DeSettings { recombination: 2.0, ..DeSettings::default() });
        }),
        ("genome", |s| s.evolution.genome = vec![(Gene::Leak, [0.5, 1.5])]),
    ] {
        let mut settings = good();
        settings.training.epochs = 1;
        change(&mut settings);
        bad.push((name, settings));
    }
    for (name, settings) in bad {
        let error = digits(&settings, folder.path()).unwrap_err().to_string();
        assert!(error.starts_with(name), "{name}: {error}");
    }
    assert_eq!(files(folder.path()).len(), 1);
    assert_eq!(fs::read_to_string(folder.path().join("latency.csv")).unwrap(), "old");
}

fn evospike(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evospike"));
    command.args(arguments).output().unwrap()
}

#[test]
fn bad_arguments_get_one_line_and_exit_code_2() {
    for arguments in [
        &["--seeds", "x"][..],
        &["--seeds", "0,0"],
        &["--epochs", "0"],
        &["--test-images", "0"],
        &["--nonsense", "1"],
        &["reproduce", "digits", "--seeds", "0,0"],
        &["reproduce", "digits", "--timesteps", "0"],
        &["reproduce", "digits", "--population", "-1"],
        &["reproduce", "digits", "--margin", "nan"],
        &["reproduce", "digits", "--margin", "-1"],
        &["reproduce", "digits", "--margin", "0"],
        &["reproduce", "digits", "--margin", "200"],
        &["reproduce", "neurons", "--net", "mlp", "--model", "x", "--bgr"],
        &["reproduce", "neurons", "--model", "x.safetensors"],
        &["reproduce", "thresholds", "--model", "x.safetensors", "--held-out-list", "x", "--bgr"],
        &["reproduce", "thresholds", "--model=x", "--held-out-list=x", "--test-timesteps=64"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let output = evospike(&[arguments, &["--out", out.to_str().unwrap()]].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        // One line and no more: nothing was trained first.
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("error"), "{text}");
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(!out.exists(), "{arguments:?} left files");
    }
    for arguments in [
        &["--net", "nonsense"][..],
        &["--net", "digits", "--epochs", "0"],
        &["--net", "digits", "--epochs", "-1"],
        &["--net", "digits", "--learning-rate", "nan"],
        &["--net", "digits", "--warmup", "30"],
        &["--net", "digits", "--label-smoothing", "-0.1"],
        &["--net", "digits", "--momentum", "0.9"], // Adam's default
        &["--net", "digits", "--optimiser", "nesterov", "--momentum", "0"],
        #[cfg(not(feature = "cuda"))]
        &["--net", "digits", "--device", "cuda"],
        &["--net", "digits", "--data", "."],
        &["--net", "digits", "--held-out", "1"],
        &["--net", "digits", "--held-out", "0.1", "--held-out-list", "x"],
        &["--net", "vgg15"],
        &["--net", "vgg15", "--data", ".", "--format", "idx"],
        &["--net", "mnist-cnn", "--data", ".", "--format", "cifar10"],
        &["--seeds", "1", "--net", "digits"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let out = ["--out", out.to_str().unwrap()];
        let output = evospike(&[&["train"], arguments, &out].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
        assert!(text.starts_with("error"), "{text}");
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(files(folder.path()).is_empty(), "{arguments:?} left files");
    }
    let thresholds = ["reproduce", "thresholds", "--model=x", "--held-out-list=x"];
    let neurons = ["reproduce", "neurons", "--net=vgg15-half-bn", "--model=x"];
    let attacked = ["reproduce", "adversarial", "--model=x", "--held-out-list=x"];
    let explain = ["reproduce", "explain", "--model=x", "--held-out-list=x"];
    for (arguments, expected) in [
        (&["sweep", "--net", "digits", "--timesteps", "0"][..], "error: timesteps: found 0"),
        (&["sweep", "--net", "digits", "--images", "0"], "error: images: found 0"),
        (&["sweep", "--net", "digits", "--shard", "5/4"], "error: shard: found 5/4"),
        (&["sweep", "--net", "vgg15"], "error: model: found none"),
        // Before the model and the images are looked for.
        (&["reproduce", "cifar10", "--test-images=0"], "error: test_images: found 0"),
        (&[&thresholds[..], &["--test-timesteps=64"]].concat(), "error: test-timesteps: found 64"),
        (&[&thresholds[..], &["--margin=-1"]].concat(), "error: margin_points: found -1"),
        (&[&attacked[..], &["--test-images=0"]].concat(), "error: test_images: found 0"),
        (&[&explain[..], &["--margin=0"]].concat(), "error: margin_points: found 0"),
        (&[&neurons[..], &["--evolutions=3"]].concat(), "error: evolutions: found 3"),
        (&[&neurons[..], &["--timesteps=0"]].concat(), "error: timesteps: found 0"),
        (&["sweep", "merge", "nowhere.csv"], "error: nowhere.csv: No such file"),
        (&["trian"], "similar subcommand exists: 'train' (see --help)"),
        (&["--seed", "1"], "similar argument exists: '--seeds' (see --help)"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new");
        let output = evospike(&[arguments, &["--out", out.to_str().unwrap()]].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected) && text.lines().count() == 1, "{text}");
        assert!(!output.status.success() && files(folder.path()).is_empty(), "{arguments:?}");
        // What looks like a folder is no file, and nothing is measured for it.
        if arguments.contains(&"digits") {
            let out = out.to_str().unwrap().to_owned() + "/";
            let output = evospike(&["sweep", "--net", "digits", "--out", &out]);
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(text.starts_with("error: out: found ") && !Path::new(&out).exists(), "{text}");
        }
    }
    // Names that leave no room for those of the files beside them, found before any work.
    for (arguments, bytes) in
        [(["train", "--net", "digits"], 243), (["sweep", "--net", "digits"], 252)]
    {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("x".repeat(bytes));
        let output = evospike(&[&arguments[..], &["--out", out.to_str().unwrap()]].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        let expected = format!("error: out: found a name of {bytes} bytes, expected at most ");
        assert!(text.starts_with(&expected) && files(folder.path()).is_empty(), "{text}");
    }
    let alone = String::from_utf8(evospike(&["reproduce"]).stderr).unwrap();
    assert!(alone.contains("thresholds") && alone.contains("comparison"), "{alone}");
    // The command names what is missing, not a warm-up that nobody asked for.
    let no_data = ["--net", "vgg15-quarter-bn", "--epochs", "1", "--data", "nowhere", "--out", "x"];
    let output = evospike(&[&["train"][..], &no_data].concat());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("error: nowhere: "), "{text}");
    assert_eq!(output.status.code(), Some(1));
    let no_file = ["train", "--net", "digits", "--out", "/dev/null"];
    let text = String::from_utf8(evospike(&no_file).stderr).unwrap();
    assert!(text.starts_with("error: out: found /dev/null"), "{text}");
    let nowhere = evospike(&["--out", "/dev/null/x"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(evospike(&["--help"]).status.success());
    assert!(evospike(&["train", "--help"]).status.success());
}

#[test]
fn training_resumes_by_the_same_command() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    let scheduled = |out: &Path, epochs: &str, more: &[&str]| {
        let out = out.to_str().unwrap();
        let net = ["train", "--net", "mlp", "--epochs", epochs, "--seed", "3", "--out", out];
        evospike(&[&net, more].concat())
    };
    let train = |out: &Path, epochs: &str| scheduled(out, epochs, &[]);
    let output = train(&one, "2");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("test accuracy: 9"), "{text}");
    assert!(train(&two, "2").status.success());
    let written = files(folder.path());
    let names: Vec<_> = written.keys().collect();
    assert_eq!(names, ["one", "one.checkpoint", "two", "two.checkpoint"]);
    assert!(written["one"] == written["two"]);
    Ann::<networks::Mlp>::load(&one, &Names::own()).unwrap();
    // Another seed holds out images that this network was trained on.
    let sweep = |seed: &str| {
        let table = folder.path().join("sweep.csv");
        let net = ["sweep", "--net", "mlp", "--seed", seed, "--timesteps", "2", "--images", "9"];
        let files = ["--model", one.to_str().unwrap(), "--out", table.to_str().unwrap()];
        let output = evospike(&[&net[..], &files].concat());
        for file in ["sweep.csv", "sweep.csv.key"] {
            let _ = fs::remove_file(folder.path().join(file));
        }
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = sweep("4");
    assert!(code == Some(2) && text.contains("trained with the same images held out"), "{text}");
    assert_eq!(sweep("3").0, Some(0));

    fs::remove_file(&one).unwrap();
    assert!(train(&one, "2").status.success()); // from the checkpoint
    assert!(files(folder.path()) == written);
    let output = train(&one, "3");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((text.lines().count(), output.status.code()), (1, Some(1)), "{text}");
    assert!(text.contains("settings.epochs: found 2, expected 3"), "{text}");
    assert!(text.contains("only a constant schedule"), "{text}");

    // The learning rate of a constant schedule does not depend on the number of epochs.
    let [short, long] = ["short", "long"].map(|name| folder.path().join(name));
    let constant = |out: &Path, epochs: &str| scheduled(out, epochs, &["--schedule", "constant"]);
    for (out, epochs) in [(&short, "2"), (&short, "4"), (&long, "4")] {
        let output = constant(out, epochs);
        assert!(output.status.success(), "{output:?}");
    }
    let written = files(folder.path());
    assert!(written["short"] == written["long"]);
    assert!(written["short.checkpoint"] == written["long.checkpoint"]);
    let text = String::from_utf8(constant(&short, "3").stderr).unwrap();
    assert!(text.contains("epochs: found 4 done, expected at most the 3"), "{text}");
}

#[test]
fn damaged_images_are_left_out_by_choice() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for number in 0..30u8 {
        let part = if number < 20 { "train" } else { "test" };
        let class = data.join(part).join((number % 10).to_string());
        fs::create_dir_all(&class).unwrap();
        let image = image::GrayImage::from_pixel(28, 28, image::Luma([number]));
        image.save(class.join(format!("{number}.png"))).unwrap();
    }
    fs::write(data.join("train/3/damaged.png"), "no image").unwrap();
    let (out, data) = (folder.path().join("out"), data.to_str().unwrap().to_owned());
    let train = |more: &[&str]| {
        let net = ["train", "--net", "mnist-cnn", "--epochs", "1", "--held-out", "0.5"];
        let output = evospike(&[&net[..], &["--out", out.to_str().unwrap()], more].concat());
        let [said, error] = [output.stdout, output.stderr].map(|s| String::from_utf8(s).unwrap());
        (output.status.code(), said, error)
    };
    let (code, _, error) = train(&["--data", &data]);
    assert!(code == Some(1) && error.contains("train/3/damaged.png, image: found"), "{error}");
    let (code, said, _) = train(&["--data", &data, "--skip", "1"]);
    assert!(code == Some(0) && said.starts_with("1 images left out:\n  "), "{said}");
    assert!(said.lines().nth(1).unwrap().contains("train/3/damaged.png, image: found"), "{said}");
    assert!(said.contains("test accuracy: ") && said.contains("% of 10 images"), "{said}");
    let (code, _, error) = train(&["--data", &data, "--skip", "1", "--format", "idx"]);
    assert!(code == Some(2) && error.starts_with("error: skip: found 1, expected 0"), "{error}");
}

/// The format is told by the name; that it was read, by what is wrong in it.
#[test]
fn published_data_sets_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let ten: Vec<_> = (1..6).map(|i| format!("data_batch_{i}")).collect();
    let ten = ten.iter().map(|name| (&**name, cifar::pickle(11, "labels")));
    let files = ten.chain([("test_batch", cifar::pickle(1, "labels"))]).collect::<Vec<_>>();
    fs::write(path("cifar-10-python.tar.gz"), cifar::archive(&files)).unwrap();
    let files = ["train", "test"].map(|name| (name, cifar::pickle(1, "coarse")));
    fs::write(path("cifar-100-python.tar.gz"), cifar::archive(&files)).unwrap();
    fs::create_dir_all(path("tiny/tiny-imagenet-200")).unwrap();
    fs::write(path("tiny/tiny-imagenet-200/wnids.txt"), "n01443537").unwrap();
    fs::write(path("emnist-digits-train-images-idx3-ubyte"), "no images").unwrap();
    fs::write(path("emnist-digits-train-labels-idx1-ubyte"), "no labels").unwrap();
    for (net, data, expected) in [
        ("resnet20", "cifar-10-python.tar.gz", "data_batch_1, `labels`: found label 10"),
        ("resnet20", "cifar-100-python.tar.gz", "cifar-100-python.tar.gz/train"),
        ("vgg15-half-bn", "tiny", "tiny-imagenet-200/wnids.txt, classes: found 1"),
        ("resnet20", "tiny", "format: found tiny-imagenet, expected cifar10"),
        ("mnist-cnn", "emnist-digits", "emnist-digits-train-images-idx3-ubyte, byte 0"),
        ("mnist-cnn", "nowhere", "nowhere: No such file"),
    ] {
        let out = path("out");
        let output = evospike(&["train", "--net", net, "--data", &path(data), "--out", &out]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(expected) && text.lines().count() == 1, "{data}: {text}");
    }
}

/// Writes a hundred training images and five test images of a data set, as published; of
/// Tiny-ImageNet some more, as every class must have one.
fn publish(name: &str, folder: &Path) {
    let pixels = |image: usize, count: usize| {
        (0..count).map(move |place| (image * 7919 + place * place * 31) as u8)
    };
    let write = |file: String, bytes: Vec<u8>| {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    };
    if name == "tiny-imagenet" {
        let jpeg = |image: usize| {
            let pixels = pixels(image, 3 * 64 * 64).collect();
            let picture = image::RgbImage::from_raw(64, 64, pixels).unwrap();
            let mut file = Cursor::new(Vec::new());
            picture.write_to(&mut file, image::ImageFormat::Jpeg).unwrap();
            file.into_inner()
        };
        let class = |class: usize| format!("n{class:08}");
        // Every class has an image, the first one most, so that the network soon names it.
        for label in 0..200 {
            for image in 0..if label == 0 { 100 } else { 1 } {
                let class = class(label);
                write(format!("train/{class}/images/{class}_{image}.JPEG"), jpeg(label + image));
            }
        }
        (0..600).for_each(|i| write(format!("val/images/val_{i}.JPEG"), jpeg(i)));
        let class_of = |i| class(if i < 200 { i } else { 0 });
        let annotation = |i| format!("val_{i}.JPEG\t{}\t0\t0\t62\t62\n", class_of(i));
        let annotations = (0..600).map(annotation);
        write("val/val_annotations.txt".into(), annotations.collect::<String>().into());
        write("wnids.txt".into(), (0..200).map(class).collect::<Vec<_>>().join("\n").into());
        return;
    }
    // The labels before an image: its class, in CIFAR-100 after a coarser one.
    let ten = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"];
    let (labels, training, test) = match name {
        "cifar10" => (&[3][..], &ten[..], "test_batch"),
        _ => (&[7, 44][..], &["train"][..], "test"),
    };
    let images = |count: usize| {
        let image = |i| labels.iter().copied().chain(pixels(i, 3072));
        (0..count).flat_map(image).collect::<Vec<u8>>()
    };
    for file in training {
        write(format!("{file}.bin"), images(100 / training.len()));
    }
    write(format!("{test}.bin"), images(5));
}

/// As a reader runs them, on little of everything: images as published, weights and list as written.
#[test]
fn published_images_give_weights_and_both_headlines() {
    for name in ["cifar10", "cifar100", "tiny-imagenet"] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        publish(name, &folder.path().join("images"));
        let data = path("images");
        let (model, out) = (path("weights.safetensors"), path("out"));
        let train = ["train", "--net", "vgg15-half-bn", "--epochs", "12", "--held-out", "0.04"];
        let trained = evospike(&[&train[..], &["--data", &data, "--out", &model]].concat());
        assert!(trained.status.success(), "{trained:?}");
        let reproduce = ["reproduce", name, "--data", &data, "--model", &model, "--out", &out];
        let few = ["--seeds", "0", "--generations", "0", "--test-images", "5"];
        let little = [&few[..], &["--kinds", "two_levels"]].concat();
        let done = evospike(&[&reproduce[..], &little].concat());
        assert!(done.status.success(), "{done:?}");
        let [first, second] = ["comparison.csv", "neurons.csv"]
            .map(|name| fs::read_to_string(folder.path().join("out").join(name)).unwrap());
        // Of many classes, top-5 accuracies of the ANN and the networks, each of 16 timesteps.
        let top_5 = fs::read_to_string(folder.path().join("out/neurons-top-5.csv"));
        assert_eq!(
            top_5.map_or(0, |rows| rows.lines().count()),
            if name == "cifar10" { 0 } else { 1 + 16 * 6 }
        );
        // Three targets; five networks, of which the last is evolved.
        assert_eq!(second.lines().count(), 1 + 5, "{second}");
        assert!(second.lines().last().unwrap().starts_with("two_levels,evolved,0,"), "{second}");
        assert!((1..=3).all(|n| first.lines().nth(n).is_some()), "{first}");
        // Under the name of the other data set nothing is measured.
        let other = if name == "cifar10" { "cifar100" } else { "cifar10" };
        let wrong = ["reproduce", other, "--data", &data, "--model", &model, "--out", &out];
        let output = evospike(&wrong);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("error: data: found "), "{text}");
        assert_eq!(output.status.code(), Some(2), "{text}");
    }
}

//! Whole experiments on little data: the files they write, resuming, and settings they refuse.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use evospike::Error;
use evospike::ann::networks::Vgg15QuarterBn;
use evospike::data::Cifar10;
use evospike::data::{TrainTest, Whole};
use evospike::prelude::*;
use evospike::ranks;
use evospike::report::{
    AccuracyRow, AttackRow, ComparisonRow, ConvergenceRow, MethodRow, NeuronChangeRow,
    NeuronLatencyRow, Row, ThresholdRow,
};
use evospike::reproduce::{
    AdversarialSettings, AttackedBy, ComparisonSettings, ExplainSettings, NeuronRow,
    NeuronsSettings, Report, ThresholdsInput, ThresholdsSettings, adversarial, comparison, explain,
    neurons, thresholds,
};

#[cfg(unix)]
mod common {
    pub mod checkpoint;
    pub mod kills;
    #[cfg(feature = "mpi")]
    pub mod mpirun;
    pub mod reliability;
}

/// Coloured noise, labelled so that the network, which was not trained, is right on three of five.
fn images(ann: &Ann<Vgg15QuarterBn>, count: usize) -> evospike::Result<Images<Whole, Cifar10>> {
    let pixel = |i: usize, place: usize| {
        let noise = (i * 7919 + place * 104_729) % 61;
        ((i % 10 + 1) * [17, 5, 11][place / 1024] % 190 + noise) as u8
    };
    let pixels = (0..count).flat_map(|i| (0..3 * 1024).map(move |place| pixel(i, place)));
    let pixels: Vec<u8> = pixels.collect();
    let unlabelled = Images::from_arrays(pixels.clone(), vec![0; count])?;
    let logits = ann.logits(&unlabelled)?;
    let label = |(i, logits): (usize, &Vec<f32>)| {
        let predicted = metrics::predict(logits);
        (predicted + usize::from(i % 5 > 2)) as u16 % 10
    };
    let labels = logits.iter().enumerate().map(label).collect();
    Images::from_arrays(pixels, labels)
}

struct Setting {
    ann: Ann<Vgg15QuarterBn>,
    data: TrainTest<Cifar10>,
    list: PathBuf,
}

impl Setting {
    fn input(&self) -> ThresholdsInput<'_, Ann<Vgg15QuarterBn>> {
        ThresholdsInput { ann: &self.ann, data: &self.data, held_out_list: &self.list }
    }
}

fn setting(folder: &Path) -> evospike::Result<Setting> {
    let list = folder.join("held-out.txt");
    let held_out: Vec<String> = (0..60).map(|i| (2 * i).to_string()).collect();
    fs::write(&list, held_out.join("\n")).unwrap();
    let ann = Ann::new(0)?;
    let data = TrainTest::new(images(&ann, 150)?, images(&ann, 40)?)?;
    Ok(Setting { ann, data, list })
}

fn settings() -> ThresholdsSettings {
    let usual = ThresholdsSettings::default();
    ThresholdsSettings {
        seeds: vec![0, 1],
        initial: vec![0.5],
        balance_images: 20,
        percentiles: vec![100.0, 99.0],
        channel_percentiles: vec![99.0, 98.0],
        calibrations: vec![4],
        baseline_images: 30,
        timesteps: 10,
        evolution: EvolveSettings {
            generations: 1,
            timesteps: 8,
            batch: Some(20),
            ..usual.evolution
        },
        sweep_points: 2,
        reported_margins: vec![1.0, 2.0],
        test_images: 40,
        ..usual
    }
}

fn run(
    setting: &Setting,
    settings: &ThresholdsSettings,
    folder: &Path,
    stop: bool,
) -> evospike::Result<Report<ComparisonRow>> {
    thresholds(&setting.input(), settings, folder, &AtomicBool::new(stop))
}

/// What an experiment wrote, but for times.
fn written(files: &[PathBuf]) -> BTreeMap<String, Vec<u8>> {
    let files = files.iter();
    let files = files.filter(|file| !file.ends_with("timing.csv"));
    let name = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().into_owned();
    files.map(|file| (name(file), fs::read(file).unwrap())).collect()
}

/// The steps that an experiment kept, and when each was written.
fn steps_in(folder: &Path) -> HashSet<(PathBuf, SystemTime)> {
    let entries = fs::read_dir(folder.join(".checkpoints")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let steps = paths.filter(|path| path.extension().is_some_and(|kind| kind == "step"));
    steps.map(|path| (path.clone(), path.metadata().unwrap().modified().unwrap())).collect()
}

#[test]
fn thresholds_resume_to_the_same_files() -> evospike::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let setting = setting(folder.path())?;
    let [whole, broken] = ["whole", "broken"].map(|name| folder.path().join(name));
    let report = run(&setting, &settings(), &whole, false)?;

    // Told to stop at every step: each call does one more, and the last one ends.
    let mut calls = 0;
    let last = loop {
        match run(&setting, &settings(), &broken, calls < 5) {
            Err(Error::Stopped { path, .. }) => assert!(path.starts_with(&broken)),
            ended => break ended?,
        }
        calls += 1;
    };
    assert_eq!(calls, 5);
    assert_eq!(written(&last.files), written(&report.files));

    // Of two percentiles and two factors, the best is an end of the grid, which goes on there: half as
    // much is cut off or twice as much, and a factor is as much smaller or larger again.
    let tried: Vec<String> = fs::read_dir(whole.join(".checkpoints"))
        .unwrap()
        .map(|step| step.unwrap().file_name().into_string().unwrap())
        .filter_map(|step| Some(step.strip_prefix("held-out, ")?.to_string()))
        .collect();
    let count = |of: &str| tried.iter().filter(|step| step.starts_with(of)).count();
    assert!(count("factor") > 2, "{tried:?}");
    let beyond = ["percentile 99.5 per channel, initial", "percentile 96 per channel, initial"];
    assert!(beyond.iter().any(|step| count(step) == 1), "{tried:?}");

    // The files say the same as each other.
    let accuracy: Vec<AccuracyRow> = read_csv(whole.join("accuracy.csv"))?;
    let rows: Vec<ComparisonRow> = read_csv(whole.join("comparison.csv"))?;
    assert_eq!(rows.len(), 2 * 2 * 4); // margins, seeds, rivals
    for row in &rows {
        for (name, latency) in [
            (&row.rival_network, row.rival_latency_timesteps),
            (&format!("evolved, seed {}", row.seed), row.evolved_latency_timesteps),
        ] {
            let name = format!("{name}, initial potential 0.5");
            let curve = AccuracyRow::curve(&accuracy, 0, &name)?;
            let percent: Vec<f64> = curve.iter().map(Accuracy::percent).collect();
            let target = row.ann_accuracy_percent - row.margin_points;
            let stays = |from: usize| percent[from - 1..].iter().all(|p| *p >= target);
            assert_eq!(latency, (1..=10).find(|&t| stays(t)), "{name}");
        }
    }
    let convergence: Vec<ConvergenceRow> = read_csv(whole.join("convergence.csv"))?;
    assert_eq!(convergence.len(), 2 * 2);
    let thresholds: Vec<ThresholdRow> = read_csv(whole.join("thresholds.csv"))?;
    assert_eq!(thresholds.len(), 2 * 14);

    // Another evolution of the same conversions needs its checkpoints deleted, and computes nothing
    // again but the evolved networks.
    let before = steps_in(&whole);
    let mut other = settings();
    other.evolution.genome = vec![(Gene::Scale, [0.5, 2.0])];
    let refused = run(&setting, &other, &whole, false).unwrap_err().to_string();
    assert!(refused.contains("genome") && refused.contains("delete the file"), "{refused}");
    for step in fs::read_dir(whole.join(".checkpoints")).unwrap() {
        let path = step.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "checkpoint") {
            fs::remove_file(path).unwrap();
        }
    }
    let rows = run(&setting, &other, &whole, false)?.rows;
    let after = steps_in(&whole);
    let again = before.difference(&after).map(|(path, _)| path.display().to_string());
    let again: Vec<String> = again.collect();
    assert!(
        again.len() == 2 && again.iter().all(|path| path.contains("test, evolved")),
        "{again:?}"
    );
    assert_eq!(rows.len(), 2 * 2 * 4);
    Ok(())
}

#[test]
fn an_imported_network_gives_the_rows_of_its_type() -> evospike::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let setting = setting(folder.path())?;
    let network = Imported::<Cifar10>::new(setting.ann.graph()?)?;
    let (data, held_out_list) = (&setting.data, &*setting.list);
    let input = ThresholdsInput { ann: &network, data, held_out_list };
    let settings = ThresholdsSettings { seeds: vec![0], ..settings() };
    let out = folder.path().join("imported");
    let imported = thresholds(&input, &settings, out, &AtomicBool::new(false))?;
    let typed = run(&setting, &settings, &folder.path().join("typed"), false)?;
    assert_eq!(imported.rows, typed.rows);
    Ok(())
}

const KILLED: &str = "EVOSPIKE_TEST_KILLED";

/// The process that is killed, or a rank.
#[test]
fn work() -> evospike::Result<()> {
    if let Some(folder) = std::env::var_os(KILLED) {
        let elsewhere = tempfile::tempdir().unwrap();
        let setting = setting(elsewhere.path())?;
        ranks::together(|| run(&setting, &settings(), Path::new(&folder), false))?;
    }
    Ok(())
}

/// Twice, the second time from some steps that rank 0 alone reads.
#[cfg(feature = "mpi")]
#[test]
fn ranks_write_the_files_of_one_process() -> evospike::Result<()> {
    use common::mpirun::{mpirun, ready};
    if !ready() {
        return Ok(());
    }
    let folder = tempfile::tempdir().unwrap();
    let [alone, together] = ["alone", "together"].map(|name| folder.path().join(name));
    let report = run(&setting(folder.path())?, &settings(), &alone, false)?;
    for _ in 0..2 {
        let mut command = mpirun(2);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "work"]).env(KILLED, &together);
        assert!(command.status().unwrap().success());
        let name = |file: &PathBuf| together.join(file.file_name().unwrap());
        let files: Vec<PathBuf> = report.files.iter().map(name).collect();
        assert!(written(&files) == written(&report.files));
        let steps = fs::read_dir(together.join(".checkpoints")).unwrap();
        for step in steps.skip(1).step_by(2) {
            fs::remove_file(step.unwrap().path()).unwrap();
        }
    }
    Ok(())
}

#[cfg(unix)]
#[test]
fn thresholds_are_killed_at_any_moment() {
    common::kills::killed_at_any_moment("reproduce thresholds", 7, |folder| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "work"]).env(KILLED, folder);
        command
    });
}

#[test]
fn adversarial_resumes_to_the_same_files() -> evospike::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let setting = setting(folder.path())?;
    let [clean, whole, broken] = ["clean", "whole", "broken"].map(|name| folder.path().join(name));
    let by = |attack, evolve, through_timesteps| AttackedBy {
        attack,
        through_timesteps,
        evolve,
        at_most_images: through_timesteps.map(|_| 24),
    };
    let settings = AdversarialSettings {
        clean: settings(),
        attacked_timesteps: 6,
        attacks: vec![
            by(Attack::Fgsm { epsilon_255: 2.0 }, true, None),
            by(Attack::Fgsm { epsilon_255: 2.0 }, false, Some(4)),
        ],
        margin_points: 2.0,
        void_below_chances: 3.0,
        baseline_images: 30,
        test_images: 40,
    };
    let attacked = |settings: &AdversarialSettings, out: &Path, stop: bool| {
        adversarial(&setting.input(), settings, &clean, out, &AtomicBool::new(stop))
    };
    run(&setting, &settings.clean, &clean, false)?;
    let report = attacked(&settings, &whole, false)?;
    let mut calls = 0;
    let last = loop {
        match attacked(&settings, &broken, calls < 4) {
            Err(Error::Stopped { .. }) => (),
            ended => break ended?,
        }
        calls += 1;
    };
    assert_eq!(calls, 4);
    assert_eq!(written(&last.files), written(&report.files));
    // What the name of an attack does not say makes its steps run again.
    let mut fewer = settings.clone();
    fewer.attacks[1].at_most_images = Some(12);
    let again = attacked(&fewer, &broken, false)?;
    let fresh = attacked(&fewer, &folder.path().join("fresh"), false)?;
    assert_eq!(written(&again.files), written(&fresh.files));

    let longer = AdversarialSettings { attacked_timesteps: 11, ..settings };
    let error = attacked(&longer, &broken, false).unwrap_err().to_string();
    assert!(error.contains("attacked_timesteps: found 11, expected 10 or fewer"), "{error}");

    let accuracy: Vec<AccuracyRow> = read_csv(whole.join("accuracy.csv"))?;
    let rows: Vec<AttackRow> = read_csv(whole.join("latency.csv"))?;
    // Two seeds on clean and on attacked images, five rivals; then two seeds.
    assert_eq!(rows.len(), 2 * 2 * 5 + 2 * 5);
    assert_eq!(rows, report.rows);
    for row in &rows {
        let on = match row.through.as_str() {
            "ANN" => "FGSM 2/255",
            _ => "FGSM 2/255 through 4 timesteps",
        };
        let seen = if row.evolved_on == "clean" { "clean" } else { "attacked" };
        let name = format!("evolved, seed {} on {seen} images, {on}", row.seed);
        for (name, latency) in [
            (format!("{}, {on}", row.rival_network), row.rival_latency_timesteps),
            (name, row.evolved_latency_timesteps),
        ] {
            let curve = AccuracyRow::curve(&accuracy, 0, &name)?;
            let percent: Vec<f64> = curve.iter().map(Accuracy::percent).collect();
            let target = row.reference_accuracy_percent - row.margin_points - 1e-4;
            let stays = |from: usize| percent[from - 1..].iter().all(|p| *p >= target);
            assert_eq!(latency, (1..=10).find(|&t| stays(t)), "{name}");
        }
    }
    Ok(())
}

#[test]
fn explain_resumes_to_the_same_files() -> evospike::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let setting = setting(folder.path())?;
    let [clean, whole, broken] = ["clean", "whole", "broken"].map(|name| folder.path().join(name));
    let settings = ExplainSettings {
        clean: settings(),
        images: 8,
        timesteps: 6,
        error_images: 4,
        error_timesteps: vec![3, 6],
        sensitivity_images: 10,
        factors: vec![0.9],
        trajectories: 2,
        map_images: 1,
        map_layers: vec![1],
        map_timesteps: vec![6],
        ..ExplainSettings::default()
    };
    let explained = |out: &Path, stop: bool| {
        explain(&setting.input(), &settings, &clean, out, &AtomicBool::new(stop))
    };
    run(&setting, &settings.clean, &clean, false)?;
    let files = explained(&whole, false)?;
    assert!(matches!(explained(&broken, true), Err(Error::Stopped { .. })));
    assert_eq!(written(&explained(&broken, false)?), written(&files));

    // Two conversions and two evolved networks, on clean and on attacked images.
    let rows: Vec<explain::FirstSpikeRow> = read_csv(whole.join("first-spikes.csv"))?;
    assert_eq!(rows.len(), 4 * 2 * 14);
    let rows: Vec<explain::ConversionErrorRow> = read_csv(whole.join("conversion-error.csv"))?;
    assert_eq!(rows.len(), 4 * 2 * 14 * 2 * 6);
    let rows: Vec<explain::SensitivityRow> = read_csv(whole.join("sensitivity.csv"))?;
    assert_eq!(rows.len(), 4 * 14);
    let rows: Vec<explain::EffectRow> = read_csv(whole.join("elementary-effects.csv"))?;
    assert_eq!(rows.len(), 2 * 14);
    let rows: Vec<explain::CorrelationRow> = read_csv(whole.join("correlations.csv"))?;
    assert_eq!(rows.len(), 6);
    Ok(())
}

#[test]
fn a_comparison_is_the_same_again_but_for_its_seconds() -> evospike::Result<()> {
    let mut settings = ComparisonSettings {
        seeds: vec![3],
        timesteps: 12,
        calibrations: vec![4, 8],
        target_percent: 30.0,
        ..ComparisonSettings::default()
    };
    settings.training.epochs = 1;
    settings.evolution.generations = 1;
    (settings.hybrid.timesteps, settings.hybrid.train.epochs) = (4, 1);
    (settings.stdp.neurons, settings.stdp.epochs) = (10, 1);
    let folder = tempfile::tempdir().unwrap();
    let all = |name: &str| -> evospike::Result<_> {
        let report = comparison(&settings, folder.path().join(name))?;
        let mut files = written(&report.files);
        files.remove("comparison.csv");
        let mut methods = report.rows;
        methods.iter_mut().for_each(|row| row.training_seconds = 0.0);
        Ok((files, methods))
    };
    let (files, methods) = all("one")?;
    assert!((files.clone(), methods.clone()) == all("two")?);
    let rows: Vec<MethodRow> = read_csv(folder.path().join("one/comparison.csv"))?;
    assert_eq!(rows.len(), methods.len());
    // Every method once, each with its own number of timesteps, and its last accuracy is its
    // curve's.
    let curves: Vec<AccuracyRow> = read_csv(folder.path().join("one/accuracy.csv"))?;
    for (i, row) in rows.iter().enumerate() {
        assert!(rows[..i].iter().all(|other| other.method != row.method));
        let curve: Vec<_> = curves.iter().filter(|c| c.network == row.method).collect();
        assert_eq!(curve.len(), row.timesteps);
        assert_eq!(curve[curve.len() - 1].accuracy_percent, row.accuracy_percent);
        assert!(row.spikes_per_image > 0.0 && row.target_accuracy_percent == 30.0);
    }
    let refused = |change: &dyn Fn(&mut ComparisonSettings)| {
        let mut settings = settings.clone();
        change(&mut settings);
        let refused = comparison(&settings, folder.path().join("none"));
        refused.unwrap_err().to_string()
    };
    assert!(refused(&|s| s.target_percent = 100.0).starts_with("target_percent"));
    assert!(refused(&|s| s.hybrid.timesteps = 0).starts_with("hybrid.timesteps"));
    assert!(!folder.path().join("none").exists());
    Ok(())
}

#[test]
fn what_cannot_work_is_refused_at_once() -> evospike::Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let mut setting = setting(folder.path())?;
    let out = folder.path().join("out");
    let message = |setting: &Setting, change: &dyn Fn(&mut ThresholdsSettings)| {
        let mut settings = settings();
        change(&mut settings);
        let message = run(setting, &settings, &out, false).unwrap_err().to_string();
        assert!(!out.join(".checkpoints").exists(), "something ran: {message}");
        message
    };
    for (change, expected) in [
        (
            &(|s: &mut ThresholdsSettings| s.seeds.clear()) as &dyn Fn(&mut ThresholdsSettings),
            "seeds: found none",
        ),
        (&|s| s.calibrations.clear(), "calibrations: found none"),
        (&|s| s.seeds = vec![1, 0, 1], "seeds: found 1 twice, expected each value once"),
        (&|s| s.margin_points = 0.0, "margin_points: found 0, expected above 0"),
        (&|s| s.reported_margins[0] = -1.0, "reported_margins: found -1"),
        (&|s| s.timesteps = 7, "timesteps: found 7, expected 8 or more"),
        (&|s| s.evolution.batch = Some(61), "batch: found 61, expected at most the 60"),
        (&|s| s.initial = vec![f32::NAN], "initial: found NaN"),
    ] {
        let message = message(&setting, change);
        assert!(message.contains(expected), "{message}");
    }
    fs::write(&setting.list, "3\n150\n").unwrap();
    let error = message(&setting, &|_| ());
    assert!(error.contains("held-out.txt, line 2"), "{error}");
    setting.list = folder.path().join("none.txt");
    assert!(message(&setting, &|_| ()).contains("none.txt"));
    Ok(())
}

#[test]
fn neurons_resume_to_the_same_files() -> evospike::Result<()> {
    let digits = data::digits()?.split(Shares::default(), 0)?;
    let mut ann = Ann::<DigitsCnn>::new(0)?;
    ann.train(&digits.training, &TrainSettings { epochs: 3, ..TrainSettings::digits() })?;
    let mut settings = NeuronsSettings {
        seeds: vec![0, 1],
        balance_images: 100,
        percentiles: vec![99.9, 99.0],
        least_squares: vec![1.0, 2.0],
        factor_points: 3,
        baseline_images: 100,
        timesteps: 8,
        test_images: 60,
        ..NeuronsSettings::default()
    };
    settings.kinds.retain(|kind| ["signed", "two_levels"].contains(&&*kind.name));
    for evolution in &mut settings.evolutions {
        (evolution.generations, evolution.batch) = (2, Some(40));
    }
    let folder = tempfile::tempdir().unwrap();
    let run = |settings: &NeuronsSettings, stop: bool| {
        neurons(&ann, &digits, settings, folder.path(), &AtomicBool::new(stop))
    };
    // Each call stops after one step, until none is left.
    let mut calls = 0;
    let report = loop {
        match run(&settings, true) {
            Err(Error::Stopped { .. }) => calls += 1,
            done => break done?,
        }
        if calls > 100 {
            break run(&settings, false)?;
        }
    };
    let resumed = written(&report.files);
    fs::remove_dir_all(folder.path()).unwrap();
    let whole = run(&settings, false)?;
    let times = |name: &str| name.ends_with("timing.csv");
    for (name, bytes) in written(&whole.files).into_iter().filter(|(name, _)| !times(name)) {
        assert!(resumed[&name] == bytes, "{name}");
    }

    let rows = &whole.rows;
    let networks: Vec<&str> = rows[..6].iter().map(|row| &*row.network).collect();
    let conversions = ["percentile", "factor", "least_squares", "calibrated"];
    assert_eq!(networks, [&conversions[..], &["evolved"; 2]].concat());
    assert_eq!(rows.len(), 12);
    let accuracy: Vec<AccuracyRow> = read_csv(folder.path().join("neurons-accuracy.csv"))?;
    for row in rows {
        let name = match &*row.network {
            "evolved" => format!("{}, evolved, seed {}", row.neuron, row.seed),
            network => format!("{}, {network}", row.neuron),
        };
        let curve = AccuracyRow::curve(&accuracy, row.seed, &name)?;
        let percent = |t| curve.after(t).map(|accuracy| accuracy.percent());
        for (t, found) in [(1, row.accuracy_t1_percent), (8, row.accuracy_t8_percent)] {
            assert!((percent(t).unwrap() - found.unwrap()).abs() < 1e-3, "{row:?}");
        }
        assert_eq!(row.accuracy_t16_percent, None); // beyond the run
        assert_eq!(row.gain_points.is_some(), row.network == "evolved");
        if let (Some(low), Some(gain), Some(high)) =
            (row.gain_low_points, row.gain_points, row.gain_high_points)
        {
            assert!(low <= gain && gain <= high);
        }
    }
    let saved: Vec<NeuronRow> = read_csv(folder.path().join("neurons.csv"))?;
    assert_eq!(&saved, rows);

    // Evolutions that find worse networks only, far away, leave the conversion as it was.
    let mut worse = NeuronsSettings { seeds: vec![0], ..settings.clone() };
    worse.kinds.truncate(1);
    worse.kinds[0].genome = vec![(Gene::Scale, [1.0, 1000.0])];
    worse.evolutions.truncate(1);
    worse.evolutions[0].search = Search::CmaEs(CmaEsSettings { population: None, sigma: 0.5 });
    let folder_of_worse = tempfile::tempdir().unwrap();
    let never = AtomicBool::new(false);
    let rows = neurons(&ann, &digits, &worse, folder_of_worse.path(), &never)?.rows;
    let (evolved, conversions) = rows.split_last().unwrap();
    let start = evolved.conversion.strip_suffix(", as no evolution was better").unwrap();
    let start = conversions.iter().find(|row| row.conversion == start).unwrap();
    assert_eq!(evolved.gain_points, Some(0.0));
    assert_eq!(evolved.accuracy_t8_percent, start.accuracy_t8_percent);
    assert_eq!(evolved.spikes_per_image, start.spikes_per_image);

    // Without evolutions, the conversions alone: the same, since no evolution chose them.
    let mut alone = NeuronsSettings { seeds: vec![0, 1], ..settings.clone() };
    alone.kinds.truncate(1);
    alone.evolutions.clear();
    let folder_of_alone = tempfile::tempdir().unwrap();
    let report = neurons(&ann, &digits, &alone, folder_of_alone.path(), &never)?;
    assert_eq!(report.rows, conversions);
    assert!(!folder_of_alone.path().join("neurons-convergence.csv").exists());
    let path = folder_of_alone.path().join("neurons-latency.csv");
    let latencies: Vec<NeuronLatencyRow> = read_csv(path)?;
    let at_2 = latencies.iter().filter(|row| row.margin_points == 2.0);
    let names = |row: &NeuronLatencyRow| row.conversion.clone();
    let expected: Vec<String> = conversions.iter().map(|row| row.conversion.clone()).collect();
    assert_eq!(at_2.map(names).collect::<Vec<_>>(), expected);

    // An evolution that is asked for later computes none of their steps again.
    let before = steps_in(folder_of_alone.path());
    let later = NeuronsSettings { seeds: vec![0], evolutions: worse.evolutions, ..alone.clone() };
    let rows = neurons(&ann, &digits, &later, folder_of_alone.path(), &never)?.rows;
    assert_eq!(rows[..rows.len() - 1], *conversions);
    assert!(!before.is_empty() && before.is_subset(&steps_in(folder_of_alone.path())));

    // Of two percentiles the best is an end of the grid, beyond which another one is tried: half as
    // much is cut off, or twice as much.
    let two = NeuronsSettings { percentiles: vec![95.0, 94.0], ..alone.clone() };
    let folder_of_two = tempfile::tempdir().unwrap();
    neurons(&ann, &digits, &two, folder_of_two.path(), &never)?;
    let tried = |percent: &str| {
        let step = format!(".checkpoints/held-out, signed, percentile {percent} per channel.step");
        folder_of_two.path().join(step).exists()
    };
    assert!(tried("95") && tried("94") && (tried("97.5") || tried("88")));

    // Latencies, at each target, of the percentile conversion, of the strongest and of what evolved.
    let latencies: Vec<NeuronLatencyRow> = read_csv(folder.path().join("neurons-latency.csv"))?;
    for (margin, latency_of) in [
        (2.0, (|row| row.latency_margin_2_timesteps) as fn(&NeuronRow) -> Option<usize>),
        (1.0, |row| row.latency_margin_1_timesteps),
        (0.5, |row| row.latency_margin_0_5_timesteps),
    ] {
        let of_margin = latencies.iter().filter(|row| row.margin_points == margin);
        for kind in ["signed", "two_levels"] {
            let of_kind = of_margin.clone().filter(|row| row.neuron == kind);
            let of_kind: Vec<&NeuronLatencyRow> = of_kind.collect();
            let percentile = of_kind[0];
            assert!(percentile.network == "percentile" && of_kind.len() >= 3, "{of_kind:?}");
            assert_eq!(percentile.improvement_low_percent, None);
            for row in of_kind {
                let same = |found: &&NeuronRow| {
                    (&found.neuron, &found.network) == (&row.neuron, &row.network)
                        && found.seed == row.seed
                };
                let found = whole.rows.iter().find(same).unwrap();
                assert_eq!(row.latency_timesteps, latency_of(found), "{row:?}");
                let won = percentile.latency_timesteps.zip(row.latency_timesteps);
                let won = won.map(|(before, after)| 100.0 * (1.0 - after as f64 / before as f64));
                let other = row.network != "percentile";
                let told = row.improvement_percent.map(f64::round);
                assert_eq!(told, won.filter(|_| other).map(f64::round), "{row:?}");
                assert_eq!(row.evolution_low_percent.is_some(), row.network == "evolved");
            }
        }
    }

    let table = NeuronLatencyRow::table(&latencies).to_string();
    assert!(table.contains("than percentile"), "{table}");

    // What evolution changed: a row for each layer of each network that it found.
    let changes = folder.path().join("neurons-changes.csv");
    let changes: Vec<NeuronChangeRow> = match changes.exists() {
        true => read_csv(changes)?,
        false => Vec::new(),
    };
    let found = whole.rows.iter().filter(|row| row.conversion.starts_with("from "));
    let layers = 6; // of neurons in a DigitsCnn
    assert_eq!(changes.len(), found.count() * layers);
    for row in &changes {
        let changed = row.threshold_scale != 1.0 || row.initial_after != row.initial_before;
        assert!(changed && row.layer < layers, "{row:?}");
        assert!(row.error_before_percent > 0.0 && row.error_after_percent > 0.0, "{row:?}");
    }
    assert!(!folder_of_worse.path().join("neurons-changes.csv").exists());

    // Attacked images make everything else, and a key of their own.
    let attacked = NeuronsSettings { attack: Some(Attack::named("fgsm:8")?), ..alone };
    let report = neurons(&ann, &digits, &attacked, folder_of_alone.path(), &never)?;
    let test = attack(&ann, &digits.test.take(60), Attack::Fgsm { epsilon_255: 8.0 })?;
    let percent = ann.accuracy(&test)?.percent();
    assert!((report.rows[0].ann_accuracy_percent - percent).abs() < 1e-3);
    assert!(percent < conversions[0].ann_accuracy_percent);
    for (text, found) in [("fgsm", "fgsm"), ("bim:2", "bim:2"), ("pgd:x", "pgd:x")] {
        let error = Attack::named(text).unwrap_err().to_string();
        assert!(error.contains(&format!("attack: found {found}, expected fgsm, pgd")), "{error}");
    }
    assert!(Attack::named("fgsm:256").is_err());

    // Beyond the simulations of the evolution, and beyond those of the test images.
    for (from, most) in [(8, 7), (9, 8)] {
        settings.kinds[0].from = from;
        let error = run(&settings, false).unwrap_err().to_string();
        assert!(error.contains(&format!("from: found {from}, expected 1..={most}")), "{error}");
    }
    Ok(())
}

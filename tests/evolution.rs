//! An evolution that is broken off or told to stop goes on to the very same result.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use evospike::Error;
use evospike::prelude::*;

struct Setting {
    ann: Ann<DigitsCnn>,
    digits: Split<Digits>,
    snn: Snn<DigitsCnn>,
    target: Target,
}

/// The same for every call.
fn setting() -> evospike::Result<Setting> {
    let digits = data::digits()?.split(Shares::default(), 0)?;
    let mut ann = Ann::<DigitsCnn>::new(0)?;
    let training = TrainSettings {
        epochs: 4,
        ..TrainSettings::digits()
    };
    ann.train(&digits.training, &training)?;
    let conversion = convert(&ann, &digits.training)?;
    Ok(Setting {
        snn: conversion.balance(Balance::Percentile(99.0))?,
        target: ann.target(&digits.held_out, 2.0)?,
        ann,
        digits,
    })
}

fn searches() -> [Search; 4] {
    [
        Search::De(DeSettings {
            population: 1,
            ..DeSettings::default()
        }),
        Search::CmaEs(CmaEsSettings::default()),
        Search::Random { population: 6 },
        Search::Sweep { points: 5 },
    ]
}

fn settings(search: Search, generations: usize) -> EvolveSettings {
    EvolveSettings {
        batch: matches!(search, Search::CmaEs(_)).then_some(100),
        search,
        generations,
        timesteps: 24,
        ..EvolveSettings::default()
    }
}

fn resume(
    setting: &Setting,
    settings: &EvolveSettings,
    path: &Path,
) -> evospike::Result<Evolution<DigitsCnn>> {
    let (images, never) = (&setting.digits.held_out, AtomicBool::new(false));
    evolve_resumable(
        &setting.snn,
        images,
        &setting.target,
        settings,
        path,
        &never,
    )
}

#[test]
fn an_evolution_goes_on_to_the_same_network() -> evospike::Result<()> {
    let setting = setting()?;
    let folder = tempfile::tempdir().unwrap();
    for (number, search) in searches().into_iter().enumerate() {
        let path = folder.path().join(number.to_string());
        let all = settings(search.clone(), 4);
        let images = &setting.digits.held_out;
        let whole = evolve(&setting.snn, images, &setting.target, &all)?;

        // Told to stop at once: one generation is done and kept.
        if !matches!(search, Search::Sweep { .. }) {
            let now = AtomicBool::new(true);
            let stopped =
                evolve_resumable(&setting.snn, images, &setting.target, &all, &path, &now);
            let error = stopped.err().unwrap().to_string();
            assert!(error.contains("stopped after generation 0"), "{error}");
        }
        resume(&setting, &settings(search.clone(), 2), &path)?;
        let resumed = resume(&setting, &all, &path)?;
        assert_eq!(resumed.genes, whole.genes, "{search:?}");
        assert_eq!(resumed.generations, whole.generations, "{search:?}");
        assert_eq!(resumed.fitness, whole.fitness, "{search:?}");
        // From a finished one everything is there at once.
        let bytes = fs::read(&path).unwrap();
        assert_eq!(resume(&setting, &all, &path)?.genes, whole.genes);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    Ok(())
}

#[test]
fn a_checkpoint_of_something_else_is_refused() -> evospike::Result<()> {
    let mut setting = setting()?;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evolution.json");
    let good = settings(Search::Random { population: 3 }, 1);
    resume(&setting, &good, &path)?;
    let message = |setting: &Setting, settings: &EvolveSettings| {
        let error = resume(setting, settings, &path).err().unwrap().to_string();
        assert!(error.contains("evolution.json"), "{error}");
        error
    };
    let other = EvolveSettings {
        seed: 1,
        ..good.clone()
    };
    assert!(message(&setting, &other).contains("other settings"));
    let snn = setting.snn.clone();
    setting.snn = snn.with(|neurons| neurons.initial = 0.5)?;
    assert!(message(&setting, &good).contains("other thresholds"));
    // Other weights, even where their thresholds are the same.
    let other = convert(&Ann::<DigitsCnn>::new(1)?, &setting.digits.training)?;
    let other = other.balance(Balance::Max)?;
    setting.snn = other.with_neurons(snn.neurons().to_vec())?;
    assert!(
        message(&setting, &good)
            .ends_with("other weights, expected that of this one; delete it to start anew")
    );
    setting.snn = snn;

    let text = fs::read_to_string(&path).unwrap();
    let (_, content) = text.split_once("\"content\": ").unwrap();
    let content = content.trim_end().strip_suffix('}').unwrap().trim_end();
    let sealed = |content: &str| {
        let mut checksum = flate2::Crc::new();
        checksum.update(content.as_bytes());
        let checksum = checksum.sum();
        format!("{{\n  \"checksum\": {checksum},\n  \"content\": {content}\n}}\n")
    };
    assert_eq!(sealed(content), text);
    let older = content.replacen("\"version\":4", "\"version\":3", 1);
    let old = "found format version 3, expected version 4; delete it to start anew";
    // As many fitness values as the optimiser asked for, or it cannot go on.
    let more = content.replacen("\"told\":[[", "\"told\":[[null,", 1);
    for (damage, expected) in [
        (text[..text.len() - 3].to_owned(), "EOF"),
        (sealed(&older), old),
        (older, old), // which had no checksum
        ("{}".into(), "missing field `checksum`"),
        (sealed("{}"), "no format version"),
        (sealed(&more), "fitness"),
        (text.replacen(content, &more, 1), "another checksum"),
    ] {
        fs::write(&path, &damage).unwrap();
        let message = message(&setting, &good);
        assert!(message.contains(expected), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), damage); // nothing is overwritten
    }
    Ok(())
}

#[test]
fn a_second_evolution_by_the_checkpoint_is_refused() -> evospike::Result<()> {
    let (setting, folder) = (setting()?, tempfile::tempdir().unwrap());
    let path = folder.path().join("evolution.json");
    let first = settings(Search::Random { population: 6 }, 1_000_000);
    let Setting {
        snn,
        digits,
        target,
        ..
    } = self::setting()?;
    let second = || {
        let (images, target, now) = (&setting.digits.held_out, &setting.target, true.into());
        evolve_resumable(&setting.snn, images, target, &first, &path, &now)
    };
    let its_path = path.clone();
    let its = first.clone();
    let work = Background::start(move |stop| {
        evolve_resumable(&snn, &digits.held_out, &target, &its, its_path, stop)
    })?;
    while !path.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let error = second().err().unwrap();
    assert!(
        matches!(&error, Error::Busy { path: busy } if *busy == path),
        "{error}"
    );
    work.stop();
    assert!(matches!(work.wait(), Err(Error::Stopped { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(matches!(second(), Err(Error::Stopped { .. })));
    Ok(())
}

/// A generation sees its own images only; what is said of the network in the end is of all images.
#[test]
fn batches_follow_each_other() -> evospike::Result<()> {
    let setting = setting()?;
    let (all, target) = (&setting.digits.held_out, &setting.target);
    let batched = settings(Search::CmaEs(CmaEsSettings::default()), 4);
    let evolution = evolve(&setting.snn, all, target, &batched)?;
    let run = simulate(&evolution.snn, all, batched.timesteps)?;
    let latency = run.curve.latency(target);
    let found = evolution.fitness.latency;
    assert_eq!(latency.unwrap_or(batched.timesteps + 1), found);

    let whole = EvolveSettings {
        batch: Some(all.len()),
        ..batched.clone()
    };
    let none = EvolveSettings {
        batch: None,
        ..batched.clone()
    };
    let [whole, none] = [whole, none].map(|settings| evolve(&setting.snn, all, target, &settings));
    let (whole, none) = (whole?.generations, none?.generations);
    assert_eq!(whole[0], none[0]);
    // The first 100 images, as if there were no others.
    let few = all.take(100);
    let alone = EvolveSettings {
        batch: None,
        ..batched.clone()
    };
    let alone = evolve(&setting.snn, &few, &setting.ann.target(&few, 2.0)?, &alone)?;
    assert_eq!(evolution.generations[0], alone.generations[0]);
    assert_ne!(evolution.generations[0].best, none[0].best);

    let message = |settings: EvolveSettings| {
        let evolution = evolve(&setting.snn, all, target, &settings);
        evolution.err().unwrap().to_string()
    };
    let too_many = EvolveSettings {
        batch: Some(all.len() + 1),
        ..batched.clone()
    };
    assert!(message(too_many).contains("at most the"));
    let compares = EvolveSettings {
        search: Search::default(),
        ..batched
    };
    assert!(message(compares).contains("expected Search::CmaEs"));
    Ok(())
}

/// A race may give up a network that would have won, and the evolution goes another way from there:
/// printed is how often it ends at another network. What it ends at is as good on average.
#[test]
fn a_race_finds_networks_as_good() -> evospike::Result<()> {
    let setting = setting()?;
    let (mut same, mut stopped, mut evaluations) = (0, 0, 0);
    let mut costs = [0.0; 2];
    let seeds = 0..8;
    for seed in seeds.clone() {
        let run = |stopping| {
            let settings = EvolveSettings {
                objective: Objective::MeanLatency,
                stopping,
                seed,
                ..settings(searches()[0].clone(), 8)
            };
            evolve(
                &setting.snn,
                &setting.digits.held_out,
                &setting.target,
                &settings,
            )
        };
        let race = Stopping::Race {
            images: 100,
            errors: 3.0,
        };
        let (raced, whole) = (run(race)?, run(Stopping::Never)?);
        same += usize::from(raced.genes == whole.genes);
        let last = raced.generations[8];
        stopped += last.stopped;
        evaluations += last.evaluations;
        let cost = |evolution: &Evolution<DigitsCnn>| evolution.fitness.cost.unwrap();
        costs[0] += cost(&raced);
        costs[1] += cost(&whole);
    }
    println!(
        "the same network for {same} of seeds {seeds:?}, {stopped} of {evaluations} stopped early, \
         sums of costs {costs:?}"
    );
    assert!(same >= 2 && stopped > evaluations / 10);
    assert!(costs[0] < 1.1 * costs[1]);
    Ok(())
}

#[test]
fn no_compromise_is_better_than_another() -> evospike::Result<()> {
    let setting = setting()?;
    let nsga = NsgaSettings {
        population: 8,
        ..NsgaSettings::default()
    };
    let images = &setting.digits.held_out;
    let settings = settings(Search::default(), 3);
    let front = pareto(&setting.snn, images, &setting.target, &nsga, &settings)?;
    // All that was tried is there to draw, the front among it.
    let rows = front.rows();
    assert_eq!(rows.len(), 8 * (settings.generations + 1));
    let on_front = rows.iter().filter(|row| row.on_front).count();
    assert!((front.networks.len()..rows.len()).contains(&on_front));
    let circles = front.chart("Compromises")?.svg().matches("<circle").count();
    let legend = 4; // a ring and three errors
    assert_eq!(circles, rows.len() + front.networks.len() + legend);
    let front = front.networks;
    let of = |c: &Compromise<DigitsCnn>| [c.latency as f64, c.error_percent, c.energy_ratio];
    for a in &front {
        let better = |b: &Compromise<DigitsCnn>| {
            let mut pairs = of(a).into_iter().zip(of(b));
            pairs.all(|(a, b)| b <= a) && of(a) != of(b)
        };
        assert!(!front.iter().any(better), "{:?}", of(a));
        // What is said of a network is what its simulation says.
        let run = simulate(&a.snn, images, settings.timesteps)?;
        let latency = run.curve.latency(&setting.target);
        assert_eq!(latency.unwrap_or(settings.timesteps + 1), a.latency);
        let spent = a.latency.min(settings.timesteps);
        assert_eq!(a.snn.energy(&run, spent)?.ratio(), a.energy_ratio);
    }
    assert!(front.len() > 1);
    assert!(
        front
            .windows(2)
            .all(|pair| pair[0].latency <= pair[1].latency)
    );
    Ok(())
}

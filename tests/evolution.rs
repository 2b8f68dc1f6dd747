//! An evolution that is broken off or told to stop goes on to the very same result.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use evospike::Error;
use evospike::evolve::{Compromise, Generation};
use evospike::prelude::*;

#[path = "common/checkpoint.rs"]
mod checkpoint;

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
    let training = TrainSettings { epochs: 4, ..TrainSettings::digits() };
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
        Search::De(DeSettings { population: 1, ..DeSettings::default() }),
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
    let images = &setting.digits.held_out;
    Resume::at(path).evolve(&setting.snn, images, &setting.target, settings)
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
            let stopped = Resume::at(&path).stopped_by(&now).evolve(
                &setting.snn,
                images,
                &setting.target,
                &all,
            );
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
    let path = folder.path().join("evolution.checkpoint");
    let good = settings(Search::Random { population: 3 }, 1);
    resume(&setting, &good, &path)?;
    let message = |setting: &Setting, settings: &EvolveSettings| {
        let error = resume(setting, settings, &path).err().unwrap().to_string();
        assert!(error.contains("evolution.checkpoint"), "{error}");
        error
    };
    let other = EvolveSettings { seed: 1, ..good.clone() };
    assert!(message(&setting, &other).contains("settings.seed: found 0, expected 1"));
    let snn = setting.snn.clone();
    setting.snn = snn.with(|neurons| neurons.initial = 0.5)?;
    assert!(message(&setting, &good).contains("neurons: found"));
    // Other weights, even where their thresholds are the same.
    let other = convert(&Ann::<DigitsCnn>::new(1)?, &setting.digits.training)?;
    let other = other.balance(Balance::Max)?;
    setting.snn = other.with_neurons(snn.neurons().to_vec())?;
    assert!(message(&setting, &good).contains("weights_checksum: found"));
    setting.snn = snn;

    let whole = fs::read(&path).unwrap();
    let (header, tensors) = checkpoint::parts(&whole).unwrap();
    let said = checkpoint::said(&whole).unwrap();
    let forged = |said: &str| checkpoint::forged(header.clone(), tensors, said);
    // One that says the same is as good.
    fs::write(&path, forged(&said)).unwrap();
    resume(&setting, &good, &path)?;
    let older = said.replacen("\"version\":5", "\"version\":4", 1);
    let old = "format version: found 4, expected 5; delete the file to start anew";
    // As many fitness values as the optimiser asked for, or it cannot go on.
    let more = said.replacen("\"told\":[[", "\"told\":[[null,", 1);
    let mut flipped = whole.clone();
    let at = whole.windows(4).position(|word| word == b"told").unwrap();
    flipped[at] = b'u';
    for (damage, expected) in [
        (whole[..whole.len() - 3].to_owned(), "header"),
        (forged(&older), old),
        // Before version 5, evolutions had text files.
        (b"{\n \"checksum\": 1}".to_vec(), "format version: found one before 5"),
        (forged("{}"), "missing field `version`"),
        (forged(&more), "fitness"),
        (flipped, "checkpoint: found checksum"),
    ] {
        fs::write(&path, &damage).unwrap();
        let message = message(&setting, &good);
        assert!(message.contains(expected), "{message}");
        assert_eq!(fs::read(&path).unwrap(), damage); // nothing is overwritten
    }
    Ok(())
}

#[test]
fn a_second_evolution_by_the_checkpoint_is_refused() -> evospike::Result<()> {
    let (setting, folder) = (setting()?, tempfile::tempdir().unwrap());
    let path = folder.path().join("evolution.checkpoint");
    let first = settings(Search::Random { population: 6 }, 1_000_000);
    let Setting { snn, digits, target, .. } = self::setting()?;
    let second = || {
        let (images, target, now) = (&setting.digits.held_out, &setting.target, true.into());
        Resume::at(&path).stopped_by(&now).evolve(&setting.snn, images, target, &first)
    };
    let its_path = path.clone();
    let its = first.clone();
    let work = Background::start(move |stop| {
        let resume = Resume::at(its_path).stopped_by(stop);
        resume.evolve(&snn, &digits.held_out, &target, &its)
    })?;
    while !path.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let error = second().err().unwrap();
    assert!(matches!(&error, Error::Busy { path: busy } if *busy == path), "{error}");
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

    let whole = EvolveSettings { batch: Some(all.len()), ..batched.clone() };
    let none = EvolveSettings { batch: None, ..batched.clone() };
    let [whole, none] = [whole, none].map(|settings| evolve(&setting.snn, all, target, &settings));
    let (whole, none) = (whole?, none?.generations);
    let measured = |generation: &Generation| Generation { incumbent: None, ..*generation };
    assert_eq!(measured(&whole.generations[0]), none[0]);
    // The mean is followed on the same images, here on all, and measured on all in the end.
    let incumbents: Vec<_> = whole.generations.iter().filter_map(|g| g.incumbent).collect();
    assert_eq!((incumbents.len(), incumbents.last()), (5, Some(&whole.fitness)));
    // The first 100 images, as if there were no others.
    let few = all.take(100);
    let alone = EvolveSettings { batch: None, ..batched.clone() };
    let alone = evolve(&setting.snn, &few, &setting.ann.target(&few, 2.0)?, &alone)?;
    assert_eq!(measured(&evolution.generations[0]), alone.generations[0]);
    assert_ne!(evolution.generations[0].best, none[0].best);

    let message = |settings: EvolveSettings| {
        let evolution = evolve(&setting.snn, all, target, &settings);
        evolution.err().unwrap().to_string()
    };
    let too_many = EvolveSettings { batch: Some(all.len() + 1), ..batched.clone() };
    assert!(message(too_many).contains("at most the"));
    let compares = EvolveSettings { search: Search::default(), ..batched };
    assert!(message(compares).contains("expected Search::CmaEs"));
    Ok(())
}

#[test]
fn no_compromise_is_better_than_another() -> evospike::Result<()> {
    let setting = setting()?;
    let nsga = NsgaSettings { population: 8, ..NsgaSettings::default() };
    let images = &setting.digits.held_out;
    let settings = settings(Search::default(), 3);
    let front = pareto(&setting.snn, images, &setting.target, &nsga, &settings)?;
    // Told to stop after each generation, it finds the same.
    let (folder, now) = (tempfile::tempdir().unwrap(), AtomicBool::new(true));
    let resume = Resume::at(folder.path().join("front.checkpoint")).stopped_by(&now);
    let again = || resume.pareto(&setting.snn, images, &setting.target, &nsga, &settings);
    for generation in 0..settings.generations {
        let error = again().err().unwrap().to_string();
        let expected = format!("stopped after generation {generation}, ");
        assert!(error.contains(&expected), "{error}");
    }
    assert_eq!(again()?.tried, front.tried);
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
    assert!(front.windows(2).all(|pair| pair[0].latency <= pair[1].latency));
    Ok(())
}

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn grid() -> Sweep<(f64, &'static str)> {
    Sweep::new().axis("x", [0.5, 1.5]).axis("name", ["a", "b, c"])
}

#[test]
fn what_is_missing_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/sweep.csv");
    let calls = AtomicUsize::new(0);
    let measure = |&(x, name): &(f64, &str)| {
        calls.fetch_add(1, Ordering::Relaxed);
        Ok([Some(x * 2.0), (name == "a").then_some(7.0)])
    };
    let columns = ["double", "seven"];
    let found = grid().run(&path, (), columns, measure).unwrap();
    let text = "x,name,double,seven,error\n\
                0.5,a,1,7,\n0.5,\"b, c\",1,,\n1.5,a,3,7,\n1.5,\"b, c\",3,,\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    // All is there.
    assert_eq!(grid().run(&path, (), columns, measure).unwrap(), found);
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    // A row that was lost.
    fs::write(&path, text.replace("1.5,a,3,7,\n", "")).unwrap();
    assert_eq!(grid().run(&path, (), columns, measure).unwrap(), found);
    assert_eq!(calls.load(Ordering::Relaxed), 5);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    // Rows of values that a grid does not have stay.
    let one = Sweep::new().axis("x", [1.5]).axis("name", ["a"]);
    assert_eq!(one.run(&path, (), columns, measure).unwrap().rows.len(), 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn rows_of_another_key_are_refused_by_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let path = file("sweep.csv");
    let run = |path: &Path, timesteps: usize, columns: [&str; 1]| {
        let key = HashMap::from([("timesteps", timesteps)]);
        let swept = grid().run(path, key, columns, |&(x, _)| Ok([Some(x + timesteps as f64)]));
        swept.map_err(|error| error.to_string())
    };
    let found = run(&path, 8, ["y"]).unwrap();
    let error = run(&path, 16, ["y"]).unwrap_err();
    let expected = "key.timesteps: found 8, expected 16, as in this run; delete the file";
    assert!(error.contains(&format!("sweep.csv, {expected}")), "{error}");
    let error = run(&path, 8, ["z"]).unwrap_err();
    assert!(error.contains(r#"sweep.csv, columns: found ["y"], expected ["z"]"#), "{error}");
    assert_eq!(run(&path, 8, ["y"]).unwrap(), found);
    // A deleted table is measured anew, with any key; a table without its key is not read.
    fs::remove_file(&path).unwrap();
    assert_ne!(run(&path, 16, ["y"]).unwrap(), found);
    fs::remove_file(file("sweep.csv.key")).unwrap();
    let error = run(&path, 16, ["y"]).unwrap_err();
    assert!(error.contains("sweep.csv, key: found no file"), "{error}");

    let part = |k, key: &str| {
        let path = file(&format!("{key} {k}"));
        let shard = grid().shard(k, 2).unwrap();
        shard.run(&path, key, ["y"], |&(x, _)| Ok([Some(x)])).unwrap();
        path
    };
    let [one, two, other] = [part(1, "a"), part(2, "a"), part(2, "b")];
    let error = merge([&one, &other], file("all")).unwrap_err().to_string();
    let expected = r#"b 2, key: found "b", expected "a", as in "#;
    assert!(error.contains(expected) && error.ends_with("a 1"), "{error}");
    assert!(!file("all").exists());
    // The rows of shards have the key of the whole grid, whatever was there before.
    run(&file("all"), 8, ["y"]).unwrap();
    merge([&one, &two], file("all")).unwrap();
    let never = |_: &(f64, &str)| panic!("measured again");
    grid().run(file("all"), "a", ["y"], never).unwrap();
    assert!(run(&file("all"), 8, ["y"]).is_err());
}

#[test]
fn shards_are_put_together_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let measure = |&(x, name): &(f64, &str)| Ok([Some(x), (name == "a").then_some(7.0)]);
    let columns = ["x again", "seven"];
    grid().run(file("all.csv"), (), columns, measure).unwrap();
    let all = fs::read_to_string(file("all.csv")).unwrap();
    let merge = |names: &[&str]| {
        let merged = merge(names.iter().map(|name| file(name)), file("merged.csv"));
        let text = fs::read_to_string(file("merged.csv")).ok();
        fs::remove_file(file("merged.csv")).ok();
        assert_eq!(merged.is_ok(), text.is_some());
        merged.map(|()| text.unwrap()).map_err(|error| error.to_string())
    };
    let part = |k, n| {
        let shard = grid().shard(k, n).unwrap();
        let name = format!("{k} of {n}");
        shard.run(file(&name), (), columns, measure).unwrap();
        // What a killed process left is gone on from.
        let text = fs::read_to_string(file(&name)).unwrap();
        let (header, _) = text.split_once('\n').unwrap();
        fs::write(file(&name), format!("{header}\n")).unwrap();
        shard.run(file(&name), (), columns, measure).unwrap();
        assert_eq!(fs::read_to_string(file(&name)).unwrap(), text);
    };
    for (k, n) in [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)] {
        part(k, n);
    }
    assert_eq!(merge(&["2 of 3", "3 of 3", "1 of 3"]), Ok(all.clone()));
    // The same row twice is no harm.
    assert_eq!(merge(&["1 of 2", "2 of 2", "2 of 3"]), Ok(all.clone()));

    let text = fs::read_to_string(file("2 of 2")).unwrap();
    fs::copy(file("2 of 2.key"), file("bad.key")).unwrap();
    for (bad, expected) in [
        (text.replace("1.5", "2.5"), "row 2: found 4/4,2.5"),
        (text.replace("point", "place"), "line 1: found place,x"),
        (text.replace("seven", "eight"), "line 1: found point,x"),
        (text.replace("/4", "/5"), "row 1: found 5 combinations, expected 4"),
        (text.replace("4/4", "5/4"), "row 2: found 5/4, expected a place"),
        (format!("{text}4/4\n"), "line 4: "),
    ] {
        fs::write(file("bad"), bad).unwrap();
        let error = merge(&["1 of 2", "2 of 2", "bad"]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = merge(&["1 of 3", "3 of 3"]).unwrap_err();
    assert!(error.contains("found 3 of 4 combinations, without 2"), "{error}");
    assert!(merge(&[]).unwrap_err().starts_with("shards: found 0 of 0"));
    assert!(merge(&["none"]).unwrap_err().contains("none"));
    for (k, n) in [(0, 2), (3, 2), (1, 5), (0, 0)] {
        let error = grid().shard(k, n).unwrap_err().to_string();
        assert!(error.starts_with(&format!("shard: found {k}/{n}")), "{error}");
    }
}

#[test]
fn what_fails_is_a_row_and_only_it_is_measured_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.csv");
    let calls = AtomicUsize::new(0);
    let run = |grid: Sweep<(f64, &'static str)>, path: &Path, last: fn() -> Result<f64>| {
        let swept = grid.run(path, (), ["y"], |&(x, name)| {
            calls.fetch_add(1, Ordering::Relaxed);
            Ok([Some(if name == "a" { x } else { last()? })])
        });
        swept.map_err(|error| error.to_string())
    };
    let error = run(grid(), &path, || Err(Error::parameter("x", 1, "less"))).unwrap_err();
    let expected = "sweep.csv: 2 of 4 combinations failed, the first at x 0.5, name b, c: \
                    x: found 1, expected less; the same sweep measures them again";
    assert!(error.ends_with(expected), "{error}");
    let text = "x,name,y,error\n0.5,a,0.5,\n0.5,\"b, c\",,\"x: found 1, expected less\"\n\
                1.5,a,1.5,\n1.5,\"b, c\",,\"x: found 1, expected less\"\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    let error = run(grid(), &path, || panic!("no {}", "number")).unwrap_err();
    assert!(error.contains("c: measurement: panicked: no number;"), "{error}");
    assert_eq!(calls.load(Ordering::Relaxed), 6);
    assert_eq!(run(grid(), &path, || Ok(7.0)).unwrap().rows[3][2], "7");
    assert_eq!(calls.load(Ordering::Relaxed), 8);

    // Shards keep what failed, and so does their whole.
    let parts = [1, 2].map(|k| folder.path().join(format!("part-{k}.csv")));
    let fail = || Err(Error::parameter("x", 1, "less"));
    assert!(run(grid().shard(1, 2).unwrap(), &parts[0], fail).is_ok());
    assert!(run(grid().shard(2, 2).unwrap(), &parts[1], fail).is_err());
    let all = folder.path().join("all.csv");
    let error = merge(parts, &all).unwrap_err().to_string();
    assert!(error.contains("all.csv: 2 of 4 combinations failed"), "{error}");
    assert_eq!(fs::read_to_string(&all).unwrap(), text);
}

#[test]
fn a_damaged_table_is_refused_by_its_row_and_cell() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.csv");
    let shard = grid().shard(1, 1).unwrap();
    let columns = ["accuracy", "spikes"];
    let run = || shard.run(&path, (), columns, |_| Ok([Some(47.9497), Some(991.0)])).map(drop);
    run().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("1.5,\"b, c\",47.9497,991,\n", "1.5,\"b, c\",47.9497,99", "line 5, last cell: found `99`"),
        ("47.9497", "47.94.97", "row 1, column accuracy: found `47.94.97`"),
        ("991,", "\"991,0\",", "row 1, column spikes: found `991,0`, expected a number"),
        ("991,", "about 990,", "row 1, column spikes: found `about 990`"),
        ("991,", "0991,", "row 1, column spikes: found `0991`"),
        ("3/4,1.5,a", "1/4,0.5,a", "row 3: found 1/4, 0.5, a a second time"),
        ("991,", "991,,", "line 2: "),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&path, text.replace(from, to)).unwrap();
        for done in [run(), merge([&path], folder.path().join("all.csv"))] {
            let error = done.unwrap_err().to_string();
            assert!(error.contains(&format!("part.csv, {expected}")), "{error}");
        }
    }
}

#[test]
fn a_second_sweep_of_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.csv");
    let inner = |_: &(f64, &str)| Ok([Some(0.0)]);
    let found = grid().run(&path, (), ["y"], |point| {
        let error = grid().run(&path, (), ["y"], inner).unwrap_err();
        assert!(matches!(&error, Error::Busy { path: busy } if *busy == path), "{error}");
        let other = folder.path().join(format!("{}{}.csv", point.0, point.1));
        grid().run(other, (), ["y"], inner)?;
        Ok([Some(1.0)])
    });
    assert!(found.unwrap().rows.iter().all(|row| row[2] == "1"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 10); // with their keys, and no lock
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.csv");
    let measure = |_: &(f64, &str)| Ok([Some(1.0)]);
    let found = grid().run(&path, (), ["one"], measure).unwrap();
    let message = |result: Result<Chart>| result.unwrap_err().to_string();
    let expected = "column: found two, expected one of one";
    assert_eq!(message(found.heat_map("two", "x", "name")), expected);
    let expected = "axis: found z, expected one of x, name";
    assert_eq!(message(found.lines("one", "z", "name")), expected);
    let expected = "along: found a, expected an axis of numbers";
    assert_eq!(message(found.lines("one", "name", "x")), expected);
    assert!(message(found.lines("one", "x", "x")).contains("take `only` one first"));
    assert!(found.only("x", 0.5).unwrap().lines("one", "x", "name").is_ok());
    let error = found.only("x", 9).unwrap_err().to_string();
    assert_eq!(error, "value: found 9, expected one of 0.5, 1.5");

    let twice = Sweep::new().axis("x", [1.0, 1.0]).axis("name", ["a"]);
    let error = twice.run(&path, (), ["one"], measure).unwrap_err().to_string();
    assert!(error.contains("1, a twice"), "{error}");
    let none = Sweep::new().axis("x", []).axis("name", ["a"]);
    assert!(none.is_empty() && none.run(&path, (), ["one"], measure).is_err());
    fs::write(&path, "x,name,one,error\n0.5,a\n").unwrap();
    let error = grid().run(&path, (), ["one"], measure).unwrap_err().to_string();
    assert!(error.contains("sweep.csv, line 2: "), "{error}");
}

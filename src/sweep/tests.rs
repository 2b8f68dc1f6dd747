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
        match x {
            2.5 => Err(Error::parameter("x", x, "less")),
            _ => Ok([Some(x * 2.0), (name == "a").then_some(7.0)]),
        }
    };
    let columns = ["double", "seven"];
    let found = grid().run(&path, columns, measure).unwrap();
    let text = "x,name,double,seven\n0.5,a,1,7\n0.5,\"b, c\",1,\n1.5,a,3,7\n1.5,\"b, c\",3,\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    // All is there.
    assert_eq!(grid().run(&path, columns, measure).unwrap(), found);
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    // A row that was lost, and the error of a new value, which loses nothing.
    fs::write(&path, text.replace("1.5,a,3,7\n", "")).unwrap();
    let more = Sweep::new().axis("x", [2.5, 1.5, 0.5]).axis("name", ["a", "b, c"]);
    assert!(more.run(&path, columns, measure).is_err());
    assert_eq!(grid().run(&path, columns, measure).unwrap(), found);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    // Rows of values that a grid does not have stay.
    let one = Sweep::new().axis("x", [1.5]).axis("name", ["a"]);
    assert_eq!(one.run(&path, columns, measure).unwrap().rows.len(), 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn shards_are_put_together_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let measure = |&(x, name): &(f64, &str)| Ok([Some(x), (name == "a").then_some(7.0)]);
    let columns = ["x again", "seven"];
    grid().run(file("all.csv"), columns, measure).unwrap();
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
        shard.run(file(&name), columns, measure).unwrap();
        // What a killed process left is gone on from.
        let text = fs::read_to_string(file(&name)).unwrap();
        let (header, _) = text.split_once('\n').unwrap();
        fs::write(file(&name), header).unwrap();
        shard.run(file(&name), columns, measure).unwrap();
        assert_eq!(fs::read_to_string(file(&name)).unwrap(), text);
    };
    for (k, n) in [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)] {
        part(k, n);
    }
    assert_eq!(merge(&["2 of 3", "3 of 3", "1 of 3"]), Ok(all.clone()));
    // The same row twice is no harm.
    assert_eq!(merge(&["1 of 2", "2 of 2", "2 of 3"]), Ok(all.clone()));

    let text = fs::read_to_string(file("2 of 2")).unwrap();
    for (bad, expected) in [
        (text.replace("1.5", "2.5"), "row 2: found 4/4,2.5"),
        (text.replace("point", "place"), "line 1: found place,x"),
        (text.replace("seven", "eight"), "line 1: found point,x"),
        (text.replace("/4", "/5"), "row 1: found 5 combinations, expected 4"),
        (text.replace("4/4", "5/4"), "row 2: found 5/4, expected a place"),
        (format!("{text}4/4\n"), "row 3: "),
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
fn a_panic_is_an_error_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.csv");
    let one = rayon::ThreadPoolBuilder::new().num_threads(1);
    let run = |last: fn() -> f64| {
        grid().run(&path, ["y"], |&(x, name)| {
            Ok([Some(if name == "a" || x < 1.0 { x } else { last() })])
        })
    };
    let error = (one.build().unwrap()).install(|| run(|| panic!("no {}", "number")));
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "sweep at x 1.5, name b, c: panicked: no number");
    let text = "x,name,y\n0.5,a,0.5\n0.5,\"b, c\",0.5\n1.5,a,1.5\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(run(|| 7.0).unwrap().rows[3][2], "7");
}

#[test]
fn a_second_sweep_of_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.csv");
    let inner = |_: &(f64, &str)| Ok([Some(0.0)]);
    let found = grid().run(&path, ["y"], |point| {
        let error = grid().run(&path, ["y"], inner).unwrap_err();
        assert!(matches!(&error, Error::Busy { path: busy } if *busy == path), "{error}");
        let other = folder.path().join(format!("{}{}.csv", point.0, point.1));
        grid().run(other, ["y"], inner)?;
        Ok([Some(1.0)])
    });
    assert!(found.unwrap().rows.iter().all(|row| row[2] == "1"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5); // and no lock
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sweep.csv");
    let measure = |_: &(f64, &str)| Ok([Some(1.0)]);
    let found = grid().run(&path, ["one"], measure).unwrap();
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

    let error = grid().run(&path, ["other"], measure).unwrap_err().to_string();
    assert!(error.contains("sweep.csv, line 1: found x,name,one, expected x,name,other"));
    let twice = Sweep::new().axis("x", [1.0, 1.0]).axis("name", ["a"]);
    let error = twice.run(&path, ["one"], measure).unwrap_err().to_string();
    assert!(error.contains("1, a twice"), "{error}");
    let none = Sweep::new().axis("x", []).axis("name", ["a"]);
    assert!(none.is_empty() && none.run(&path, ["one"], measure).is_err());
    fs::write(&path, "x,name,one\n0.5,a\n").unwrap();
    let error = grid().run(&path, ["one"], measure).unwrap_err().to_string();
    assert!(error.contains("row 1"), "{error}");
}

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::super::*;
use super::*;
use crate::data::lists::index_file;

#[path = "../../../tests/common/cifar.rs"]
mod published;
use published::{archive, pickle};

type Tiny = Classify<1, 2, 3>;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Records as CIFAR's: the labels, then pixels that count up from the number of the record.
fn records(labels: &[&[u8]]) -> Vec<u8> {
    let record = |(number, labels): (usize, &&[u8])| {
        let pixels = (0..3072).map(move |i| (number + i) as u8);
        labels.iter().copied().chain(pixels).collect::<Vec<u8>>()
    };
    labels.iter().enumerate().flat_map(record).collect()
}

#[test]
fn cifar_files_are_read_in_order() {
    let root = tempfile::tempdir().unwrap();
    for (number, labels) in [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]].iter().enumerate() {
        let file = root.path().join(format!("data_batch_{}.bin", number + 1));
        fs::write(file, records(&[&labels[..1], &labels[1..]])).unwrap();
    }
    fs::write(root.path().join("test_batch.bin"), records(&[&[9]])).unwrap();
    let cifar = cifar10(root.path()).unwrap();
    assert_eq!((cifar.training.len(), cifar.test.len()), (10, 1));
    assert!((0..10).all(|i| cifar.training.label(i) == i));
    assert_eq!(cifar.training.store.bytes(9)[..3], [1, 2, 3]);
    assert_eq!(cifar.test.class_names()[9], "truck");

    let root100 = tempfile::tempdir().unwrap();
    let folder = root100.path().join("cifar-100-binary");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("train.bin"), records(&[&[19, 99], &[0, 1]])).unwrap();
    fs::write(folder.join("test.bin"), records(&[&[3, 50]])).unwrap();
    let cifar = cifar100(root100.path()).unwrap();
    assert_eq!(cifar.training.label(0), 99);
    assert_eq!(cifar.training.class_names()[99], "worm");
    assert_eq!(cifar.training.class_names().len(), 100);
    assert_eq!(cifar.training.store.bytes(1)[0], 1);
    for (broken, place) in [
        (records(&[&[20, 0]]), "byte 0: found label 20, expected a class below 20"),
        (records(&[&[0, 0], &[1, 100]]), "byte 3075: found label 100"),
    ] {
        fs::write(folder.join("test.bin"), broken).unwrap();
        let error = cifar100(root100.path()).unwrap_err().to_string();
        assert!(error.contains("test.bin") && error.contains(place), "{error}");
    }

    let whole = records(&[&[0], &[1]]);
    for (broken, place) in [
        (&whole[..0], "byte 0: found the end of the file"),
        (&whole[..3072], "byte 0: found the file's last 3072 bytes"),
        (&whole[..6000], "byte 3073: found the file's last 2927 bytes"),
        (&records(&[&[0], &[10]]), "byte 3073: found label 10"),
    ] {
        fs::write(root.path().join("data_batch_3.bin"), broken).unwrap();
        let error = cifar10(root.path()).unwrap_err().to_string();
        assert!(error.contains("data_batch_3.bin"), "{error}");
        assert!(error.contains(place), "{error}");
    }
    fs::remove_file(root.path().join("data_batch_3.bin")).unwrap();
    let error = cifar10(root.path()).unwrap_err().to_string();
    assert!(
        error.contains("found neither, expected `data_batch_3.bin` or `data_batch_3`"),
        "{error}"
    );
    let error = cifar10(root.path().join("nowhere")).unwrap_err().to_string();
    assert!(error.contains("nowhere: No such file"), "{error}");
}

#[test]
fn cifar_is_read_as_published() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let names = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"];
    let names = || names.into_iter().chain(["test_batch"]);
    let binary: Vec<(String, Vec<u8>)> =
        names().map(|name| (format!("x/{name}.bin"), records(&[&[1], &[0]]))).collect();
    let python: Vec<(String, Vec<u8>)> =
        names().map(|name| (format!("x/{name}"), pickle(2, "labels"))).collect();
    let packed = |files: &[(String, Vec<u8>)]| {
        let files: Vec<_> = files.iter().map(|(name, bytes)| (&**name, bytes.clone())).collect();
        archive(&files)
    };
    let check = |path: &Path, pixel: u8| {
        let cifar = cifar10(path).unwrap();
        assert_eq!((cifar.training.len(), cifar.test.len()), (10, 2));
        assert_eq!((cifar.training.label(8), cifar.training.label(9)), (1, 0));
        assert_eq!(cifar.training.store.bytes(9)[0], pixel);
    };
    // The python archive, in the folder and itself, then unpacked; the binary one before either.
    fs::write(root.join("cifar-10-python.tar.gz"), packed(&python)).unwrap();
    check(root, 0);
    check(&root.join("cifar-10-python.tar.gz"), 0);
    fs::create_dir(root.join("cifar-10-batches-py")).unwrap();
    for (name, bytes) in &python {
        fs::write(root.join(name.replace("x/", "cifar-10-batches-py/")), bytes).unwrap();
    }
    check(root, 0);
    check(&root.join("cifar-10-batches-py"), 0);
    fs::write(root.join("cifar-10-binary.tar.gz"), packed(&binary)).unwrap();
    check(root, 1);

    let root = &root.join("hundred");
    fs::create_dir(root).unwrap();
    let python = [("a/train", pickle(2, "fine_labels")), ("a/test", pickle(1, "fine_labels"))];
    fs::write(root.join("cifar-100-python.tar.gz"), archive(&python)).unwrap();
    assert_eq!(cifar100(root).unwrap().training.label(0), 1);
}

#[test]
fn broken_pickles_and_archives_are_named() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("cifar-100-python.tar.gz");
    let good = pickle(2, "fine_labels");
    let read = |train: &[u8]| {
        let files = [("train", train.to_vec()), ("test", pickle(1, "fine_labels"))];
        fs::write(&path, archive(&files)).unwrap();
        cifar100(root.path()).map_err(|error| error.to_string())
    };
    read(&good).unwrap();
    let at = |text: &[u8]| good.windows(text.len()).position(|part| part == text).unwrap();
    let changed = |text: &[u8], offset: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at(text) + offset] = byte;
        bad
    };
    for (bad, expected) in [
        (good[..good.len() - 1].to_vec(), "found the end of the file"),
        (changed(b"fine_labels", 0, b'w'), "expected numbers as `fine_labels`"),
        (changed(b"data", 0, b'D'), "expected an array of bytes as `data`, 3072 a row"),
        (changed(b"K\x01K\x00e", 1, 100), "`fine_labels`: found label 100"),
        (changed(b"K\x02M\x00\x0c", 1, 1), "expected an array of bytes as `data`"),
        (changed(b"tb\x89", 2, 0x88), "expected an array of bytes as `data`"),
        (changed(b"K\x01K\x00e", 4, b'l'), "found instruction 0x6c"),
        (b".".to_vec(), "found a dictionary without"),
        (b"(".repeat(3), "found the end of the file"),
        (b"e".to_vec(), "expected a mark before it"),
        (b"h\x07.".to_vec(), "found 7, expected the number of a value"),
        (b"Nb".to_vec(), "expected an array that has it"),
    ] {
        let error = read(&bad).unwrap_err();
        assert!(error.contains("tar.gz/train, ") && error.contains(expected), "{error}");
    }
    let whole = fs::read(&path).unwrap();
    for bad in [&whole[..whole.len() / 2], &gzip(&[1; 2000])] {
        fs::write(&path, bad).unwrap();
        let error = cifar100(root.path()).unwrap_err().to_string();
        assert!(error.contains("tar.gz, archive: found"), "{error}");
    }
    fs::write(&path, archive(&[("train", good.clone())])).unwrap();
    let error = cifar100(root.path()).unwrap_err().to_string();
    assert!(
        error.contains("tar.gz, files: found neither, expected `test.bin` or `test`"),
        "{error}"
    );
}

/// An IDX file of bytes.
fn idx_of(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    file.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    file.extend(bytes);
    file
}

#[test]
fn idx_files_are_read_plain_and_packed() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(root.path().join(name), bytes).unwrap();
    let images = idx_of(&[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]);
    write("train-images-idx3-ubyte", &images);
    write("train-labels-idx1-ubyte.gz", &gzip(&idx_of(&[2], &[2, 0])));
    write("t10k-images-idx3-ubyte.gz", &gzip(&idx_of(&[1, 2, 2], &[9; 4])));
    write("t10k-labels-idx1-ubyte", &idx_of(&[1], &[1]));
    let tiny = idx::<Tiny>(root.path()).unwrap();
    assert_eq!((tiny.training.label(0), tiny.training.label(1)), (2, 0));
    assert_eq!(tiny.training.store.bytes(1), [5, 6, 7, 8]);
    assert_eq!(tiny.test.store.bytes(0), [9; 4]);

    fs::remove_file(root.path().join("t10k-labels-idx1-ubyte")).unwrap();
    let error = idx::<Tiny>(root.path()).unwrap_err().to_string();
    assert!(error.contains("`t10k-labels-idx1-ubyte` or"), "{error}");
    write("t10k-labels.idx1-ubyte", &idx_of(&[1], &[1]));
    assert_eq!(idx::<Tiny>(root.path()).unwrap().test.label(0), 1);
    for (split, count) in [("train", 2), ("test", 1)] {
        let images = idx_of(&[count, 2, 2], &vec![7; 4 * count as usize]);
        write(&format!("emnist-tiny-{split}-images-idx3-ubyte"), &images);
        let labels = idx_of(&[count], &vec![2; count as usize]);
        write(&format!("emnist-tiny-{split}-labels-idx1-ubyte.gz"), &gzip(&labels));
    }
    let emnist = idx::<Tiny>(root.path().join("emnist-tiny")).unwrap();
    assert_eq!((emnist.training.len(), emnist.test.label(0)), (2, 2));

    let colours = idx_of(&[1, 2, 1, 1], &[5, 6]);
    write("colours", &colours);
    write("label", &idx_of(&[1], &[0]));
    let [file, label] = ["colours", "label"].map(|name| root.path().join(name));
    let colours = idx_files::<Classify<2, 1, 3>>(file, label).unwrap();
    assert_eq!(colours.store.bytes(0), [5, 6]);
}

#[test]
fn broken_idx_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    let [images, labels] = ["images", "labels"].map(|name| root.path().join(name));
    let pixels = [0; 8];
    let good = (idx_of(&[2, 2, 2], &pixels), idx_of(&[2], &[0, 2]));
    let read = |files: &(Vec<u8>, Vec<u8>)| {
        fs::write(&images, &files.0).unwrap();
        fs::write(&labels, &files.1).unwrap();
        idx_files::<Tiny>(&images, &labels).map_err(|error| error.to_string())
    };
    read(&good).unwrap();
    let huge = u32::MAX;
    for (broken, place) in [
        (vec![], "images, byte 0: found []"),
        (vec![0, 0], "images, byte 0: found [0, 0]"),
        (good.1.clone(), "images, byte 0: found [0, 0, 8, 1]"),
        (vec![0, 0, 13, 3, 0, 0, 0, 1], "images, byte 0: found [0, 0, 13, 3]"),
        (good.0[..9].into(), "images, byte 9: found the end of the file"),
        (good.0[..20].into(), "images, byte 20: found the end of the file"),
        (idx_of(&[2, 2, 2], &[0; 9]), "images, byte 24: found more bytes"),
        (idx_of(&[0, 2, 2], &[]), "images, byte 4: found 0 items"),
        (idx_of(&[2, 3, 2], &pixels), "images, byte 8: found dimensions [2, 3, 2]"),
        (idx_of(&[2, 2, huge], &pixels), "images, byte 12: found dimensions"),
        (idx_of(&[huge, 2, 2], &pixels), "images, byte 24: found the end of the file"),
    ] {
        let error = read(&(broken.clone(), good.1.clone())).unwrap_err();
        assert!(error.contains(place), "{error}");
        if !broken.is_empty() {
            let error = read(&(gzip(&broken), good.1.clone())).unwrap_err();
            assert!(error.contains(&place.replace(": f", " unpacked: f")), "{error}");
        }
    }
    for (broken, place) in [
        (idx_of(&[3], &[0, 1, 2]), "labels, byte 4: found 3 labels, expected 2"),
        (idx_of(&[2], &[0, 3]), "labels, byte 9: found label 3"),
    ] {
        let error = read(&(good.0.clone(), broken)).unwrap_err();
        assert!(error.contains(place), "{error}");
    }
    // As gzip reads them: in two members, with zeros behind.
    let parts = [gzip(&good.0[..9]), gzip(&good.0[9..]), vec![0; 9000]].concat();
    fs::write(&images, parts).unwrap();
    fs::write(&labels, &good.1).unwrap();
    assert_eq!(idx_files::<Tiny>(&images, &labels).unwrap().len(), 2);
    let error = read(&([gzip(&good.0), vec![0, 7]].concat(), good.1.clone())).unwrap_err();
    assert!(error.contains("images, byte 24 unpacked: found "), "{error}");

    let packed = gzip(&good.0);
    let mut damaged = packed.clone();
    let checksum = damaged.len() - 6;
    damaged[checksum] ^= 1;
    for broken in [packed[..packed.len() - 9].to_vec(), damaged, packed[..4].to_vec()] {
        let error = read(&(broken, good.1.clone())).unwrap_err();
        assert!(error.contains("images, byte ") && error.contains("gzip data"), "{error}");
    }
    let error = idx_files::<Tiny>(root.path(), &labels).unwrap_err().to_string();
    assert!(error.contains(&*root.path().to_string_lossy()), "{error}");
}

#[test]
fn index_files_say_what_is_wrong() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("list.txt");
    let read = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let indices = index_file(&file, 10).map(|(indices, _)| indices);
        indices.map_err(|error| error.to_string())
    };
    assert_eq!(read(b"3\n9\n0\n").unwrap(), [3, 9, 0]);
    assert_eq!(read(b"3\r\n9").unwrap(), [3, 9]);
    assert_eq!(read(b"\xef\xbb\xbf3\r\n9").unwrap(), [3, 9]);
    for (broken, place) in [
        (&b""[..], "line 1: found the end of the file"),
        (b"3\n\n4", "line 2: found ``"),
        (b"3\n10\n", "line 2: found `10`, expected an index below 10"),
        (b"3\n-1\n", "line 2: found `-1`"),
        (b"3,4\n", "line 1: found `3,4`"),
        (b"3\n4\n3\n", "line 3: found index 3 a second time"),
        (b"3\n\xff\n", "byte 2: found no text"),
        (&[b'1'; 1000], "byte 416: found more bytes"),
    ] {
        let error = read(broken).unwrap_err();
        assert!(error.contains("list.txt") && error.contains(place), "{error}");
    }
}

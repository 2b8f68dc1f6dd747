//! Damage to files: to their bytes, and to the JSON in them.

use rand::RngExt;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

pub use evospike::random::Rng;

/// What lengths and counts must not be believed to be.
pub const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    7,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x00ff_ffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];
/// What numbers in text must not be believed to be.
const WORDS: [&str; 16] = [
    "",
    "-1",
    "0",
    "-0",
    "1.5",
    "65536",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "1e-320",
    "NaN",
    "null",
    "\"",
    ",",
    "\n",
];

pub fn pick<'a, T>(rng: &mut Rng, of: &'a [T]) -> &'a T {
    of.choose(rng).expect("something to pick from")
}

/// The bytes with one to four changes.
pub fn bytes(rng: &mut Rng, good: &[u8]) -> Vec<u8> {
    let mut bad = good.to_vec();
    for _ in 0..rng.random_range(1..5) {
        change(rng, &mut bad, good);
    }
    bad
}

fn change(rng: &mut Rng, bad: &mut Vec<u8>, good: &[u8]) {
    let at = rng.random_range(0..=bad.len());
    let most = 1usize << rng.random_range(0..11);
    let size = rng.random_range(0..=most);
    let to = bad.len().min(at + size);
    match rng.random_range(0..20) {
        0 => bad.truncate(at),
        // The head of one file and the tail of another, or of itself.
        1 => {
            bad.truncate(at);
            bad.extend(&good[rng.random_range(0..=good.len())..]);
        }
        2..=3 => drop(bad.drain(at..to)),
        4..=5 => {
            let copy = bad[at..to].to_vec();
            let place = rng.random_range(0..=bad.len());
            bad.splice(place..place, copy);
        }
        6..=7 => {
            let new: Vec<u8> = (0..size).map(|_| rng.random()).collect();
            bad.splice(at..at, new);
        }
        8..=10 => {
            let number = *pick(rng, &NUMBERS);
            let width = *pick(rng, &[2, 4, 8]);
            let digits = match rng.random() {
                true => number.to_le_bytes()[..width].to_vec(),
                false => number.to_be_bytes()[8 - width..].to_vec(),
            };
            let to = bad.len().min(at + width);
            bad[at..to].copy_from_slice(&digits[..to - at]);
        }
        11..=13 => {
            let word = pick(rng, &WORDS).bytes();
            let digit = |b: &u8| b.is_ascii_digit();
            let from = at + bad[at..].iter().take_while(|b| !digit(b)).count();
            let to = from + bad[from..].iter().take_while(|b| digit(b)).count();
            bad.splice(from..to, word);
        }
        kind if at < bad.len() => match kind {
            14..=16 => bad[at] ^= 1 << rng.random_range(0..8),
            17 => bad[at] = rng.random(),
            _ => bad[at] = *pick(rng, &[0, 1, 0x7f, 0x80, 0xff]),
        },
        _ => (),
    }
}

/// Changes a value, or one within it.
pub fn value(rng: &mut Rng, all: &mut Value) {
    let mut place = rng.random_range(0..count(all));
    let Some(value) = at(all, &mut place) else {
        return;
    };
    let size = rng.random_range(0..16);
    match value {
        Value::Array(items) if size < 8 => {
            let copy = items.choose(rng).cloned();
            match copy {
                Some(copy) if size < 4 => items.extend(vec![copy; 1 << size]),
                _ => items.truncate(size),
            }
        }
        Value::Object(fields) if size < 8 => {
            let names: Vec<String> = fields.keys().cloned().collect();
            if let Some(name) = names.choose(rng)
                && let Some(field) = fields.remove(name)
                && size < 4
            {
                fields.insert(pick(rng, &names).clone(), field);
            }
        }
        Value::Number(number) if size < 8 => {
            let factor = *pick(rng, &[-1.0, 0.5, 2.0, 1e20, 1e300]);
            *value = number.as_f64().map(|x| x * factor).into();
        }
        Value::String(text) if size < 12 => {
            *text = String::from_utf8_lossy(&bytes(rng, text.as_bytes())).into_owned();
        }
        _ => {
            *value = match size {
                0..6 => (*pick(rng, &NUMBERS)).into(),
                6..8 => i64::MIN.into(),
                8..10 => (*pick(rng, &[1e300, -1e300, 1e-300, 0.5, -0.0])).into(),
                10 => Value::Null,
                11 => json!([]),
                12 => json!({}),
                13 => true.into(),
                _ => (*pick(rng, &WORDS)).into(),
            }
        }
    }
}

/// How many values there are in a value, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// The value at a place in the order of the text.
fn at<'a>(value: &'a mut Value, place: &mut usize) -> Option<&'a mut Value> {
    if *place == 0 {
        return Some(value);
    }
    *place -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| at(item, place)),
        Value::Object(fields) => fields.values_mut().find_map(|field| at(field, place)),
        _ => None,
    }
}

/// JSON with one to three of its values changed, or broken text.
pub fn text(rng: &mut Rng, good: &[u8]) -> Vec<u8> {
    match serde_json::from_slice(good) {
        Ok(mut all) if rng.random_range(0..3) > 0 => {
            (0..rng.random_range(1..4)).for_each(|_| value(rng, &mut all));
            all.to_string().into_bytes()
        }
        _ => bytes(rng, good),
    }
}

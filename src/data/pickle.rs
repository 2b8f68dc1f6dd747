//! Reader of the pickles that hold the batches of CIFAR's Python version.
//!
//! A pickle is a program of a stack machine. This machine has the instructions that Python 2 writes,
//! by protocol 2, for dictionaries, lists, whole numbers, strings and arrays of NumPy. It imports and
//! calls nothing: what a file would call is an array, of which only the state is kept.

use std::collections::HashMap;
use std::path::Path;

use crate::base::{Error, Result};

/// A value; those that it consists of are places in the list of all values.
enum Value<'a> {
    Nothing,
    Mark,
    /// Also truth values, 0 and 1.
    Whole(i64),
    Text(&'a [u8]),
    /// List or tuple.
    List(Vec<usize>),
    /// Key, value, key, value, ...
    Dictionary(Vec<usize>),
    /// A function or class.
    Name,
    /// What a function gave, with the state that was set.
    Object(Option<usize>),
}

/// Dictionary that a file holds.
pub(super) struct Pickle<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    /// Offset of what is read next.
    at: usize,
    values: Vec<Value<'a>>,
    /// Places of values.
    stack: Vec<usize>,
    /// Places of values by their number in the file.
    memo: HashMap<u32, usize>,
}

impl<'a> Pickle<'a> {
    /// Reads a whole file.
    pub fn read(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let (values, stack, memo) = (Vec::new(), Vec::new(), HashMap::new());
        let mut pickle = Self { path, bytes, at: 0, values, stack, memo };
        while pickle.step()? {}
        Ok(pickle)
    }

    fn wrong(&self, found: impl ToString, expected: impl ToString) -> Error {
        Error::data(self.path.display(), format!("byte {}", self.at), found, expected)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken = self.bytes[self.at..].get(..count);
        let taken =
            taken.ok_or_else(|| self.wrong("the end of the file", "the rest of a pickle"))?;
        self.at += count;
        Ok(taken)
    }

    /// Number of `N` bytes, the lowest first.
    fn number<const N: usize>(&mut self) -> Result<u32> {
        let bytes = self.take(N)?.iter().rev();
        Ok(bytes.fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    fn text(&mut self, count: u32) -> Result<Value<'a>> {
        Ok(Value::Text(self.take(count as usize)?))
    }

    fn pop(&mut self) -> Result<usize> {
        self.stack.pop().ok_or_else(|| self.wrong("an instruction", "a value that it takes before"))
    }

    /// Takes the last `count` values from the stack.
    fn last(&mut self, count: usize) -> Result<Vec<usize>> {
        let start = self.stack.len().checked_sub(count);
        let start =
            start.ok_or_else(|| self.wrong("an instruction", "values that it takes before"))?;
        Ok(self.stack.split_off(start))
    }

    /// Takes the values behind the last mark, and the mark, from the stack.
    fn marked(&mut self) -> Result<Vec<usize>> {
        let mut places = self.stack.iter().rev();
        let count = places.position(|&place| matches!(self.values[place], Value::Mark));
        let count = count.ok_or_else(|| self.wrong("an instruction", "a mark before it"))?;
        let values = self.last(count)?;
        self.pop()?;
        Ok(values)
    }

    /// Adds values to the list or dictionary that is then the last on the stack.
    fn add(&mut self, added: Vec<usize>) -> Result<()> {
        let last = self.stack.last().map(|&place| &mut self.values[place]);
        let Some(Value::List(items) | Value::Dictionary(items)) = last else {
            return Err(self.wrong("values", "a list or dictionary that takes them"));
        };
        items.extend(added);
        Ok(())
    }

    /// Does one instruction; false at the end.
    fn step(&mut self) -> Result<bool> {
        let code = self.number::<1>()? as u8;
        let value = match code {
            0x80 => {
                self.take(1)?; // the protocol, whose instructions say more
                return Ok(true);
            }
            b'.' => return Ok(false),
            b'(' => Value::Mark,
            b'N' => Value::Nothing,
            0x88 | 0x89 => Value::Whole((0x89 - code).into()),
            b'K' => Value::Whole(self.number::<1>()?.into()),
            b'M' => Value::Whole(self.number::<2>()?.into()),
            b'J' => Value::Whole((self.number::<4>()? as i32).into()),
            b'U' => {
                let count = self.number::<1>()?;
                self.text(count)?
            }
            b'T' => {
                let count = self.number::<4>()?;
                self.text(count)?
            }
            b']' | b')' => Value::List(Vec::new()),
            b'}' => Value::Dictionary(Vec::new()),
            b't' => Value::List(self.marked()?),
            0x85..=0x87 => Value::List(self.last(usize::from(code - 0x84))?),
            b'c' => {
                for _ in 0..2 {
                    while self.take(1)? != b"\n" {}
                }
                Value::Name
            }
            b'R' => {
                self.last(2)?;
                Value::Object(None)
            }
            b'a' | b's' => {
                let added = self.last(if code == b'a' { 1 } else { 2 })?;
                self.add(added)?;
                return Ok(true);
            }
            b'e' | b'u' => {
                let added = self.marked()?;
                self.add(added)?;
                return Ok(true);
            }
            b'b' => {
                let state = self.pop()?;
                let last = self.stack.last().map(|&place| &mut self.values[place]);
                let Some(Value::Object(of)) = last else {
                    return Err(self.wrong("a state", "an array that has it"));
                };
                *of = Some(state);
                return Ok(true);
            }
            b'q' | b'r' => {
                let number = if code == b'q' { self.number::<1>()? } else { self.number::<4>()? };
                let place = self.pop()?;
                self.memo.insert(number, place);
                self.stack.push(place);
                return Ok(true);
            }
            b'h' | b'j' => {
                let number = if code == b'h' { self.number::<1>()? } else { self.number::<4>()? };
                let place = self.memo.get(&number).copied();
                let place = place.ok_or_else(|| self.wrong(number, "the number of a value"))?;
                self.stack.push(place);
                return Ok(true);
            }
            other => {
                let found = format!("instruction {other:#04x}");
                return Err(self.wrong(found, "one that Python 2 writes for lists and arrays"));
            }
        };
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(true)
    }

    fn list(&self, place: usize) -> Option<&[usize]> {
        match &self.values[place] {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    fn whole(&self, place: usize) -> Option<i64> {
        match self.values[place] {
            Value::Whole(number) => Some(number),
            _ => None,
        }
    }

    /// Value of a key.
    fn get(&self, key: &str) -> Option<usize> {
        let Value::Dictionary(pairs) = &self.values[*self.stack.last()?] else {
            return None;
        };
        let pairs = pairs.as_chunks().0.iter();
        let is_key =
            |place: usize| matches!(self.values[place], Value::Text(t) if t == key.as_bytes());
        pairs.rev().find_map(|&[name, value]| is_key(name).then_some(value))
    }

    /// Whole numbers of a list.
    pub fn numbers(&self, key: &str) -> Result<Vec<i64>> {
        let items = self.get(key).and_then(|place| self.list(place));
        let numbers = items.and_then(|items| items.iter().map(|&item| self.whole(item)).collect());
        numbers.ok_or_else(|| self.wrong("a dictionary without", format!("numbers as `{key}`")))
    }

    /// Bytes of an array of `columns` columns, row by row.
    pub fn array(&self, key: &str, columns: usize) -> Result<&'a [u8]> {
        let bytes = || {
            let Value::Object(state) = self.values[self.get(key)?] else {
                return None;
            };
            // Version, shape, type, whether columns come first, values.
            let &[_, shape, _, by_column, values] = self.list(state?)? else {
                return None;
            };
            let &[rows, width] = self.list(shape)? else {
                return None;
            };
            let Value::Text(bytes) = self.values[values] else {
                return None;
            };
            let is_row = self.whole(by_column)? == 0 && self.whole(width)? == columns as i64;
            let size = usize::try_from(self.whole(rows)?).ok()?.checked_mul(columns)?;
            (is_row && size == bytes.len()).then_some(bytes)
        };
        let expected = || format!("an array of bytes as `{key}`, {columns} a row");
        bytes().ok_or_else(|| self.wrong("a dictionary without", expected()))
    }
}

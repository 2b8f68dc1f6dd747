//! Checks of arguments and settings.

use std::fmt::Debug;

use super::error::{Error, Result};

/// Maximum number of timesteps of a run, since each takes memory.
const MOST_TIMESTEPS: usize = 1 << 16;

/// Returns an error if the number of timesteps is 0 or above the maximum.
pub(crate) fn some_timesteps(name: &'static str, timesteps: usize) -> Result<()> {
    at_least(1, &[(name, timesteps)])?;
    let expected = format!("at most {MOST_TIMESTEPS}");
    require(timesteps <= MOST_TIMESTEPS, name, timesteps, expected)
}

/// Returns an error with the name of a setting, its value and the expected values unless `holds`.
pub(crate) fn require(
    holds: bool,
    name: &'static str,
    found: impl ToString,
    expected: impl ToString,
) -> Result<()> {
    match holds {
        true => Ok(()),
        false => Err(Error::parameter(name, found, expected)),
    }
}

/// Returns an error for the first count below `least`.
pub(crate) fn at_least(least: usize, counts: &[(&'static str, usize)]) -> Result<()> {
    let mut counts = counts.iter();
    counts.try_for_each(|&(name, count)| {
        require(count >= least, name, count, format!("{least} or more"))
    })
}

/// Returns an error with the place of the first value that is not finite.
pub(crate) fn all_finite(name: &'static str, values: &[f32]) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(i) => {
            Err(Error::parameter(name, format!("{} at place {i}", values[i]), "finite values"))
        }
    }
}

/// Returns an error if the list is empty or holds a value twice, which would count double.
pub(crate) fn each_once<T: PartialEq + Debug>(name: &'static str, list: &[T]) -> Result<()> {
    not_empty(name, list)?;
    let mut again = list.iter().enumerate().filter(|&(i, value)| list[..i].contains(value));
    again.next().map_or(Ok(()), |(_, value)| {
        Err(Error::parameter(name, format!("{value:?} twice"), "each value once"))
    })
}

/// Returns an error if the list is empty.
pub(crate) fn not_empty<T>(name: &'static str, list: &[T]) -> Result<()> {
    require(!list.is_empty(), name, "none", "at least one")
}

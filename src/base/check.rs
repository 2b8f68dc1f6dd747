//! Checks of what callers give, and checksums.

use crate::base::error::{Error, Result};

/// Timesteps of a run at most: each takes memory.
const MOST_TIMESTEPS: usize = 1 << 16;

pub(crate) fn some_timesteps(name: &'static str, timesteps: usize) -> Result<()> {
    let expected = match timesteps {
        0 => "1 or more".into(),
        1..=MOST_TIMESTEPS => return Ok(()),
        _ => format!("at most {MOST_TIMESTEPS}"),
    };
    Err(Error::parameter(name, timesteps, expected))
}

/// Refuses a setting that does not hold, naming it, what was found and what is expected.
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

/// Refuses counts below the least that makes sense.
pub(crate) fn at_least(least: usize, counts: &[(&'static str, usize)]) -> Result<()> {
    let mut counts = counts.iter();
    counts.try_for_each(|&(name, count)| {
        require(count >= least, name, count, format!("{least} or more"))
    })
}

/// Refuses an empty list.
pub(crate) fn not_empty<T>(name: &'static str, list: &[T]) -> Result<()> {
    require(!list.is_empty(), name, "none", "at least one")
}

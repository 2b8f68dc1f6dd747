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

/// CRC-32.
pub(crate) fn checksum(text: &str) -> u32 {
    let mut checksum = flate2::Crc::new();
    checksum.update(text.as_bytes());
    checksum.sum()
}

/// CRC-32 of a value as it is printed for debugging.
pub(crate) fn debug_checksum(value: &impl std::fmt::Debug) -> u32 {
    checksum(&format!("{value:?}"))
}

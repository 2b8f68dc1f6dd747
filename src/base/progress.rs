//! Progress of long work: a progress bar in a terminal, otherwise a line from time to time.

use std::io::IsTerminal;
use std::sync::{Once, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{background, ranks};

/// Minimum interval between lines without a terminal, as in a notebook or a log.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Divisor of the elapsed time that gives a longer interval, which keeps the log of long work
/// short.
const LINES: u32 = 100;

/// Progress of a piece of work, shown on standard error or kept by [`background`].
pub(crate) struct Progress {
    label: String,
    total: usize,
    done: usize,
    /// Number of the steps done that an earlier run did.
    skipped: usize,
    started: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
    background: Option<background::Line>,
}

impl Progress {
    pub fn new(label: impl Into<String>, total: usize) -> Self {
        note_slow_build();
        let label = label.into();
        let background = background::line();
        let visible = background.is_none() && ranks::leads() && std::io::stderr().is_terminal();
        let bar = visible.then(|| {
            let style = ProgressStyle::with_template(
                "{prefix:32} {bar:24} {pos:>4}/{len:<4} {elapsed:>4} (left {eta}) {msg}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total as u64).with_style(style).with_prefix(label.clone())
        });
        Self {
            label,
            total,
            done: 0,
            skipped: 0,
            started: Instant::now(),
            last_line: Instant::now(),
            bar,
            background,
        }
    }

    /// Counts `steps` that were done before the work began.
    pub fn skip(&mut self, steps: usize) {
        self.done += steps;
        self.skipped += steps;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done as u64);
            bar.reset_eta();
        }
    }

    /// Counts one more step; `message` describes the current state.
    pub fn step(&mut self, message: impl FnOnce() -> String) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.set_message(message());
            bar.inc(1);
        } else if self.background.is_some() {
            self.line(&message());
        } else if self.last_line.elapsed() >= LINE_EVERY.max(self.started.elapsed() / LINES)
            && self.done < self.total
        {
            self.last_line = Instant::now();
            self.line(&message());
        }
    }

    /// Ends the progress, also if the work ended early.
    pub fn finish(mut self, message: impl FnOnce() -> String) {
        self.total = self.done;
        match &self.bar {
            Some(bar) => bar.finish_with_message(message()),
            None => self.line(&message()),
        }
    }

    fn line(&self, message: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        let (label, done, total) = (&self.label, self.done, self.total);
        let left = match (total.saturating_sub(done), done - self.skipped) {
            (0, _) | (_, 0) => String::new(),
            (left, done) => format!(" (left {:.0} s)", seconds / done as f64 * left as f64),
        };
        let line = format!("{label}: {done}/{total}, {seconds:.1} s{left}, {message}");
        match &self.background {
            Some(kept) => *kept.lock().unwrap_or_else(PoisonError::into_inner) = line,
            None if !ranks::leads() => (),
            // Notebooks show standard error in the colour of errors.
            None if std::env::var_os("EVCXR_IS_RUNTIME").is_some() => println!("{line}"),
            None => eprintln!("{line}"),
        }
    }
}

/// Says once, in a notebook, that everything takes five times as long as it need.
pub(crate) fn note_slow_build() {
    static NOTED: Once = Once::new();
    let kernel = std::env::var_os("EVCXR_IS_RUNTIME").is_some();
    if let Some(note) = slow_build(cfg!(debug_assertions), kernel) {
        NOTED.call_once(|| println!("{note}"));
    }
}

/// Note on this build, in a kernel of evcxr or not.
fn slow_build(for_debugging: bool, kernel: bool) -> Option<&'static str> {
    (for_debugging && kernel).then_some(
        "note: this kernel compiled evospike for debugging, which makes simulations five times as \
         slow. Start Jupyter by `notebooks/start`, or with CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false \
         and CARGO_PROFILE_DEV_OVERFLOW_CHECKS=false in its environment.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_that_compiled_for_debugging_is_slow() {
        assert!(slow_build(true, true).is_some_and(|note| note.contains("notebooks/start")));
        assert!([(true, false), (false, true)].iter().all(|&(a, b)| slow_build(a, b).is_none()));
    }
}

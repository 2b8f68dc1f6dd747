//! Background work beside a notebook: it runs while other cells run, reports its progress and stops
//! on request.
//!
//! The evcxr kernel cannot interrupt a cell without losing every variable. Work in the background
//! needs no interrupt, and work with a checkpoint resumes from it, even in a fresh kernel.
//!
//! ```
//! use evospike::prelude::*;
//!
//! let digits = data::digits()?.split(Shares::default(), 0)?;
//! let ann = Ann::<DigitsCnn>::new(0)?;
//! let snn = convert(&ann, &digits.training)?.balance(Balance::Percentile(99.0))?;
//! let target = ann.target(&digits.held_out, 1.0)?;
//! # let folder = tempfile::tempdir().unwrap();
//! # let checkpoint = folder.path().join("digits.evolution");
//! let work = Background::start(move |stop| {
//!     let settings = EvolveSettings { generations: 1000, ..Default::default() };
//!     Resume::at(checkpoint).stopped_by(stop).evolve(&snn, &digits.held_out, &target, &settings)
//! })?;
//! println!("{}", work.progress());
//! work.stop();
//! assert!(work.wait().is_err()); // stopped after a generation, which the checkpoint holds
//! # Ok::<(), evospike::Error>(())
//! ```

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::error::{Error, Result};
use super::table::one_line;

/// Last line of progress of some work, shared between threads.
pub(crate) type Line = Arc<Mutex<String>>;

thread_local! {
    /// Receiver of the progress of the work on this thread, if it runs in the background.
    static LINE: RefCell<Option<Line>> = const { RefCell::new(None) };
}

/// Returns the receiver of the progress of the work on this thread; none if it is standard error.
pub(crate) fn line() -> Option<Line> {
    LINE.with_borrow(Clone::clone)
}

/// Handle to work on a thread of its own. Dropping the handle tells the work to stop; until it has
/// stopped, no other work can resume from its checkpoint.
pub struct Background<T> {
    stop: Arc<AtomicBool>,
    line: Line,
    started: Instant,
    /// Thread of the work; none once it was waited for.
    thread: Option<JoinHandle<Result<T>>>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts the work. The closure receives the flag that stops it, for
    /// [`Resume::stopped_by`](crate::resume::Resume::stopped_by).
    ///
    /// # Errors
    /// Returns an error if the operating system cannot start a thread.
    pub fn start(work: impl FnOnce(&AtomicBool) -> Result<T> + Send + 'static) -> Result<Self> {
        let (stop, line) = (Arc::new(AtomicBool::new(false)), Line::default());
        let (its_stop, its_line) = (Arc::clone(&stop), Arc::clone(&line));
        let thread = thread::Builder::new().name("evospike background".into());
        let thread = thread.spawn(move || {
            LINE.set(Some(Arc::clone(&its_line)));
            let result = work(&its_stop);
            let mut line = its_line.lock().unwrap_or_else(PoisonError::into_inner);
            *line = match &result {
                Ok(_) if line.is_empty() => "finished".into(),
                Ok(_) => format!("finished: {line}"),
                Err(error) => format!("no result: {error}"),
            };
            drop(line);
            result
        });
        let thread = thread.map_err(|error| Error::Background { reason: error.to_string() })?;
        Ok(Self { stop, line, started: Instant::now(), thread: Some(thread) })
    }

    /// Tells the work to stop after its current step, without waiting for it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the work has ended, so that [`wait`](Self::wait) returns at once.
    pub fn finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Returns the progress of the work as one line.
    pub fn progress(&self) -> String {
        let seconds = self.started.elapsed().as_secs();
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        match line.is_empty() {
            true => format!("{seconds} s, no step done yet"),
            false => line.clone(),
        }
    }

    /// Waits for the work to end and returns its result.
    ///
    /// # Errors
    /// Returns the errors of the work, such as [`Error::Stopped`], and [`Error::Panicked`] if it
    /// panicked.
    pub fn wait(mut self) -> Result<T> {
        let Some(thread) = self.thread.take() else {
            unreachable!("only this, which takes the handle, waits");
        };
        thread.join().unwrap_or_else(|panic| Err(Error::panicked("background work", &*panic)))
    }

    /// Waits for the work to end, and tells it to stop when the time limit is reached.
    ///
    /// # Errors
    /// Returns the errors of [`wait`](Self::wait).
    pub fn wait_at_most(self, time: Duration) -> Result<T> {
        let start = Instant::now();
        while !self.finished() && start.elapsed() < time {
            thread::sleep(Duration::from_millis(20).min(time));
        }
        self.stop();
        self.wait()
    }

    /// Shows the progress in a notebook whose cell ends in this value; evcxr calls this.
    pub fn evcxr_display(&self) {
        println!("{}", self.progress());
    }
}

one_line!(impl [T] Background<T>: work, "background work, {} s", work.started.elapsed().as_secs());

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::progress::Progress;

    #[test]
    fn work_goes_on_until_it_is_told_to_stop() {
        let work = Background::start(|stop| {
            let mut progress = Progress::new("count", 10);
            let mut steps = 0;
            while !stop.load(Ordering::Relaxed) {
                progress.step(|| format!("{steps} steps"));
                steps += 1;
                thread::sleep(Duration::from_millis(1));
            }
            progress.finish(|| "done".into());
            Ok(steps)
        })
        .unwrap();
        let start = Instant::now();
        while !work.progress().contains("steps") {
            assert!(start.elapsed() < Duration::from_secs(60), "no progress");
            thread::sleep(Duration::from_millis(1));
        }
        assert!(work.progress().starts_with("count: "));
        assert!(!work.finished());
        work.stop();
        assert!(work.wait().unwrap() > 0);
    }

    #[test]
    fn work_without_a_result_does_not_say_finished() {
        let refused = Background::<()>::start(|_| Err(Error::parameter("x", 1, 2))).unwrap();
        while !refused.finished() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(refused.progress(), "no result: x: found 1, expected 2");
        assert!(refused.wait().is_err());
    }

    #[test]
    fn time_is_over_and_panics_are_errors() {
        let endless = Background::start(|stop| {
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(7)
        });
        let time = Duration::from_millis(30);
        assert_eq!(endless.unwrap().wait_at_most(time).unwrap(), 7);
        let panics = Background::<()>::start(|_| panic!("no {}", "number")).unwrap();
        let error = panics.wait().unwrap_err().to_string();
        assert_eq!(error, "background work: panicked: no number");
    }
}

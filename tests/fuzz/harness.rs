//! Feeds mutated files to a reader and watches what it does.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use evospike::Result;
use evospike::prelude::*;
use rand::{RngExt, SeedableRng};

use crate::mutate::Rng;
use crate::reliability::record;

/// What a reader may take for a file before it counts as hanging: thousands of times what it takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn take(bytes: usize) {
    PEAK.fetch_max(HELD.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: each call is the system's own; what is counted beside it changes nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size); // the old bytes are there until they are copied
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(start, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A reader and good files for it.
pub struct Reader {
    pub name: &'static str,
    /// Files that are read together, of which one at a time is mutated; of one path, variants.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// What every error must name; none for the mutated file.
    pub named: Option<PathBuf>,
    /// It gets one of so many inputs, being slow.
    pub share: usize,
    /// Memory that it may take: for each byte of the file, and beside.
    pub memory: [usize; 2],
}

/// Inputs for a reader that gets all.
pub fn inputs() -> usize {
    let inputs = std::env::var("EVOSPIKE_FUZZ").ok();
    inputs.map_or(500, |inputs| inputs.parse().expect("EVOSPIKE_FUZZ"))
}

/// One reader at a time, as memory is counted for the whole process.
pub fn alone() -> impl Drop {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    /// Reads the good files, then mutated ones, all of which must end in `Ok` or an error that names
    /// the file, within the reader's memory and in time.
    pub fn fuzz(
        self,
        mutate: impl Fn(&mut Rng, &[u8]) -> Vec<u8> + Send + 'static,
        read: impl Fn() -> Result<()> + Send + 'static,
    ) {
        static READ: AtomicUsize = AtomicUsize::new(0);
        let (name, files) = (self.name, self.files[0].0.clone());
        let (done, end) = mpsc::channel();
        // In the background lines of progress are kept, not printed.
        let work = Background::start(move |_| {
            let _disconnected_at_the_end: mpsc::Sender<()> = done;
            for (path, good) in self.files.iter().rev() {
                fs::write(path, good).unwrap();
            }
            read()?;
            let tried = (inputs() / self.share).max(10);
            let mut found = Found::default();
            for number in 0..tried {
                self.one(number, &mutate, &read, &mut found);
                READ.fetch_add(1, Relaxed);
            }
            Ok((tried, found))
        });
        let (work, mut before) = (work.unwrap(), usize::MAX);
        while end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let read = READ.load(Relaxed);
            if read == before {
                eprintln!("{name}: still reading {files:?} after {PATIENCE:?}");
                std::process::abort(); // which leaves the file where it is
            }
            before = read;
        }
        let (tried, found) = work.wait().unwrap();
        let Found { refused, failed, most, longest } = found;
        println!(
            "{name}: {tried} inputs, {refused} refused, {failed} failures; at most {most} bytes \
             and {longest:.1?}"
        );
        record(&format!("damaged {name}"), tried, failed);
        assert!(failed == 0, "{name}: {failed} failures, named above");
        assert!(refused > 0, "{name}: nothing was refused");
    }

    fn one(
        &self,
        number: usize,
        mutate: impl Fn(&mut Rng, &[u8]) -> Vec<u8>,
        read: impl Fn() -> Result<()>,
        found: &mut Found,
    ) {
        let mut rng = Rng::seed_from_u64(number as u64);
        let (path, good) = &self.files[rng.random_range(0..self.files.len())];
        let bad = mutate(&mut rng, good);
        put(path, &bad);
        let before = HELD.load(Relaxed);
        PEAK.store(before, Relaxed);
        let clock = Instant::now();
        let read = panic::catch_unwind(AssertUnwindSafe(read));
        found.longest = found.longest.max(clock.elapsed());
        let peak = PEAK.load(Relaxed) - before;
        found.most = found.most.max(peak);
        found.refused += usize::from(!matches!(read, Ok(Ok(()))));
        let [each, beside] = self.memory;
        let named = self.named.as_ref().unwrap_or(path).to_string_lossy();
        let fault = match read {
            Err(_) => "a panic, told above".into(),
            Ok(Err(error)) if !error.to_string().contains(&*named) => {
                format!("an error that does not name the file: {error}")
            }
            _ if peak > each * bad.len() + beside => {
                format!("{peak} bytes for a file of {}", bad.len())
            }
            _ => String::new(),
        };
        if !fault.is_empty() {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let kept = kept.join(format!("{}, {number}", self.name));
            fs::write(&kept, &bad).unwrap();
            println!("{}: {fault}", kept.display());
            found.failed += 1;
        }
        if self.files.len() > 1 {
            put(path, good);
        }
    }
}

/// Writes a new file: for an old one that is cut short, file systems wait for the disk.
fn put(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

/// What became of the inputs.
#[derive(Default)]
struct Found {
    refused: usize,
    failed: usize,
    /// Bytes.
    most: usize,
    longest: Duration,
}

//! Distributed evolution on several processes, the *ranks* of MPI: on all cores of all nodes of a
//! cluster.
//!
//! Every rank runs the same program on the same data. In each generation the networks to measure
//! are distributed over the ranks, and every rank receives the fitness of all networks. So the
//! optimisers of all ranks stay identical, step by step, and give the same result as one process
//! with the same seed, to the last bit. Only rank 0 reads and writes checkpoints, writes files,
//! prints, and decides about stopping.
//!
//! This needs the feature `mpi`, an MPI library and libclang (Debian: `libopenmpi-dev openmpi-bin
//! libclang-dev`). `evospike` and `evospike reproduce` then run on ranks whenever `mpirun` or
//! `srun` starts them; your own program does so if its work runs in [`together`]:
//!
//! ```no_run
//! use evospike::{prelude::*, ranks};
//!
//! fn main() -> evospike::Result<()> {
//!     ranks::together(|| {
//!         let digits = data::digits()?.split(Shares::default(), 0)?;
//!         let mut ann = Ann::<DigitsCnn>::new(0)?;
//!         ann.train(&digits.training, &TrainSettings::digits())?; // on every rank, the same
//!         let snn = convert(&ann, &digits.training)?.balance(Balance::Percentile(99.9))?;
//!         let target = ann.target(&digits.held_out, 1.0)?;
//!         let settings = EvolveSettings::default();
//!         let evolution = evolve(&snn, &digits.held_out, &target, &settings)?; // on all ranks
//!         if ranks::leads() {
//!             println!("latency {}", evolution.fitness.latency);
//!         }
//!         Ok(())
//!     })
//! }
//! ```
//!
//! [`evolve`](crate::evolve::evolve) and [`pareto`](crate::evolve::pareto) are distributed, also
//! with a checkpoint ([`Resume`](crate::resume::Resume)); every rank does everything else for
//! itself. Train a large network once, beforehand. A grid of experiments needs no ranks: split a
//! [`sweep`](crate::sweep) into shards instead.
//!
//! # A Slurm script
//!
//! One rank per node with all of its cores; all nodes see the same folder. After a time limit or
//! the failure of a node the same script resumes from the last generation.
//!
//! ```bash
//! #!/bin/bash
//! #SBATCH --nodes=8 --ntasks-per-node=1 --cpus-per-task=64 --exclusive --time=24:00:00
//! # cargo build --release --features mpi
//! export RAYON_NUM_THREADS=$SLURM_CPUS_PER_TASK
//! mpirun --map-by ppr:1:node --bind-to none target/release/evospike reproduce thresholds \
//!     --data cifar10 --model vgg15.safetensors --held-out-list held-out.txt --out results/cifar10
//! ```
//!
//! `srun --mpi=pmix` works instead of `mpirun` if Slurm was built with it. On nodes with several
//! memory domains (NUMA), one rank per domain may be faster: `--map-by ppr:1:numa --bind-to numa`,
//! with `RAYON_NUM_THREADS` set to the cores of one domain. Without `--bind-to none`, `mpirun`
//! binds all threads of each of two ranks to one core, which is slow. The nodes should have the
//! same processors: sums of floating-point numbers, and with them fitness, may otherwise differ in
//! the last bit.
//!
//! # Errors
//!
//! Before an evolution the ranks compare their networks, images and settings, and return an error
//! if they differ. An error of a measurement or of a checkpoint is returned by all ranks
//! ([`Error::Rank`]); any other error, or a panic, ends the whole job. No rank is left waiting.
//!
//! # Scaling
//!
//! A generation has as many networks as the population, and further ranks have no work. The
//! population of CMA-ES on 100 genes is 17 unless its settings say otherwise; that of differential
//! evolution is [`population`](crate::evolve::de::DeSettings::population) times the number of
//! genes. A generation takes as long as the rank with the most networks, so the population should
//! be a multiple of the number of ranks.
//!
//! Communication is negligible. Measured with two ranks of Open MPI on two cores and a half-width
//! VGG15: a generation of 14 networks sends 716 bytes, 51 per network (77 with a cost and long
//! fractions, depending on their digits), and 76 bytes per rank before the first one; an exchange
//! of 1,000 bytes per rank takes 3 µs. Simulating such a network on 500 images for 56 timesteps, as
//! in `reproduce thresholds`, takes 4 s on both cores at the 6,852 image-timesteps per second measured
//! by `cargo bench --bench limits`.
//!
//! Estimated from that, not measured: an exchange among 100 ranks over a cluster's network may take
//! a millisecond, 1/4000 of that simulation. VGG16 on ImageNet has 15.5 G multiply-accumulates per
//! image, 49 times those of the full-width VGG15, which reaches 1,766 image-timesteps per second on
//! two cores. So VGG16 reaches 36 per second, or 1,150 on a node of 64 cores if its threads scale.
//! There 1,000 images for 56 timesteps take 49 s; a generation of 100 networks on 100 nodes takes
//! as long and sends 8 kB. 200 nodes would not be faster with this population, and one node takes
//! 100 times as long. Every rank keeps its images in memory, 150 kB per image of ImageNet, so give
//! it a folder with only the images that are used.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Error, Result};

/// Rank of this process, 0 if it is alone; kept after the distributed work.
static RANK: AtomicUsize = AtomicUsize::new(0);

/// Number of ranks that work together.
static SIZE: AtomicUsize = AtomicUsize::new(1);

/// Lock held by the evolution that runs on the ranks.
static BUSY: Mutex<()> = Mutex::new(());

/// Whether this process prints and writes files: it is alone, or rank 0.
pub fn leads() -> bool {
    RANK.load(Ordering::Relaxed) == 0
}

/// Runs some work on all ranks started by `mpirun` or `srun`, or on this process alone if there are
/// none or the crate was built without the feature `mpi`. Call it once per program, around all of
/// its work.
///
/// # Errors
/// Returns the error of the work on all ranks. With several ranks, an error other than
/// [`Error::Rank`] is not known to the other ranks, so it is printed and ends all of them.
pub fn together<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let joined = Joined::join();
    let done = work();
    if let Err(error) = &done
        && !matches!(error, Error::Rank { .. })
    {
        joined.abort(error);
    }
    done
}

/// MPI session of this process; none if it runs alone.
#[cfg(feature = "mpi")]
struct Joined(Option<mpi::environment::Universe>);

#[cfg(feature = "mpi")]
impl Joined {
    fn join() -> Self {
        use mpi::Threading;
        use mpi::traits::Communicator;
        if !launched() {
            return Self(None);
        }
        // Any thread may evolve, one at a time: see `BUSY`.
        let universe = mpi::initialize_with_threading(Threading::Serialized);
        if let Some((universe, _)) = &universe {
            let world = universe.world();
            RANK.store(world.rank() as usize, Ordering::Relaxed);
            SIZE.store(world.size() as usize, Ordering::Relaxed);
        }
        Self(universe.map(|(universe, _)| universe))
    }

    fn abort(&self, error: &Error) {
        use mpi::traits::Communicator;
        if let Some(universe) = &self.0
            && universe.world().size() > 1
        {
            // In one piece: what Open MPI says of the abort would come between two.
            let said = format!("rank {}: error: {error}\n", universe.world().rank());
            eprint!("{said}");
            universe.world().abort(1);
        }
    }
}

#[cfg(feature = "mpi")]
impl Drop for Joined {
    fn drop(&mut self) {
        use mpi::traits::Communicator;
        SIZE.store(1, Ordering::Relaxed);
        if let Some(universe) = &self.0
            && std::thread::panicking()
        {
            // Finalising would wait for ranks that wait for this one.
            universe.world().abort(101);
        }
    }
}

#[cfg(not(feature = "mpi"))]
struct Joined;

#[cfg(not(feature = "mpi"))]
impl Joined {
    fn join() -> Self {
        let size = std::env::var("OMPI_COMM_WORLD_SIZE");
        if let Some(size) = size.ok().filter(|size| size != "1") {
            eprintln!("warning: one of {size} processes, each alone without the feature `mpi`");
        }
        Self
    }

    fn abort(&self, _: &Error) {}
}

/// Whether Open MPI or Slurm started this process as one of several; otherwise MPI, which starts
/// slowly, is not started.
#[cfg(feature = "mpi")]
fn launched() -> bool {
    let ranks = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"];
    ranks.iter().any(|name| std::env::var_os(name).is_some())
}

#[cfg(feature = "mpi")]
fn all_gather(own: &[u8]) -> Result<Vec<Vec<u8>>> {
    use mpi::Count;
    use mpi::datatype::PartitionMut;
    use mpi::topology::SimpleCommunicator;
    use mpi::traits::{Communicator, CommunicatorCollectives};
    let count = |bytes: usize| {
        let expected = format!("at most {} bytes", Count::MAX);
        Count::try_from(bytes).map_err(|_| Error::parameter("message", bytes, expected))
    };
    let world = SimpleCommunicator::world();
    let mut counts: Vec<Count> = vec![0; world.size() as usize];
    world.all_gather_into(&count(own.len())?, &mut counts);
    let mut starts = Vec::with_capacity(counts.len());
    let mut bytes = 0;
    for &count_of_rank in &counts {
        starts.push(count(bytes)?);
        bytes += count_of_rank as usize;
    }
    count(bytes)?;
    let mut all = vec![0u8; bytes];
    let mut parts = PartitionMut::new(&mut all[..], &counts[..], &starts[..]);
    world.all_gather_varcount_into(own, &mut parts);
    let parts = starts.iter().zip(&counts);
    let part =
        |(&start, &count): (&Count, &Count)| all[start as usize..][..count as usize].to_vec();
    Ok(parts.map(part).collect())
}

/// Returns the bytes of the only rank, without the feature `mpi`.
#[cfg(not(feature = "mpi"))]
fn all_gather(own: &[u8]) -> Result<Vec<Vec<u8>>> {
    Ok(vec![own.to_vec()])
}

/// Function that sends the bytes of this rank and returns those of all ranks in order.
type Exchange<'a> = Box<dyn Fn(&[u8]) -> Result<Vec<Vec<u8>>> + 'a>;

/// Message of a rank, with its errors as text.
type Said<T> = Result<T, String>;

/// Ranks that an evolution runs on.
pub(crate) struct Ranks<'a> {
    rank: usize,
    size: usize,
    exchange: Exchange<'a>,
    _busy: Option<MutexGuard<'static, ()>>,
}

impl Ranks<'_> {
    /// Joins all ranks that work together, until the value is dropped; one rank if the process is
    /// alone.
    pub fn enter() -> Result<Self> {
        let size = SIZE.load(Ordering::Relaxed);
        let busy = (size > 1).then(|| {
            // Messages of two evolutions at once would be mixed up.
            let busy = BUSY.try_lock();
            busy.map_err(|_| Error::parameter("evolve", "two at once", "one at a time on ranks"))
        });
        Ok(Self {
            rank: RANK.load(Ordering::Relaxed) % size,
            size,
            exchange: Box::new(all_gather),
            _busy: busy.transpose()?,
        })
    }

    /// Returns this process as the only rank, even if there are others.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, exchange: Box::new(|own| Ok(vec![own.to_vec()])), _busy: None }
    }

    /// True if there is more than one rank.
    pub fn several(&self) -> bool {
        self.size > 1
    }

    /// Compares the fields of a value that must be the same on all ranks.
    ///
    /// # Errors
    /// Returns an error that names the fields in which a rank differs from rank 0.
    pub fn check_alike(&self, value: &impl Serialize) -> Result<()> {
        if !self.several() {
            return Ok(());
        }
        let own: BTreeMap<String, Value> = serde_json::to_value(value)
            .and_then(serde_json::from_value)
            .map_err(|error| Error::Rank { rank: self.rank, reason: error.to_string() })?;
        let all = self.all(&own)?;
        for (rank, fields) in all.iter().enumerate() {
            let differ = all[0].keys().filter(|name| fields.get(*name) != all[0].get(*name));
            let differ: Vec<&str> = differ.map(String::as_str).collect();
            if !differ.is_empty() {
                let names = differ.join(", ");
                let reason = format!("found other {names} than rank 0's, expected the same");
                return Err(Error::Rank { rank, reason });
            }
        }
        Ok(())
    }

    /// Runs `find` on rank 0 and returns its result on all ranks.
    pub fn lead<T: Serialize + DeserializeOwned>(
        &self,
        find: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if self.size == 1 {
            return find();
        }
        let own = (self.rank == 0).then(|| find().map_err(|error| error.to_string()));
        let first = self.all::<Option<Said<T>>>(&own)?.swap_remove(0);
        heard(0, first)
    }

    /// Measures the items, distributed over the ranks, and returns the results in order on all
    /// ranks. Of several errors, it returns that of the first item.
    pub fn share<T: Serialize + DeserializeOwned>(
        &self,
        items: usize,
        measure: impl FnMut(usize) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut own = (self.rank..items).step_by(self.size).map(measure);
        if self.size == 1 {
            return own.collect();
        }
        let mut said: Vec<Said<T>> = Vec::new();
        while said.last().is_none_or(Result::is_ok)
            && let Some(measured) = own.next()
        {
            said.push(measured.map_err(|error| error.to_string()));
        }
        let all = self.all(&said)?.into_iter();
        let mut all: Vec<_> = all.map(Vec::into_iter).collect();
        let of = |item: usize| heard(item % self.size, all[item % self.size].next());
        (0..items).map(of).collect()
    }

    /// Returns the messages of all ranks in order.
    fn all<T: Serialize + DeserializeOwned>(&self, own: &T) -> Result<Vec<T>> {
        let wrong = |rank: usize| {
            move |error: serde_json::Error| Error::Rank { rank, reason: error.to_string() }
        };
        let own = serde_json::to_vec(own).map_err(wrong(self.rank))?;
        let all = (self.exchange)(&own)?.into_iter().enumerate();
        all.map(|(rank, said)| serde_json::from_slice(&said).map_err(wrong(rank))).collect()
    }
}

/// Returns the result in a rank's message, or an error if there is none.
fn heard<T>(rank: usize, said: Option<Said<T>>) -> Result<T> {
    let said = said.unwrap_or_else(|| Err("found nothing, expected a result".into()));
    said.map_err(|reason| Error::Rank { rank, reason })
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, RwLock};

    use serde_json::json;

    use super::*;

    /// Threads for ranks.
    fn on<T: Send>(size: usize, work: impl Fn(&Ranks<'_>) -> T + Sync) -> Vec<T> {
        let barrier = Barrier::new(size);
        let said = RwLock::new(vec![Vec::new(); size]);
        let rank = |rank| {
            let exchange = |own: &[u8]| {
                said.write().unwrap()[rank] = own.to_vec();
                barrier.wait();
                let all = said.read().unwrap().clone();
                barrier.wait();
                Ok(all)
            };
            work(&Ranks { rank, size, exchange: Box::new(exchange), _busy: None })
        };
        std::thread::scope(|scope| {
            let ranks: Vec<_> = (0..size).map(|i| scope.spawn(move || rank(i))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn each_item_is_measured_once_and_known_to_all() {
        for (size, items) in [(1, 5), (3, 7), (4, 2)] {
            let calls = AtomicUsize::new(0);
            let found = on(size, |ranks| {
                let share = |fail: &[usize]| {
                    let measured = ranks.share(items, |i| {
                        calls.fetch_add(1, Ordering::Relaxed);
                        match fail.contains(&i) {
                            true => Err(Error::network(i, "another")),
                            false => Ok(1.0 / (i as f64 + 0.1)),
                        }
                    });
                    measured.map_err(|error| error.to_string())
                };
                (share(&[]), share(&[1, 3]))
            });
            assert!(calls.into_inner() <= 2 * items);
            for (good, bad) in found {
                let expected = (0..items).map(|i| 1.0 / (i as f64 + 0.1));
                assert!(good.unwrap().into_iter().eq(expected));
                assert!(bad.unwrap_err().ends_with("found 1, expected another"));
            }
        }
    }

    #[test]
    fn rank_0_is_heard_by_all() {
        let found = on(3, |ranks| {
            let good = ranks.lead(|| Ok((ranks.rank, 0.1)));
            let bad = ranks.lead(|| Err::<(), _>(Error::network("a", "b")));
            (good.unwrap(), bad.unwrap_err().to_string())
        });
        let error = "rank 0: network: found a, expected b".to_owned();
        assert_eq!(found, vec![((0, 0.1), error); 3]);
    }

    #[test]
    fn what_differs_is_named() {
        let found = on(3, |ranks| {
            let other = u32::from(ranks.rank == 2);
            let things = json!({"weights": 7, "images": other, "settings": {"seed": other}});
            ranks.check_alike(&things).unwrap_err().to_string()
        });
        let error = "rank 2: found other images, settings than rank 0's, expected the same";
        assert_eq!(found, [error; 3]);
        assert!(
            on(3, |ranks| ranks.check_alike(&json!({"weights": 7})).is_ok())
                .into_iter()
                .all(|ok| ok)
        );
    }
}

//! How times are distributed: buckets that all workers count in, without a lock.
//!
//! The buckets are those of [`ekiden_model::histogram`]. Memory comes with the first value that
//! needs it, 512 bytes for 128 buckets, so that a service whose times are alike has little of it.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use ekiden_model::histogram::{BUCKETS, Histogram, bounds_of, bucket_of};

/// Buckets that get their memory together.
const CHUNK: usize = 128;

const CHUNKS: usize = BUCKETS / CHUNK;

type Chunk = [AtomicU32; CHUNK];

/// Values since they were last taken.
#[derive(Debug)]
pub(crate) struct Distribution {
    sum: AtomicU64,
    /// `u64::MAX` when there is none.
    min: AtomicU64,
    max: AtomicU64,
    chunks: [OnceLock<Box<Chunk>>; CHUNKS],
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
            chunks: [const { OnceLock::new() }; CHUNKS],
        }
    }
}

impl Distribution {
    /// Counts a value.
    pub(crate) fn record(&self, value: u64) {
        self.sum.fetch_add(value, Ordering::Relaxed);
        if value < self.min.load(Ordering::Relaxed) {
            self.min.fetch_min(value, Ordering::Relaxed);
        }
        if value > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(value, Ordering::Relaxed);
        }
        let bucket = bucket_of(value);
        let chunk = self.chunks[bucket / CHUNK].get_or_init(chunk);
        // Whoever takes this takes what is above too: see `take`.
        chunk[bucket % CHUNK].fetch_add(1, Ordering::Release);
    }

    /// Takes what was counted since the last time. Of a value that is counted at this moment the sum
    /// may be taken before its bucket, never after it: over all that is taken, nothing is missing.
    pub(crate) fn take(&self) -> Histogram {
        let mut taken = Histogram::default();
        for (index, chunk) in self.chunks.iter().enumerate() {
            for (offset, counter) in chunk
                .get()
                .into_iter()
                .flat_map(|chunk| chunk.iter().enumerate())
            {
                // Most are zero, and reading leaves the line with whoever counts.
                if counter.load(Ordering::Relaxed) == 0 {
                    continue;
                }
                let count = u64::from(counter.swap(0, Ordering::Acquire));
                taken.count += count;
                taken.buckets.insert((index * CHUNK + offset) as u16, count);
            }
        }
        let bounds = |bucket: Option<&u16>| bucket.map(|bucket| bounds_of(usize::from(*bucket)));
        let (Some((least, _)), Some((_, most))) = (
            bounds(taken.buckets.keys().next()),
            bounds(taken.buckets.keys().next_back()),
        ) else {
            return taken;
        };
        taken.sum = self.sum.swap(0, Ordering::Relaxed);
        // One that was taken early, with the values before it, is made up for by its bucket.
        taken.min = self.min.swap(u64::MAX, Ordering::Relaxed).min(most);
        taken.max = self.max.swap(0, Ordering::Relaxed).max(least);
        taken
    }
}

fn chunk() -> Box<Chunk> {
    Box::new([const { AtomicU32::new(0) }; CHUNK])
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn values_are_taken_as_a_histogram_of_them() {
        let distribution = Distribution::default();
        let mut want = Histogram::default();
        for value in [0, 1, 255, 256, 1000, 1000, 5_000_000, u64::MAX >> 20] {
            distribution.record(value);
            want.record(value);
        }
        assert_eq!(distribution.take(), want);
        assert_eq!(distribution.take(), Histogram::default());
    }

    #[test]
    fn what_is_recorded_while_values_are_taken_is_not_lost() {
        const EACH: u64 = 50_000;
        let distribution = Distribution::default();
        let mut sum = Histogram::default();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| (0..EACH).for_each(|value| distribution.record(value))))
                .collect();
            while workers.iter().any(|worker| !worker.is_finished()) {
                let taken = distribution.take();
                assert!(taken.min <= taken.max);
                sum.add(&taken);
            }
        });
        sum.add(&distribution.take());
        let mut want = Histogram::default();
        (0..EACH).for_each(|value| want.record_many(value, 2));
        assert_eq!(sum, want);
    }
}

//! The line in which a service's requests wait for an instance with room.
//!
//! First come, first served, across workers. Nothing is handed over: a slot that becomes free, or a
//! new table, wakes the first in line, which looks at the table that its worker serves by and takes
//! a slot like anybody. Newcomers stand behind it as long as anybody waits, so nobody overtakes.
//! Whoever leaves the first place, for whatever reason, wakes the next.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
};

use crate::demand::Signal;

/// One service's line. Shared by all workers.
#[derive(Debug)]
pub(crate) struct Queue {
    /// The line's length, so that the request path need not lock.
    waiting: AtomicUsize,
    line: Mutex<Line>,
    demand: Signal,
    /// Whether `demand` has been told that somebody came or left.
    marked: AtomicBool,
}

#[derive(Debug, Default)]
struct Line {
    next_ticket: u64,
    waiters: VecDeque<(u64, Waker)>,
}

/// A place in the line; given up by dropping it.
#[derive(Debug)]
pub(crate) struct Place {
    queue: Arc<Queue>,
    ticket: u64,
}

impl Queue {
    /// A line in which nobody stands.
    pub(crate) fn new(demand: Signal) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
            demand,
            marked: AtomicBool::new(false),
        }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Whether somebody came or left since this was last asked; the length is to be read after it.
    pub(crate) fn take_mark(&self) -> bool {
        self.marked.swap(false, Ordering::SeqCst)
    }

    fn set_waiting(&self, waiting: usize) {
        let before = self.waiting.swap(waiting, Ordering::SeqCst);
        match before {
            0 => self.demand.urge(&self.marked),
            _ => self.demand.touch(&self.marked),
        }
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting() == 0
    }

    /// Stands at the end of the line; `None` when `places_max` wait already.
    pub(crate) fn enter(self: &Arc<Self>, task: &Waker, places_max: usize) -> Option<Place> {
        let mut line = self.line();
        if line.waiters.len() >= places_max {
            return None;
        }
        let ticket = line.ticket();
        line.waiters.push_back((ticket, task.clone()));
        self.set_waiting(line.waiters.len());
        Some(Place {
            queue: Arc::clone(self),
            ticket,
        })
    }

    /// Stands at the front again, after the slot that was waited for turned out to be no use.
    /// Not counted against the line's bound: it was when it first came.
    pub(crate) fn enter_front(self: &Arc<Self>, task: &Waker) -> Place {
        let mut line = self.line();
        let ticket = line.ticket();
        line.waiters.push_front((ticket, task.clone()));
        self.set_waiting(line.waiters.len());
        Place {
            queue: Arc::clone(self),
            ticket,
        }
    }

    /// Tells the first in line to look again.
    ///
    /// Call it after a slot was given back. The length is read after that with sequential
    /// consistency, and whoever enters looks for a slot after it has entered: one of the two sees
    /// the other.
    pub(crate) fn wake_first(&self) {
        if !self.is_empty() {
            self.line().wake_first();
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // A line is whole between any two of its statements, so that a panic elsewhere is no harm.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn wake_first(&self) {
        if let Some((_, task)) = self.waiters.front() {
            task.wake_by_ref();
        }
    }
}

impl Place {
    /// Whether it is this one's turn.
    pub(crate) fn is_first(&self) -> bool {
        self.queue
            .line()
            .waiters
            .front()
            .is_some_and(|(ticket, _)| *ticket == self.ticket)
    }

    /// Whether it is a place in this line.
    pub(crate) fn is_in(&self, queue: &Arc<Queue>) -> bool {
        Arc::ptr_eq(&self.queue, queue)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.queue.line();
        if let Some(index) = line
            .waiters
            .iter()
            .position(|(ticket, _)| *ticket == self.ticket)
        {
            line.waiters.remove(index);
            self.queue.set_waiting(line.waiters.len());
            if index == 0 {
                line.wake_first();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicU32,
        task::{Wake, Waker},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn queue() -> Arc<Queue> {
        let service = ekiden_model::id::ServiceId::from_bytes([1; 16]);
        Arc::new(Queue::new(Signal::new(
            &crate::demand::Marks::new(),
            service,
        )))
    }

    fn waiter() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn first_come_is_first_served_and_the_next_is_woken_when_the_first_leaves() {
        let queue = queue();
        let ((first_woken, first), (second_woken, second)) = (waiter(), waiter());
        let first = queue.enter(&first, 2).unwrap();
        let second = queue.enter(&second, 2).unwrap();
        assert!(queue.enter(Waker::noop(), 2).is_none());

        queue.wake_first();
        assert!(first.is_first() && !second.is_first());
        assert_eq!(first_woken.0.load(Ordering::SeqCst), 1);
        assert_eq!(second_woken.0.load(Ordering::SeqCst), 0);

        drop(first);
        assert!(second.is_first());
        assert_eq!(second_woken.0.load(Ordering::SeqCst), 1);
        drop(second);
        assert!(queue.is_empty());
    }

    #[test]
    fn whoever_comes_back_stands_in_front_even_of_a_full_line() {
        let queue = queue();
        let newcomer = queue.enter(Waker::noop(), 1).unwrap();
        let back = queue.enter_front(Waker::noop());
        assert!(back.is_first() && !newcomer.is_first());
    }

    #[test]
    fn leaving_from_the_middle_wakes_nobody() {
        let queue = queue();
        let (woken, task) = waiter();
        let _first = queue.enter(&task, 3).unwrap();
        let middle = queue.enter(&task, 3).unwrap();
        let last = queue.enter(&task, 3).unwrap();
        drop(middle);
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        assert!(!last.is_first());
    }
}

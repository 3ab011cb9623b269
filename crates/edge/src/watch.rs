//! Deadlines that cost a store to set.
//!
//! A timer per read would be an allocation in a timer wheel and a system call to move its wake-up.
//! Instead each connection has one [`Watch`], and its worker looks at all of them once per
//! [`TICK`](crate::config::TICK).

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use crate::config::TICK;

/// One connection's deadline.
#[derive(Debug)]
pub(crate) struct Watch {
    clock: Rc<Clock>,
    slot: usize,
    entry: Rc<Entry>,
}

/// A moment, in ticks since the worker began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    const NEVER: Self = Self(u64::MAX);
}

/// One worker's clock and the deadlines it keeps.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    now: Cell<u64>,
    entries: RefCell<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    slots: Vec<Option<Rc<Entry>>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    deadline: Cell<Moment>,
    /// Set by the first poll of the task.
    task: OnceCell<Waker>,
}

impl Entry {
    fn wake(&self) {
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            now: Cell::new(0),
            entries: RefCell::default(),
        }
    }

    /// The moment `time` from now, or up to two ticks later.
    pub(crate) fn after(&self, time: Duration) -> Moment {
        let ticks = time.as_millis().div_ceil(TICK.as_millis()) as u64;
        Moment(self.now.get().saturating_add(ticks).saturating_add(1))
    }

    /// Takes the time, without waking anybody.
    pub(crate) fn update(&self) {
        self.now
            .set((self.began.elapsed().as_millis() / TICK.as_millis()) as u64);
    }

    /// Takes the time and wakes those whose time is up.
    pub(crate) fn tick(&self) {
        self.update();
        let now = Moment(self.now.get());
        for entry in self.entries.borrow().slots.iter().flatten() {
            if entry.deadline.get() <= now {
                entry.wake();
            }
        }
    }

    /// Whether the moment has come.
    pub(crate) fn has_come(&self, moment: Moment) -> bool {
        moment.0 <= self.now.get()
    }

    /// Wakes every watched task.
    pub(crate) fn wake_all(&self) {
        self.entries
            .borrow()
            .slots
            .iter()
            .flatten()
            .for_each(|entry| entry.wake());
    }
}

impl Watch {
    /// A watch over a task that is yet to begin, with [`Watch::begin`].
    pub(crate) fn new(clock: Rc<Clock>) -> Self {
        let entry = Rc::new(Entry {
            deadline: Cell::new(Moment::NEVER),
            task: OnceCell::new(),
        });
        let slot = {
            let mut entries = clock.entries.borrow_mut();
            let slot = entries.free.pop().unwrap_or(entries.slots.len());
            if slot == entries.slots.len() {
                entries.slots.push(None);
            }
            entries.slots[slot] = Some(Rc::clone(&entry));
            slot
        };
        Self { clock, slot, entry }
    }

    /// Watches over the task that awaits this, from now on.
    pub(crate) async fn begin(&self) {
        poll_fn(|cx| {
            // There is one task, and it begins once.
            let _ = self.entry.task.set(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
    }

    /// The task's waker.
    pub(crate) fn task(&self) -> &Waker {
        self.entry.task.get().unwrap_or(Waker::noop())
    }

    /// Sets the deadline `time` from now, in place of the one before.
    pub(crate) fn arm(&self, time: Duration) {
        self.arm_at(self.clock.after(time));
    }

    /// Sets the deadline, in place of the one before.
    pub(crate) fn arm_at(&self, deadline: Moment) {
        self.entry.deadline.set(deadline);
    }

    /// Takes the deadline away.
    pub(crate) fn disarm(&self) {
        self.arm_at(Moment::NEVER);
    }

    /// Whether the deadline has passed; when it passes, the task is woken.
    pub(crate) fn expired(&self) -> bool {
        self.clock.has_come(self.entry.deadline.get())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut entries = self.clock.entries.borrow_mut();
        entries.slots[self.slot] = None;
        entries.free.push(self.slot);
    }
}

//! How many requests there were and what became of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ingress::CAUSES;

/// Requests that are over, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// By the class of the status that their clients were sent: 1xx first, 5xx last.
    pub answered: [u64; 5],
    /// Those whose clients were sent none.
    pub unanswered: u64,
    /// By the cause for which the edge answered or gave up: its name, and how many. Only those that
    /// there were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub causes: BTreeMap<String, u64>,
}

impl RequestCounts {
    /// All of them.
    pub fn requests(&self) -> u64 {
        let answered = self.answered.iter();
        answered.fold(self.unanswered, |all, one| all.saturating_add(*one))
    }

    /// Adds others. A cause that is not in [`CAUSES`], as a newer edge may have one, is not
    /// remembered: so there is a bound to what is.
    pub fn add(&mut self, others: &Self) {
        for (count, more) in self.answered.iter_mut().zip(others.answered) {
            *count = count.saturating_add(more);
        }
        self.unanswered = self.unanswered.saturating_add(others.unanswered);
        for (cause, more) in &others.causes {
            if CAUSES.contains(&cause.as_str()) {
                let count = self.causes.entry(cause.clone()).or_default();
                *count = count.saturating_add(*more);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_unknown_causes_are_left_out() {
        let one = RequestCounts {
            answered: [0, 2, 0, 1, u64::MAX],
            unanswered: 1,
            causes: BTreeMap::from([
                ("client_left".to_owned(), 1),
                ("of_the_future".to_owned(), 1),
            ]),
        };
        let mut sum = RequestCounts::default();
        sum.add(&one);
        sum.add(&one);
        assert_eq!(sum.answered, [0, 4, 0, 2, u64::MAX]);
        assert_eq!((sum.unanswered, sum.requests()), (2, u64::MAX));
        assert_eq!(sum.causes, BTreeMap::from([("client_left".to_owned(), 2)]));
    }
}

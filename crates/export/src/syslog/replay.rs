//! What syslog sends again when a connection ended: the protocol never says what the receiver kept.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use crate::{
    connection::Ended,
    target::{SYSLOG_REPLAY_AGE_MAX, SYSLOG_REPLAY_BYTES_MAX},
};

/// The last of what was acknowledged: at most [`SYSLOG_REPLAY_BYTES_MAX`], in whole messages.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pieces: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// How the last connection ended, until everything was sent again.
    ended: Option<Ended>,
}

impl Replay {
    /// Pieces of whole messages were acknowledged at `now`.
    pub(super) fn remember(&mut self, pieces: Vec<Bytes>, now: Instant) {
        for piece in pieces {
            self.bytes += piece.len();
            self.pieces.push_back((now, piece));
        }
        while self.bytes > SYSLOG_REPLAY_BYTES_MAX
            && let Some((_, piece)) = self.pieces.pop_front()
        {
            self.bytes -= piece.len();
        }
    }

    /// A connection ended. The worse of several ends counts.
    pub(super) fn ended(&mut self, ended: Ended) {
        if self.ended != Some(Ended::Reset) {
            self.ended = Some(ended);
        }
    }

    /// What a new connection begins with.
    pub(super) fn pieces(&self, now: Instant) -> Vec<Bytes> {
        let young = |at: Instant| now.saturating_duration_since(at) <= SYSLOG_REPLAY_AGE_MAX;
        self.pieces
            .iter()
            .filter(|(at, _)| self.ended == Some(Ended::Reset) || young(*at))
            .map(|(_, piece)| piece.clone())
            .collect()
    }

    /// If there was an end: what [`Self::pieces`] has arrived at `now`, and what it left out is forgotten.
    pub(super) fn sent_again(&mut self, now: Instant) {
        if let Some(ended) = self.ended.take() {
            self.pieces.retain_mut(|(at, piece)| {
                let kept = ended == Ended::Reset
                    || now.saturating_duration_since(*at) <= SYSLOG_REPLAY_AGE_MAX;
                if !kept {
                    self.bytes -= piece.len();
                }
                *at = now;
                kept
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn piece(bytes: usize) -> Bytes {
        vec![b'x'; bytes].into()
    }

    fn total(pieces: &[Bytes]) -> usize {
        pieces.iter().map(Bytes::len).sum()
    }

    #[test]
    fn closed_connection_repeats_the_young_and_a_reset_one_everything() {
        let start = Instant::now();
        let old = start + SYSLOG_REPLAY_AGE_MAX + Duration::from_secs(1);
        let mut replay = Replay::default();
        replay.remember(vec![piece(3)], start);
        replay.remember(vec![piece(5)], old);
        replay.ended(Ended::Closed);
        assert_eq!(total(&replay.pieces(old)), 5);
        replay.ended(Ended::Reset);
        replay.ended(Ended::Closed);
        assert_eq!(total(&replay.pieces(old)), 8);
    }

    #[test]
    fn what_was_left_out_is_forgotten_and_what_was_repeated_is_young_again() {
        let start = Instant::now();
        let mut replay = Replay::default();
        replay.remember(vec![piece(3)], start);
        replay.remember(vec![piece(5)], start + SYSLOG_REPLAY_AGE_MAX);
        let later = start + SYSLOG_REPLAY_AGE_MAX + Duration::from_secs(1);
        replay.ended(Ended::Closed);
        replay.sent_again(later);
        assert_eq!(replay.bytes, 5);
        assert_eq!(total(&replay.pieces(later + SYSLOG_REPLAY_AGE_MAX)), 5);
    }

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let mut replay = Replay::default();
        let now = Instant::now();
        for _ in 0..100 {
            replay.remember(vec![piece(60_000)], now);
            assert!(replay.bytes <= SYSLOG_REPLAY_BYTES_MAX);
        }
        assert_eq!(replay.bytes, total(&replay.pieces(now)));
        assert!(replay.bytes > SYSLOG_REPLAY_BYTES_MAX - 60_000);
    }
}

//! What applications do, by their image.

use std::time::Duration;

use ekiden_model::{
    image::{Digest, ImageConfig, ImageReference, PreparedImage},
    instance::ExitCause,
};

use crate::random::Random;

/// How every instance of an image behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Listens after a moment and stops when asked to.
    Good,
    /// Listens just within the time it has.
    SlowStart,
    /// Is good, but has to be killed.
    IgnoresStop,
    /// Is good, and ends by itself now and then.
    EndsNowAndThen,
    /// Is good, and stops answering after a while.
    SickensLater,
    /// Is good until something that it needs goes away; from then on it ends soon after its start.
    BreaksForGood,
    /// Returns at once.
    ExitsZero,
    /// Gives up after a while, without having listened.
    ExitsOne,
    /// Takes too much memory before it listens.
    OutOfMemory,
    /// Runs and never listens.
    NeverListens,
    /// Cannot be started.
    StartFails,
}

const ALL: [Behaviour; 11] = [
    Behaviour::Good,
    Behaviour::SlowStart,
    Behaviour::IgnoresStop,
    Behaviour::EndsNowAndThen,
    Behaviour::SickensLater,
    Behaviour::BreaksForGood,
    Behaviour::ExitsZero,
    Behaviour::ExitsOne,
    Behaviour::OutOfMemory,
    Behaviour::NeverListens,
    Behaviour::StartFails,
];

/// What will become of one instance if nobody interferes. Times count from its process's start.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    /// From the call to the start of its process, in ms.
    pub(crate) starts_in: u64,
    pub(crate) fails_to_start: bool,
    pub(crate) listens_after: Option<u64>,
    pub(crate) ends_after: Option<(u64, ExitCause)>,
    pub(crate) sickens_after: Option<u64>,
    /// From the stop signal to its end; never when absent.
    pub(crate) stops_in: Option<u64>,
}

impl Behaviour {
    pub(crate) fn draw(random: &mut Random) -> Self {
        match random.per_mille(450) {
            true => Self::Good,
            false => random.pick(&ALL),
        }
    }

    /// Whether it keeps serving once it does.
    pub(crate) const fn is_steady(self) -> bool {
        matches!(self, Self::Good | Self::SlowStart | Self::IgnoresStop)
    }

    /// Whether it never serves.
    pub(crate) const fn is_hopeless(self) -> bool {
        matches!(
            self,
            Self::ExitsZero
                | Self::ExitsOne
                | Self::OutOfMemory
                | Self::NeverListens
                | Self::StartFails
        )
    }

    /// The image that behaves so. `serial` tells images of one behaviour apart.
    pub(crate) fn image(self, serial: u32) -> PreparedImage {
        let mut digest = [0; 32];
        digest[0] = ALL
            .iter()
            .position(|other| *other == self)
            .unwrap_or_default() as u8;
        digest[1..5].copy_from_slice(&serial.to_be_bytes());
        image_of(Digest::from_sha256(digest))
    }

    /// How the image behaves.
    pub(crate) fn of(image: &PreparedImage) -> Self {
        let index = u8::from_str_radix(&image.digest.hex()[..2], 16);
        ALL[usize::from(index.expect("a digest is hexadecimal"))]
    }

    pub(crate) fn fate(self, random: &mut Random, startup_limit: Duration) -> Fate {
        let limit = startup_limit.as_millis() as u64;
        let mut fate = Fate {
            starts_in: random.between(5, 60),
            fails_to_start: false,
            listens_after: Some(random.between(5, 1500)),
            ends_after: None,
            sickens_after: None,
            stops_in: Some(random.between(1, 200)),
        };
        match self {
            Self::Good | Self::BreaksForGood => {}
            Self::SlowStart => {
                fate.listens_after = Some(random.between(limit / 2, limit * 8 / 10));
            }
            Self::IgnoresStop => fate.stops_in = None,
            Self::EndsNowAndThen => {
                let at = random.between(500, 120_000);
                fate.ends_after = Some((at, ExitCause::Signal { signal: 11 }));
            }
            Self::SickensLater => fate.sickens_after = Some(random.between(2_000, 120_000)),
            Self::ExitsZero => {
                fate.listens_after = None;
                fate.ends_after = Some((random.between(1, 10), ExitCause::Code { code: 0 }));
            }
            Self::ExitsOne => {
                fate.listens_after = None;
                fate.ends_after = Some((random.between(10, 4_000), ExitCause::Code { code: 1 }));
            }
            Self::OutOfMemory => {
                fate.listens_after = None;
                fate.ends_after = Some((random.between(10, 3_000), ExitCause::OutOfMemory));
            }
            Self::NeverListens => fate.listens_after = None,
            Self::StartFails => fate.fails_to_start = true,
        }
        fate
    }
}

/// The image of a digest.
pub(crate) fn image_of(digest: Digest) -> PreparedImage {
    PreparedImage {
        digest,
        config: ImageConfig::default(),
        size_bytes: 1,
    }
}

/// What a reference leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// Always the same image.
    Fixed(Behaviour),
    /// A tag that somebody moves: another image each time it is resolved.
    Moving,
    /// Nothing.
    Missing,
    /// Exactly this image.
    Digest(Digest),
}

impl Named {
    pub(crate) fn draw(random: &mut Random) -> Self {
        match random.below(20) {
            0..=1 => Self::Missing,
            2..=4 => Self::Moving,
            _ => Self::Fixed(Behaviour::draw(random)),
        }
    }

    pub(crate) fn reference(self) -> ImageReference {
        let text = match self {
            Self::Missing => "localhost/missing".to_owned(),
            Self::Moving => "localhost/moving".to_owned(),
            Self::Fixed(behaviour) => {
                let index = ALL.iter().position(|other| *other == behaviour);
                format!("localhost/app:{}", index.unwrap_or_default())
            }
            Self::Digest(digest) => format!("localhost/app@{digest}"),
        };
        text.parse().expect("a good reference")
    }

    pub(crate) fn of(reference: &ImageReference) -> Self {
        if let Some(digest) = reference.digest {
            return Self::Digest(digest);
        }
        match reference.repository.as_str() {
            "missing" => Self::Missing,
            "moving" => Self::Moving,
            _ => {
                let tag = reference
                    .tag
                    .as_deref()
                    .and_then(|tag| tag.parse::<usize>().ok());
                Self::Fixed(ALL[tag.expect("the tag is an index")])
            }
        }
    }
}

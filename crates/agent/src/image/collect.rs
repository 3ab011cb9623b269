//! Which images a store gives up when it is over its budget.

use std::{collections::BTreeMap, time::Duration};

use ekiden_model::{image::Digest, time::Timestamp};

use super::catalog::{Catalog, ImageRecord, Origin};

/// What decides besides the catalogue.
pub(super) struct Rules<'a> {
    pub(super) now: Timestamp,
    pub(super) budget_bytes: u64,
    /// An image used within this time stays.
    pub(super) keep_recent: Duration,
    /// Whether something needs the image: an instance, a revision.
    pub(super) is_needed: &'a dyn Fn(&Digest) -> bool,
}

/// The images to remove, least recently used first: as few as bring the store within its budget,
/// or all that may go when those are not enough.
///
/// What was imported stays as long as it has a name, because there is nowhere to get it again.
pub(super) fn plan(catalog: &Catalog, rules: &Rules<'_>) -> Vec<Digest> {
    let mut users = Users::of(catalog);
    let mut candidates: Vec<(&Digest, &ImageRecord)> = catalog
        .images
        .iter()
        .filter(|(digest, record)| may_go(catalog, digest, record, rules))
        .collect();
    candidates.sort_by_key(|(digest, record)| (record.used_at, **digest));
    let mut removed = Vec::new();
    for (digest, record) in candidates {
        if users.bytes <= rules.budget_bytes {
            break;
        }
        users.remove(record);
        removed.push(*digest);
    }
    removed
}

/// Bytes of everything that the catalogue names, each counted once.
pub(super) fn bytes(catalog: &Catalog) -> u64 {
    Users::of(catalog).bytes
}

fn may_go(catalog: &Catalog, digest: &Digest, record: &ImageRecord, rules: &Rules<'_>) -> bool {
    let named_import = matches!(record.origin, Origin::Imported { .. })
        && catalog.names.values().any(|named| named == digest);
    !named_import
        && !(rules.is_needed)(digest)
        && rules.now.since(record.used_at) >= rules.keep_recent
}

/// How many images use each layer and blob.
#[derive(Default)]
struct Users {
    counts: BTreeMap<(Kind, Digest), usize>,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Layer,
    Blob,
}

impl Users {
    fn of(catalog: &Catalog) -> Self {
        let mut users = Self::default();
        for (part, bytes) in catalog.images.values().flat_map(parts) {
            let count = users.counts.entry(part).or_default();
            *count += 1;
            if *count == 1 {
                users.bytes += bytes;
            }
        }
        users
    }

    fn remove(&mut self, record: &ImageRecord) {
        for (part, bytes) in parts(record) {
            let count = self.counts.entry(part).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.bytes = self.bytes.saturating_sub(bytes);
            }
        }
    }
}

fn parts(record: &ImageRecord) -> impl Iterator<Item = ((Kind, Digest), u64)> {
    let layers = record
        .layers
        .iter()
        .map(|layer| ((Kind::Layer, layer.diff_id), layer.bytes));
    layers.chain(
        record
            .blobs()
            .iter()
            .map(|blob| ((Kind::Blob, blob.digest), blob.bytes)),
    )
}

#[cfg(test)]
mod tests {
    use ekiden_model::image::ImageConfig;

    use super::{super::catalog::LayerRecord, *};

    fn digest(number: u8) -> Digest {
        Digest::from_sha256([number; 32])
    }

    /// Images 1, 2, 3 ... of 100 bytes each, last used at seconds 1, 2, 3 ...
    fn catalog(images: u8) -> Catalog {
        let mut catalog = Catalog::default();
        for number in 1..=images {
            let record = ImageRecord {
                config: ImageConfig::default(),
                layers: vec![LayerRecord {
                    diff_id: digest(number),
                    bytes: 100,
                }],
                indexes: Vec::new(),
                origin: Origin::Pulled,
                added_at: Timestamp::default(),
                used_at: Timestamp::from_millis(u64::from(number) * 1000),
            };
            catalog.images.insert(digest(number), record);
        }
        catalog
    }

    #[track_caller]
    fn check(catalog: &Catalog, budget_bytes: u64, needed: &[u8], want: &[u8]) {
        let needed: Vec<Digest> = needed.iter().copied().map(digest).collect();
        let rules = Rules {
            now: Timestamp::from_millis(9_000),
            budget_bytes,
            keep_recent: Duration::from_secs(5),
            is_needed: &|digest| needed.contains(digest),
        };
        let want: Vec<Digest> = want.iter().copied().map(digest).collect();
        assert_eq!(plan(catalog, &rules), want);
    }

    #[test]
    fn least_recently_used_goes_first_and_no_more_than_needed() {
        check(&catalog(4), 400, &[], &[]);
        check(&catalog(4), 399, &[], &[1]);
        check(&catalog(4), 200, &[], &[1, 2]);
    }

    #[test]
    fn needed_and_recent_images_stay_whatever_the_budget() {
        check(&catalog(4), 0, &[1, 3], &[2, 4]);
        check(&catalog(9), 0, &[1], &[2, 3, 4]);
    }

    #[test]
    fn shared_layers_count_once_and_free_nothing_until_the_last_user_goes() {
        let mut catalog = catalog(3);
        let shared = LayerRecord {
            diff_id: digest(77),
            bytes: 1000,
        };
        for number in [1, 2] {
            catalog
                .images
                .get_mut(&digest(number))
                .unwrap()
                .layers
                .push(shared);
        }
        assert_eq!(bytes(&catalog), 1300);
        check(&catalog, 1200, &[], &[1]);
        check(&catalog, 1100, &[], &[1, 2]);
        check(&catalog, 1000, &[2], &[1, 3]);
    }

    #[test]
    fn imports_stay_while_they_have_a_name() {
        let mut catalog = catalog(2);
        for record in catalog.images.values_mut() {
            record.origin = Origin::Imported {
                blobs: Vec::new(),
                recipe: None,
            };
        }
        catalog
            .names
            .insert("localhost/a:latest".to_owned(), digest(1));
        check(&catalog, 0, &[], &[2]);
    }
}

//! How things are written in files: numbers, series, points, and frames that tell when they are damaged.

use std::{cmp::min, ops::Bound};

use crate::{
    datum::Datum,
    distribution::{BITS_MAX, BUCKETS_MAX, Distribution, EXACT_MAX, Form},
    series::{Metric, Series, Unit},
};

/// Bytes of a frame, compressed or not.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 20;
/// What a frame begins with.
const MAGIC: [u8; 4] = [0xE5, b'M', 0xF1, 0x1E];
/// The magic, the length and the checksum.
const FRAME_HEAD: usize = 12;
/// Whole numbers up to here are written as such.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// A minute, counted from 1970, and what was measured from then on.
pub(crate) type Point = (u32, Datum);

pub(crate) fn put_uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// A number; whole ones in few bytes.
fn put_number(out: &mut Vec<u8>, value: f64) {
    if value.fract() == 0.0 && value.abs() < WHOLE_MAX {
        put_uint(out, zigzag(value as i64) + 1);
    } else {
        out.push(0);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes apart what was put together. Everything is `None` when there is too little or it cannot be.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn uint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A length of things that take at least a byte each.
    fn length(&mut self) -> Option<usize> {
        let length = usize::try_from(self.uint()?).ok()?;
        (length <= self.0.len()).then_some(length)
    }

    pub(crate) fn minute(&mut self) -> Option<u32> {
        u32::try_from(self.uint()?).ok()
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn number(&mut self) -> Option<f64> {
        match self.uint()? {
            0 => Some(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            whole => Some(unzigzag(whole - 1) as f64),
        }
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }
}

/// A metric, in bytes: the beginning of the keys of its series.
pub(crate) fn metric_key(metric: &Metric) -> Vec<u8> {
    let mut key = Vec::with_capacity(128);
    put_bytes(&mut key, metric.namespace().as_bytes());
    put_bytes(&mut key, metric.name().as_bytes());
    put_uint(&mut key, metric.dimensions().len() as u64);
    for (name, value) in metric.dimensions() {
        put_bytes(&mut key, name.as_bytes());
        put_bytes(&mut key, value.as_bytes());
    }
    key
}

/// A series, in bytes: its metric and the unit's number.
pub(crate) fn series_key(series: &Series) -> Vec<u8> {
    let mut key = metric_key(&series.metric);
    key.push(series.unit.number());
    key
}

/// The series of a key. `None` when it is none.
pub(crate) fn series_of(key: &[u8]) -> Option<Series> {
    let mut reader = Reader(key);
    let (namespace, name) = (reader.text()?, reader.text()?);
    let count = reader.length()?;
    let mut dimensions = Vec::with_capacity(min(count, 30));
    for _ in 0..count {
        dimensions.push((reader.text()?, reader.text()?));
    }
    let unit = Unit::from_number(reader.byte()?)?;
    let metric = Metric::new(namespace, name, dimensions).ok()?;
    reader.0.is_empty().then(|| metric.in_unit(unit))
}

/// The keys from this one on.
pub(crate) const fn starting_at(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Included(key), Bound::Unbounded)
}

/// The namespace of a key.
pub(crate) fn namespace_of(key: &[u8]) -> &[u8] {
    Reader(key).bytes().unwrap_or_default()
}

/// A key, without what it begins with like the one before.
pub(crate) fn put_key(out: &mut Vec<u8>, key: &[u8], before: &[u8]) {
    let shared = key.iter().zip(before).take_while(|(a, b)| a == b).count();
    put_uint(out, shared as u64);
    put_bytes(out, &key[shared..]);
}

/// The next key, in place of the one before.
pub(crate) fn take_key(reader: &mut Reader<'_>, key: &mut Vec<u8>) -> Option<()> {
    let shared = usize::try_from(reader.uint()?).ok()?;
    if shared > key.len() {
        return None;
    }
    key.truncate(shared);
    key.extend_from_slice(reader.bytes()?);
    Some(())
}

/// One datum.
pub(crate) fn put_datum(out: &mut Vec<u8>, datum: &Datum) {
    put_points(out, &[(0, datum.clone())]);
}

pub(crate) fn take_datum(reader: &mut Reader<'_>) -> Option<Datum> {
    take_points(reader)?.pop().map(|(_, datum)| datum)
}

/// All are one value.
const SINGLE: u8 = 1;
/// None has a distribution.
const PLAIN: u8 = 2;

/// Points of one series by time, by columns.
pub(crate) fn put_points(out: &mut Vec<u8>, points: &[Point]) {
    let is_single =
        |datum: &Datum| datum.count == 1.0 && datum.min == datum.sum && datum.max == datum.sum;
    let single = points.iter().all(|(_, datum)| is_single(datum));
    let plain = (points.iter()).all(|(_, datum)| datum.distribution.is_none());
    put_uint(out, points.len() as u64);
    out.push(if single { SINGLE } else { 0 } | if plain { PLAIN } else { 0 });
    let mut before = 0;
    for (minute, _) in points {
        put_uint(out, u64::from(minute.wrapping_sub(before)));
        before = *minute;
    }
    let mut column = |of: fn(&Datum) -> f64| {
        for (_, datum) in points {
            put_number(out, of(datum));
        }
    };
    column(|datum| datum.sum);
    if !single {
        column(|datum| datum.count);
        column(|datum| datum.min);
        column(|datum| datum.max);
    }
    if !plain {
        for (_, datum) in points {
            put_distribution(out, datum.distribution.as_ref());
        }
    }
}

pub(crate) fn take_points(reader: &mut Reader<'_>) -> Option<Vec<Point>> {
    let length = reader.length()?;
    let kind = reader.byte()?;
    let mut points: Vec<Point> = Vec::with_capacity(length);
    let mut minute = 0_u32;
    for _ in 0..length {
        minute = minute.wrapping_add(reader.minute()?);
        points.push((minute, Datum::value(0.0)));
    }
    let mut column = |set: fn(&mut Datum, f64)| {
        for (_, datum) in &mut points {
            set(datum, reader.number()?);
        }
        Some(())
    };
    column(|datum, value| *datum = Datum::value(value))?;
    if kind & SINGLE == 0 {
        column(|datum, value| datum.count = value)?;
        column(|datum, value| datum.min = value)?;
        column(|datum, value| datum.max = value)?;
    }
    if kind & PLAIN == 0 {
        for (_, datum) in &mut points {
            datum.distribution = take_distribution(reader)?;
        }
    }
    Some(points)
}

fn put_distribution(out: &mut Vec<u8>, distribution: Option<&Distribution>) {
    match distribution.map(|distribution| &distribution.0) {
        None => out.push(0),
        Some(Form::Exact(values)) => {
            out.push(1);
            put_uint(out, values.len() as u64);
            values.iter().for_each(|(value, _)| put_number(out, *value));
            values.iter().for_each(|(_, count)| put_number(out, *count));
        }
        Some(Form::Buckets { bits, buckets }) => {
            out.extend_from_slice(&[2, *bits]);
            put_uint(out, buckets.len() as u64);
            let mut before = 0;
            for (key, _) in buckets {
                put_uint(out, zigzag(i64::from(*key) - before));
                before = i64::from(*key);
            }
            buckets
                .iter()
                .for_each(|(_, count)| put_number(out, *count));
        }
    }
}

fn take_distribution(reader: &mut Reader<'_>) -> Option<Option<Distribution>> {
    let form = match reader.byte()? {
        0 => return Some(None),
        1 => {
            let length = reader.length().filter(|length| *length <= EXACT_MAX)?;
            let mut values = Vec::with_capacity(length);
            for _ in 0..length {
                values.push((reader.number()?, 0.0));
            }
            for (_, count) in &mut values {
                *count = reader.number()?;
            }
            Form::Exact(values)
        }
        2 => {
            let bits = reader.byte().filter(|bits| *bits <= BITS_MAX)?;
            let length = reader.length().filter(|length| *length <= BUCKETS_MAX)?;
            let mut buckets = Vec::with_capacity(length);
            let mut key = 0_i64;
            for _ in 0..length {
                key = key.checked_add(unzigzag(reader.uint()?))?;
                // As large as a finite number's.
                let known = key.unsigned_abs() < 0x7ff << bits;
                buckets.push((i32::try_from(key).ok().filter(|_| known)?, 0.0));
            }
            for (_, count) in &mut buckets {
                *count = reader.number()?;
            }
            Form::Buckets { bits, buckets }
        }
        _ => return None,
    };
    Some(Some(Distribution(form)))
}

/// Compressed bytes, with how many they were.
pub(crate) fn put_compressed(out: &mut Vec<u8>, raw: &[u8], level: i32) -> std::io::Result<()> {
    put_uint(out, raw.len() as u64);
    out.extend_from_slice(&zstd::bulk::compress(raw, level)?);
    Ok(())
}

pub(crate) fn take_compressed(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let length = usize::try_from(reader.uint()?).ok()?;
    if length > FRAME_BYTES_MAX {
        return None;
    }
    zstd::bulk::decompress(reader.0, length).ok()
}

/// Appends a frame: the magic, the payload's length, a checksum of both and the payload.
pub(crate) fn put_frame(out: &mut Vec<u8>, payload: &[u8]) {
    let length = (payload.len() as u32).to_le_bytes();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(&length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// The frame that begins here. `None` when there is none, or it is damaged.
pub(crate) fn frame_at(bytes: &[u8]) -> Option<&[u8]> {
    let head = bytes.get(..FRAME_HEAD)?;
    let length = u32::from_le_bytes(head[4..8].try_into().ok()?) as usize;
    let payload = bytes[FRAME_HEAD..].get(..length)?;
    let sum = checksum(&head[4..8], payload).to_le_bytes();
    (head[..4] == MAGIC && head[8..] == sum).then_some(payload)
}

/// The frames of a file, each with where it begins; what is damaged is passed over.
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Stretches that were passed over.
    pub(crate) damaged: u64,
}

impl<'a> Frames<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            damaged: 0,
        }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let from = self.at;
        while self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            if rest.starts_with(&MAGIC)
                && let Some(payload) = frame_at(rest)
            {
                self.damaged += u64::from(self.at > from);
                self.at += FRAME_HEAD + payload.len();
                return Some(payload);
            }
            self.at += 1;
        }
        self.damaged += u64::from(self.at > from);
        None
    }
}

/// CRC-32 as zip has it (polynomial 0xEDB88320), of two pieces.
fn checksum(one: &[u8], two: &[u8]) -> u32 {
    const TABLES: [[u32; 256]; 8] = tables();
    let mut sum = !0_u32;
    for piece in [one, two] {
        let (eights, rest) = piece.as_chunks::<8>();
        for eight in eights {
            let low = sum ^ u32::from_le_bytes([eight[0], eight[1], eight[2], eight[3]]);
            let low = low.to_le_bytes();
            sum = 0;
            for (n, byte) in low.iter().chain(&eight[4..]).enumerate() {
                sum ^= TABLES[7 - n][usize::from(*byte)];
            }
        }
        for byte in rest {
            sum = TABLES[0][usize::from(sum as u8 ^ byte)] ^ (sum >> 8);
        }
    }
    !sum
}

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 {
                sum >> 1 ^ 0xEDB8_8320
            } else {
                sum >> 1
            };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before: u32 = tables[table - 1][byte];
            tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_zips() {
        assert_eq!(checksum(b"", b"123456789"), 0xCBF4_3926);
        assert_eq!(checksum(b"1234", b"56789"), 0xCBF4_3926);
    }

    #[test]
    fn frames_after_a_damaged_one_are_found() {
        let mut bytes = Vec::new();
        for payload in [&b"one"[..], b"two", b"three"] {
            put_frame(&mut bytes, payload);
        }
        bytes[FRAME_HEAD + 3 + FRAME_HEAD] ^= 1;
        bytes.truncate(bytes.len());
        let mut frames = Frames::new(&bytes);
        let found: Vec<&[u8]> = frames.by_ref().collect();
        assert_eq!(found, [&b"one"[..], b"three"]);
        assert_eq!(frames.damaged, 1);
    }

    proptest! {
        #[test]
        fn points_are_read_as_they_were_written(
            values in prop::collection::vec((0_u32..100, prop::collection::vec(
                prop_oneof![-1e9..1e9_f64, (-50..50_i32).prop_map(f64::from)], 1..80)), 0..20)
        ) {
            let mut minute = 0;
            let mut points = Vec::new();
            for (step, values) in values {
                minute += step;
                points.push((minute, Datum::values(&values, &[]).unwrap()));
            }
            let mut bytes = Vec::new();
            put_points(&mut bytes, &points);
            prop_assert_eq!(take_points(&mut Reader(&bytes)), Some(points));
        }

        #[test]
        fn nonsense_is_not_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = take_points(&mut Reader(&bytes));
            let _ = series_of(&bytes);
            let _ = take_compressed(&mut Reader(&bytes));
            prop_assert_eq!(Frames::new(&bytes).count(), 0);
        }

        #[test]
        fn keys_are_their_series(
            namespace in "[^:]{1,20}", name in ".{1,20}",
            dimensions in prop::collection::btree_map(".{1,9}", "(.|\n){1,9}", 0..5), unit in 0_u8..27,
        ) {
            let metric = Metric::new(namespace, name, dimensions).unwrap();
            let series = metric.in_unit(Unit::from_number(unit).unwrap());
            prop_assert_eq!(series_of(&series_key(&series)), Some(series));
        }
    }
}

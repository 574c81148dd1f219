use super::*;
use proptest::prelude::*;

const PIECE: usize = 256 << 10;
/// What an output takes beyond what the link has carried.
const BUFFER: f64 = 512e3;

/// One stream over one link, on a clock of its own: a source that never rests, one thread that compresses and sends.
struct Stream {
    pace: Pace,
    /// Bytes a second.
    link: f64,
    speed: f64,
    /// Part of a piece that is left when it is compressed.
    left: f64,
    now: f64,
    /// Not carried yet.
    queued: f64,
    wire: f64,
    compressed: usize,
}

impl Stream {
    fn of(link: f64, speed: f64, left: f64) -> Self {
        Self { pace: Pace::default(), link, speed, left, now: 0.0, queued: 0.0, wire: 0.0, compressed: 0 }
    }

    fn pass(&mut self, seconds: f64) {
        self.now += seconds;
        self.queued = (self.queued - seconds * self.link).max(0.0);
    }

    fn piece(&mut self) {
        let mut bytes = PIECE as f64;
        if self.pace.compress(PIECE) {
            self.compressed += 1;
            let took = PIECE as f64 / self.speed;
            self.pass(took);
            bytes *= self.left;
            self.pace.compressed(Duration::from_secs_f64(took), PIECE, bytes as usize);
        }
        let fits = (BUFFER - self.queued).min(bytes).max(0.0);
        self.queued += fits;
        let full = (fits < bytes).then(|| (Duration::from_secs_f64(self.now), fits as usize));
        if full.is_some() {
            self.pass((bytes - fits) / self.link);
            self.queued += bytes - fits;
        }
        // Copying it there is no time at all, but not none.
        self.pass(bytes / 10e9);
        self.wire += bytes;
        self.pace.sent(bytes as usize, full);
    }

    fn run(mut self, pieces: usize) -> Self {
        (0..pieces).for_each(|_| self.piece());
        self
    }

    /// Bytes a second of the stream itself.
    fn throughput(&self, pieces: usize) -> f64 {
        (pieces * PIECE) as f64 / (self.now + self.queued / self.link)
    }
}

#[test]
fn a_slow_link_carries_what_compresses_in_fewer_bytes_and_sooner() {
    let stream = Stream::of(12e6, 400e6, 0.25).run(400);
    assert!(stream.compressed > 390, "{}", stream.compressed);
    assert!(stream.throughput(400) > 40e6, "{}", stream.throughput(400));
}

#[test]
fn a_link_that_is_faster_than_compressing_costs_no_cpu() {
    // 2 GB/s, and 400 MB/s are compressed.
    let stream = Stream::of(2e9, 400e6, 0.25).run(2000);
    assert!(stream.compressed < 60, "{}", stream.compressed);
    let stream = Stream::of(20e9, 400e6, 0.25).run(2000);
    assert_eq!(stream.compressed, 0, "it is never full");
}

#[test]
fn what_does_not_compress_is_tried_now_and_then() {
    let stream = Stream::of(12e6, 400e6, 1.0).run(2000);
    assert!((20..60).contains(&stream.compressed), "{}", stream.compressed);
    // What follows does.
    let mut stream = stream;
    stream.left = 0.2;
    stream.compressed = 0;
    let stream = stream.run(400);
    assert!(stream.compressed > 300, "{}", stream.compressed);
}

#[test]
fn a_link_that_a_stream_does_not_fill_costs_no_cpu() {
    let mut pace = Pace::default();
    for n in 0..1000u64 {
        pace.idle();
        assert!(!pace.compress(PIECE));
        // One that was large for a moment.
        pace.sent(PIECE, n.is_multiple_of(10).then_some((Duration::from_millis(n), 1)));
    }
}

#[test]
fn small_pieces_pass_as_they_are() {
    let mut pace = Pace::default();
    pace.sent(PIECE, Some((Duration::from_millis(1), 0)));
    assert!(!pace.compress(LEAST - 1));
    assert!(pace.compress(LEAST));
}

#[test]
fn a_forecast_counts_with_the_slower_of_the_two() {
    assert_eq!(expected_rate(None, None), None);
    assert_eq!(expected_rate(Some(5), None), Some(5));
    assert_eq!(expected_rate(None, Some(7)), Some(7));
    assert_eq!(expected_rate(Some(5), Some(7)), Some(5));
    assert_eq!(expected_rate(Some(9), Some(7)), Some(7));
}

proptest! {
    #[test]
    fn compressing_never_makes_a_stream_much_slower(
        link in 1e6..4e9f64, speed in 50e6..2e9f64, left in 0.01..1.2f64,
    ) {
        let stream = Stream::of(link, speed, left).run(2000);
        let alone = (2000 * PIECE) as f64 / (link.min(10e9));
        let slower = (stream.now + stream.queued / link) / alone;
        prop_assert!(slower < 1.25, "{} times as long, {} of 2000 compressed", slower, stream.compressed);
    }

    #[test]
    fn no_span_sees_more_than_the_rate_and_one_burst(
        rate in 1u64..1 << 32,
        takes in proptest::collection::vec((0u64..1 << 20, 0u64..100_000_000), 1..60),
    ) {
        let mut bucket = Bucket::of(rate);
        let mut now = Duration::from_secs(10);
        let mut sent: Vec<(Duration, u64)> = Vec::new();
        for (bytes, pause) in takes {
            now += bucket.take(now, bytes);
            sent.push((now, bytes));
            now += Duration::from_nanos(pause);
        }
        // Everything that leaves after some piece, until another: at most what the rate allows meanwhile.
        for (i, (from, _)) in sent.iter().enumerate() {
            for (j, (until, _)) in sent.iter().enumerate().skip(i + 1) {
                let bytes: u64 = sent[i + 1..=j].iter().map(|(_, b)| b).sum();
                let span = (*until - *from + Bucket::BURST).as_secs_f64();
                prop_assert!(bytes as f64 <= rate as f64 * span + 1.0, "{} bytes in {} s", bytes, span);
            }
        }
    }

    #[test]
    fn a_stream_that_always_has_something_gets_its_rate(rate in 1u64 << 16..1 << 30) {
        let mut bucket = Bucket::of(rate);
        let (mut now, start) = (Duration::from_secs(1), Duration::from_secs(1));
        for _ in 0..500 {
            now += bucket.take(now, 1 << 18);
        }
        let got = (500u64 << 18) as f64 / (now - start + Bucket::BURST).as_secs_f64();
        prop_assert!((got / rate as f64 - 1.0).abs() < 0.01, "{} of {}", got, rate);
    }
}

use super::*;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], body].concat()
}

fn notification(process_id: i32, channel: &str, payload: &str) -> Vec<u8> {
    message(b'A', &[&process_id.to_be_bytes()[..], channel.as_bytes(), b"\0", payload.as_bytes(), b"\0"].concat())
}

/// What has come out.
#[derive(Debug, Default, PartialEq)]
struct Out {
    notifications: Vec<String>,
    passed: Vec<u8>,
}

/// Reads `pieces`, one at a time, and takes notifications whenever there are `limit`.
fn through(frames: &mut Frames, pieces: &[&[u8]], most: usize) -> Out {
    let mut out = Out::default();
    let mut pieces = pieces.iter();
    loop {
        match frames.step() {
            Step::Pass => {
                let passed = frames.pass(most).to_vec();
                assert!(!passed.is_empty());
                out.passed.extend(passed);
            }
            Step::Full => out.take(frames),
            Step::Read => {
                let Some(piece) = pieces.next() else { break };
                let mut piece: &[u8] = piece;
                // What does not fit is read next.
                while !piece.is_empty() {
                    let space = frames.space();
                    assert!(!space.is_empty());
                    let length = space.len().min(piece.len());
                    space[..length].copy_from_slice(&piece[..length]);
                    frames.filled(length);
                    piece = &piece[length..];
                    while !piece.is_empty() {
                        match frames.step() {
                            Step::Pass => out.passed.extend(frames.pass(most)),
                            Step::Full => out.take(frames),
                            Step::Read => break,
                        }
                    }
                }
            }
        }
    }
    out.take(frames);
    out
}

impl Out {
    fn take(&mut self, frames: &mut Frames) {
        let mut taken = Vec::new();
        frames.take(&mut taken);
        self.notifications.extend(taken.iter().map(|n| format!("{} {} {}", n.process_id(), n.channel(), n.payload())));
    }
}

/// A stream with a bit of everything, and what is to come out of it.
fn stream() -> (Vec<u8>, Out) {
    let others = [message(b'Z', b"I"), message(b'D', &[b'x'; 50_000]), message(b'N', b""), message(b'S', b"a\0b\0")];
    let stream = [
        others[0].clone(),
        notification(7, "orders", "one"),
        notification(-1, "Orders \u{e4}", ""),
        others[1].clone(),
        notification(8, "orders", &"p".repeat(7_999)),
        notification(8, "orders", "two"),
        others[2].clone(),
        others[3].clone(),
        notification(9, "c", "last"),
    ];
    let notifications =
        ["7 orders one", "-1 Orders \u{e4} ", &format!("8 orders {}", "p".repeat(7_999)), "8 orders two", "9 c last"];
    (stream.concat(), Out { notifications: notifications.map(str::to_owned).to_vec(), passed: others.concat() })
}

#[test]
fn notifications_are_taken_out_and_the_rest_goes_on_however_it_is_cut() {
    let (stream, expected) = stream();
    for piece in [1, 2, 3, 5, 7, 100, 4096, 32 << 10, 40_000, stream.len()] {
        for (most, limit) in [(usize::MAX, usize::MAX), (1, 1), (3, 2)] {
            let mut frames = Frames::new();
            frames.limit(limit);
            let pieces: Vec<_> = stream.chunks(piece).collect();
            assert!(through(&mut frames, &pieces, most) == expected, "in pieces of {piece}, at most {most}, {limit}");
        }
    }
}

#[test]
fn no_more_than_the_limit_is_taken_at_a_time_and_nothing_behind_it_goes_on() {
    let mut frames = Frames::new();
    frames.limit(2);
    let stream = [notification(1, "a", "1"), notification(1, "a", "2"), notification(1, "a", "3"), message(b'Z', b"I")];
    let stream = stream.concat();
    frames.space()[..stream.len()].copy_from_slice(&stream);
    frames.filled(stream.len());
    assert_eq!((frames.step(), frames.arrived.len()), (Step::Full, 2));
    assert_eq!((frames.step(), frames.arrived.len()), (Step::Full, 2));
    frames.take(&mut Vec::new());
    assert_eq!((frames.step(), frames.arrived.len()), (Step::Pass, 1));
    assert_eq!(frames.pass(100), message(b'Z', b"I"));
    // A limit of none: what is no notification goes on all the same.
    frames.limit(0);
    assert_eq!(frames.step(), Step::Read);
}

#[test]
fn what_is_no_sound_notification_goes_on_as_it_came() {
    let long = "p".repeat(SIZE);
    for strange in [
        message(b'A', b""),
        message(b'A', b"\0\0\0"),
        message(b'A', b"\0\0\0\x01"),
        message(b'A', b"\0\0\0\x01channel"),
        message(b'A', b"\0\0\0\x01channel\0"),
        message(b'A', b"\0\0\0\x01channel\0payload"),
        message(b'A', b"\0\0\0\x01channel\0pay\0load\0"),
        message(b'A', b"\0\0\0\x01channel\0\xff\0"),
        notification(1, "channel", &long),
        // Lengths that cannot be.
        b"A\0\0\0\0".to_vec(),
        b"A\0\0\0\x03".to_vec(),
        b"Z\0\0\0\0".to_vec(),
    ] {
        let stream = [&strange[..], &notification(1, "channel", "payload")].concat();
        let out = through(&mut Frames::new(), &[&stream], usize::MAX);
        assert!(out.passed == strange, "{:?}", String::from_utf8_lossy(&strange));
        assert_eq!(out.notifications, ["1 channel payload"]);
    }
}

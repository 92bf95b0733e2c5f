use super::*;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], body].concat()
}

fn notification(process_id: i32, channel: &str, payload: &str) -> Vec<u8> {
    message(b'A', &[&process_id.to_be_bytes()[..], channel.as_bytes(), b"\0", payload.as_bytes(), b"\0"].concat())
}

/// What the decoder has returned.
#[derive(Debug, Default, PartialEq)]
struct Output {
    notifications: Vec<String>,
    forwarded: Vec<u8>,
}

/// Feeds the decoder with `pieces`, one at a time. Forwards at most `max` bytes at once.
fn decode(decoder: &mut NotificationDecoder, pieces: &[&[u8]], max: usize) -> Output {
    let mut output = Output::default();
    let mut pieces = pieces.iter();
    loop {
        match decoder.step() {
            DecoderStep::Forward => {
                let forwarded = decoder.forward(max).to_vec();
                assert!(!forwarded.is_empty());
                output.forwarded.extend(forwarded);
            }
            DecoderStep::Full => output.take(decoder),
            DecoderStep::Read => {
                let Some(piece) = pieces.next() else { break };
                let mut piece: &[u8] = piece;
                // The rest of a piece that does not fit is read next.
                while !piece.is_empty() {
                    let space = decoder.space();
                    assert!(!space.is_empty());
                    let length = space.len().min(piece.len());
                    space[..length].copy_from_slice(&piece[..length]);
                    decoder.filled(length);
                    piece = &piece[length..];
                    while !piece.is_empty() {
                        match decoder.step() {
                            DecoderStep::Forward => output.forwarded.extend(decoder.forward(max)),
                            DecoderStep::Full => output.take(decoder),
                            DecoderStep::Read => break,
                        }
                    }
                }
            }
        }
    }
    output.take(decoder);
    output
}

impl Output {
    fn take(&mut self, decoder: &mut NotificationDecoder) {
        let mut taken = Vec::new();
        decoder.take(&mut taken);
        self.notifications.extend(taken.iter().map(|n| format!("{} {} {}", n.process_id(), n.channel(), n.payload())));
    }
}

/// A stream with messages of several kinds, and the expected output.
fn stream() -> (Vec<u8>, Output) {
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
    (stream.concat(), Output { notifications: notifications.map(str::to_owned).to_vec(), forwarded: others.concat() })
}

#[test]
fn notifications_are_decoded_and_the_rest_is_forwarded_however_the_stream_is_cut() {
    let (stream, expected) = stream();
    for piece in [1, 2, 3, 5, 7, 100, 4096, 32 << 10, 40_000, stream.len()] {
        for (max, limit) in [(usize::MAX, usize::MAX), (1, 1), (3, 2)] {
            let mut decoder = NotificationDecoder::new();
            decoder.set_limit(limit);
            let pieces: Vec<_> = stream.chunks(piece).collect();
            assert!(decode(&mut decoder, &pieces, max) == expected, "pieces of {piece}, at most {max}, limit {limit}");
        }
    }
}

#[test]
fn no_more_than_the_limit_is_decoded_and_nothing_after_it_is_forwarded() {
    let mut decoder = NotificationDecoder::new();
    decoder.set_limit(2);
    let stream = [notification(1, "a", "1"), notification(1, "a", "2"), notification(1, "a", "3"), message(b'Z', b"I")];
    let stream = stream.concat();
    decoder.space()[..stream.len()].copy_from_slice(&stream);
    decoder.filled(stream.len());
    assert_eq!((decoder.step(), decoder.decoded.len()), (DecoderStep::Full, 2));
    assert_eq!((decoder.step(), decoder.decoded.len()), (DecoderStep::Full, 2));
    decoder.take(&mut Vec::new());
    assert_eq!((decoder.step(), decoder.decoded.len()), (DecoderStep::Forward, 1));
    assert_eq!(decoder.forward(100), message(b'Z', b"I"));
    // With a limit of zero, other messages are still forwarded.
    decoder.set_limit(0);
    assert_eq!(decoder.step(), DecoderStep::Read);
}

#[test]
fn malformed_notifications_are_forwarded_unchanged() {
    let long = "p".repeat(SIZE);
    for malformed in [
        message(b'A', b""),
        message(b'A', b"\0\0\0"),
        message(b'A', b"\0\0\0\x01"),
        message(b'A', b"\0\0\0\x01channel"),
        message(b'A', b"\0\0\0\x01channel\0"),
        message(b'A', b"\0\0\0\x01channel\0payload"),
        message(b'A', b"\0\0\0\x01channel\0pay\0load\0"),
        message(b'A', b"\0\0\0\x01channel\0\xff\0"),
        notification(1, "channel", &long),
    ] {
        let stream = [&malformed[..], &notification(1, "channel", "payload")].concat();
        let output = decode(&mut NotificationDecoder::new(), &[&stream], usize::MAX);
        assert!(output.forwarded == malformed, "{:?}", String::from_utf8_lossy(&malformed));
        assert_eq!(output.notifications, ["1 channel payload"]);
    }
}

#[test]
fn after_an_impossible_length_nothing_is_taken_for_a_notification() {
    for malformed in [b"A\0\0\0\0", b"A\0\0\0\x03", b"Z\0\0\0\0", b"K\0\0\0\x03", b"A\xff\xff\xff\xff"] {
        let stream = [malformed, &notification(1, "channel", "payload")[..]].concat();
        let output = decode(&mut NotificationDecoder::new(), &[&stream], usize::MAX);
        assert!(output.forwarded == stream, "{}", malformed.escape_ascii());
        assert!(output.notifications.is_empty(), "{:?}", output.notifications);
    }
}

#[test]
fn process_id_of_the_login_is_noted_and_forwarded() {
    let key = message(b'K', &[&4711_i32.to_be_bytes()[..], b"the key"].concat());
    let other = message(b'K', &[&1_i32.to_be_bytes()[..], b"again"].concat());
    let short = message(b'K', b"");
    let all = [&short[..], &key, &other, &notification(7, "a", "b")].concat();
    for cut in 0..all.len() {
        let mut decoder = NotificationDecoder::new();
        assert_eq!(decoder.key_process_id(), None);
        let output = decode(&mut decoder, &[&all[..cut], &all[cut..]], usize::MAX);
        assert_eq!(decoder.key_process_id(), Some(4711), "cut at {cut}");
        assert_eq!(output.forwarded, [&short[..], &key, &other].concat());
        assert_eq!(output.notifications.len(), 1);
    }
}

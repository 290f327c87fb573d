use super::*;

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// One of each type.
fn all() -> Vec<Frame> {
    let headers = vec![pair("streamtype", "data"), pair("port", "8080")];
    let stream = 7;
    vec![
        Frame::SynStream {
            stream,
            fin: false,
            headers: headers.clone(),
        },
        Frame::SynReply {
            stream,
            fin: true,
            headers: Vec::new(),
        },
        Frame::Settings(vec![(0x0100_0004, 100), (7, 65_536)]),
        Frame::Headers {
            stream,
            fin: true,
            headers,
        },
        Frame::Data {
            stream: 0x7fff_ffff,
            fin: true,
            data: b"abc".to_vec(),
        },
        Frame::WindowUpdate {
            stream,
            delta: 65_536,
        },
        Frame::Ping(3),
        Frame::RstStream {
            stream,
            status: CANCEL,
        },
        Frame::GoAway {
            last_stream: stream,
            status: 0,
        },
    ]
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let mut encoder = Encoder::new().unwrap();
    let mut bytes = Vec::new();
    for frame in frames {
        encoder.encode(frame, &mut bytes).unwrap();
    }
    bytes
}

fn decoded(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Frame>, Error> {
    decoder.push(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    Ok(frames)
}

fn error(bytes: &[u8]) -> Error {
    decoded(&mut Decoder::new(), bytes).unwrap_err()
}

#[test]
fn frames_come_back_in_pieces_of_any_size() {
    let bytes = encoded(&all());
    for size in 1..=bytes.len() {
        let mut decoder = Decoder::new();
        let pieces = bytes.chunks(size);
        let frames = pieces.flat_map(|piece| decoded(&mut decoder, piece).unwrap());
        assert_eq!(frames.collect::<Vec<_>>(), all(), "{size}");
        assert_eq!(decoder.pending(), 0);
    }
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let bytes = encoded(&[
        Frame::Data {
            stream: 3,
            fin: true,
            data: b"abc".to_vec(),
        },
        Frame::RstStream {
            stream: 5,
            status: CANCEL,
        },
    ]);
    assert_eq!(
        bytes,
        b"\0\0\0\x03\x01\0\0\x03abc\x80\x03\0\x03\0\0\0\x08\0\0\0\x05\0\0\0\x05"
    );
}

/// What kubectl and an API server sent: two blocks, of which the second refers to the first.
#[test]
fn recorded_headers_are_read() {
    let recorded = b"\x80\x03\0\x01\0\0\0\x3e\0\0\0\x01\0\0\0\0\0\0x\xf9\xe3\xc6\xa7\xc2\x02%:p:+)\
        JM\xcc\x85\x16%\xac\xa9\xa0\x80\x86\x14\xcbE\xe0\x1c`a`a\xc0\xc0\xc0\xc0Y\x04\x89\xc6LP\
        \xf2f4\0\0\0\0\xff\xff\x80\x03\0\x01\0\0\0\x18\0\0\0\x03\0\0\0\0\0\0\xc2\xaa\x19T\x0e%\x12\
        \xd6\x0b\0\0\0\xff\xff";
    let syn = |stream, kind| Frame::SynStream {
        stream,
        fin: false,
        headers: vec![
            pair("streamtype", kind),
            pair("port", "8080"),
            pair("requestid", "0"),
        ],
    };
    let frames = decoded(&mut Decoder::new(), recorded).unwrap();
    assert_eq!(frames, [syn(1, "error"), syn(3, "data")]);
}

#[test]
fn large_headers_come_back_and_too_large_ones_are_refused() {
    // Nothing that compresses well, so that several buffers are needed both ways.
    let mut number = 1_u32;
    let random = std::iter::repeat_with(|| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'!' + (number >> 24) as u8 % 90)
    });
    let value: String = random.take(16_000).collect();
    let frame = |value: &str| Frame::SynReply {
        stream: 1,
        fin: false,
        headers: vec![pair("x", value)],
    };
    let frames = [frame(&value), frame("short"), frame(&value)];
    let decoded = decoded(&mut Decoder::new(), &encoded(&frames)).unwrap();
    assert_eq!(decoded, frames);
    let long = frame(&"a".repeat(20_000));
    let mut bytes = Vec::new();
    let refused = Encoder::new().unwrap().encode(&long, &mut bytes);
    assert_eq!(refused, Err(HeadersError::TooLong));
    assert!(bytes.is_empty());
}

#[test]
fn a_small_block_cannot_become_a_large_one() {
    let mut zlib = flate2::Compress::new(flate2::Compression::best(), true);
    zlib.set_dictionary(&super::dictionary::DICTIONARY).unwrap();
    let mut block = Vec::with_capacity(4096);
    zlib.compress_vec(&[b'a'; 500_000], &mut block, flate2::FlushCompress::Sync)
        .unwrap();
    assert!(block.len() < 4096);
    let bytes = control(2, &[&[0, 0, 0, 1], block.as_slice()].concat());
    assert_eq!(error(&bytes), Error::Headers(HeadersError::TooLong));
}

fn control(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = (body.len() as u32).to_be_bytes();
    [&[0x80, 3, 0, kind, 0, high, middle, low], body].concat()
}

/// The block of such a text.
fn reply(text: &[u8]) -> Vec<u8> {
    let mut zlib = flate2::Compress::new(flate2::Compression::best(), true);
    zlib.set_dictionary(&super::dictionary::DICTIONARY).unwrap();
    let mut block = Vec::with_capacity(4096);
    zlib.compress_vec(text, &mut block, flate2::FlushCompress::Sync)
        .unwrap();
    control(2, &[&[0, 0, 0, 1], block.as_slice()].concat())
}

#[test]
fn what_is_no_frame_is_named() {
    assert_eq!(error(&[0x80, 2, 0, 1, 0, 0, 0, 0]), Error::Version(2));
    assert_eq!(error(&control(5, b"")), Error::Type(5));
    assert_eq!(error(&control(6, b"abc")), Error::Length(6));
    assert_eq!(error(&control(6, b"abcde")), Error::Length(6));
    assert_eq!(error(&control(4, b"\xff\xff\xff\xff")), Error::Length(4));
    assert_eq!(
        error(&control(1, b"\0\0\0\x01\0\0\0\0\0")),
        Error::Length(1)
    );
    let long = [0, 0, 0, 1, 0, 0xff, 0xff, 0xff];
    assert_eq!(error(&long), Error::TooLong(0xff_ffff));
    let lengths = Error::Headers(HeadersError::Lengths);
    assert_eq!(error(&reply(b"\0\0")), lengths);
    assert_eq!(error(&reply(b"\0\0\0\x01\0\0\0\x09a")), lengths);
    assert_eq!(error(&reply(b"\0\0\0\0more")), lengths);
    assert_eq!(error(&reply(b"\xff\xff\xff\xff")), lengths);
    let text = b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\0";
    assert_eq!(error(&reply(text)), Error::Headers(HeadersError::Text));
    let plain = error(&control(2, b"\0\0\0\x01no zlib"));
    assert!(matches!(
        plain,
        Error::Headers(HeadersError::Compression(_))
    ));
}

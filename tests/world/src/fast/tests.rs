use super::*;

/// The client said three pieces, or three datagrams.
fn said(carries: Carries) -> (Fast, [Bytes; 3]) {
    let mut rng = Rng::new(1);
    let mut plan = Plan::sound(&mut rng, 20_000);
    plan.carries = carries;
    let mut fast = Fast::new(7, plan, 1);
    let pieces = [(); 3].map(|()| {
        let data = fast.next(Side::Controller, &mut rng);
        fast.said(Side::Controller, data.len());
        data
    });
    (fast, pieces)
}

#[test]
fn datagrams_come_whole_once_and_in_order() {
    let (mut fast, [one, two, three]) = said(Carries::Udp);
    let mut hears = |data: &[u8]| fast.hears(Side::Agent, Kind::Datagram, data);
    assert_eq!(hears(&one), Ok(()));
    assert_eq!(hears(&two), Ok(()));
    assert_eq!(hears(&three), Ok(()));
    assert!(hears(&three).is_err(), "twice");
    for wrong in [&two[..], &one[1..], &[&*one, &*two].concat()] {
        let (mut fast, _) = said(Carries::Udp);
        assert!(fast.hears(Side::Agent, Kind::Datagram, wrong).is_err());
    }
    let (mut fast, [one, ..]) = said(Carries::Udp);
    assert!(fast.hears(Side::Agent, Kind::Bytes, &one).is_err());
}

#[test]
fn an_end_comes_behind_everything_and_once() {
    let (mut fast, [one, two, three]) = said(Carries::Tcp);
    for data in [&one, &two] {
        assert_eq!(fast.hears(Side::Agent, Kind::Bytes, data), Ok(()));
    }
    fast.end(Side::Controller).finished = true;
    assert!(fast.hears_end(Side::Agent).is_err(), "something is missing");
    let (mut fast, _) = said(Carries::Tcp);
    let all = [&*one, &*two, &*three].concat();
    assert_eq!(fast.hears(Side::Agent, Kind::Bytes, &all), Ok(()));
    assert!(fast.hears_end(Side::Agent).is_err(), "nobody ended it");
    let (mut fast, _) = said(Carries::Tcp);
    fast.end(Side::Controller).finished = true;
    assert_eq!(fast.hears(Side::Agent, Kind::Bytes, &all), Ok(()));
    assert_eq!(fast.hears_end(Side::Agent), Ok(()));
    assert!(
        fast.is_over(Side::Agent).is_err(),
        "one direction goes on, and not all was taken"
    );
    assert!(fast.hears_end(Side::Agent).is_err(), "twice");
    assert!(fast.hears(Side::Agent, Kind::Bytes, b"x").is_err(), "late");
}

#[test]
fn one_byte_beyond_a_window_is_seen() {
    let (mut fast, _) = said(Carries::Http);
    let from = Side::Controller;
    assert_eq!(fast.frames(from, 100, false, 100), Ok(()));
    assert!(fast.frames(from, 1, false, 100).is_err());
    let (mut fast, _) = said(Carries::Http);
    // Its header alone is consumed.
    let header = fast.header();
    assert_eq!(fast.grants(Side::Agent, header, 100, 100), Ok(()));
    assert!(fast.grants(Side::Agent, 1, 100, 100).is_err());
    let (mut fast, _) = said(Carries::Http);
    fast.end(from).finished = true;
    assert!(fast.frames(from, 0, true, 100).is_err(), "not all was sent");
}

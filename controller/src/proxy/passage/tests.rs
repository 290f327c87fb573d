use controlplane_driver::StreamClose;

use super::*;

fn websocket() -> Follower {
    let path = "/api/v1/namespaces/n/pods/p/exec";
    let head = ResponseHead {
        status: 101,
        headers: vec![
            ("upgrade".into(), "websocket".into()),
            ("sec-websocket-protocol".into(), "v5.channel.k8s.io".into()),
        ],
    };
    follower(path, &head)
}

fn text(words: Option<Vec<u8>>) -> String {
    String::from_utf8_lossy(&words.unwrap()).into_owned()
}

#[test]
fn each_way_to_end_is_told_the_client_and_the_log() {
    let open = websocket();
    let mut closed = websocket();
    closed.down(b"\x88\x02\x03\xe8");
    let broken = Ended::Broken(Failure::Shutdown);
    let why = "the controller is shutting down";
    assert!(text(broken.last_words(&open)).contains(why));
    assert_eq!(broken.to_end(&open), End::Failed(why.into()));
    assert!(text(Ended::Cluster.last_words(&open)).contains(BARE_END));
    assert_eq!(Ended::Cluster.to_end(&open), End::Failed(BARE_END.into()));
    assert!(text(Ended::Withdrawn.last_words(&open)).contains(WITHDRAWN));
    let lost = Ended::Broken(Failure::Disconnected);
    assert_eq!(lost.to_end(&open), End::AgentLost);
    // What was said last counts, however the connection ended then.
    let normal = StreamClose::new(1000, "");
    let by_cluster = End::Closed(Side::Cluster, normal.clone());
    for ended in [broken, lost, Ended::Cluster] {
        assert_eq!(ended.last_words(&closed), Some(Vec::new()));
        assert_eq!(ended.to_end(&closed), by_cluster);
    }
    assert_eq!(Ended::Withdrawn.last_words(&closed), Some(Vec::new()));
    for (ended, end) in [
        (Ended::Gone, End::ClientGone),
        (Ended::Stalled, End::Failed(STALLED.into())),
    ] {
        assert_eq!(ended.last_words(&open), None);
        assert_eq!(ended.to_end(&open), end);
    }
    let mut left = websocket();
    left.up(b"\x88\x82\0\0\0\0\x03\xe8");
    assert_eq!(
        Ended::Cluster.to_end(&left),
        End::Closed(Side::Client, normal)
    );
}

#[test]
fn spdy_is_followed_as_spdy() {
    let head = ResponseHead {
        status: 101,
        headers: vec![("upgrade".into(), "SPDY/3.1".into())],
    };
    let spdy = follower("/api/v1/namespaces/n/pods/p/portforward", &head);
    assert_eq!(Ended::Cluster.to_end(&spdy), End::Complete);
}

//! How a stream of the fast mode ends, and what its client is told.

use super::*;

#[tokio::test]
async fn a_broken_link_is_told_as_the_failure_of_the_command() {
    within(async {
        let mut it = Fast::start().await;
        let (response, _api) = it.exec_that_says_out().await;
        // It must have come before the link breaks.
        let mut first = socket(response).await;
        assert_eq!(message(&mut first).await, Message::binary(&b"\x01out"[..]));
        it.world.running.drop_agent_connections();
        let Message::Binary(failure) = message(&mut first).await else {
            panic!("no failure")
        };
        let failure: Value = serde_json::from_slice(&failure[1..]).unwrap();
        let text = "the connection to the cluster's agent was lost";
        assert_eq!(failure["message"], text);
        assert_eq!(closed(&mut first).await, Some((1011, text.into())));
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_ends_without_a_word_is_a_failure() {
    within(async {
        let mut it = Fast::start().await;
        let (response, mut api) = it.exec_that_says_out().await;
        api.close().await.unwrap();
        told(response, "without a word").await;
        // In the middle of a frame nothing can be said.
        let (response, mut api) = it.exec().await;
        say(&mut api, b"\x82\x04\x01ou").await;
        api.close().await.unwrap();
        let mut client = socket(response).await;
        assert!(client.next().await.unwrap().is_err());
        // A result that has come stands, but not without a close.
        let (response, mut api) = it.exec().await;
        say(&mut api, RESULT).await;
        api.close().await.unwrap();
        let mut client = socket(response).await;
        let result = message(&mut client).await;
        assert!(result.into_data().ends_with(b"\"Success\"}\n"));
        assert_eq!(closed(&mut client).await.unwrap().0, 1011);
    })
    .await;
}

#[tokio::test]
async fn a_broken_agent_resets_the_clients_stream() {
    within(async {
        let mut it = Fast::start().await;
        let (response, api) = it.exec_that_says_out().await;
        let mut client = socket(response).await;
        assert_eq!(message(&mut client).await, Message::binary(&b"\x01out"[..]));
        drop(api);
        let Message::Binary(failure) = message(&mut client).await else {
            panic!("no failure")
        };
        assert_eq!(failure[0], 3);
        assert_eq!(closed(&mut client).await.unwrap().0, 1011);
        it.agent.shutdown(std::time::Duration::ZERO).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_takes_its_stream_along() {
    within(async {
        let mut it = Fast::start().await;
        let (response, mut api) = it.exec().await;
        drop(socket(response).await);
        let mut rest = Vec::new();
        let _ = api.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_withdrawn_right_ends_the_stream() {
    within(async {
        let mut it = Fast::start().await;
        let (response, api) = it.exec_that_says_out().await;
        let id = it.world.credentials.load().unwrap().users[0].id.clone();
        it.world.credentials.revoke(&id).unwrap();
        told(response, "was withdrawn").await;
        drop(api);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_outlives_the_grace_is_told_why_it_ends() {
    within(async {
        let mut it = Fast::start().await;
        let (response, _api) = it.exec_that_says_out().await;
        let mut client = socket(response).await;
        assert_eq!(message(&mut client).await, Message::binary(&b"\x01out"[..]));
        // Some connection is idle, which must not hold the shutdown up.
        let asked = it.world.asking("GET", "/clusters/demo/api/v1/pods");
        let answer = it.request().await.1.respond(ResponseHead {
            status: 200,
            headers: Vec::new(),
        });
        answer.finish();
        assert_eq!(asked.await.unwrap().status(), 200);
        let World { running, .. } = Arc::into_inner(it.world).unwrap();
        running.shutdown(std::time::Duration::from_millis(1)).await;
        let Message::Binary(failure) = message(&mut client).await else {
            panic!("no failure")
        };
        let failure: Value = serde_json::from_slice(&failure[1..]).unwrap();
        assert_eq!(failure["message"], "the controller is shutting down");
        assert_eq!(closed(&mut client).await.unwrap().0, 1011);
    })
    .await;
}

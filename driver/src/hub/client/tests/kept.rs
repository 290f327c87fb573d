//! Connections that are used again.

use super::*;

fn answering() -> World {
    World::serving(async |request: Request<Incoming>| {
        let body = request.into_body().collect().await;
        drop(body);
        text(200, "ok")
    })
}

/// Lets the connection see that its request is complete.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_is_used_again_and_by_one_request_at_a_time() {
    let world = answering();
    for _ in 0..3 {
        assert_eq!(world.get().await.unwrap().1, b"ok");
        settle().await;
    }
    assert_eq!(world.dials(), 1);
    let (first, second) = tokio::join!(world.get(), world.get());
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(world.dials(), 2);
    // With a body, too.
    settle().await;
    let (mut body, mut answer) = world.ask(head("POST", &[]), true).await;
    body.write("x".into()).await.unwrap();
    body.finish();
    answer.head().await.unwrap();
    rest(&mut answer).await.unwrap();
    settle().await;
    assert_eq!((world.dials(), world.client.pool.len()), (2, 2));
}

#[tokio::test]
async fn few_connections_are_kept() {
    let world = answering();
    let many = (0..pool::IDLE + 4).map(|_| world.get());
    let all = futures_util::future::join_all(many).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(world.client.pool.len(), pool::IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_kept_for_long() {
    let (tell, mut told) = futures_channel::mpsc::unbounded();
    let world = World::new(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await.unwrap();
            say(&mut stream, "HTTP/1.1 204 No\r\n\r\n").await;
            assert!(read_head(&mut stream).await.is_none());
            tell.unbounded_send(tokio::time::Instant::now()).unwrap();
        }
    });
    let start = tokio::time::Instant::now();
    world.get().await.unwrap();
    // Nobody asks for anything meanwhile.
    assert_eq!(told.next().await.unwrap() - start, pool::KEEP);
    // Nor is one kept for the next session of the agent, nor by a client that has stopped.
    world.get().await.unwrap();
    let next = Arc::new(joined());
    assert!(world.client.pool.get(Tokio.now(), &next).is_none());
    assert_eq!(world.client.pool.len(), 0);
    world.client.close();
    world.get().await.unwrap();
    assert_eq!(world.client.pool.len(), 0);
}

#[tokio::test]
async fn another_policy_needs_another_connection() {
    let world = answering();
    world.get().await.unwrap();
    settle().await;
    let policy = Some(IdentityPolicy::Impersonate);
    let asked = world
        .client
        .request(policy, Some(&world.joined), head("GET", &[]), false);
    drop(asked.await.unwrap());
    assert_eq!(world.dials(), 2);
}

/// The first stream answers one request and then does `then` with the second; further streams
/// answer all.
fn worn<F: Future<Output = ()> + Send + 'static>(
    then: impl Fn(ByteStream) -> F + Send + Sync + 'static,
) -> World {
    let then = Arc::new(then);
    let first = Arc::new(std::sync::atomic::AtomicBool::new(true));
    World::new(move |mut stream| {
        let (then, worn) = (then.clone(), first.swap(false, Ordering::Relaxed));
        async move {
            read_head(&mut stream).await.unwrap();
            if !worn {
                // The body of the second request, which came whole.
                let mut body = [0; 6];
                stream.read_exact(&mut body).await.unwrap();
                assert_eq!(&body, b"1\r\nx\r\n");
            }
            say(&mut stream, "HTTP/1.1 204 No\r\n\r\n").await;
            then(stream).await;
        }
    })
}

async fn post(world: &World) -> Result<ResponseHead, Failure> {
    let (mut body, mut answer) = world.ask(head("POST", &[]), true).await;
    let _ = body.write("x".into()).await;
    body.finish();
    let head = answer.head().await?;
    rest(&mut answer).await?;
    Ok(head)
}

#[tokio::test]
async fn a_request_is_sent_anew_where_its_connection_was_closed_before() {
    let world = worn(async |stream| drop(stream));
    world.get().await.unwrap();
    // Whether or not that was seen already.
    for _ in 0..2 {
        assert_eq!(post(&world).await.unwrap().status, 204);
    }
}

#[tokio::test]
async fn a_request_that_may_have_been_seen_is_not_sent_again() {
    let world = worn(async |mut stream| {
        read_head(&mut stream).await.unwrap();
    });
    world.get().await.unwrap();
    settle().await;
    assert_eq!(post(&world).await.unwrap_err(), Failure::Reset);
    assert_eq!(world.dials(), 1);
}

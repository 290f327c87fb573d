//! The same operations as kubectl's with the `kube` crate as client, always.

use anyhow::{Context as _, Result, ensure};
use controlplane_e2e::world::World;
use futures_util::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{
        DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchEvent,
        WatchParams,
    },
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::bench::in_both_worlds;

in_both_worlds! {
    reads
    writes
    a_watch_shows_an_event_at_once_and_ends_with_the_connection
    followed_logs_come_line_by_line_and_break_with_the_connection
    everything_still_works_after_a_reset_and_a_restart
    wrong_tokens_unknown_clusters_and_absent_agents
}

pub(crate) async fn client(world: &World) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(world.kubeconfig())?;
    client_of(kubeconfig).await
}

async fn client_of(kubeconfig: Kubeconfig) -> Result<Client> {
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    Ok(Client::try_from(config)?)
}

async fn check_reads(client: &Client) -> Result<()> {
    ensure!(
        client
            .apiserver_version()
            .await?
            .git_version
            .starts_with("v1.")
    );
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let list = pods.list(&ListParams::default()).await?;
    ensure!(list.items.iter().any(|pod| pod.name_any() == "web-0"));
    ensure!(pods.get("web-0").await?.name_any() == "web-0");
    let error = pods
        .get("nosuch")
        .await
        .err()
        .context("an unknown pod was found")?;
    ensure!(
        matches!(&error, kube::Error::Api(s) if s.code == 404 && s.reason == "NotFound"),
        "{error}"
    );
    Ok(())
}

async fn reads(world: World) -> Result<()> {
    let client = client(&world).await?;
    check_reads(&client).await?;
    let pods: Api<Pod> = Api::default_namespaced(client);
    world.standin.push_log("web-0", "one")?;
    ensure!(pods.logs("web-0", &LogParams::default()).await? == "one\n");
    Ok(())
}

fn map(value: &Value) -> Result<ConfigMap> {
    Ok(serde_json::from_value(
        json!({"metadata": {"name": "a"}, "data": {"k": value}}),
    )?)
}

async fn writes(world: World) -> Result<()> {
    let client = client(&world).await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let created = maps
        .create(&PostParams::default(), &map(&json!("v"))?)
        .await?;
    let again = maps
        .create(&PostParams::default(), &map(&json!("v"))?)
        .await;
    ensure!(matches!(again, Err(kube::Error::Api(s)) if s.reason == "AlreadyExists"));
    let mut changed = created.clone();
    changed
        .data
        .get_or_insert_default()
        .insert("l".into(), "w".into());
    maps.replace("a", &PostParams::default(), &changed).await?;
    let stale = maps.replace("a", &PostParams::default(), &created).await;
    ensure!(matches!(stale, Err(kube::Error::Api(s)) if s.reason == "Conflict"));
    let merge = Patch::Merge(json!({"data": {"l": null}}));
    let merged = maps.patch("a", &PatchParams::default(), &merge).await?;
    ensure!(merged.data == created.data, "{:?}", merged.data);
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"z": "1"}});
    let applied = maps
        .patch(
            "a",
            &PatchParams::apply("test").force(),
            &Patch::Apply(applied),
        )
        .await?;
    ensure!(applied.data.unwrap_or_default().contains_key("z"));
    maps.delete("a", &DeleteParams::default()).await?;
    ensure!(maps.get_opt("a").await?.is_none());
    let namespaces: Api<Namespace> = Api::all(client);
    let namespace = serde_json::from_value(json!({"metadata": {"name": "n"}}))?;
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    namespaces.delete("n", &DeleteParams::default()).await?;
    Ok(())
}

async fn a_watch_shows_an_event_at_once_and_ends_with_the_connection(world: World) -> Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(client(&world).await?);
    let list = pods.list(&ListParams::default()).await?;
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut watch = pods.watch(&WatchParams::default(), &version).await?.boxed();
    for _ in 0..3 {
        world.standin.touch_pod("web-0")?;
        let event = watch.try_next().await?;
        ensure!(
            matches!(&event, Some(WatchEvent::Modified(pod)) if pod.name_any() == "web-0"),
            "{event:?}"
        );
    }
    world.cut();
    // An error or the end, but not silence and no event that never was.
    let end = watch.next().await;
    ensure!(
        !matches!(end, Some(Ok(_))),
        "an event out of nowhere: {end:?}"
    );
    Ok(())
}

async fn followed_logs_come_line_by_line_and_break_with_the_connection(world: World) -> Result<()> {
    let pods: Api<Pod> = Api::default_namespaced(client(&world).await?);
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let mut lines = pods.log_stream("web-0", &follow).await?.lines();
    for line in ["one", "two"] {
        world.standin.push_log("web-0", line)?;
        ensure!(lines.try_next().await?.as_deref() == Some(line));
    }
    world.cut();
    let end = lines.next().await;
    ensure!(
        matches!(end, Some(Err(_))),
        "a log that broke off passed for whole: {end:?}"
    );
    world.joined().await?;
    let mut lines = pods.log_stream("web-0", &follow).await?.lines();
    ensure!(lines.try_next().await?.as_deref() == Some("one"));
    world.standin.end_log("web-0")?;
    ensure!(lines.try_next().await?.as_deref() == Some("two"));
    ensure!(
        lines.try_next().await?.is_none(),
        "a whole log passed for broken"
    );
    Ok(())
}

async fn everything_still_works_after_a_reset_and_a_restart(mut world: World) -> Result<()> {
    let client = client(&world).await?;
    check_reads(&client).await?;
    world.reset_control_connection().await?;
    check_reads(&client).await?;
    world.stop_controller().await;
    world.start_controller().await?;
    check_reads(&client).await
}

async fn wrong_tokens_unknown_clusters_and_absent_agents(world: World) -> Result<()> {
    let wrong = world.kubeconfig_with(controlplane_driver::Token::new("wrong")?, "demo")?;
    let wrong = client_of(Kubeconfig::from_yaml(&wrong)?).await?;
    let error = wrong
        .apiserver_version()
        .await
        .err()
        .context("a wrong token was let in")?;
    ensure!(
        matches!(&error, kube::Error::Api(s) if s.code == 401),
        "{error}"
    );
    let unknown = world.kubeconfig_with(world.user_token()?, "nosuch")?;
    let unknown = client_of(Kubeconfig::from_yaml(&unknown)?).await?;
    let error = unknown
        .apiserver_version()
        .await
        .err()
        .context("an unknown cluster answered")?;
    ensure!(
        matches!(&error, kube::Error::Api(s) if s.code == 404),
        "{error}"
    );
    // kube retries a 503 by itself: tests/e2e/tunnel.rs asks without it.
    Ok(())
}

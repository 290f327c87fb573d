//! Pods as a test makes them: running, ready, one container.

use serde_json::{Value, json};

use super::clock;

/// The namespace of all pods that a test makes.
pub const NAMESPACE: &str = "default";

/// The one container of each pod.
pub const CONTAINER: &str = "app";

/// A pod that runs since now. `number` tells it from the others.
pub(super) fn pod(name: &str, number: u64) -> Value {
    let now = clock::rfc3339(clock::now());
    let address = format!("10.98.{}.{}", number / 250 % 250, number % 250 + 2);
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": uid(number),
            "creationTimestamp": now,
            "labels": {"app": name.rsplit_once('-').map_or(name, |(app, _)| app)},
        },
        "spec": {
            "containers": [{
                "name": CONTAINER,
                "image": "registry.example/app:1",
                "imagePullPolicy": "IfNotPresent",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default",
            "nodeName": "node-1",
            "schedulerName": "default-scheduler",
            "securityContext": {},
            "enableServiceLinks": true,
        },
        "status": {
            "phase": "Running",
            "conditions": conditions,
            "hostIP": "192.0.2.1",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": now,
            "qosClass": "BestEffort",
            "containerStatuses": [{
                "name": CONTAINER,
                "state": {"running": {"startedAt": now}},
                "lastState": {},
                "ready": true,
                "started": true,
                "restartCount": 0,
                "image": "registry.example/app:1",
                "imageID": "registry.example/app@sha256:0",
                "containerID": format!("containerd://{number:064x}"),
            }],
        },
    })
}

/// An identity that looks like a real one; the same number gives the same.
pub(super) fn uid(number: u64) -> String {
    format!("5a4d1e00-0000-4000-8000-{:012x}", number & 0xffff_ffff_ffff)
}

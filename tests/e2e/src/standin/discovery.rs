//! What there is: versions, groups, resources, and the OpenAPI documents as far as kubectl reads
//! them before it creates, applies or explains.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::body::{Body, answer, json, whole};
use super::resource::Resource;

/// What `GET /version` tells; the fields in the order of the real one.
const VERSION: &str = r#"{
  "major": "1",
  "minor": "32",
  "gitVersion": "v1.32.4",
  "gitCommit": "59526cd4867447956156ae3a602fcbac10a2c335",
  "gitTreeState": "clean",
  "buildDate": "2025-04-22T15:58:46Z",
  "goVersion": "go1.23.6",
  "compiler": "gc",
  "platform": "linux/amd64"
}"#;

/// What pods have beneath them: name, kind, verbs.
const SUBRESOURCES: [(&str, &str, &[&str]); 3] = [
    ("attach", "PodAttachOptions", &["create", "get"]),
    ("exec", "PodExecOptions", &["create", "get"]),
    ("log", "Pod", &["get"]),
];

/// The type of discovery documents that tell all at once.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The type of the OpenAPI v2 document in protobuf.
const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The least OpenAPI v2 document, in protobuf: `swagger: "2.0"`, a title and a version, no paths.
const OPENAPI_V2_DOCUMENT: &[u8] = b"\x0a\x032.0\x12\x10\x0a\x07standin\x12\x05v1.32\x42\x00";

/// `/version`.
pub(super) fn version() -> Response<Body> {
    answer(StatusCode::OK, "application/json", whole(VERSION))
}

/// `/healthz` and its kin.
pub(super) fn health() -> Response<Body> {
    answer(StatusCode::OK, "text/plain; charset=utf-8", whole("ok"))
}

/// Whether the client wants discovery in one document.
fn wants_aggregated(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let has = |part| range.split(';').any(|found| found.trim() == part);
        has("as=APIGroupDiscoveryList") && has("g=apidiscovery.k8s.io") && has("v=v2")
    })
}

/// `/api`.
pub(super) fn core_versions(accept: &str) -> Response<Body> {
    if wants_aggregated(accept) {
        let resources = Resource::ALL.map(aggregated_resource);
        let versions = json!([{"version": "v1", "freshness": "Current", "resources": resources}]);
        return aggregated(
            &json!([{"metadata": {"creationTimestamp": null}, "versions": versions}]),
        );
    }
    json(
        StatusCode::OK,
        &json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        }),
    )
}

/// `/apis`.
pub(super) fn groups(accept: &str) -> Response<Body> {
    if wants_aggregated(accept) {
        return aggregated(&json!([]));
    }
    json(
        StatusCode::OK,
        &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}),
    )
}

fn aggregated(items: &Value) -> Response<Body> {
    let list = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    });
    let mut response = json(StatusCode::OK, &list);
    let media = HeaderValue::from_static(AGGREGATED);
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

fn aggregated_resource(resource: Resource) -> Value {
    let kind = |kind: &str| json!({"group": "", "version": "v1", "kind": kind});
    let mut description = json!({
        "resource": resource.plural(),
        "responseKind": kind(resource.kind()),
        "scope": if resource.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular(),
        "verbs": resource.verbs(),
        "shortNames": [resource.short()],
    });
    if resource == Resource::Pods {
        description["categories"] = json!(["all"]);
        description["subresources"] = SUBRESOURCES
            .map(|(name, of, verbs)| {
                json!({"subresource": name, "responseKind": kind(of), "verbs": verbs})
            })
            .into();
    }
    description
}

/// `/api/v1`.
pub(super) fn resources() -> Response<Body> {
    let mut list: Vec<_> = Resource::ALL
        .map(|resource| {
            json!({
                "name": resource.plural(),
                "singularName": resource.singular(),
                "namespaced": resource.namespaced(),
                "kind": resource.kind(),
                "verbs": resource.verbs(),
                "shortNames": [resource.short()],
            })
        })
        .into();
    list.extend(SUBRESOURCES.map(|(name, kind, verbs)| {
        json!({
            "name": format!("pods/{name}"),
            "singularName": "",
            "namespaced": true,
            "kind": kind,
            "verbs": verbs,
        })
    }));
    json(
        StatusCode::OK,
        &json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": list}),
    )
}

/// `/openapi/v2`.
pub(super) fn openapi_v2(accept: &str) -> Response<Body> {
    if accept.contains("proto-openapi") {
        return answer(StatusCode::OK, OPENAPI_V2, whole(OPENAPI_V2_DOCUMENT));
    }
    let info = json!({"title": "standin", "version": "v1.32"});
    json(
        StatusCode::OK,
        &json!({"swagger": "2.0", "info": info, "paths": {}}),
    )
}

/// `/openapi/v3`.
pub(super) fn openapi_index() -> Response<Body> {
    let document = json!({"serverRelativeURL": "/openapi/v3/api/v1"});
    json(StatusCode::OK, &json!({"paths": {"api/v1": document}}))
}

/// `/openapi/v3/api/v1`: the operations with their parameters, from which kubectl learns that the
/// server validates fields, and schemas without structure.
pub(super) fn openapi_v3() -> Response<Body> {
    let mut paths = json!({});
    let mut schemas = json!({});
    for resource in Resource::ALL {
        let base = if resource.namespaced() {
            "/api/v1/namespaces/{namespace}"
        } else {
            "/api/v1"
        };
        let collection = format!("{base}/{}", resource.plural());
        let object = format!("{collection}/{{name}}");
        paths[&object] = json!({
            "get": operation(resource, "get", &[]),
            "delete": operation(resource, "delete", &["dryRun"]),
            "patch": operation(resource, "patch", &["dryRun", "fieldManager", "fieldValidation", "force"]),
        });
        paths[&collection] =
            json!({"get": operation(resource, "list", &["labelSelector", "fieldSelector"])});
        if resource != Resource::Pods {
            let written = ["dryRun", "fieldManager", "fieldValidation"];
            paths[&object]["put"] = operation(resource, "put", &written);
            paths[&collection]["post"] = operation(resource, "post", &written);
        }
        schemas[schema_name(resource)] = schema(resource);
    }
    let info = json!({"title": "Kubernetes", "version": "v1.32.4"});
    let components = json!({"schemas": schemas});
    json(
        StatusCode::OK,
        &json!({"openapi": "3.0.0", "info": info, "paths": paths, "components": components}),
    )
}

fn schema_name(resource: Resource) -> String {
    format!("io.k8s.api.core.v1.{}", resource.kind())
}

fn group_version_kind(resource: Resource) -> Value {
    json!({"group": "", "version": "v1", "kind": resource.kind()})
}

fn operation(resource: Resource, action: &str, parameters: &[&str]) -> Value {
    let parameter = |name: &&str| {
        json!({
            "name": name,
            "in": "query",
            "schema": {"type": if *name == "force" { "boolean" } else { "string" }},
        })
    };
    let parameters: Vec<_> = parameters.iter().map(parameter).collect();
    let reference = json!({"$ref": format!("#/components/schemas/{}", schema_name(resource))});
    let content = json!({"application/json": {"schema": reference}});
    json!({
        "operationId": format!("{action}CoreV1{}", resource.kind()),
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": content}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": group_version_kind(resource),
    })
}

fn schema(resource: Resource) -> Value {
    let property = |name: &&str| {
        let kind = match *name {
            "apiVersion" | "kind" => "string",
            "immutable" => "boolean",
            _ => "object",
        };
        ((*name).to_owned(), json!({"type": kind}))
    };
    let properties: Value = resource.fields().iter().map(property).collect();
    json!({
        "type": "object",
        "description": format!("{} of the stand-in.", resource.kind()),
        "properties": properties,
        "x-kubernetes-group-version-kind": [group_version_kind(resource)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_forms_of_discovery_apart() {
        let kubectl = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                       application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,\
                       application/json";
        assert!(wants_aggregated(kubectl));
        assert!(!wants_aggregated("application/json"));
        assert!(!wants_aggregated(
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=x"
        ));
        let media = |response: Response<Body>| response.headers()[header::CONTENT_TYPE].clone();
        assert_eq!(media(core_versions(kubectl)), AGGREGATED);
        assert_eq!(media(groups("application/json")), "application/json");
    }
}

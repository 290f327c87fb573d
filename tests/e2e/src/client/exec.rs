//! exec by WebSocket, as a client of Kubernetes does it.

use anyhow::{Context as _, Result, bail};
use futures_util::{SinkExt, StreamExt};
use http::{Request, header};
use serde_json::Value;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{Client, Tls};

/// Channels of Kubernetes' subprotocol.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const RESULT: u8 = 3;

/// What a command did.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Executed {
    /// What it wrote to its output.
    pub stdout: Vec<u8>,
    /// What it wrote to its errors.
    pub stderr: Vec<u8>,
    /// Its exit code.
    pub exit_code: i32,
}

impl Client {
    /// Opens a WebSocket that offers these subprotocols.
    ///
    /// # Errors
    ///
    /// The controller cannot be reached, or refuses.
    pub async fn websocket(&self, path: &str, protocols: &str) -> Result<WebSocketStream<Tls>> {
        let url = format!("wss://{}{}{path}", self.address, self.prefix);
        let mut request: Request<()> = url.into_client_request()?;
        let headers = request.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols.parse()?);
        let authorization = format!("Bearer {}", self.token);
        headers.insert(header::AUTHORIZATION, authorization.parse()?);
        let (socket, _) = client_async(request, self.connect().await?).await?;
        Ok(socket)
    }

    /// Runs a shell script in a pod with this input.
    ///
    /// # Errors
    ///
    /// It was not run, or its end is not known.
    pub async fn exec(&self, pod: &str, script: &str, input: &str) -> Result<Executed> {
        let script: String = form_urlencoded(script);
        let path = format!(
            "/api/v1/namespaces/default/pods/{pod}/exec\
             ?command=sh&command=-c&command={script}&stdin=true&stdout=true&stderr=true"
        );
        let mut socket = self.websocket(&path, "v5.channel.k8s.io").await?;
        let typed = [&[STDIN], input.as_bytes()].concat();
        socket.send(Message::binary(typed)).await?;
        // The end of the input.
        socket.send(Message::binary(vec![0xff, STDIN])).await?;
        let mut executed = Executed::default();
        while let Some(message) = socket.next().await {
            let Message::Binary(data) = message? else {
                continue;
            };
            match data.split_first() {
                Some((&STDOUT, data)) => executed.stdout.extend_from_slice(data),
                Some((&STDERR, data)) => executed.stderr.extend_from_slice(data),
                Some((&RESULT, data)) if !data.is_empty() => {
                    executed.exit_code = exit_code(&serde_json::from_slice(data)?)?;
                    return Ok(executed);
                }
                _ => {}
            }
        }
        bail!("the stream ended without a result")
    }
}

/// What stands in a query for this text.
fn form_urlencoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric();
    let encode = |byte: u8| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

fn exit_code(status: &Value) -> Result<i32> {
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array();
    let exit = causes
        .into_iter()
        .flatten()
        .find(|cause| cause["reason"] == "ExitCode");
    let code = exit.and_then(|cause| cause["message"].as_str());
    let text = status["message"].as_str().unwrap_or("no reason given");
    let code = code.with_context(|| format!("the command did not run: {text}"))?;
    Ok(code.parse()?)
}

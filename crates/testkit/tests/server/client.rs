//! A minimal client: one HTTP request per connection, one WebSocket message at a time. It shares nothing with
//! obsync's own client, so that neither hides the other's mistakes.

use std::error::Error;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use obsync_protocol::{Answer, PushMessage, ServerMessage, VaultKeys};
use obsync_testkit::{Server, VaultHandle};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

pub(crate) const EMAIL: &str = "someone@example.com";
pub(crate) const PASSWORD: &str = "account password";

/// The longest wait in a test.
const LIMIT: Duration = Duration::from_secs(20);

/// An HTTP answer: status, headers as text, body.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// Sends one HTTP request and reads the answer to its end.
pub(crate) async fn request(server: &Server, method: &str, path: &str, body: &str) -> Outcome<Reply> {
    let mut stream = TcpStream::connect(server.address()).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nOrigin: https://obsidian.md\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        server.host(),
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut text = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut text)).await??;
    let (headers, body) = text.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    let status = headers.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok(Reply { status, headers: headers.to_lowercase(), body: body.to_owned() })
}

/// Makes a REST call and returns its JSON answer.
pub(crate) async fn post(server: &Server, path: &str, body: Value) -> Outcome<Value> {
    let reply = request(server, "POST", path, &body.to_string()).await?;
    match reply.status {
        200 => Ok(serde_json::from_str(&reply.body)?),
        status => Err(format!("status {status}").into()),
    }
}

/// Signs in with the usual account.
pub(crate) async fn sign_in(server: &Server) -> Outcome<String> {
    let body = json!({ "email": EMAIL, "password": PASSWORD, "mfa": "" });
    let answer = post(server, "/user/signin", body).await?;
    Ok(answer["token"].as_str().ok_or_else(|| answer.to_string())?.to_owned())
}

/// A connected device.
pub(crate) struct Device {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Device {
    /// Opens a WebSocket and sends nothing yet.
    pub(crate) async fn connect(server: &Server) -> Outcome<Self> {
        let url = format!("ws://{}/", server.host());
        let connect = tokio_tungstenite::connect_async(url);
        let (socket, _) = tokio::time::timeout(LIMIT, connect).await??;
        Ok(Self { socket })
    }

    /// Opens a session and returns it with the answer to `init`.
    pub(crate) async fn open(
        server: &Server,
        vault: &VaultHandle,
        name: &str,
        version: u64,
    ) -> Outcome<(Self, Answer)> {
        let token = sign_in(server).await?;
        let mut device = Self::connect(server).await?;
        device.send(init(vault, &token, name, version)?).await?;
        let answer = device.answer().await?;
        Ok((device, answer))
    }

    /// Opens a session, and reads the listing: its entries, and the version of `ready`.
    pub(crate) async fn listed(
        server: &Server,
        vault: &VaultHandle,
        name: &str,
        version: u64,
    ) -> Outcome<(Self, Vec<PushMessage>, u64)> {
        let (mut device, answer) = Self::open(server, vault, name, version).await?;
        if let Some(error) = answer.error() {
            return Err(error.into());
        }
        let (entries, version) = device.listing().await?;
        Ok((device, entries, version))
    }

    pub(crate) async fn listing(&mut self) -> Outcome<(Vec<PushMessage>, u64)> {
        let mut entries = Vec::new();
        loop {
            match self.message().await? {
                ServerMessage::Push(push) => entries.push(push),
                ServerMessage::Ready { version } => return Ok((entries, version)),
                ServerMessage::Unknown { .. } | ServerMessage::Pong => {}
                other => return Err(format!("{other:?} in the listing").into()),
            }
        }
    }

    pub(crate) async fn send(&mut self, message: Value) -> Outcome {
        Ok(self.socket.send(Message::text(message.to_string())).await?)
    }

    pub(crate) async fn send_binary(&mut self, content: Vec<u8>) -> Outcome {
        Ok(self.socket.send(Message::binary(content)).await?)
    }

    /// The next frame of any kind; `None` when the connection is over.
    pub(crate) async fn frame(&mut self) -> Outcome<Option<Message>> {
        let frame = tokio::time::timeout(LIMIT, self.socket.next()).await?;
        Ok(frame.transpose()?.filter(|message| !message.is_close()))
    }

    /// The next text message.
    pub(crate) async fn message(&mut self) -> Outcome<ServerMessage> {
        match self.frame().await? {
            Some(Message::Text(text)) => Ok(ServerMessage::parse(&text)?),
            other => Err(format!("{other:?} instead of a text message").into()),
        }
    }

    /// The next text message, which must be an answer.
    pub(crate) async fn answer(&mut self) -> Outcome<Answer> {
        match self.message().await? {
            ServerMessage::Answer(answer) => Ok(answer),
            other => Err(format!("{other:?} instead of an answer").into()),
        }
    }

    /// The next binary frame.
    pub(crate) async fn binary(&mut self) -> Outcome<Vec<u8>> {
        match self.frame().await? {
            Some(Message::Binary(content)) => Ok(content.to_vec()),
            other => Err(format!("{other:?} instead of content").into()),
        }
    }

    /// The next text message, which must be a push.
    pub(crate) async fn pushed(&mut self) -> Outcome<PushMessage> {
        match self.message().await? {
            ServerMessage::Push(push) => Ok(push),
            other => Err(format!("{other:?} instead of a push").into()),
        }
    }

    /// Pulls one content: returns the header, and the joined frames.
    pub(crate) async fn pull(&mut self, uid: u64) -> Outcome<(Answer, Vec<u8>)> {
        self.send(json!({ "op": "pull", "uid": uid })).await?;
        self.pulled().await
    }

    pub(crate) async fn pulled(&mut self) -> Outcome<(Answer, Vec<u8>)> {
        let answer = self.answer().await?;
        let mut content = Vec::new();
        for _ in 0..answer.pieces.unwrap_or_default() {
            content.extend(self.binary().await?);
        }
        Ok((answer, content))
    }

    /// Pushes a file in one piece and returns the echo; the content is sent only on request.
    pub(crate) async fn push(&mut self, request: Value, content: &[u8]) -> Outcome<(PushMessage, bool)> {
        self.send(request).await?;
        let mut asked = false;
        loop {
            match self.message().await? {
                ServerMessage::Answer(answer) if answer.is_next() && !asked => {
                    asked = true;
                    self.send_binary(content.to_vec()).await?;
                }
                ServerMessage::Push(echo) => {
                    let answer = self.answer().await?;
                    return match answer.is_ok() {
                        true => Ok((echo, asked)),
                        false => Err(format!("{answer:?} after the echo").into()),
                    };
                }
                other => return Err(format!("{other:?} in a push").into()),
            }
        }
    }
}

/// The `init` message for a vault.
pub(crate) fn init(vault: &VaultHandle, token: &str, name: &str, version: u64) -> Outcome<Value> {
    Ok(json!({
        "op": "init",
        "token": token,
        "id": vault.id(),
        "keyhash": vault.keys()?.key_hash().as_str(),
        "version": version,
        "initial": version == 0,
        "device": name,
        "encryption_version": vault.encryption_version(),
    }))
}

/// The `push` message for a file.
pub(crate) fn file(keys: &VaultKeys, path: &str, content: &[u8], blob: &[u8]) -> Outcome<Value> {
    let path = obsync_protocol::VaultPath::parse(path)?;
    Ok(json!({
        "op": "push",
        "path": keys.encode_path(&path),
        "relatedpath": null,
        "extension": path.extension(),
        "hash": keys.encode_hash(&obsync_protocol::ContentHash::of(content)),
        "ctime": 1_700_000_000_000_i64,
        "mtime": 1_700_000_001_000_i64,
        "folder": false,
        "deleted": false,
        "size": blob.len(),
        "pieces": u64::from(!blob.is_empty()),
    }))
}

//! The daemon's API from the other end: HTTP/1.1 over its Unix socket, one connection for each call.

use super::failure::Failure;
use bytes::Bytes;
use grid_types::api::{API_VERSION, Reply};
use grid_types::exit::FaultClass;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

const START: &str = "start it with `sudo grid up --local 2`";
/// What does not wait for a move must answer within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Speaks to the head's daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// A good answer: what it says, and the whole reply as it came.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// What it says.
    pub ok: T,
    /// The reply as it came.
    pub raw: String,
}

impl Client {
    /// A client of the daemon at this socket. Connects with each call only.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// `GET PATH`.
    ///
    /// # Errors
    /// No daemon, no permission, or what the daemon refused.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, Failure> {
        self.patient(self.call(Method::GET, path, Bytes::new())).await
    }

    /// `GET PATH`, however long it takes.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn wait<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, Failure> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// `POST PATH` with a JSON body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<Answer<T>, Failure> {
        let body = serde_json::to_vec(body).map_err(|e| internal(e.to_string()))?;
        self.patient(self.call(Method::POST, path, Bytes::from(body))).await
    }

    /// `GET PATH`; every line is given to `each` as it comes, until `each` says false.
    ///
    /// # Errors
    /// As [`Client::get`], and what `each` returns.
    pub async fn lines(&self, path: &str, mut each: impl FnMut(&str) -> Result<bool, Failure>) -> Result<(), Failure> {
        let mut response = self.send(Method::GET, path, Bytes::new()).await?;
        if !response.status().is_success() {
            let raw = body_of(response).await.map_err(|e| self.lost(&e))?;
            return read::<serde::de::IgnoredAny>(raw).map(|_| ());
        }
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            let Ok(data) = frame.map_err(|e| self.lost(&e))?.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                if !one_line(&line, &mut each)? {
                    return Ok(());
                }
            }
        }
        one_line(&rest, &mut each).map(|_| ())
    }

    async fn patient<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| {
            let message = format!("the daemon at {} did not answer in {} s", self.socket.display(), PATIENCE.as_secs());
            Err(Failure::new(FaultClass::Unreachable, message).hint("what became of it: grid events"))
        })
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<Answer<T>, Failure> {
        let response = self.send(method, path, body).await?;
        read(body_of(response).await.map_err(|e| self.lost(&e))?)
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Failure> {
        let stream = tokio::net::UnixStream::connect(&self.socket).await.map_err(|e| no_daemon(&self.socket, &e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.lost(&e))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "grid")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|e| internal(e.to_string()))?;
        sender.send_request(request).await.map_err(|e| self.lost(&e))
    }

    fn lost(&self, why: &hyper::Error) -> Failure {
        let message = format!("the daemon at {} went away: {why}", self.socket.display());
        Failure::new(FaultClass::Unreachable, message).hint("see whether it runs: grid status")
    }
}

fn one_line(line: &[u8], each: &mut impl FnMut(&str) -> Result<bool, Failure>) -> Result<bool, Failure> {
    let text = String::from_utf8_lossy(line);
    match text.trim() {
        "" => Ok(true),
        text => each(text),
    }
}

async fn body_of(response: Response<Incoming>) -> Result<String, hyper::Error> {
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn read<T: DeserializeOwned>(raw: String) -> Result<Answer<T>, Failure> {
    let strange = |e: &str| {
        internal(format!("the daemon's answer is not understood: {e}"))
            .hint("daemon and command are perhaps of two versions: compare with grid --version")
    };
    // First without what it says: of another version only the frame is sure.
    let frame: Reply<serde::de::IgnoredAny> = serde_json::from_str(&raw).map_err(|e| strange(&e.to_string()))?;
    if let Some(error) = frame.error {
        return Err(Failure { error, raw: Some(raw), shown: false });
    }
    if frame.version != API_VERSION {
        return Err(strange(&format!("it speaks version {}, this is {API_VERSION}", frame.version)));
    }
    let reply: Reply<T> = serde_json::from_str(&raw).map_err(|e| strange(&e.to_string()))?;
    match reply.ok {
        Some(ok) => Ok(Answer { ok, raw }),
        None => Err(strange("neither ok nor error")),
    }
}

fn internal(message: String) -> Failure {
    Failure::new(FaultClass::Internal, message)
}

fn no_daemon(socket: &Path, why: &std::io::Error) -> Failure {
    let at = socket.display();
    match why.kind() {
        ErrorKind::PermissionDenied => Failure::new(FaultClass::Permission, format!("no permission for {at}"))
            .hint("ask as the user who started grid, or as root"),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            Failure::new(FaultClass::Unreachable, format!("no grid daemon answers at {at}: {START}"))
        }
        _ => Failure::new(FaultClass::Unreachable, format!("no grid daemon answers at {at} ({why}): {START}")),
    }
}

//! One request at a time through the data path, on one thread and the same in every run: what callgrind and dhat count.
//!
//! The path is driven through its outermost seam, bytes in at a listener and bytes out at an app's: whatever is rebuilt
//! between the two, the counts stay comparable. Client and app are a buffer each and take turns with the proxy on its
//! own thread, so nothing runs at the same time as anything else. A turn in which the proxy does nothing is one
//! `epoll_wait`.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use pilotlight::activator::route::Routes;
use pilotlight::activator::service::Service;
use pilotlight::activator::wake::Wakeups;
use pilotlight::activator::{Activator, ByHost};
use pilotlight::clock;
use pilotlight::config::load::{self, Loaded};
use pilotlight::config::spec::{Addresses, Protocol, ServiceSpec};
use pilotlight::drain::Drain;
use pilotlight::proxy::endpoint::Endpoint;
use pilotlight::proxy::guarded::Patience;
use pilotlight::proxy::places::Places;
use pilotlight::proxy::server::{self, Connections, Handler};
use pilotlight::queue_proxy::QueueProxy;
use tokio::runtime::Runtime;

/// Slots are counted, and nobody waits for one.
const LIMIT: u32 = 32;
/// So many until every buffer has grown and every lazy thing is there.
const WARM: usize = 64;
/// Turns of the proxy until something is wrong.
const TURNS: usize = 10_000;
const LONG: Duration = Duration::from_hours(1);

/// As little as can be asked: what wrk sends.
const GET: &str = "GET /v2/health/ready HTTP/1.1\r\nHost: service-0.default.localhost\r\n\r\n";
/// What an SDK sends.
pub(crate) const POST: &str = "POST /v2/models/iris/infer HTTP/1.1\r\n\
    Host: service-0.default.localhost:8080\r\n\
    User-Agent: python-requests/2.32.3\r\n\
    Accept-Encoding: gzip, deflate\r\n\
    Accept: */*\r\n\
    Connection: keep-alive\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 64\r\n\
    \r\n\
    {\"inputs\":[{\"name\":\"x\",\"shape\":[1,4],\"data\":[5.1,3.5,1.4,0.2]}]}";
/// As uvicorn answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    date: Sun, 22 Nov 2026 12:00:00 GMT\r\n\
    server: uvicorn\r\n\
    content-length: 68\r\n\
    content-type: application/json\r\n\
    \r\n\
    {\"outputs\":[{\"name\":\"y\",\"shape\":[1],\"datatype\":\"INT64\",\"data\":[0]}]}";
const ANSWER_END: &[u8] = b"[0]}]}";

/// What a request is sent through.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Through {
    /// Nothing: what client, app and the turns cost by themselves.
    Nothing,
    /// The sidecar.
    QueueProxy,
    /// The activator, by host. One service: among many, the heap's state differs from run to run, by 1 % of a request.
    Activator,
}

/// What the client sends, again and again on one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    /// A bare GET.
    Get,
    /// A POST with the usual fields and a small body.
    Post,
    /// The same over HTTP/2 with prior knowledge.
    H2Post,
}

/// A client, the proxy, and an app, ready for the next request.
pub(crate) struct Path {
    runtime: Runtime,
    client: TcpStream,
    request: Request,
    /// The connection between proxy and app.
    app: TcpStream,
    buffer: Vec<u8>,
}

/// The same bytes each time, but for the number of a stream.
struct Request {
    bytes: Vec<u8>,
    /// Its last bytes on the way to the app.
    end: &'static [u8],
    stream: Option<Stream>,
}

/// Of HTTP/2: its number, and where in the bytes it stands.
struct Stream {
    id: u32,
    ids: [usize; 2],
}

// === impl Path ===

impl Path {
    /// Warmed up.
    pub(crate) fn new(through: Through, sends: Client) -> Self {
        // Time stands still: under callgrind, on a busy machine, a connection would else rest for seconds and be given up.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = app.local_addr().unwrap();
        app.set_nonblocking(true).unwrap();
        let to = match through {
            Through::Nothing => at,
            Through::QueueProxy => queue_proxy(&runtime, at),
            Through::Activator => activator(&runtime, at),
        };
        let client = TcpStream::connect(to).unwrap();
        client.set_nodelay(true).unwrap();
        client.set_nonblocking(true).unwrap();
        let request = Request::new(sends);
        if request.stream.is_some() {
            (&client).write_all(h2::OPENING).unwrap();
        }
        (&client).write_all(&request.bytes).unwrap();
        let mut buffer = vec![0; 16 << 10];
        let app = runtime.block_on(connection(&app, &request, &mut buffer));
        let mut path = Self { runtime, client, request, app, buffer };
        path.runtime.block_on(answer(&path.client, &path.app, &path.request, &mut path.buffer));
        path.requests(WARM);
        path
    }

    /// So many, one after the other.
    pub(crate) fn requests(&mut self, count: usize) {
        let Self { runtime, client, request, app, buffer } = self;
        runtime.block_on(async {
            for _ in 0..count {
                request.next();
                client.write_all(&request.bytes).unwrap();
                read_until(app, buffer, |read| read.ends_with(request.end)).await;
                answer(client, app, request, buffer).await;
            }
        });
    }
}

// === impl Request ===

impl Request {
    fn new(sends: Client) -> Self {
        let plain = |text: &'static str, end| Self { bytes: text.into(), end, stream: None };
        match sends {
            Client::Get => plain(GET, b"\r\n\r\n"),
            Client::Post => plain(POST, b"0.2]}]}"),
            Client::H2Post => {
                let (bytes, ids) = h2::request(POST);
                let mut request = Self { bytes, end: b"0.2]}]}", stream: Some(Stream { id: 0, ids }) };
                request.next();
                request
            }
        }
    }

    /// Over HTTP/2, the next one's number.
    fn next(&mut self) {
        if let Some(Stream { id, ids }) = &mut self.stream {
            *id = if *id == 0 { 1 } else { *id + 2 };
            for at in ids {
                self.bytes[*at..*at + 4].copy_from_slice(&id.to_be_bytes());
            }
        }
    }
}

/// The app answers the request that it has read, and the client reads that.
async fn answer(client: &TcpStream, mut app: &TcpStream, request: &Request, buffer: &mut [u8]) {
    app.write_all(ANSWER).unwrap();
    if request.stream.is_some() {
        read_until(client, buffer, h2::ends_stream).await;
    } else {
        read_until(client, buffer, |read| read.ends_with(ANSWER_END)).await;
    }
}

/// The connection on which the proxy sends what it got; probes' ones before it are ended.
async fn connection(app: &TcpListener, request: &Request, buffer: &mut [u8]) -> TcpStream {
    loop {
        let stream = loop {
            match app.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        if read_some(&stream, buffer, |read| read.ends_with(request.end)).await {
            return stream;
        }
    }
}

async fn read_until(from: &TcpStream, buffer: &mut [u8], whole: impl Fn(&[u8]) -> bool) {
    assert!(read_some(from, buffer, whole).await, "the connection was closed");
}

/// Lets the proxy have its turns until all is there; `false` at the end of the connection.
async fn read_some(mut from: &TcpStream, buffer: &mut [u8], whole: impl Fn(&[u8]) -> bool) -> bool {
    let mut read = 0;
    for _ in 0..TURNS {
        match from.read(&mut buffer[read..]) {
            Ok(0) => return false,
            Ok(more) => {
                read += more;
                if whole(&buffer[..read]) {
                    return true;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("nothing more after {:?}", String::from_utf8_lossy(&buffer[..read]));
}

/// A listener of the proxy's own on `runtime`, and its address.
fn listen(runtime: &Runtime, handler: impl Handler) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let at = listener.local_addr().unwrap();
    let connections =
        Connections { places: Places::new(64), patience: Patience { header: LONG, rest: LONG } };
    server::spawn(runtime.handle(), listener, handler, connections, Drain::new());
    at
}

fn queue_proxy(runtime: &Runtime, app: SocketAddr) -> SocketAddr {
    let spec = ServiceSpec { protocol: Protocol::Http1, ..services(1).services.remove(0) };
    let proxy = QueueProxy::new(spec, Addresses { http: app, grpc: None }, Duration::ZERO);
    let handler = proxy.handler(Drain::new());
    runtime.spawn(async move { proxy.watch().await });
    listen(runtime, handler)
}

fn activator(runtime: &Runtime, app: SocketAddr) -> SocketAddr {
    let activator = Activator::new(Drain::new());
    let spec = Arc::new(services(1).services.remove(0));
    let service = Arc::new(Service::new(spec, Arc::new(Wakeups::default()), 1));
    let (at, now) = (Addresses { http: app, grpc: None }, clock::now());
    let endpoint = Endpoint::new(1, at, Protocol::Http1, LIMIT as usize, now, now);
    service.line.join(1, Arc::new(endpoint));
    activator.set_routes(Routes::new([service]));
    listen(runtime, ByHost(Arc::new(activator)))
}

/// `service-0` and on, from a file as users write it: a spec is not made by hand.
pub(crate) fn services(count: usize) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for i in 0..count {
        let _ = write!(
            text,
            "---\napiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {{name: service-{i}}}\n\
             spec:\n  process: {{command: [sleep, infinity]}}\n  concurrency: {{limit: {LIMIT}}}\n"
        );
    }
    let file = dir.path().join("services.yaml");
    std::fs::write(&file, text).unwrap();
    load::load(&[file]).unwrap()
}

/// As much of HTTP/2 as a client needs that sends the same request again and again.
mod h2 {
    const HEADERS: u8 = 1;
    const DATA: u8 = 0;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    /// Where in a frame its stream's number stands.
    const ID: usize = 5;

    /// The preface, empty SETTINGS, an acknowledgement of the server's (which will have come by the time this is
    /// read), and a window for all that this connection will ever carry.
    pub(super) const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \0\0\0\x04\0\0\0\0\0\
        \0\0\x04\x08\0\0\0\0\0\x7f\0\0\0";

    /// What this HTTP/1.1 request says, and where in it the stream's number goes. Every field is a literal that enters
    /// no table, so that all requests are alike.
    pub(super) fn request(text: &str) -> (Vec<u8>, [usize; 2]) {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let path = lines.next().unwrap().split(' ').nth(1).unwrap();
        // Of the static table: `:method: POST`, `:scheme: http`.
        let mut block = vec![0x83, 0x86];
        literal(&mut block, ":path", path);
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            match name.to_ascii_lowercase().as_str() {
                "host" => literal(&mut block, ":authority", value),
                "connection" => {}
                name => literal(&mut block, name, value),
            }
        }
        let headers = frame(HEADERS, END_HEADERS, &block);
        let ids = [ID, headers.len() + ID];
        ([headers, frame(DATA, END_STREAM, body.as_bytes())].concat(), ids)
    }

    fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "one byte is its length");
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    /// Whether these frames, all of them whole, end a stream.
    pub(super) fn ends_stream(mut frames: &[u8]) -> bool {
        let mut ended = false;
        while let [a, b, c, kind, flags, _, _, _, _, rest @ ..] = frames {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some(rest) = rest.get(length..) else { return false };
            ended |= (*kind == HEADERS || *kind == DATA) && flags & END_STREAM != 0;
            frames = rest;
        }
        ended && frames.is_empty()
    }
}

//! nghttp and h2load, as people run them (Debian: nghttp2-client).

use std::process::Output;

use crate::support::{LONG, Setup, Way};

async fn run(program: &str, args: &[&str]) -> String {
    let child = tokio::process::Command::new(program).args(args).kill_on_drop(true).output();
    let output = tokio::time::timeout(LONG, child).await.unwrap_or_else(|_| panic!("{program} does not end"));
    let Output { stdout, stderr, .. } = output.unwrap_or_else(|error| {
        panic!("{program}: {error}; install it with `apt-get install nghttp2-client`")
    });
    String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)
}

#[tokio::test]
async fn h2load_sees_every_request_succeed() {
    for setup in Setup::ALL {
        for (protocol, limit) in [("http1", 4), ("h2c", 0)] {
            let way = Way::through(setup).protocol(protocol).limit(limit).cold().start().await;
            let (url, authority) =
                (format!("http://{}/", way.traffic), format!(":authority: {}", way.host()));
            let text =
                run("h2load", &["-n", "4000", "-c", "8", "-m", "20", "-t", "1", "-H", &authority, &url])
                    .await;
            let expected = "requests: 4000 total, 4000 started, 4000 done, 4000 succeeded, 0 failed, 0 errored, 0 timeout";
            assert!(text.contains(expected), "{way} {protocol}: {text}");
            assert!(text.contains("status codes: 4000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{way} {protocol}: {text}");
            way.idle().await;
        }
    }
}

#[tokio::test]
async fn nghttp_gets_pages_and_uploads() {
    for setup in Setup::ALL {
        let way = Way::through(setup).cold().start().await;
        let (url, authority) = (format!("http://{}", way.traffic), format!(":authority: {}", way.host()));
        let file = way.lab.text_path("upload");
        std::fs::write(&file, vec![b'x'; 3 << 20]).unwrap();
        let sink = format!("{url}/sink");
        let text = run("nghttp", &["-v", "-d", &file, "-H", &authority, &sink]).await;
        assert!(text.contains(":status: 200") && text.contains("3145728"), "{way}: {text}");
        let trailers = format!("{url}/trailers");
        let text = run("nghttp", &["-v", "-H", &authority, "-H", "te: trailers", &trailers]).await;
        assert!(text.contains("x-checksum: 42"), "{way}: {text}");
        // Eight small windows' worth: flow control with a client that opens 2^14 at a time.
        let big = format!("{url}/bytes?n=5000000");
        let text = run("nghttp", &["-n", "-s", "-w", "14", "-W", "14", "-H", &authority, &big]).await;
        assert!(text.contains("200") && text.contains("4M"), "{way}: {text}");
        way.idle().await;
    }
}

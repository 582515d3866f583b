//! Models asked for by their names, with the clients that people use.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::models::{WAYS, service, state};
use crate::support::{LONG, Lab, Program, python};

const OPENAI: &[&str] = &["openai==3.54.0"];
const UVICORN: &[&str] = &["uvicorn==0.35.0", "websockets==15.0.1"];
const TRITON: &[&str] = &["tritonclient[grpc]==2.73.0"];

fn script(name: &str) -> String {
    format!("{}/tests/proxy/py/{name}", env!("CARGO_MANIFEST_DIR"))
}

async fn openai(lab: &Lab, python: &Path, to: SocketAddr, args: &[&str]) -> String {
    let mut command = Command::new(python);
    command.arg(script("openai_client.py")).arg(format!("http://localhost:{}/v1", to.port())).args(args);
    let mut program = Program::spawn(command, lab.dir());
    let status = program.wait(LONG).await;
    let log = program.settled_log().await;
    assert_eq!(status, 0, "{args:?}: {log}");
    log
}

#[tokio::test]
async fn the_openai_package_from_zero() {
    let (client, uvicorn) = (python(OPENAI).await, python(UVICORN).await);
    for setup in WAYS {
        let lab = Lab::new();
        let script = script("openai_app.py");
        let app = [uvicorn.to_str().unwrap(), &script, "$(PORT)"];
        let llama =
            service(&lab, setup, "llama", &app).set("models", json!(["meta-llama/Llama-3-8B", "small"]));
        let mistral = service(&lab, setup, "mistral", &app);
        let serve = lab.services(&[&llama, &mistral]).serve().start().await;
        let to = serve.traffic;
        let listed = openai(&lab, &client, to, &["list"]).await;
        let line = |id: &str| format!("{id} model pilotlight True");
        assert_eq!(listed, ["meta-llama/Llama-3-8B", "mistral", "small"].map(line).join("\n"));
        assert_eq!(openai(&lab, &client, to, &["retrieve", "mistral"]).await, "mistral model False");
        let unknown = openai(&lab, &client, to, &["unknown", "gpt-5"]).await;
        assert!(
            unknown.starts_with("404 no_such_model") && unknown.contains("meta-llama/Llama-3-8B"),
            "{unknown}"
        );
        assert_eq!(
            (state(&serve, "llama").await, state(&serve, "mistral").await),
            (json!("zero"), json!("zero"))
        );

        let stream = ["stream", "meta-llama/Llama-3-8B"];
        assert_eq!(openai(&lab, &client, to, &stream).await, "streamed by meta-llama/Llama-3-8B");
        assert_eq!(state(&serve, "mistral").await, "zero");
        assert_eq!(openai(&lab, &client, to, &["chat", "small"]).await, "answered by small");
        assert_eq!(
            openai(&lab, &client, to, &["chat", "default/mistral"]).await,
            "answered by default/mistral"
        );
        assert_eq!(openai(&lab, &client, to, &["retrieve", "mistral"]).await, "mistral model True");
    }
}

#[tokio::test]
async fn triton_s_grpc_client_from_zero() {
    let python = python(TRITON).await;
    for setup in WAYS {
        let lab = Lab::new();
        let app = script("triton_app.py");
        let service = service(&lab, setup, "iris", &[python.to_str().unwrap(), &app, "$(PORT)"]);
        let serve = lab.services(&[&service]).serve().start().await;
        let mut command = Command::new(&python);
        command.args([&script("triton_client.py"), &format!("localhost:{}", serve.traffic.port()), "iris"]);
        let mut client = Program::spawn(command, lab.dir());
        let status = client.wait(LONG).await;
        assert_eq!(status, 0, "{setup:?}: {}", client.settled_log().await);
    }
}

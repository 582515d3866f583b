//! Configurations of HAProxy and nginx, as fast as their manuals let them be: one thread, no log, connections kept on
//! both sides, and otherwise what `queue-proxy` does: a limit per replica, and who asked for what, told to the app.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::proxies::{Job, Wire};

/// `maxconn` of a server is its limit; what is beyond waits in the backend's queue, first come, first served.
pub(crate) fn haproxy(to: SocketAddr, replicas: &[SocketAddr], job: Job) -> String {
    let bind = if job.client == Wire::H2 { " proto h2" } else { "" };
    let server = if job.app == Wire::H2 { " proto h2" } else { "" };
    let limit = job.limit / replicas.len() as u32;
    // Else it lets the kernel hold an event back for up to 200 ms, in case another follows.
    let streams = if job.streams { "  option http-no-delay\n" } else { "" };
    // Without strict-limits it takes as many open files as it can get, as we do.
    let mut text = format!(
        r#"global
  nbthread 1
  maxconn 12000
  no strict-limits
defaults
  mode http
  option http-keep-alive
  option forwardfor
  http-reuse always
  timeout connect 5s
  timeout client 620s
  timeout server 300s
  timeout queue 300s
  timeout http-request 30s
  timeout http-keep-alive 620s
{streams}frontend in
  bind {to}{bind}
  maxconn 12000
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header Forwarded for=%[src];host=\"%[req.hdr(host)]\";proto=http
  default_backend app
backend app
  balance leastconn
"#
    );
    for (n, replica) in replicas.iter().enumerate() {
        let _ = writeln!(text, "  server r{n} {replica}{server} maxconn {limit}");
    }
    text
}

/// `max_conns` of a server is its limit; what is beyond is answered 502: nginx has no queue.
pub(crate) fn nginx(to: SocketAddr, replica: SocketAddr, job: Job, dir: &Path) -> String {
    let (limit, dir) = (job.limit, dir.display());
    let http2 = if job.client == Wire::H2 { " http2" } else { "" };
    let buffering = if job.streams { "off" } else { "on" };
    let (module, pass) = if job.app == Wire::H2 {
        ("grpc", "grpc_pass grpc://app;".to_owned())
    } else {
        let kept = "proxy_http_version 1.1; proxy_set_header Connection \"\";";
        ("proxy", format!("proxy_pass http://app; {kept} proxy_buffering {buffering};"))
    };
    // Only root may say whose its worker is.
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    format!(
        r#"worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
{user}
pid {dir}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  keepalive_timeout 620s;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_buffer_size 128k;
  client_body_temp_path {dir}/nginx-body;
  proxy_temp_path {dir}/nginx-proxy;
  fastcgi_temp_path {dir}/nginx-fastcgi;
  uwsgi_temp_path {dir}/nginx-uwsgi;
  scgi_temp_path {dir}/nginx-scgi;
  upstream app {{
    server {replica} max_conns={limit};
    keepalive {limit};
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
  }}
  server {{
    listen {to} backlog=4096{http2};
    proxy_read_timeout 300s;
    location / {{
      {pass}
      {module}_set_header Host $http_host;
      {module}_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      {module}_set_header X-Forwarded-Proto http;
      {module}_set_header X-Forwarded-Host $http_host;
      {module}_set_header Forwarded 'for=$remote_addr;host="$http_host";proto=http';
    }}
  }}
}}
"#
    )
}

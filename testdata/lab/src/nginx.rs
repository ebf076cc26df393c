//! nginx with TLS on loopback, in a folder of its own, in front of something else.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::authority::Certificate;
use crate::server::{Server, on_free_port};

/// Starts one with this certificate. `location` is what it does with every request, in nginx's words.
pub(crate) fn start(folder: &Path, issued: &Certificate, location: &str) -> Result<(Server, u16)> {
    on_free_port(|port| {
        let path = folder.join("nginx.conf");
        fs::write(&path, config(folder, port, issued, location)).context("write nginx.conf")?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(&path).arg("-e").arg(folder.join("nginx-errors.log"));
        let mut nginx = Server::start(&command, &folder.join("nginx.log"))?;
        nginx.wait_for_port(port)?;
        Ok(nginx)
    })
}

fn config(folder: &Path, port: u16, issued: &Certificate, location: &str) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-errors.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    client_max_body_size 0;
    location / {{
{location}    }}
  }}
}}
",
        certificate = issued.certificate.display(),
        key = issued.key.display(),
    )
}

//! `webui`: see the library.

use std::process::ExitCode;

use tokio::net::TcpListener;

fn main() -> ExitCode {
    dockercoins::main(async {
        dockercoins::webui::run(TcpListener::bind(("0.0.0.0", 80)).await?, "redis://redis/").await
    })
}

//! What the manager tells, line by line.

use std::time::Duration;

use http::Method;
use wharf_engine::{Client, Lines, collect, empty};
use wharf_protocol::{Update, WATCH_PATH};

use crate::credentials::versioned;

/// A manager says every two seconds that it is alive; one that does not is not.
const SILENCE: Duration = Duration::from_secs(8);

/// The longest refusal.
const REFUSAL_LIMIT: usize = 64 << 10;

/// What a manager tells.
#[derive(Debug)]
pub(crate) struct Updates(Lines);

impl Updates {
    /// Begins to watch.
    ///
    /// # Errors
    /// Why the manager does not tell anything, for people.
    pub(crate) async fn watch(client: &Client) -> Result<Self, String> {
        let request = client.request(Method::GET, WATCH_PATH, empty()).map_err(|error| error.to_string())?;
        let response = tokio::time::timeout(SILENCE, client.send(versioned(request))).await;
        let response = response.map_err(|_| "it does not answer".to_owned())?.map_err(|error| error.to_string())?;
        let status = response.status();
        if !status.is_success() {
            let said = collect(response.into_body(), REFUSAL_LIMIT).await;
            let said = said.ok().and_then(Result::ok).unwrap_or_default();
            return Err(format!("{status}: {}", String::from_utf8_lossy(&said).trim()));
        }
        Ok(Self(Lines::new(response.into_body())))
    }

    /// The next update. May be dropped and called again.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(crate) async fn next(&mut self) -> Result<Update, String> {
        let line = tokio::time::timeout(SILENCE, self.0.next()).await;
        let line = line.map_err(|_| format!("nothing was heard from it for {SILENCE:?}"))?;
        let line = line.map_err(|error| error.to_string())?.ok_or_else(|| "it has ended the connection".to_owned())?;
        serde_json::from_slice(&line).map_err(|error| format!("it says what this agent does not understand: {error}"))
    }
}

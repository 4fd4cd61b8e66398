use std::{fmt, path::PathBuf, str::FromStr};

/// Where an engine, or Wharf itself, is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// `tcp://HOST:PORT`
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:///PATH`
    Unix(PathBuf),
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseEndpointError {
    /// Another scheme than `tcp` or `unix`.
    #[error("{0:?}: only tcp://HOST:PORT and unix:///PATH are understood")]
    Scheme(String),
    /// No host.
    #[error("{0:?} names no host: want HOST:PORT")]
    Host(String),
    /// No port, or not one of 1 to 65535.
    #[error("{0:?} has no port from 1 to 65535: want HOST:PORT")]
    Port(String),
    /// A Unix socket without an absolute path.
    #[error("{0:?}: the path of a Unix socket must begin with a slash")]
    Path(String),
}

impl Endpoint {
    /// The host for people: the name or address of a TCP endpoint, `None` for a socket on this machine.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } => Some(host),
            Self::Unix(_) => None,
        }
    }

    /// `HOST:PORT`, or the socket's path: the predecessor's form of an engine's address.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(path) => path.display().to_string(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => write!(f, "tcp://{}", self.address()),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    /// Reads `tcp://HOST:PORT`, `unix:///PATH` or, as the predecessor's lists have it, `HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(ParseEndpointError::Path(text.to_owned()));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let address = match text.split_once("://") {
            Some(("tcp" | "http", address)) => address.trim_end_matches('/'),
            Some(_) => return Err(ParseEndpointError::Scheme(text.to_owned())),
            None => text,
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(|| ParseEndpointError::Port(text.to_owned()))?;
        let port: u16 =
            port.parse().ok().filter(|port| *port > 0).ok_or_else(|| ParseEndpointError::Port(text.to_owned()))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let good = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)),
        };
        if !good {
            return Err(ParseEndpointError::Host(text.to_owned()));
        }
        Ok(Self::Tcp { host: bracketed.unwrap_or(host).to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn endpoints_print_as_they_are_read() {
        for (text, printed) in [
            ("10.0.0.1:2375", "tcp://10.0.0.1:2375"),
            ("tcp://node-1.example:2375", "tcp://node-1.example:2375"),
            ("tcp://[::1]:2375", "tcp://[::1]:2375"),
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused() {
        for text in
            ["", "host", "host:", "host:0", "host:65536", ":2375", "ssh://a:1", "unix://a", "a b:1", "[x]:1", "a/b:1"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }
}

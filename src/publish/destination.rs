//! Where to publish: `rtmp://HOST[:PORT]/app/name[?query]`. A core.

use std::fmt;

use thiserror::Error;
use url::Url;

/// The port of RTMP (RTMP 1.0 §4, registered with IANA as macromedia-fcs).
const PORT: u16 = 1935;

/// A place to publish to. Displayed without the query, which may hold a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    host: String,
    port: u16,
    app: String,
    name: String,
    query: Option<String>,
}

/// Why a URL is no place to publish to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DestinationError {
    /// It can't be read as a URL with a host.
    #[error("not a URL of the form rtmp://HOST[:PORT]/app/name")]
    Form,
    /// The scheme is not `rtmp`.
    #[error("only rtmp:// can be published to")]
    Scheme,
    /// The path has no app or no name.
    #[error("the path has to hold an app and a name: rtmp://HOST/app/name")]
    Path,
}

impl Destination {
    /// Reads a URL. The app is all of the path but its last part; a query stays with the name.
    pub fn parse(url: &str) -> Result<Self, DestinationError> {
        let url = Url::parse(url).map_err(|_| DestinationError::Form)?;
        if url.scheme() != "rtmp" {
            return Err(DestinationError::Scheme);
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(DestinationError::Form)?;
        let path = url.path().strip_prefix('/').unwrap_or_default();
        let (app, name) = path.rsplit_once('/').ok_or(DestinationError::Path)?;
        if app.is_empty() || name.is_empty() {
            return Err(DestinationError::Path);
        }
        Ok(Self {
            host: host.to_owned(),
            port: url.port().unwrap_or(PORT),
            app: app.to_owned(),
            name: name.to_owned(),
            query: url.query().map(str::to_owned),
        })
    }

    /// The place of broadcast `number`, from 1: the first has the name itself, the others `name-2`, `name-3`, …
    #[must_use]
    pub fn numbered(&self, number: u32) -> Self {
        let name = if number <= 1 { self.name.clone() } else { format!("{}-{number}", self.name) };
        Self { name, ..self.clone() }
    }

    /// `host:port`, to connect to. An IPv6 address is in brackets.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The app, as `connect` wants it.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The URL without the name, as `connect` wants it for `tcUrl`.
    pub fn app_url(&self) -> String {
        format!("rtmp://{}:{}/{}", self.host, self.port, self.app)
    }

    /// The name with its query, as `publish` wants it. May hold a key: never logged.
    pub fn key(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.name),
            None => self.name.clone(),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app_url(), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_the_field_are_read() {
        for (url, address, app, key) in [
            ("rtmp://localhost/live/mark", "localhost:1935", "live", "mark"),
            ("rtmp://10.0.0.7:1936/live/mark", "10.0.0.7:1936", "live", "mark"),
            ("rtmp://[::1]:19/live/mark", "[::1]:19", "live", "mark"),
            ("rtmp://h/live/mark?key=a/b&x=1", "h:1935", "live", "mark?key=a/b&x=1"),
            ("rtmp://h/app/instance/mark", "h:1935", "app/instance", "mark"),
        ] {
            let place = Destination::parse(url).unwrap();
            assert_eq!(
                (place.address(), place.app(), place.key()),
                (address.into(), app, key.into()),
                "{url}"
            );
        }
    }

    #[test]
    fn what_is_no_place_to_publish_is_refused() {
        assert_eq!(Destination::parse("live/mark"), Err(DestinationError::Form));
        assert_eq!(Destination::parse("http://h/live/mark"), Err(DestinationError::Scheme));
        for url in ["rtmp://h", "rtmp://h/", "rtmp://h/live", "rtmp://h/live/", "rtmp://h//mark"] {
            assert_eq!(Destination::parse(url), Err(DestinationError::Path), "{url}");
        }
    }

    #[test]
    fn numbers_go_behind_the_name_and_before_the_query() {
        let place = Destination::parse("rtmp://h/live/mark?key=secret").unwrap();
        assert_eq!(place.numbered(1).key(), "mark?key=secret");
        assert_eq!(place.numbered(12).key(), "mark-12?key=secret");
        assert_eq!(place.numbered(12).to_string(), "rtmp://h:1935/live/mark-12");
    }
}

use std::collections::BTreeSet;

use http::Method;

use super::{Answer, ROUTES, find};

/// The API's own specifications (Docker's, Apache-2.0): of the oldest engines and of the newest.
const SPECIFICATIONS: [&str; 2] = [include_str!("../../../api/v1.41.yaml"), include_str!("../../../api/v1.51.yaml")];

/// What is served beside, because clients use it: it is in Docker's source alone.
const UNSPECIFIED: [(&str, &str); 2] = [("POST", "/build/cancel"), ("POST", "/grpc")];

/// The beginning of the paths that are Wharf's own.
const OWN: &str = "/wharf/";

/// The operations of a specification: lines of two blanks and a path, followed by lines of four blanks and a method.
fn specified(specification: &str) -> BTreeSet<(String, String)> {
    let paths = specification.split("\npaths:\n").nth(1).unwrap();
    let (mut path, mut operations) = ("", BTreeSet::new());
    for line in paths.lines() {
        if let Some(found) = line.strip_prefix("  /").and_then(|_| line.trim().strip_suffix(':')) {
            path = found.trim_matches('"');
        }
        let method = line.strip_prefix("    ").and_then(|line| line.strip_suffix(':'));
        if let Some(method @ ("get" | "head" | "post" | "put" | "delete")) = method {
            operations.insert((method.to_uppercase(), unnamed(path)));
        }
    }
    operations
}

/// A path with its capture's name left out.
fn unnamed(path: &str) -> String {
    match (path.find('{'), path.find('}')) {
        (Some(open), Some(close)) => format!("{}{{}}{}", &path[..open], &path[close + 1..]),
        _ => path.to_owned(),
    }
}

#[test]
fn every_operation_of_the_api_has_exactly_one_row() {
    let [old, new] = SPECIFICATIONS.map(specified);
    assert_eq!((old.len(), new.len()), (106, 107), "the specifications are read as a whole");
    let unspecified = UNSPECIFIED.map(|(method, path)| (method.to_owned(), path.to_owned()));
    let specified: BTreeSet<_> = old.into_iter().chain(new).chain(unspecified).collect();
    let rows: Vec<_> = ROUTES
        .iter()
        .filter(|route| !route.path.starts_with(OWN))
        .map(|route| (route.method.to_string(), unnamed(route.path)))
        .collect();
    let unique: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(unique.len(), rows.len(), "no row stands twice");
    assert_eq!(specified.difference(&unique).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
    assert_eq!(unique.difference(&specified).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
}

#[test]
fn a_request_finds_the_most_exact_row() {
    let path = |method: &Method, path: &str| find(method, path).map(|(route, captured)| (route.path, captured.name));
    let get = Method::GET;
    assert_eq!(path(&get, "/containers/json"), Some(("/containers/json", String::new())));
    assert_eq!(path(&get, "/containers/node1/web/json"), Some(("/containers/{container}/json", "node1/web".into())));
    assert_eq!(path(&get, "/images/get"), Some(("/images/get", String::new())));
    assert_eq!(path(&get, "/images/a/get"), Some(("/images/{image}/get", "a".into())));
    assert_eq!(path(&get, "/networks/create"), Some(("/networks/{network}", "create".into())));
    assert_eq!(path(&Method::POST, "/networks/create"), Some(("/networks/create", String::new())));
    assert_eq!(path(&get, "/containers/a/attach/ws"), Some(("/containers/{container}/attach/ws", "a".into())));
    assert_eq!(path(&get, "/"), None);
    assert_eq!(path(&Method::PATCH, "/containers/json"), None);
}

#[test]
fn refusals_say_why() {
    for route in ROUTES {
        if let Answer::Refuse(_, why) = route.answer {
            assert!(why.len() > 40, "{}: {why}", route.path);
        }
    }
}

/// `docs/api.md` as the table has it.
fn documentation() -> String {
    let mut page = String::from(
        "# The Docker API over a fleet\n\nOne line per operation of the Docker Engine API, 1.41 to 1.51: who answers it. (Made of the \
         manager's own table: `UPDATE_DOCS=1 cargo test -p wharf-manager documentation` writes this page.)\n\n\
         | operation | who answers |\n|---|---|\n",
    );
    for route in ROUTES {
        let who = match route.answer {
            Answer::Local(_) => "the manager",
            Answer::Snapshot(_) => "the manager, of what it knows of the fleet",
            Answer::Owner(_) => "the engine that has it",
            Answer::AnyHolder(_) => "an engine that has the image",
            Answer::Every(_) => "all engines concerned, as one",
            Answer::Place(_) => "the engine of the node that is chosen",
            Answer::Refuse(..) => "refused (503): Wharf is not a swarm",
        };
        page.push_str(&format!("| `{} {}` | {who} |\n", route.method, route.path));
    }
    page
}

#[test]
fn the_documentation_shows_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, documentation()).unwrap();
    }
    let shown = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        shown == documentation(),
        "docs/api.md is out of date: UPDATE_DOCS=1 cargo test -p wharf-manager documentation"
    );
}

use std::io::Write;

use proptest::prelude::*;

use super::*;

fn names(discovery: &str) -> Result<Vec<String>, String> {
    match Discovery::parse(discovery) {
        Ok(Discovery::Nodes(endpoints)) => Ok(endpoints.iter().map(ToString::to_string).collect()),
        Ok(Discovery::File(_)) => Err("a file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn lists_and_ranges_name_engines() {
    assert_eq!(names("nodes://a:1,b:2"), Ok(vec!["tcp://a:1".into(), "tcp://b:2".into()]));
    assert_eq!(names("a:1, a:1"), Ok(vec!["tcp://a:1".into()]));
    assert_eq!(names("nodes://10.0.0.[9:11]:2375").unwrap().len(), 3);
    assert_eq!(names("nodes://10.0.[0:1].[1:2]:2375").unwrap().len(), 4);
    assert_eq!(names("192.168.1.2:[2:20]375").unwrap().len(), 19);
    assert_eq!(names("nodes://[::1]:2375"), Ok(vec!["tcp://[::1]:2375".into()]));
    assert_eq!(names("unix:///var/run/docker.sock"), Ok(vec!["unix:///var/run/docker.sock".into()]));
}

#[test]
fn a_bad_discovery_is_told_of() {
    let refused = |text: &str| names(text).unwrap_err();
    assert!(refused("consul://a:8500").contains("consul:// is not supported yet"));
    assert!(refused("nodes://").contains("no engine is named"));
    assert!(refused("nodes://10.0.0.[5:4]:1").contains("a range that is none"));
    assert!(refused("nodes://10.[0:255].[0:255].[0:9]:1").contains("more than 65536"));
    assert!(refused(&format!("nodes://{}", "[0:0]".repeat(6000))).contains("a range that is none"));
    assert!(refused("nodes://10.0.0.1").contains("no port"));
    assert!(refused("file://nodes").contains("must begin with a slash"));
    assert!(refused("file:///does/not/exist").contains("/does/not/exist"));
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn a_file_has_comments_and_its_errors_have_lines() {
    let good = file("# the fleet\n10.0.0.1:2375   # first\n\n10.0.0.[2:3]:2375\n");
    assert_eq!(read(good.path()).unwrap().len(), 3);
    let bad = file("10.0.0.1:2375\nnonsense\n");
    assert!(read(bad.path()).unwrap_err().to_string().contains("line 2"));
}

#[tokio::test(start_paused = true)]
async fn a_file_is_followed_and_a_bad_one_changes_nothing() {
    let file = file("a:1\n");
    let mut watch = Discovery::parse(&format!("file://{}", file.path().display())).unwrap().watch();
    assert!(matches!(watch.next().await, Change::Set(set) if set.len() == 1));
    std::fs::write(file.path(), "a:1\nb:2\n").unwrap();
    assert!(matches!(watch.next().await, Change::Set(set) if set.len() == 2));
    std::fs::write(file.path(), "a:1\n???\n").unwrap();
    assert!(matches!(watch.next().await, Change::Problem(Error::Line { line: 2, .. })));
    std::fs::remove_file(file.path()).unwrap();
    assert!(matches!(watch.next().await, Change::Problem(Error::File { .. })));
    std::fs::write(file.path(), "").unwrap();
    assert!(
        matches!(watch.next().await, Change::Set(set) if set.is_empty()),
        "a file emptied on purpose is an empty fleet"
    );
}

proptest! {
    #[test]
    fn no_text_whatever_is_a_panic(text in "[a-z0-9.:,/\\[\\]*-]{0,40}") {
        Discovery::parse(&format!("nodes://{text}")).ok();
    }
}

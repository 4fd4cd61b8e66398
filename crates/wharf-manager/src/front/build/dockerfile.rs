//! The images that a Dockerfile begins with.

use std::collections::{BTreeMap, BTreeSet};

/// The images named by `FROM` and `COPY --from`, without the stages of the file itself. `arguments` are those of the build;
/// an image whose name depends on anything else is left to the builder.
pub(super) fn images(dockerfile: &str, arguments: &BTreeMap<String, Option<String>>) -> Vec<String> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let (mut stages, mut images) = (BTreeSet::from(["scratch".to_owned()]), Vec::new());
    for line in dockerfile.lines() {
        let (mut words, mut stage) = (line.split_whitespace(), None);
        let instruction = words.next().unwrap_or("").to_ascii_uppercase();
        let image = match instruction.as_str() {
            "ARG" => {
                let argument = words.next().unwrap_or("");
                let (name, default) =
                    argument.split_once('=').map_or((argument, None), |(name, value)| (name, Some(value)));
                let default = default.map(|value| value.trim_matches(['"', '\'']).to_owned());
                if let Some(value) = arguments.get(name).cloned().flatten().or(default) {
                    values.insert(name.to_owned(), value);
                }
                continue;
            }
            "FROM" => {
                let mut words = words.filter(|word| !word.starts_with("--"));
                let image = words.next();
                let is_named = words.next().is_some_and(|word| word.eq_ignore_ascii_case("as"));
                stage = words.next().filter(|_| is_named);
                image.and_then(|image| substitute(image, &values))
            }
            "COPY" => words.find_map(|word| word.strip_prefix("--from=")).map(str::to_owned),
            _ => None,
        };
        let image = image.filter(|image| !stages.contains(image) && !image.bytes().all(|byte| byte.is_ascii_digit()));
        images.extend(image.filter(|image| !images.contains(image)));
        // Only what follows can mean the stage: `FROM busybox AS busybox` means the image.
        stages.extend(stage.map(str::to_owned));
    }
    images
}

/// A name with `$NAME` and `${NAME}` replaced; `None` if it has one that is not known, or a form that is not.
fn substitute(name: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let (mut done, mut rest) = (String::new(), name);
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        let (variable, left) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            }
        };
        done.push_str(values.get(variable)?);
        rest = left;
    }
    done.push_str(rest);
    (!done.is_empty()).then_some(done)
}

#[cfg(test)]
mod tests {
    use super::images;

    #[test]
    fn images_are_those_that_are_no_stages() {
        let dockerfile = "# syntax\nARG BASE=busybox:1\nARG OTHER\nfrom --platform=linux/amd64 ${BASE} AS build\nRUN true\n\
            FROM build\nFROM $OTHER/x AS $OTHER/x\nFROM scratch\nCOPY --from=build /a /b\nCOPY --from=0 /a /b\n\
            COPY --from=tools:2 /a /b\nFROM ${BASE:-x}\nFROM busybox:1";
        assert_eq!(images(dockerfile, &[].into()), ["busybox:1", "tools:2"]);
        let arguments = [("BASE".to_owned(), Some("alpine".to_owned())), ("OTHER".to_owned(), Some("team".to_owned()))];
        assert_eq!(images(dockerfile, &arguments.into()), ["alpine", "team/x", "tools:2", "busybox:1"]);
    }
}

//! The labels that the operator gives to nodes: kept in a file, because no engine knows them.
//!
//! They belong to an engine's address: its name and its id may be another's tomorrow (cloned hosts share both).

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};

use tokio::sync::Mutex;
use wharf_model::Endpoint;

/// The labels of one node.
pub(crate) type NodeLabels = Arc<BTreeMap<Box<str>, Box<str>>>;

/// The labels of all nodes that have some, or had some once.
pub(crate) type Labelled = BTreeMap<Endpoint, NodeLabels>;

/// The file that keeps them. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LabelFile {
    path: Arc<PathBuf>,
    kept: Arc<Mutex<Labelled>>,
}

impl LabelFile {
    /// Reads the file; one that is not there yet is empty.
    ///
    /// # Errors
    /// If it cannot be read, or is not what was written.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => "{}".to_owned(),
            Err(error) => return Err(error),
        };
        let broken =
            |message: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {message}", path.display()));
        let read: BTreeMap<String, NodeLabels> =
            serde_json::from_str::<BTreeMap<String, BTreeMap<Box<str>, Box<str>>>>(&text)
                .map_err(|error| broken(error.to_string()))?
                .into_iter()
                .map(|(endpoint, labels)| (endpoint, Arc::new(labels)))
                .collect();
        let kept = read.into_iter().map(|(endpoint, labels)| {
            let endpoint = endpoint.parse::<Endpoint>().map_err(|error| broken(error.to_string()))?;
            Ok((endpoint, labels))
        });
        let kept = kept.collect::<io::Result<_>>()?;
        Ok(Self { path: Arc::new(path), kept: Arc::new(Mutex::new(kept)) })
    }

    /// What it holds while nobody else has it yet.
    pub(crate) fn known(&self) -> Labelled {
        self.kept.try_lock().map(|kept| kept.clone()).unwrap_or_default()
    }

    /// Changes a node's labels, and gives those it has now. They are on the disk when this returns.
    ///
    /// # Errors
    /// If the file cannot be written: then nothing has changed.
    pub(crate) async fn change(
        &self,
        endpoint: &Endpoint,
        change: impl FnOnce(&mut BTreeMap<Box<str>, Box<str>>),
    ) -> io::Result<NodeLabels> {
        let mut kept = self.kept.lock().await;
        let mut labels = kept.get(endpoint).map(|labels| BTreeMap::clone(labels)).unwrap_or_default();
        change(&mut labels);
        let labels = Arc::new(labels);
        let mut changed = kept.clone();
        changed.insert(endpoint.clone(), Arc::clone(&labels));
        changed.retain(|_, labels| !labels.is_empty());
        let written: BTreeMap<String, &BTreeMap<_, _>> =
            changed.iter().map(|(endpoint, labels)| (endpoint.to_string(), &**labels)).collect();
        let text = serde_json::to_string_pretty(&written)?;
        // Written whole or not at all.
        let draft = self.path.with_extension("new");
        tokio::fs::write(&draft, text).await?;
        tokio::fs::rename(&draft, &*self.path).await?;
        *kept = changed;
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::LabelFile;

    #[tokio::test]
    async fn labels_outlive_the_manager() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels");
        let endpoint = "10.0.0.1:2375".parse().unwrap();
        let file = LabelFile::open(path.clone()).unwrap();
        file.change(&endpoint, |labels| drop(labels.insert("zone".into(), "a".into()))).await.unwrap();
        let again = LabelFile::open(path.clone()).unwrap();
        assert_eq!(again.known()[&endpoint]["zone"], "a".into());
        again.change(&endpoint, |labels| labels.clear()).await.unwrap();
        assert!(LabelFile::open(path.clone()).unwrap().known().is_empty());
        std::fs::write(&path, "{\"x\":1}").unwrap();
        assert!(LabelFile::open(path).is_err(), "what is broken is told of, not overwritten");
    }
}

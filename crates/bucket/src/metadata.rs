//! The user metadata and content type of an object, which make a bucket self-describing.

use object_store::{Attribute, AttributeValue, Attributes, UpdateVersion};
use obsync_core::{FileMeta, KnownContent};
use obsync_protocol::{ContentHash, Uid, VaultId, VaultPath};

/// The names of the user metadata. Services change them to lower case, and Azure allows no hyphens in them.
const SHA256: &str = "sha256";
const MTIME: &str = "mtime";
const CTIME: &str = "ctime";
const UID: &str = "uid";
const VAULT: &str = "vault";
const SIZE: &str = "size";

/// The user metadata that obsync gives an object. Other programs may keep it when they change the content, so
/// it is trusted only if its size is the object's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectMetadata {
    /// SHA-256 of the content.
    pub(super) hash: ContentHash,
    /// Milliseconds since the epoch.
    mtime: Option<i64>,
    /// Milliseconds since the epoch.
    ctime: Option<i64>,
    /// The version of the file; later versions of one vault have higher uids.
    pub(super) uid: Uid,
    /// The vault of the file, if the writer knew it.
    pub(super) vault: Option<VaultId>,
    /// Bytes of the content. Objects of the first releases lack it.
    size: Option<u64>,
}

impl ObjectMetadata {
    pub(super) fn of(meta: &FileMeta, vault: Option<&VaultId>) -> Self {
        ObjectMetadata {
            hash: meta.hash,
            mtime: Some(meta.mtime),
            ctime: Some(meta.ctime),
            uid: meta.uid,
            vault: vault.cloned(),
            size: Some(meta.size),
        }
    }

    /// The metadata in an object's attributes; `None` if there is none.
    fn read(attributes: &Attributes) -> Option<Self> {
        let text = |name: &'static str| attributes.get(&Attribute::Metadata(name.into())).map(AsRef::as_ref);
        let time = |name| text(name).and_then(|time: &str| time.parse().ok());
        let hash = text(SHA256)?.parse().ok()?;
        let uid = Uid(text(UID)?.parse().ok()?);
        let vault = text(VAULT).map(str::parse).transpose().ok()?;
        let size = text(SIZE).map(str::parse).transpose().ok()?;
        Some(ObjectMetadata { hash, mtime: time(MTIME), ctime: time(CTIME), uid, vault, size })
    }
}

/// The attributes of the object for a file of this vault.
pub(super) fn attributes(
    path: &VaultPath,
    meta: &FileMeta,
    vault: Option<&VaultId>,
    storage_class: Option<&str>,
) -> Attributes {
    let metadata = |name: &'static str, value: String| (Attribute::Metadata(name.into()), value.into());
    let class = storage_class.map(|class| (Attribute::StorageClass, AttributeValue::from(class.to_owned())));
    [
        (Attribute::ContentType, content_type(path).into()),
        metadata(SHA256, meta.hash.to_string()),
        metadata(MTIME, meta.mtime.to_string()),
        metadata(CTIME, meta.ctime.to_string()),
        metadata(UID, meta.uid.to_string()),
        metadata(SIZE, meta.size.to_string()),
    ]
    .into_iter()
    .chain(vault.map(|vault| metadata(VAULT, vault.to_string())))
    .chain(class)
    .collect()
}

/// The content type by a file's extension.
fn content_type(path: &VaultPath) -> &'static str {
    match path.extension().as_str() {
        // Obsidian's own: JSON Canvas (jsoncanvas.org) and bases.
        "canvas" => "application/json",
        "base" => "application/yaml",
        extension => mime_guess::from_ext(extension).first_raw().unwrap_or("application/octet-stream"),
    }
}

/// The known facts of an object.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The version of the object that they describe.
    pub(super) version: UpdateVersion,
    /// Bytes of its content.
    pub(super) size: u64,
    /// The metadata that obsync wrote.
    pub(super) metadata: Option<ObjectMetadata>,
    /// SHA-256 of its content, if it was read because of missing metadata.
    read: Option<ContentHash>,
}

impl Facts {
    /// The facts of an object with these attributes.
    pub(super) fn new(version: UpdateVersion, size: u64, attributes: &Attributes) -> Self {
        // Some programs keep an object's metadata when they change its content.
        let metadata =
            ObjectMetadata::read(attributes).filter(|metadata| metadata.size.is_none_or(|said| said == size));
        Facts { version, size, metadata, read: None }
    }

    /// The facts of an object that was just written.
    pub(super) fn of_written(version: UpdateVersion, meta: &FileMeta, vault: Option<&VaultId>) -> Self {
        Facts { version, size: meta.size, metadata: Some(ObjectMetadata::of(meta, vault)), read: None }
    }

    /// The facts of an object that obsync wrote, from its record, which does not have the object's metadata.
    pub(super) fn of_recorded(e_tag: String, content: KnownContent) -> Self {
        let version = UpdateVersion { e_tag: Some(e_tag), version: None };
        Facts { version, size: content.size, metadata: None, read: Some(content.hash) }
    }

    /// The same with the hash found by reading it.
    pub(super) fn with_content(self, hash: ContentHash) -> Self {
        Facts { read: Some(hash), ..self }
    }

    /// SHA-256 of the content, if known. An object whose metadata lacks the size may have been changed since.
    pub(super) fn content(&self) -> Option<ContentHash> {
        let said = self.metadata.as_ref().filter(|metadata| metadata.size.is_some());
        self.read.or(said.map(|metadata| metadata.hash))
    }

    /// True if it has this content; `None` if only reading can tell. The metadata's hash is trusted if the
    /// content known by that hash has the object's size.
    pub(super) fn is_content(&self, known: KnownContent) -> Option<bool> {
        if self.size != known.size {
            return Some(false);
        }
        let hash = self.read.or(self.metadata.as_ref().map(|metadata| metadata.hash));
        hash.map(|hash| hash == known.hash)
    }

    /// The metadata, if it names the size, or if the content was read and has the metadata's hash.
    pub(super) fn proven_metadata(&self) -> Option<&ObjectMetadata> {
        self.metadata.as_ref().filter(|metadata| self.content() == Some(metadata.hash))
    }

    /// True if it is exactly the object that obsync would write for this file of this vault.
    pub(super) fn is_exactly(&self, meta: &FileMeta, vault: Option<&VaultId>) -> bool {
        let expected = ObjectMetadata::of(meta, vault);
        let said = self.metadata.clone().map(|metadata| ObjectMetadata { size: expected.size, ..metadata });
        self.size == meta.size && said == Some(expected)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use obsync_conformance::at;

    fn meta(content: &[u8], mtime: i64, ctime: i64, uid: u64) -> FileMeta {
        FileMeta { hash: ContentHash::of(content), size: content.len() as u64, mtime, ctime, uid: Uid(uid) }
    }

    #[test]
    fn the_content_type_comes_from_the_extension() {
        for (path, expected) in [
            ("Note.md", "text/markdown"),
            ("Photo.JPG", "image/jpeg"),
            ("Board.canvas", "application/json"),
            ("Books.base", "application/yaml"),
            ("a.pdf", "application/pdf"),
            ("no extension", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
        ] {
            assert_eq!(content_type(&at(path)), expected, "{path}");
        }
    }

    #[test]
    fn an_object_without_its_hash_or_uid_was_not_written_by_obsync() {
        let whole = attributes(&at("a.md"), &meta(b"text", 1, 2, 3), None, None);
        assert!(ObjectMetadata::read(&whole).is_some());
        for missing in [SHA256, UID] {
            let rest: Attributes = whole
                .iter()
                .filter(|(name, _)| **name != Attribute::Metadata(missing.into()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            assert_eq!(ObjectMetadata::read(&rest), None);
        }
        let other: Attributes = [(Attribute::Metadata(SHA256.into()), "abc")].into_iter().collect();
        assert_eq!(ObjectMetadata::read(&other), None);
    }

    proptest! {
        #[test]
        fn a_stamp_is_read_as_it_was_written(
            content: Vec<u8>, mtime: i64, ctime: i64, uid: u64, vault in proptest::option::of("[A-Za-z0-9_-]{1,64}"),
        ) {
            let meta = meta(&content, mtime, ctime, uid);
            let vault: Option<VaultId> = vault.map(|vault| vault.parse().unwrap());
            let attributes = attributes(&at("a.md"), &meta, vault.as_ref(), Some("STANDARD_IA"));
            prop_assert_eq!(ObjectMetadata::read(&attributes), Some(ObjectMetadata::of(&meta, vault.as_ref())));
            let version = UpdateVersion { e_tag: None, version: None };
            prop_assert!(Facts::new(version, meta.size, &attributes).is_exactly(&meta, vault.as_ref()));
        }
    }
}

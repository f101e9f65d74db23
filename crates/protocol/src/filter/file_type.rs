//! The kinds of attachments, recognised by a file's extension.

use super::{Choice, Selection};

/// A kind of attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// Pictures.
    Image,
    /// Sound.
    Audio,
    /// Moving pictures.
    Video,
    /// PDF documents.
    Pdf,
    /// Everything else.
    Unsupported,
}

/// The kinds of attachments that sync.
pub type FileTypes = Selection<FileType>;

impl Choice for FileType {
    const ALL: &'static [Self] = &[Self::Image, Self::Audio, Self::Video, Self::Pdf, Self::Unsupported];
    const KIND: &'static str = "file type";

    fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Pdf => "pdf",
            Self::Unsupported => "unsupported",
        }
    }
}

impl FileType {
    /// The kinds that a file with this extension (lower-case, without the dot) may be. Empty for the formats
    /// that a vault is made of, which are no attachments.
    pub(super) fn of_extension(extension: &str) -> &'static [Self] {
        match extension {
            "md" | "canvas" | "base" => &[],
            "bmp" | "png" | "jpg" | "jpeg" | "gif" | "svg" | "webp" | "avif" => &[Self::Image],
            "mp3" | "wav" | "m4a" | "3gp" | "flac" | "ogg" | "oga" | "opus" => &[Self::Audio],
            "webm" => &[Self::Audio, Self::Video],
            "mp4" | "ogv" | "mov" | "mkv" => &[Self::Video],
            "pdf" => &[Self::Pdf],
            _ => &[Self::Unsupported],
        }
    }
}

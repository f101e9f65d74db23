//! Destinations of a vault's files: the traits that each implements, each about one subject.
//!
//! - [`Describe`]: identity, abilities and owner. [`Naming`]: rules for names.
//! - [`Inspect`]: queries about the contents. [`Scan`]: differences from the records, and files to send.
//! - [`Receive`] and [`Destination`]: changes.
//!
//! No implementation may trust the given paths beyond the guarantees of
//! [`VaultPath`](obsync_protocol::VaultPath): a destination must stay inside its own root whatever symbolic
//! links are there.

mod change;
mod changing;
mod describe;
mod error;
mod ext;
mod inspect;
mod naming;
mod publication;
mod receive;
mod scan;

pub use self::change::{Applied, Change, ChangeBatch, ChangeOutcome, Rejected};
pub use self::changing::Destination;
pub use self::describe::{BatchLimit, Describe, PlaceTraits};
pub use self::error::DestinationError;
pub use self::ext::DestinationExt;
pub use self::inspect::{Checked, CheckedBy, Found, Inspect, Inventory, StoredFile, Supposed, Wanted};
pub use self::naming::{FoldingProbe, Naming};
pub use self::publication::{
    Expect, KeptBeside, Publication, PublicationContent, PublishFailure, Published, Removable, Removal,
};
pub use self::receive::{FileWriter, Receive, Staged};
pub use self::scan::Scan;

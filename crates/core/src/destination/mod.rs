//! Destinations of a vault's files: the traits that each implements, each about one thing.
//!
//! - [`Describe`]: what it is and can do, and whose it is. [`Naming`]: what names mean there.
//! - [`Inspect`]: questions about what is there. [`Scan`]: what differs from the records, and files to be sent.
//! - [`Receive`] and [`Destination`]: how it is changed.
//!
//! Nothing here trusts the paths that it is given beyond what [`VaultPath`](obsync_protocol::VaultPath) guarantees: a destination must stay inside its
//! own root whatever symbolic links lie there.

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

//! Creates and sets up the table of states.

use std::fmt;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, SseSpecification,
    TableDescription, TableStatus as Status, Tag, TimeToLiveSpecification, TimeToLiveStatus,
};
use obsync_core::{ProblemCode, StateError};
use obsync_dynamodb::DynamoTable;
use tokio::time::Instant;

use super::bucket::TAG;

/// Time limit for a table to become ready. It usually takes seconds.
pub(super) const SETTLING: Duration = Duration::from_secs(180);
/// Interval of checks.
pub(super) const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct TableInstaller {
    pub(super) table: DynamoTable,
}

/// The status of a table's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TableStatus {
    /// No table.
    Missing,
    /// A table being created or changed; it is ready in a moment.
    Settling,
    /// A usable table.
    Ready {
        /// Items are removed after their `ttl`.
        expires_items: bool,
        /// It can be restored as of any second of the last weeks; also true if the service does not offer
        /// that.
        restorable: bool,
    },
    /// An unusable table.
    Unusable {
        /// The reason.
        reason: String,
    },
}

/// A step of setting up a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableStep {
    /// Create the table.
    Create,
    /// Remove items after their `ttl`.
    ExpireItems,
    /// Make it restorable as of any second of the last weeks.
    MakeRestorable,
}

impl fmt::Display for TableStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableStep::Create => {
                "make the table, with the key `vault_id`, billed by request, encrypted with a key of KMS"
            }
            TableStep::ExpireItems => "have items removed when their `ttl` is over",
            TableStep::MakeRestorable => "turn point-in-time recovery on",
        })
    }
}

impl TableStatus {
    /// The missing steps, in order; none for an unusable table.
    pub(crate) fn steps(&self) -> Vec<TableStep> {
        let (create, expires_items, restorable) = match self {
            TableStatus::Missing => (true, false, false),
            TableStatus::Settling => (false, false, false),
            TableStatus::Ready { expires_items, restorable } => (false, *expires_items, *restorable),
            TableStatus::Unusable { .. } => (false, true, true),
        };
        [
            (create, TableStep::Create),
            (!expires_items, TableStep::ExpireItems),
            (!restorable, TableStep::MakeRestorable),
        ]
        .into_iter()
        .filter_map(|(needed, step)| needed.then_some(step))
        .collect()
    }
}

impl TableInstaller {
    /// An installer of this table. Sends no request yet.
    pub(crate) fn new(table: DynamoTable) -> Self {
        TableInstaller { table }
    }

    /// Looks at the table's name. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if DynamoDB does not answer or denies it.
    pub(crate) async fn status(&self) -> Result<TableStatus, StateError> {
        let name = self.table.name().as_str();
        let request = |client: &Client| client.describe_table().table_name(name).send();
        let answer = self.table.send_unless("ResourceNotFoundException", request).await?;
        let table = answer.and_then(|answer| answer.table);
        match table.as_ref().map_or(TableStatus::Missing, status_of) {
            TableStatus::Ready { .. } => Ok(TableStatus::Ready {
                expires_items: self.expires_items().await?,
                restorable: self.is_restorable().await?,
            }),
            other => Ok(other),
        }
    }

    /// Performs the missing steps, and waits until the table is ready. Returns the steps; none if all was
    /// well.
    ///
    /// # Errors
    ///
    /// [`StateError::Unavailable`] if DynamoDB does not answer or denies it, or if the table has another key.
    pub(crate) async fn set_up(&self) -> Result<Vec<TableStep>, StateError> {
        let mut done = Vec::new();
        if self.status().await? == TableStatus::Missing {
            self.create().await?;
            done.push(TableStep::Create);
        }
        for step in self.wait_until_ready().await?.steps() {
            match step {
                TableStep::Create => self.create().await?,
                TableStep::ExpireItems => self.expire_items().await?,
                TableStep::MakeRestorable => self.make_restorable().await?,
            }
            done.push(step);
        }
        Ok(done)
    }

    async fn wait_until_ready(&self) -> Result<TableStatus, StateError> {
        let deadline = Instant::now() + SETTLING;
        loop {
            match self.status().await? {
                ready @ TableStatus::Ready { .. } => return Ok(ready),
                TableStatus::Unusable { reason } => return Err(self.unavailable(reason)),
                TableStatus::Settling | TableStatus::Missing if Instant::now() > deadline => {
                    let waited = SETTLING.as_secs();
                    return Err(
                        self.unavailable(format!("it is not ready after {waited} s; look again later"))
                    );
                }
                TableStatus::Settling | TableStatus::Missing => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// The error for an unusable table.
    pub(super) fn unavailable(&self, reason: impl Into<String>) -> StateError {
        StateError::Unavailable {
            database: self.table.name().to_string(),
            reason: reason.into(),
            code: ProblemCode::State,
        }
    }

    async fn create(&self) -> Result<(), StateError> {
        let failed = |error: aws_sdk_dynamodb::error::BuildError| self.unavailable(error.to_string());
        let key =
            KeySchemaElement::builder().attribute_name(DynamoTable::KEY_ATTRIBUTE).key_type(KeyType::Hash);
        let key = key.build().map_err(failed)?;
        let attribute = AttributeDefinition::builder().attribute_name(DynamoTable::KEY_ATTRIBUTE);
        let attribute = attribute.attribute_type(ScalarAttributeType::S).build().map_err(failed)?;
        let (key_of_tag, value) = TAG;
        let tag = Tag::builder().key(key_of_tag).value(value).build().map_err(failed)?;
        let request = |client: &Client| {
            client
                .create_table()
                .table_name(self.table.name().as_str())
                .key_schema(key.clone())
                .attribute_definitions(attribute.clone())
                .billing_mode(BillingMode::PayPerRequest)
                .sse_specification(SseSpecification::builder().enabled(true).build())
                .tags(tag.clone())
                .send()
        };
        // Somebody else creates it at this very moment.
        self.table.send_unless("ResourceInUseException", request).await.map(drop)
    }

    async fn expires_items(&self) -> Result<bool, StateError> {
        let name = self.table.name().as_str();
        let request = |client: &Client| client.describe_time_to_live().table_name(name).send();
        let answer = self.table.send(request).await?;
        Ok(answer.time_to_live_description.is_some_and(|found| {
            let is_on = matches!(
                found.time_to_live_status,
                Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
            );
            is_on && found.attribute_name.as_deref() == Some(DynamoTable::EXPIRY_ATTRIBUTE)
        }))
    }

    async fn expire_items(&self) -> Result<(), StateError> {
        let specification = TimeToLiveSpecification::builder()
            .attribute_name(DynamoTable::EXPIRY_ATTRIBUTE)
            .enabled(true)
            .build();
        let specification = specification.map_err(|error| self.unavailable(error.to_string()))?;
        let request = |client: &Client| {
            client
                .update_time_to_live()
                .table_name(self.table.name().as_str())
                .time_to_live_specification(specification.clone())
                .send()
        };
        self.table.send(request).await?;
        Ok(())
    }
}

/// The status by the table's description.
fn status_of(table: &TableDescription) -> TableStatus {
    let has_our_key = match table.key_schema() {
        [key] => key.attribute_name() == DynamoTable::KEY_ATTRIBUTE && key.key_type() == &KeyType::Hash,
        _ => false,
    };
    let is_text = table.attribute_definitions().iter().any(|attribute| {
        attribute.attribute_name() == DynamoTable::KEY_ATTRIBUTE
            && attribute.attribute_type() == &ScalarAttributeType::S
    });
    if !has_our_key || !is_text {
        let reason = "its key is not a text named `vault_id` alone; choose another name for the table";
        return TableStatus::Unusable { reason: reason.to_owned() };
    }
    match table.table_status() {
        Some(Status::Active) => TableStatus::Ready { expires_items: false, restorable: false },
        Some(Status::Creating | Status::Updating) => TableStatus::Settling,
        Some(other) => {
            TableStatus::Unusable { reason: format!("it is {}", other.as_str().to_ascii_lowercase()) }
        }
        None => TableStatus::Settling,
    }
}

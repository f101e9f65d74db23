//! Credentials for signing: those that the AWS SDK's standard chain finds (environment, profile, SSO, web
//! identity, container, instance), passed to the object store library.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use obsync_protocol::with_reasons;
use tokio::sync::Mutex;

use crate::error::NoCredentials;

/// Credentials are renewed this long before they expire: longer than a request is retried.
const MARGIN: Duration = Duration::from_secs(300);
/// Timeout of finding credentials.
const LIMIT: Duration = Duration::from_secs(60);

/// Credentials, kept until shortly before they expire.
#[derive(Debug)]
pub(super) struct Chain {
    provider: Option<SharedCredentialsProvider>,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    credential: Arc<AwsCredential>,
    renew_at: Option<SystemTime>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("renew_at", &self.renew_at).finish_non_exhaustive()
    }
}

impl Chain {
    pub(super) fn new(provider: Option<SharedCredentialsProvider>) -> Self {
        Chain { provider, kept: Mutex::default() }
    }

    async fn renew(&self) -> Result<Kept, NoCredentials> {
        let provider =
            self.provider.as_ref().ok_or_else(|| none("no source of AWS credentials is set up"))?;
        let found = tokio::time::timeout(LIMIT, provider.provide_credentials())
            .await
            .map_err(|_| none("finding AWS credentials takes too long"))?
            .map_err(|error| none(&with_reasons(&error)))?;
        let credential = AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        };
        let renew_at = found.expiry().map(|expiry| expiry.checked_sub(MARGIN).unwrap_or(expiry));
        Ok(Kept { credential: Arc::new(credential), renew_at })
    }
}

#[async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        // Locked during renewal: concurrent callers need the same credentials.
        let mut kept = self.kept.lock().await;
        if let Some(kept) = &*kept
            && kept.renew_at.is_none_or(|at| SystemTime::now() < at)
        {
            return Ok(kept.credential.clone());
        }
        let renewed = self
            .renew()
            .await
            .map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?;
        Ok(kept.insert(renewed).credential.clone())
    }
}

fn none(reason: &str) -> NoCredentials {
    NoCredentials(reason.to_owned())
}

//! Secrets with the Secrets Manager client.

use obsync_testcloud::Service;
use obsync_testkit::Chance;

use crate::client::{Outcome, cloud, code, only, secrets_manager};

#[tokio::test]
async fn a_secret_is_made_read_by_name_and_arn_and_changed() -> Outcome {
    let cloud = cloud().await?;
    let secrets = secrets_manager(&cloud);
    let made = secrets.create_secret().name("obsync/one").secret_string("{}").send().await?;
    let arn = made.arn().ok_or("no ARN")?;
    assert!(arn.starts_with("arn:aws:secretsmanager:us-east-1:123456789012:secret:obsync/one-"), "{arn}");
    for id in ["obsync/one", arn] {
        let got = secrets.get_secret_value().secret_id(id).send().await?;
        assert_eq!((got.secret_string(), got.name()), (Some("{}"), Some("obsync/one")));
    }
    secrets.put_secret_value().secret_id(arn).secret_string("{\"a\":1}").send().await?;
    let got = secrets.get_secret_value().secret_id("obsync/one").send().await?;
    assert_eq!(got.secret_string(), Some("{\"a\":1}"));
    assert_eq!(got.arn(), Some(arn));
    let again = secrets.create_secret().name("obsync/one").secret_string("{}").send().await;
    assert_eq!(code(again), "ResourceExistsException");
    cloud.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_missing_secret_and_a_forbidden_one_are_told_apart() -> Outcome {
    let cloud = cloud().await?;
    let arn = cloud.secrets().put("there", "text");
    let get = |id: &str| secrets_manager(&cloud).get_secret_value().secret_id(id).send();
    assert_eq!(code(get("missing").await), "ResourceNotFoundException");
    cloud.faults().update(|faults| faults.secrets_manager.forbidden = Chance::next(1));
    assert_eq!(code(get(&arn).await), "AccessDeniedException");
    only(&cloud, |faults| faults.secrets_manager.throttled = Chance::next(1));
    assert_eq!(code(get(&arn).await), "ThrottlingException");
    assert_eq!(get(&arn).await?.secret_string(), Some("text"));
    assert_eq!(cloud.counts().of(Service::SecretsManager, "GetSecretValue"), 4);
    Ok(())
}

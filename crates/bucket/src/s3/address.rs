//! The address of a bucket: its name in the path, or in the host.
//!
//! `AWS_S3_ADDRESSING_STYLE` (`path`, `virtual` or `auto`; obsync's own variable) decides, or
//! `addressing_style` in the `s3` section of the AWS profile, or an endpoint that names the bucket already.
//! Otherwise: Amazon's own buckets by host (unless the name has a dot: no certificate covers it then), other
//! services by path, except those that accept only hosts.

use std::str::FromStr;

use url::{Host, Url};

/// Services that refuse the path style (Alibaba Cloud OSS: `SecondLevelDomainForbidden`; Tencent COS).
const HOSTS_ONLY: &[&str] = &["aliyuncs.com", "myqcloud.com"];
/// Amazon's own domains.
const AMAZON: &[&str] = &["amazonaws.com", "amazonaws.com.cn"];
/// Cloudflare's.
const R2: &str = "r2.cloudflarestorage.com";

/// The addressing style of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// `https://service/bucket/key`.
    Path,
    /// `https://bucket.service/key`.
    Virtual,
    /// By the service.
    #[default]
    Auto,
}

impl FromStr for Style {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "path" => Ok(Style::Path),
            "virtual" => Ok(Style::Virtual),
            "auto" | "" => Ok(Style::Auto),
            _ => Err(format!("the addressing style {text:?} is none of path, virtual and auto")),
        }
    }
}

/// The vendor, as far as that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    /// Amazon, whose documentation promises all conditions.
    Amazon,
    /// Cloudflare R2, which has its own headers for the conditions of copies.
    Cloudflare,
    Other,
}

/// The address of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// The URL of the bucket, without a slash at the end: the caller adds it with the key.
    pub(crate) url: String,
    /// The bucket is named in the path, not in the host.
    pub(crate) by_path: bool,
    pub(crate) maker: Maker,
}

impl Address {
    /// The address of a bucket at this endpoint, or at Amazon's in this region.
    ///
    /// # Errors
    ///
    /// A sentence about an unusable endpoint.
    pub(crate) fn of(
        bucket: &str,
        region: &str,
        endpoint: Option<&str>,
        style: Style,
    ) -> Result<Self, String> {
        let Some(endpoint) = endpoint else {
            let domain = if region.starts_with("cn-") { AMAZON[1] } else { AMAZON[0] };
            let by_path = style == Style::Path || style == Style::Auto && bucket.contains('.');
            let url = match by_path {
                true => format!("https://s3.{region}.{domain}/{bucket}"),
                false => format!("https://{bucket}.s3.{region}.{domain}"),
            };
            return Ok(Address { url, by_path, maker: Maker::Amazon });
        };
        let unfit = || format!("the endpoint {endpoint:?} cannot be used; set it to https:// and a host");
        let mut url = Url::parse(endpoint).map_err(|_| unfit())?;
        let host = url.host().ok_or_else(unfit)?.to_owned();
        let maker = maker(&host);
        let names_bucket = names_bucket(&host, bucket, style);
        let is_in_path = style != Style::Virtual && last_segment(&url) == Some(bucket);
        let by_host = names_bucket
            || !is_in_path && (style == Style::Virtual || style == Style::Auto && is_hosts_only(&host));
        if by_host && !names_bucket {
            url.set_host(Some(&format!("{bucket}.{host}"))).map_err(|_| unfit())?;
        }
        let url = url.as_str().trim_end_matches('/').to_owned();
        let url = if by_host || is_in_path { url } else { format!("{url}/{bucket}") };
        Ok(Address { url, by_path: !by_host, maker })
    }
}

/// True if the host begins with the bucket's name. A bucket may have the name of its service's host
/// (`minio.example.com`), so the rest must look like a service, unless the virtual style was requested.
fn names_bucket(host: &Host<String>, bucket: &str, style: Style) -> bool {
    let Host::Domain(host) = host else { return false };
    let rest = host.strip_prefix(bucket).and_then(|rest| rest.strip_prefix('.'));
    match (style, rest) {
        (Style::Path, _) | (_, None) => false,
        (Style::Virtual, Some(_)) => true,
        (Style::Auto, Some(rest)) => rest == "localhost" || rest.split('.').count() >= 3,
    }
}

fn last_segment(url: &Url) -> Option<&str> {
    url.path_segments()?.rfind(|segment| !segment.is_empty())
}

fn is_below(host: &Host<String>, domain: &str) -> bool {
    match host {
        Host::Domain(host) => {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }
        _ => false,
    }
}

fn is_hosts_only(host: &Host<String>) -> bool {
    HOSTS_ONLY.iter().any(|domain| is_below(host, domain))
}

fn maker(host: &Host<String>) -> Maker {
    match host {
        host if AMAZON.iter().any(|domain| is_below(host, domain)) => Maker::Amazon,
        host if is_below(host, R2) => Maker::Cloudflare,
        _ => Maker::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(bucket: &str, endpoint: Option<&str>, style: Style) -> (String, bool) {
        let address = Address::of(bucket, "eu-west-1", endpoint, style).unwrap();
        (address.url, address.by_path)
    }

    #[test]
    fn buckets_of_amazon_are_named_by_host_unless_there_is_a_dot_in_the_name() {
        let by_host = ("https://notes.s3.eu-west-1.amazonaws.com".to_owned(), false);
        assert_eq!(url("notes", None, Style::Auto), by_host);
        let by_path = ("https://s3.eu-west-1.amazonaws.com/my.notes".to_owned(), true);
        assert_eq!(url("my.notes", None, Style::Auto), by_path);
        assert_eq!(url("notes", None, Style::Path).0, "https://s3.eu-west-1.amazonaws.com/notes");
        let china = Address::of("notes", "cn-north-1", None, Style::Auto).unwrap();
        assert_eq!(china.url, "https://notes.s3.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn other_services_are_asked_by_path_unless_the_style_or_the_endpoint_says_otherwise() {
        for (endpoint, style, expected) in [
            ("http://127.0.0.1:9000", Style::Auto, "http://127.0.0.1:9000/notes"),
            ("http://minio.lan:9000/", Style::Auto, "http://minio.lan:9000/notes"),
            ("http://minio.lan:9000/s3", Style::Path, "http://minio.lan:9000/s3/notes"),
            ("https://objects.example.com", Style::Virtual, "https://notes.objects.example.com"),
            ("https://notes.objects.example.com", Style::Virtual, "https://notes.objects.example.com"),
            ("https://notes.s3.example.com", Style::Auto, "https://notes.s3.example.com"),
            ("https://notes.s3.example.com", Style::Path, "https://notes.s3.example.com/notes"),
            ("http://notes.localhost:9000", Style::Auto, "http://notes.localhost:9000"),
            (
                "https://abc.r2.cloudflarestorage.com/notes",
                Style::Auto,
                "https://abc.r2.cloudflarestorage.com/notes",
            ),
            (
                "https://oss-cn-hangzhou.aliyuncs.com",
                Style::Auto,
                "https://notes.oss-cn-hangzhou.aliyuncs.com",
            ),
            (
                "https://notes.oss-cn-hangzhou.aliyuncs.com",
                Style::Auto,
                "https://notes.oss-cn-hangzhou.aliyuncs.com",
            ),
        ] {
            assert_eq!(url("notes", Some(endpoint), style).0, expected, "{endpoint} {style:?}");
        }
        assert_eq!(
            url("minio", Some("https://minio.example.com"), Style::Auto).0,
            "https://minio.example.com/minio"
        );
    }

    #[test]
    fn an_endpoint_that_is_none_is_told() {
        for endpoint in ["", "notes", "mailto:a@b", "127.0.0.1:9000"] {
            let error = Address::of("notes", "x", Some(endpoint), Style::Auto).unwrap_err();
            assert!(error.contains("cannot be used"), "{error}");
        }
        assert!(
            Address::of("notes", "x", Some("http://127.0.0.1:1"), Style::Virtual).is_err(),
            "an address has no hosts below it"
        );
        assert!("vhost".parse::<Style>().is_err());
    }

    #[test]
    fn the_maker_is_known_by_the_host() {
        let maker = |endpoint| Address::of("b", "x", endpoint, Style::Auto).unwrap().maker;
        assert_eq!(maker(None), Maker::Amazon);
        assert_eq!(maker(Some("https://s3.us-east-1.amazonaws.com")), Maker::Amazon);
        assert_eq!(maker(Some("https://abc.eu.r2.cloudflarestorage.com")), Maker::Cloudflare);
        assert_eq!(maker(Some("https://notamazonaws.com")), Maker::Other);
    }
}

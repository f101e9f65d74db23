//! Request bodies: read whole, and compared with their checksums.

use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::StreamExt;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Result, TrailingHeaders, s3_error};

use super::store::Content;

/// The checksums of the body in the request's headers.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) md5: Option<String>,
    pub(super) length: Option<i64>,
    pub(super) checksum: Checksum,
}

/// Reads the body and compares it with the request's checksums, in headers and trailers.
pub(super) async fn receive(
    body: Option<StreamingBlob>,
    mut claims: Claims,
    trailers: Option<TrailingHeaders>,
) -> S3Result<(Content, Checksum)> {
    let mut content = Content::default();
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk: Bytes = chunk.map_err(|_| s3_error!(IncompleteBody))?;
            content.push(chunk);
        }
    }
    if claims.length.is_some_and(|length| u64::try_from(length) != Ok(content.size)) {
        return Err(s3_error!(IncompleteBody));
    }
    if let Some(trailers) = trailers {
        take_trailers(&mut claims.checksum, &trailers);
    }
    if claims.md5.is_some_and(|md5| md5 != BASE64.encode(&content.md5())) {
        return Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."));
    }
    let checksum = compute(&content, &claims.checksum);
    if checksum != claims.checksum {
        return Err(s3_error!(
            BadDigest,
            "The checksum you specified did not match the calculated checksum."
        ));
    }
    Ok((content, checksum))
}

fn take_trailers(checksum: &mut Checksum, trailers: &TrailingHeaders) {
    let taken = trailers.take().unwrap_or_default();
    let of = |name: &str| taken.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let fields = [
        (&mut checksum.checksum_crc32, "x-amz-checksum-crc32"),
        (&mut checksum.checksum_crc32c, "x-amz-checksum-crc32c"),
        (&mut checksum.checksum_crc64nvme, "x-amz-checksum-crc64nvme"),
        (&mut checksum.checksum_sha1, "x-amz-checksum-sha1"),
        (&mut checksum.checksum_sha256, "x-amz-checksum-sha256"),
    ];
    for (field, name) in fields {
        if let Some(value) = of(name) {
            *field = Some(value);
        }
    }
}

/// The checksums of the content, of the kinds in the request.
fn compute(content: &Content, claimed: &Checksum) -> Checksum {
    let mut hasher = ChecksumHasher {
        crc32: claimed.checksum_crc32.as_ref().map(|_| Crc32::default()),
        crc32c: claimed.checksum_crc32c.as_ref().map(|_| Crc32c::default()),
        crc64nvme: claimed.checksum_crc64nvme.as_ref().map(|_| Crc64Nvme::default()),
        sha1: claimed.checksum_sha1.as_ref().map(|_| Sha1::default()),
        sha256: claimed.checksum_sha256.as_ref().map(|_| Sha256::default()),
    };
    content.chunks.iter().for_each(|chunk| hasher.update(chunk));
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_checksums_that_were_claimed_are_computed() {
        let content = Content::from(Bytes::from_static(b"hello"));
        let claimed = Checksum { checksum_crc32: Some("NhCmhg==".to_owned()), ..Checksum::default() };
        assert_eq!(compute(&content, &claimed), claimed);
    }

    #[test]
    fn a_slice_of_a_content_in_pieces_is_exact() {
        let mut content = Content::default();
        ["abc", "", "defg", "h"].into_iter().for_each(|chunk| content.push(Bytes::from(chunk)));
        assert_eq!(content.to_bytes(), "abcdefgh");
        for from in 0..=8 {
            for to in from..=8 {
                let slice = content.slice(from as u64..to as u64);
                assert_eq!(slice.to_bytes(), "abcdefgh"[from..to]);
                assert_eq!(slice.size, (to - from) as u64);
            }
        }
    }
}

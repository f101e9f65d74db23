//! AES-SIV in the form that the official client uses for names: RFC 5297, but with a counter of 16 bits.
//!
//! The client encrypts with WebCrypto's AES-CTR with `length: 16`: only the last 16 bits of the counter block
//! count, and they wrap without a carry (docs/PROTOCOL.md section 1). A standard AES-SIV gives another result
//! whenever they do, which is about one name in 13,000; hence this module instead of a crate.

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes256Enc, Block};
use cmac::Mac as _;
use cmac::digest::common::InnerInit as _;
use subtle::ConstantTimeEq as _;

/// Length of the synthetic initialisation vector before the ciphertext.
pub(crate) const SIV_LENGTH: usize = 16;

/// Key schedules and key-dependent constants, expanded once per vault.
pub(crate) struct Siv {
    mac: Aes256Enc,
    ctr: Aes256Enc,
    /// S2V's `D` before the plaintext is mixed in: CMAC of the zero block.
    zero_mac: [u8; 16],
    /// `dbl(D)`, for plaintexts shorter than a block.
    zero_mac_doubled: [u8; 16],
}

impl Siv {
    /// Expands the authentication (CMAC) and the encryption (CTR) key.
    pub(crate) fn new(mac_key: &[u8; 32], ctr_key: &[u8; 32]) -> Self {
        let mac = Aes256Enc::new(mac_key.into());
        let zero_mac = cmac(&mac, &[&[0; 16]]);
        Self { ctr: Aes256Enc::new(ctr_key.into()), zero_mac_doubled: double(zero_mac), zero_mac, mac }
    }

    /// SIV ‖ ciphertext.
    pub(crate) fn encrypt(&self, plaintext: &[u8]) -> Vec<u8> {
        let siv = self.s2v(plaintext);
        let mut text = Vec::with_capacity(SIV_LENGTH + plaintext.len());
        text.extend_from_slice(&siv);
        text.extend_from_slice(plaintext);
        self.apply_keystream(&siv, &mut text[SIV_LENGTH..]);
        text
    }

    /// Decrypts SIV ‖ ciphertext in place; `None` if it was not encrypted with these keys.
    pub(crate) fn decrypt<'t>(&self, text: &'t mut [u8]) -> Option<&'t [u8]> {
        let (siv, text) = text.split_first_chunk_mut::<SIV_LENGTH>()?;
        self.apply_keystream(siv, text);
        bool::from(self.s2v(text).ct_eq(siv)).then_some(text)
    }

    /// S2V of RFC 5297 section 2.4 with the plaintext as its only component.
    fn s2v(&self, plaintext: &[u8]) -> [u8; 16] {
        if let Some((head, last)) = plaintext.split_last_chunk::<16>() {
            return cmac(&self.mac, &[head, &xor(*last, self.zero_mac)]);
        }
        let mut padded = [0; 16];
        padded[..plaintext.len()].copy_from_slice(plaintext);
        padded[plaintext.len()] = 0x80;
        cmac(&self.mac, &[&xor(padded, self.zero_mac_doubled)])
    }

    /// Encrypts or decrypts in place, counting in the last 16 bits only.
    fn apply_keystream(&self, siv: &[u8; 16], text: &mut [u8]) {
        let mut first = *siv;
        first[8] &= 0x7f;
        first[12] &= 0x7f;
        let [fixed @ .., high, low] = first;
        let mut counter = u16::from_be_bytes([high, low]);

        for chunk in text.chunks_mut(16) {
            let mut block = Block::default();
            block[..14].copy_from_slice(&fixed);
            block[14..].copy_from_slice(&counter.to_be_bytes());
            self.ctr.encrypt_block(&mut block);
            for (byte, key) in chunk.iter_mut().zip(block) {
                *byte ^= key;
            }
            counter = counter.wrapping_add(1);
        }
    }
}

/// CMAC of the concatenated parts. Borrows the key schedule: no expansion and no copy of it per call.
fn cmac(key: &Aes256Enc, parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = cmac::Cmac::<&Aes256Enc>::inner_init(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Multiplication by x in GF(2^128), `dbl` of RFC 5297 section 2.3.
fn double(block: [u8; 16]) -> [u8; 16] {
    let value = u128::from_be_bytes(block);
    // All ones if the top bit is set: no branch on a secret.
    let carry = 0u128.wrapping_sub(value >> 127);
    ((value << 1) ^ (carry & 0x87)).to_be_bytes()
}

fn xor(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
    (u128::from_ne_bytes(a) ^ u128::from_ne_bytes(b)).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 5297 appendix A.1 has associated data and AES-128, which names never have; its
    /// `dbl` applies here as well.
    #[test]
    fn doubling_is_that_of_the_rfc() {
        let zero_mac = 0x0e04dfafc1efbf040140582859bf073a_u128.to_be_bytes();
        let doubled = 0x1c09bf5f83df7e080280b050b37e0e74_u128.to_be_bytes();
        assert_eq!(double(zero_mac), doubled);
        let with_carry = 0x8000_0000_0000_0000_0000_0000_0000_0001_u128.to_be_bytes();
        assert_eq!(double(with_carry), 0x85_u128.to_be_bytes());
    }

    #[test]
    fn the_counter_wraps_in_16_bits_wherever_it_starts_and_ends() {
        let siv = Siv::new(&[1; 32], &[2; 32]);
        for start in [0, 1, 0xfff0, 0xfffe, 0xffff_u16] {
            let mut vector = [0xff; 16];
            vector[14..].copy_from_slice(&start.to_be_bytes());
            let mut keystream = vec![0; 40 * 16 + 7];
            siv.apply_keystream(&vector, &mut keystream);
            for (number, block) in keystream.chunks(16).enumerate() {
                let mut expected = Block::from(vector);
                (expected[8], expected[12]) = (0x7f, 0x7f);
                expected[14..].copy_from_slice(&start.wrapping_add(number as u16).to_be_bytes());
                siv.ctr.encrypt_block(&mut expected);
                assert_eq!(block, &expected[..block.len()], "block {number} from {start}");
            }
        }
    }
}

//! TLS 1.3 records behind the handshake, decrypted where they lie (RFC 8446, section 5), by rustls's own ciphers and under its keys.
//!
//! rustls hands out every record as a vector of its own; here plaintext goes from the read straight to the frames. What rustls
//! keeps doing: the handshake before, the secrets' schedule, the tickets. Invariant: after an error nothing is decrypted any more.

use std::fmt;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::crypto::cipher::{
    InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::kernel::KernelConnection;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved,
    ProtocolVersion, Tls13CipherSuite,
};

use super::receive_buffer::ReceiveBuffer;

/// A session behind its handshake.
pub(super) struct Records {
    schedule: KernelConnection<ClientConnectionData>,
    suite: &'static Tls13CipherSuite,
    decrypter: Box<dyn MessageDecrypter>,
    /// The number of the next record from the peer.
    read_number: u64,
    encrypter: Box<dyn MessageEncrypter>,
    /// The number of our next record.
    write_number: u64,
    /// The handshake message whose rest is in records to come.
    handshake: Vec<u8>,
    /// KeyUpdates since there was application data.
    key_updates: u8,
    /// Warnings over the whole session.
    warnings: u8,
    /// The peer has asked for our KeyUpdate: it goes ahead of what we say next.
    owes_key_update: bool,
    /// Our close_notify is said: nothing may follow it (section 6.1).
    closed: bool,
}

/// What was wrong, and what the peer is told of it.
struct Breach {
    error: Error,
    alert: AlertDescription,
}

impl Records {
    /// Takes over from rustls, once the handshake is complete, all that was received has been taken, and all that rustls had to say
    /// has been handed out.
    ///
    /// # Errors
    /// Where rustls does not give its secrets away, or the session is not one of TLS 1.3.
    pub(super) fn take_over(connection: UnbufferedClientConnection) -> Result<Self, Error> {
        let (secrets, schedule) = connection.dangerous_into_kernel_connection()?;
        let suite = schedule.negotiated_cipher_suite().tls13().ok_or(Error::HandshakeNotComplete)?;
        let ((write_number, write), (read_number, read)) = (secrets.tx, secrets.rx);
        Ok(Self {
            schedule,
            suite,
            decrypter: decrypter(suite, read)?,
            read_number,
            encrypter: encrypter(suite, write)?,
            write_number,
            handshake: Vec::new(),
            key_updates: 0,
            warnings: 0,
            owes_key_update: false,
            closed: false,
        })
    }

    /// Takes every complete record of `cipher` and appends its plaintext to `plain`; whether the peer has said its close_notify, behind
    /// which nothing is read. Where a record breaks a rule, `plain` holds what came
    /// before it, and the alert is in `outgoing`.
    pub(super) fn read(
        &mut self,
        cipher: &mut ReceiveBuffer,
        plain: &mut ReceiveBuffer,
        outgoing: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        let outcome = self.read_records(cipher, plain);
        outcome.map_err(|Breach { error, alert }| {
            // An alert from the peer is not answered.
            if !matches!(error, Error::AlertReceived(_)) {
                // It could only fail for a reason that ends the session, too.
                let _ = self.say(ContentType::Alert, &[FATAL, alert.into()], outgoing);
            }
            error
        })
    }

    fn read_records(&mut self, cipher: &mut ReceiveBuffer, plain: &mut ReceiveBuffer) -> Result<bool, Breach> {
        let mut taken = 0;
        let mut rest = cipher.data_mut();
        let mut closed = false;
        while let Some((&mut [outer, _, _, high, low], behind)) = rest.split_first_chunk_mut() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            // Nothing goes unencrypted any more, and what does is not even read (sections 5 and 6).
            if outer != u8::from(ContentType::ApplicationData) {
                return Err(InvalidMessage::UnexpectedMessage("a record that is not encrypted")
                    .told(AlertDescription::UnexpectedMessage));
            }
            if length > MOST_CIPHERTEXT {
                return Err(InvalidMessage::MessageTooLarge.told(AlertDescription::RecordOverflow));
            }
            let Some((record, behind)) = behind.split_at_mut_checked(length) else { break };
            let sealed = InboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, record);
            let opened = self.decrypter.decrypt(sealed, self.read_number).map_err(|error| Breach {
                alert: match error {
                    Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
                    Error::PeerMisbehaved(_) => AlertDescription::UnexpectedMessage,
                    _ => AlertDescription::BadRecordMac,
                },
                error,
            })?;
            // 2^64 records take longer than anything here lasts.
            self.read_number += 1;
            if opened.typ == ContentType::ApplicationData && self.handshake.is_empty() {
                self.key_updates = 0;
                plain.append(opened.payload);
            } else if self.read_rare(opened.typ, opened.payload)? {
                closed = true;
                break;
            }
            rest = behind;
            taken += HEADER_BYTES + length;
        }
        cipher.consume(taken);
        Ok(closed)
    }

    #[cold]
    fn read_rare(&mut self, typ: ContentType, payload: &[u8]) -> Result<bool, Breach> {
        match typ {
            ContentType::Handshake => self.read_handshake(payload).map(|()| false),
            _ if !self.handshake.is_empty() => {
                Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.told(AlertDescription::UnexpectedMessage))
            }
            ContentType::Alert => self.read_alert(payload),
            _ => Err(InvalidMessage::UnexpectedMessage("neither data nor an alert nor a handshake message")
                .told(AlertDescription::UnexpectedMessage)),
        }
    }

    /// Section 6: all alerts but two end the session, whatever level they claim.
    fn read_alert(&mut self, payload: &[u8]) -> Result<bool, Breach> {
        let &[level, description] = payload else {
            return Err(InvalidMessage::TrailingData("an alert").told(AlertDescription::DecodeError));
        };
        match (level, AlertDescription::from(description)) {
            (_, AlertDescription::CloseNotify) => Ok(true),
            (WARNING, AlertDescription::UserCanceled) => {
                self.warnings += 1;
                if self.warnings > MOST_WARNINGS {
                    return Err(PeerMisbehaved::TooManyWarningAlertsReceived.told(AlertDescription::UnexpectedMessage));
                }
                Ok(false)
            }
            (_, alert) => Err(Breach { error: Error::AlertReceived(alert), alert }),
        }
    }

    /// Section 4.6: tickets and KeyUpdates, several in a record or one over several.
    fn read_handshake(&mut self, payload: &[u8]) -> Result<(), Breach> {
        if payload.is_empty() {
            return Err(InvalidMessage::InvalidEmptyPayload.told(AlertDescription::UnexpectedMessage));
        }
        self.handshake.extend_from_slice(payload);
        let handshake = std::mem::take(&mut self.handshake);
        let mut rest = &handshake[..];
        while let Some((&[kind, high, middle, low], behind)) = rest.split_first_chunk() {
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            if length > MOST_HANDSHAKE {
                return Err(InvalidMessage::HandshakePayloadTooLarge.told(AlertDescription::DecodeError));
            }
            let Some((body, behind)) = behind.split_at_checked(length) else { break };
            match HandshakeType::from(kind) {
                HandshakeType::NewSessionTicket => {
                    let kept = self.schedule.handle_new_session_ticket(body);
                    kept.map_err(|error| Breach { error, alert: AlertDescription::DecodeError })?;
                }
                // The keys change here, so nothing of the old ones may follow (section 5.1).
                HandshakeType::KeyUpdate if !behind.is_empty() => {
                    return Err(PeerMisbehaved::KeyEpochWithPendingFragment.told(AlertDescription::UnexpectedMessage));
                }
                HandshakeType::KeyUpdate => self.read_key_update(body)?,
                _ => {
                    return Err(InvalidMessage::UnexpectedMessage("neither a ticket nor a KeyUpdate")
                        .told(AlertDescription::UnexpectedMessage));
                }
            }
            rest = behind;
        }
        self.handshake = rest.to_vec();
        Ok(())
    }

    fn read_key_update(&mut self, body: &[u8]) -> Result<(), Breach> {
        self.key_updates += 1;
        if self.key_updates > MOST_KEY_UPDATES {
            return Err(PeerMisbehaved::TooManyKeyUpdateRequests.told(AlertDescription::UnexpectedMessage));
        }
        let owes = match body {
            [0] => false,
            [1] => true,
            _ => return Err(InvalidMessage::InvalidKeyUpdate.told(AlertDescription::IllegalParameter)),
        };
        let (number, secrets) = self.schedule.update_rx_secret().map_err(internal)?;
        self.decrypter = decrypter(self.suite, secrets).map_err(internal)?;
        self.read_number = number;
        self.owes_key_update |= owes;
        Ok(())
    }

    /// Encrypts `plain` into `outgoing`, behind a KeyUpdate where one is due.
    pub(super) fn write(&mut self, plain: &[u8], outgoing: &mut Vec<u8>) -> Result<(), Error> {
        for piece in plain.chunks(RECORD_BYTES) {
            // A key protects only so many records (section 5.5); two are kept for the KeyUpdate and an alert.
            if self.owes_key_update || self.write_number + 2 >= self.suite.common.confidentiality_limit {
                self.update_own_key(outgoing)?;
            }
            self.say(ContentType::ApplicationData, piece, outgoing)?;
        }
        Ok(())
    }

    /// Says that nothing of ours follows.
    pub(super) fn close_notify(&mut self, outgoing: &mut Vec<u8>) -> Result<(), Error> {
        let said = self.say(ContentType::Alert, &[WARNING, AlertDescription::CloseNotify.into()], outgoing);
        self.closed = true;
        said
    }

    fn update_own_key(&mut self, outgoing: &mut Vec<u8>) -> Result<(), Error> {
        // "Not requested": the peer need not change its own.
        let message = [u8::from(HandshakeType::KeyUpdate), 0, 0, 1, 0];
        self.say(ContentType::Handshake, &message, outgoing)?;
        let (number, secrets) = self.schedule.update_tx_secret()?;
        self.encrypter = encrypter(self.suite, secrets)?;
        self.write_number = number;
        self.owes_key_update = false;
        Ok(())
    }

    fn say(&mut self, typ: ContentType, payload: &[u8], outgoing: &mut Vec<u8>) -> Result<(), Error> {
        if self.closed {
            return Err(Error::General("our close_notify was the last word".to_owned()));
        }
        let message =
            OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload: OutboundChunks::Single(payload) };
        let record = self.encrypter.encrypt(message, self.write_number)?;
        self.write_number += 1;
        outgoing.extend_from_slice(&record.encode());
        Ok(())
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("read", &self.read_number)
            .field("written", &self.write_number)
            .finish_non_exhaustive()
    }
}

/// Gives an error the alert that goes with it.
trait Told: Into<Error> {
    fn told(self, alert: AlertDescription) -> Breach {
        Breach { error: self.into(), alert }
    }
}

impl Told for InvalidMessage {}
impl Told for PeerMisbehaved {}

/// Nobody's fault but ours.
fn internal(error: Error) -> Breach {
    Breach { error, alert: AlertDescription::InternalError }
}

fn decrypter(suite: &Tls13CipherSuite, secrets: ConnectionTrafficSecrets) -> Result<Box<dyn MessageDecrypter>, Error> {
    key_of(secrets).map(|(key, iv)| suite.aead_alg.decrypter(key, iv))
}

fn encrypter(suite: &Tls13CipherSuite, secrets: ConnectionTrafficSecrets) -> Result<Box<dyn MessageEncrypter>, Error> {
    key_of(secrets).map(|(key, iv)| suite.aead_alg.encrypter(key, iv))
}

fn key_of(
    secrets: ConnectionTrafficSecrets,
) -> Result<(rustls::crypto::cipher::AeadKey, rustls::crypto::cipher::Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("a cipher that is not known here".to_owned())),
    }
}

const HEADER_BYTES: usize = 5;
/// The most plaintext that fits one record (section 5.1).
pub(super) const RECORD_BYTES: usize = 16 * 1024;
/// With all that a cipher may add (section 5.2).
const MOST_CIPHERTEXT: usize = RECORD_BYTES + 256;
/// What rustls allows a handshake message, as all that follow here.
const MOST_HANDSHAKE: usize = 0xffff;
const MOST_KEY_UPDATES: u8 = 32;
const MOST_WARNINGS: u8 = 4;
/// Levels of alerts (section 6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

#[cfg(test)]
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#[path = "tests_records.rs"]
mod tests;

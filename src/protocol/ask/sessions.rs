//! `sessions` and `end_session`: what they ask, and their answers.

use serde::{Deserialize, Serialize};

use crate::{
    model::{DeviceId, Millis, SessionId},
    protocol::{
        Refused,
        fields::{Fields, FromFields, SHORT_TEXT, bad_frame, name},
    },
};

/// Asks for one's devices and live sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sessions;

impl FromFields for Sessions {
    fn from_fields(_: Fields<'_>) -> Result<Self, Refused> {
        Ok(Self)
    }
}

/// One's devices and live sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct SessionsPage {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Those that are known, the one that was in use last first.
    pub devices: Vec<SeenDevice>,
    /// Those of which some node said in time that they live, the latest first.
    pub sessions: Vec<LiveSession>,
}

/// A device that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct SeenDevice {
    /// Its name.
    pub device: DeviceId,
    /// When it was last known to be in use.
    pub seen: Millis,
}

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct LiveSession {
    /// Its id, as its `welcome` told.
    pub session: SessionId,
    /// Of which device.
    pub device: DeviceId,
    /// On which node.
    pub node: String,
    /// Since when.
    pub since: Millis,
}

/// Asks to end sessions of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndSession {
    /// One.
    Session(SessionId),
    /// All of a device, which is forgotten.
    Device(DeviceId),
}

impl FromFields for EndSession {
    fn from_fields(fields: Fields<'_>) -> Result<Self, Refused> {
        match (fields.session, fields.device) {
            (Some(session), None) if session.len() <= SHORT_TEXT => Ok(Self::Session(SessionId::named(&session))),
            (Some(_), None) => Err(bad_frame(format!("session: must be at most {SHORT_TEXT} bytes"))),
            (None, Some(device)) => Ok(Self::Device(name("device", Some(device))?)),
            _ => Err(bad_frame("session, device: give one of them")),
        }
    }
}

impl EndSession {
    /// Whether a session is meant.
    pub fn means(&self, session: &SessionId, device: &DeviceId) -> bool {
        match self {
            Self::Session(id) => id == session,
            Self::Device(name) => name == device,
        }
    }
}

/// They were ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Ended {
    /// The request's `ref`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u64>,
    /// Which.
    pub sessions: Vec<SessionId>,
}

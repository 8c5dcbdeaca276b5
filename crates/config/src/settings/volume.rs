//! Identifies the volumes of an instance that hold MySQL's data.

use std::fmt;

/// Property that distinguishes the MySQL volumes of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeHint {
    /// All attached volumes with this tag.
    Tag {
        /// The tag's key.
        key: String,
        /// Its value.
        value: String,
    },
    /// The one volume attached as this device, in EC2's notation (`/dev/sdf`).
    Device(String),
}

impl VolumeHint {
    /// Parses the value of `volume.tag`: `Key=Value`.
    ///
    /// # Errors
    /// Returns the cause in words if the text is not a tag.
    pub fn tag(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Self::Tag { key: key.trim().to_owned(), value: value.trim().to_owned() })
            }
            _ => Err(format!("`{text}` is not a tag: write Key=Value")),
        }
    }

    /// Parses the value of `volume.device`: `/dev/sdf`.
    ///
    /// # Errors
    /// Returns the cause in words if the text is not a device.
    pub fn device(text: &str) -> Result<Self, String> {
        match text.strip_prefix("/dev/") {
            Some(name) if !name.is_empty() => Ok(Self::Device(text.to_owned())),
            _ => Err(format!("`{text}` is not a device: write the name that EC2 uses, for example /dev/sdf")),
        }
    }
}

impl fmt::Display for VolumeHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { key, value } => write!(f, "tag {key}={value}"),
            Self::Device(device) => write!(f, "device {device}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn volume_hints_are_parsed_and_printed() {
        assert_eq!(VolumeHint::tag("Role=mysql").unwrap().to_string(), "tag Role=mysql");
        assert_eq!(VolumeHint::device("/dev/sdf").unwrap().to_string(), "device /dev/sdf");
        for bad in ["", "Role", "=x"] {
            assert!(VolumeHint::tag(bad).is_err(), "{bad}");
        }
        for bad in ["", "sdf", "/dev/"] {
            assert!(VolumeHint::device(bad).is_err(), "{bad}");
        }
    }
}

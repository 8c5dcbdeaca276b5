//! Contract of the image that recovered instances boot from, as far as EC2's API shows it.

use chrono::{DateTime, Utc};

use super::{AccountAnswer, IMAGE};

/// An image, as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// `ami-…`.
    pub id: String,
    /// `available`, `deregistered`, `disabled`, …
    pub state: String,
    /// `x86_64`, `arm64`, …
    pub architecture: String,
    /// `ebs` or `instance-store`.
    pub root_device_type: String,
    /// True if enhanced networking with ENA is on.
    pub ena: bool,
    /// `uefi`, `legacy-bios`, …; `None`: the default of the architecture.
    pub boot_mode: Option<String>,
    /// Time of its deprecation.
    pub deprecated_at: Option<DateTime<Utc>>,
    /// Devices that it maps besides its root.
    pub devices: Vec<String>,
}

/// An instance type, as EC2 describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceTypeFacts {
    /// `r7i.xlarge`.
    pub name: String,
    /// Architectures that it supports.
    pub architectures: Vec<String>,
    /// Boot modes that it supports; empty: EC2 reports none.
    pub boot_modes: Vec<String>,
    /// True if it has no other network device than ENA.
    pub needs_ena: bool,
}

/// Returns all answers about an image; `of` is the instance type that recoveries use.
pub fn image_answers(
    image: &ImageFacts,
    of: Option<&InstanceTypeFacts>,
    now: DateTime<Utc>,
) -> Vec<AccountAnswer> {
    let id = &image.id;
    let mut answers = Vec::new();
    if image.state != "available" {
        answers.push(IMAGE.problem(format!("{id} is {}: EC2 starts no instance from it", image.state)));
    }
    if image.root_device_type != "ebs" {
        let what =
            format!("the root device of {id} is {}, and the module makes an EBS one", image.root_device_type);
        answers.push(IMAGE.problem(what));
    }
    if let Some(at) = image.deprecated_at.filter(|at| *at <= now) {
        let what = format!("{id} is deprecated since {}: its owner may deregister it", at.format("%Y-%m-%d"));
        answers.push(IMAGE.warning(what));
    }
    let taken: Vec<_> = image.devices.iter().filter(|device| is_data_device(device)).cloned().collect();
    if !taken.is_empty() {
        let what = format!("{id} maps {}, which a recovery attaches MySQL's volumes as", taken.join(", "));
        answers.push(IMAGE.problem(what));
    }
    if let Some(of) = of {
        answers.extend(misfits(image, of).into_iter().map(|what| IMAGE.problem(what)));
    }
    if answers.is_empty() {
        let fits = of.map_or_else(String::new, |of| format!(" and fits {}", of.name));
        answers.push(IMAGE.ok(format!("{id} ({}) is available{fits}", image.architecture)));
    }
    answers
}

/// Says if a device name is one that a recovery attaches volumes as.
pub fn is_data_device(device: &str) -> bool {
    device.strip_prefix("/dev/sd").is_some_and(|letter| matches!(letter.as_bytes(), [b'f'..=b'p']))
}

fn misfits(image: &ImageFacts, of: &InstanceTypeFacts) -> Vec<String> {
    let (id, name) = (&image.id, &of.name);
    let mut misfits = Vec::new();
    if !of.architectures.contains(&image.architecture) {
        misfits.push(format!(
            "{id} is {}, and {name} runs {}",
            image.architecture,
            of.architectures.join(", ")
        ));
    }
    if of.needs_ena && !image.ena {
        misfits.push(format!("{id} has no ENA support, and {name} has no other network device"));
    }
    // `uefi-preferred` boots in either mode.
    if let Some(mode) = image.boot_mode.as_ref().filter(|mode| *mode != "uefi-preferred")
        && !of.boot_modes.is_empty()
        && !of.boot_modes.contains(mode)
    {
        misfits.push(format!("{id} boots as {mode}, and {name} supports {}", of.boot_modes.join(", ")));
    }
    misfits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::first_day::AnswerState;

    fn image() -> ImageFacts {
        ImageFacts {
            id: "ami-1".to_owned(),
            state: "available".to_owned(),
            architecture: "arm64".to_owned(),
            root_device_type: "ebs".to_owned(),
            ena: true,
            boot_mode: Some("uefi".to_owned()),
            deprecated_at: None,
            devices: vec!["/dev/sdb".to_owned()],
        }
    }

    fn large() -> InstanceTypeFacts {
        InstanceTypeFacts {
            name: "r7g.large".to_owned(),
            architectures: vec!["arm64".to_owned()],
            boot_modes: vec!["uefi".to_owned()],
            needs_ena: true,
        }
    }

    #[test]
    fn each_breach_of_the_contract_is_found() {
        let now: DateTime<Utc> = "2026-11-23T02:21:33Z".parse().unwrap();
        let told = |image: &ImageFacts| image_answers(image, Some(&large()), now);
        assert_eq!(told(&image())[0].state, AnswerState::Ok);
        let past = Some("2026-11-01T00:00:00Z".parse().unwrap());
        let future = Some("2027-11-01T00:00:00Z".parse().unwrap());
        assert_eq!(told(&ImageFacts { deprecated_at: future, ..image() })[0].state, AnswerState::Ok);
        let either = ImageFacts { boot_mode: Some("uefi-preferred".to_owned()), ..image() };
        assert_eq!(told(&either)[0].state, AnswerState::Ok);
        let own = |text: &str| text.to_owned();
        for (broken, state, part) in [
            (ImageFacts { state: own("disabled"), ..image() }, AnswerState::Problem, "is disabled"),
            (ImageFacts { architecture: own("x86_64"), ..image() }, AnswerState::Problem, "runs arm64"),
            (
                ImageFacts { root_device_type: own("instance-store"), ..image() },
                AnswerState::Problem,
                "instance-store",
            ),
            (ImageFacts { ena: false, ..image() }, AnswerState::Problem, "ENA"),
            (
                ImageFacts { boot_mode: Some(own("legacy-bios")), ..image() },
                AnswerState::Problem,
                "legacy-bios",
            ),
            (ImageFacts { deprecated_at: past, ..image() }, AnswerState::Warning, "since 2026-11-01"),
            (ImageFacts { devices: vec![own("/dev/sdf")], ..image() }, AnswerState::Problem, "/dev/sdf"),
        ] {
            let answers = told(&broken);
            let [answer] = &answers[..] else { panic!("{answers:?}") };
            assert!(answer.state == state && answer.what.contains(part), "{answer:?}");
        }
    }

    #[test]
    fn data_devices_are_those_of_the_module() {
        for device in ["/dev/sdf", "/dev/sdp"] {
            assert!(is_data_device(device));
        }
        for device in ["/dev/sda1", "/dev/sde", "/dev/sdq", "/dev/xvdf", "/dev/sdf1", "sdf"] {
            assert!(!is_data_device(device), "{device}");
        }
    }
}
